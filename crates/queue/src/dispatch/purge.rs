//! `Purge`: messages of some states go, what consumers hold stays. Not here: the count of what left (`applied`).

use warren_types::NodeId;

use super::io::{Action, Actions, Token};
use super::queue::Queue;
use crate::entry::{Command, Purge, PurgeStates, Settle, SettleReason};
use crate::outcome::Left;

/// One that is proposed.
#[derive(Debug)]
pub(super) struct Purging {
    pub(super) node: NodeId,
    pub(super) token: Token,
    /// Dead letters on their way that another command has ended for it.
    pub(super) ended: u64,
}

/// Until it is applied nothing is handed out of the queue: a message handed out meanwhile would be purged under its consumer.
pub(super) fn step(
    queue: &mut Queue,
    node: NodeId,
    token: Token,
    states: PurgeStates,
    out: &mut Actions,
) {
    let leaving = if states.dead_lettering {
        queue.in_flight.leaving()
    } else {
        Vec::new()
    };
    queue.purges.push_back(Purging {
        node,
        token,
        ended: 0,
    });
    if !leaving.is_empty() {
        out.list.push(Action::Propose(Command::Settle(Settle {
            queue: queue.id,
            ranges: leaving,
            reason: SettleReason::Purged,
        })));
    }
    out.list.push(Action::Propose(Command::Purge(Purge {
        queue: queue.id,
        below: queue.next,
        except: queue.in_flight.ranges(),
        states,
    })));
}

/// Dead letters that a purge ends leave just before what else it removes.
pub(super) fn count(queue: &mut Queue, reason: SettleReason, left: Left) {
    if let (SettleReason::Purged, Some(it)) = (reason, queue.purges.front_mut()) {
        it.ended += left.all.messages;
    }
}
