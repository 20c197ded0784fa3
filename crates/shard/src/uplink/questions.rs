//! Questions to a shard's leader that nothing is kept for: depth, pages of messages. Not here: their answers (`state`).

use tokio::time::Instant;

use super::door::Request;
use super::state::{Question, State};
use crate::link::frame::{PeekUp, Up};

/// A question to the leader; without a link it is answered at once.
pub(super) fn ask(state: &mut State, open: bool, request: Request) -> Option<Up> {
    let now = Instant::now();
    match request {
        Request::Peek {
            queue,
            from,
            max,
            reply,
        } => state.question(open, Question::Peek(reply, now), |token| {
            Up::Peek(PeekUp::new(token, queue, from, max))
        }),
        Request::Redrive {
            queue,
            from,
            max,
            wish,
            reply,
        } => state.question(open, Question::Redrive(reply, now), |token| {
            Up::Redrive(PeekUp::new(token, queue, from, max), wish)
        }),
        Request::Stats {
            queue,
            depth,
            reply,
        } => state.question(open, Question::Stats(reply, now), |token| Up::Stats {
            queue,
            token,
            depth,
        }),
        Request::Attach { .. }
        | Request::Credit { .. }
        | Request::Recall { .. }
        | Request::Settle { .. }
        | Request::Detach { .. }
        | Request::Purge { .. }
        | Request::Move { .. } => None,
    }
}
