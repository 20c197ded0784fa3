//! `Cancel`: scheduled messages are taken back (features A30). Not here: whether they still are scheduled, which the commit says (`applied`).

use warren_types::{NodeId, Position, PositionRange};

use super::io::{Action, Actions, Token};
use super::queue::Queue;
use super::shared::Shared;
use crate::entry::{Cancel, Command};
use crate::outcome::Cancelled;

/// `positions` ascending, each once.
pub(super) fn step(
    queue: &mut Queue,
    shared: &mut Shared,
    (node, token): (NodeId, Token),
    positions: Vec<Position>,
    out: &mut Actions,
) {
    let number = shared.next_cancel();
    queue.cancels.insert(number, (node, token));
    out.list.push(Action::Propose(Command::Cancel(Cancel {
        queue: queue.id,
        ranges: PositionRange::collect(positions),
        token: number,
    })));
}

/// It is committed.
pub(super) fn answered(queue: &mut Queue, number: u64, results: Vec<Cancelled>, out: &mut Actions) {
    if let Some((node, token)) = queue.cancels.remove(&number) {
        out.list.push(Action::CancelResults {
            node,
            token,
            results,
        });
    }
}
