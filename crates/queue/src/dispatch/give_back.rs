//! `Return`: deliveries go back to ready, at their place, when that is committed, or are set aside if their consumer wishes that. Not here: one item's fate (`dispose`).

use super::dispose::{self, Wish};
use super::io::{Actions, ReturnRequest, Wait};
use super::proposals::Proposals;
use super::queue::Queue;
use super::request::Item;
use super::shared::Shared;
use crate::entry::ParkCause;

pub(super) fn step(queue: &mut Queue, shared: &mut Shared, it: ReturnRequest, out: &mut Actions) {
    let requests = &mut shared.requests;
    let request = requests.open(it.node, it.token, it.items.len(), it.said);
    let mut proposals = Proposals::default();
    let wish = match it.wait {
        Wait::Parked => Wish::Park(ParkCause::Rejected, it.kind),
        Wait::Not | Wait::Until(_) | Wait::ByPolicy => Wish::Return(it.kind, it.wait),
    };
    for (index, &held) in it.items.iter().enumerate() {
        let item = Item { request, index };
        dispose::item(queue, shared, item, held, wish, &mut proposals, out);
    }
    proposals.propose(queue.id, out);
    shared.requests.answer_if_decided(request, out);
}
