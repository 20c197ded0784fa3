//! `Settle`: deliveries leave the queue. Not here: one item's fate (`dispose`), the commit (`applied`).

use super::dispose::{self, Wish};
use super::io::{Actions, SettleRequest};
use super::proposals::Proposals;
use super::queue::Queue;
use super::request::Item;
use super::shared::Shared;

pub(super) fn step(queue: &mut Queue, shared: &mut Shared, it: SettleRequest, out: &mut Actions) {
    let requests = &mut shared.requests;
    let request = requests.open(it.node, it.token, it.items.len(), it.said);
    let mut proposals = Proposals::default();
    for (index, &held) in it.items.iter().enumerate() {
        let item = Item { request, index };
        let wish = it.outputs.map_or(Wish::Settle(it.reason), Wish::Outputs);
        dispose::item(queue, shared, item, held, wish, &mut proposals, out);
    }
    proposals.propose(queue.id, out);
    shared.requests.answer_if_decided(request, out);
}
