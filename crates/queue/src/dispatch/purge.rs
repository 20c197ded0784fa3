//! `Purge`: messages of some states go, what is in flight stays. Not here: the count (`applied`).

use warren_types::NodeId;

use super::io::{Action, Actions, Token};
use super::queue::Queue;
use crate::entry::{Command, Purge, PurgeStates};

/// Until it is applied nothing is handed out of the queue: a message handed out meanwhile would be purged under its consumer.
pub(super) fn step(
    queue: &mut Queue,
    node: NodeId,
    token: Token,
    states: PurgeStates,
    out: &mut Actions,
) {
    queue.purges.push_back((node, token));
    out.list.push(Action::Propose(Command::Purge(Purge {
        queue: queue.id,
        below: queue.next,
        except: queue.in_flight.ranges(),
        states,
    })));
}
