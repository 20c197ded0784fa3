//! Scheduled messages that are to be taken back: each question is a fact in the log, answered when it is applied.
//! Not here: what becomes of them (`warren-queue`), who may ask (`warren-gateway`).

use std::collections::VecDeque;

use warren_queue::dispatch::io::Token;
use warren_queue::entry::{Cancel, Command};
use warren_queue::outcome::Cancelled;
use warren_types::{NodeId, Position, PositionRange};

use super::work::Leading;
use crate::api::CancelResult;
use crate::link::frame::{CancelUp, Down};

/// Questions whose facts are not applied yet, in the order of the facts: every entry applied while this replica leads is its own.
/// One per call of a client that waits.
#[derive(Default)]
pub(super) struct Cancels {
    asked: VecDeque<Asked>,
}

struct Asked {
    node: NodeId,
    token: Token,
    positions: Vec<Position>,
}

impl Leading {
    pub(super) fn ask_to_cancel(&mut self, node: NodeId, it: CancelUp) {
        let CancelUp {
            token,
            queue,
            positions,
        } = it;
        let mut sorted = positions.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let ranges = PositionRange::collect(sorted);
        self.batcher
            .command(Command::Cancel(Cancel { queue, ranges }));
        self.cancels.asked.push_back(Asked {
            node,
            token,
            positions,
        });
    }

    pub(super) fn answer_cancel(&mut self, it: &Cancelled) {
        let Some(Asked {
            node,
            token,
            positions,
        }) = self.cancels.asked.pop_front()
        else {
            return;
        };
        let results = positions.into_iter().map(|at| result(it, at)).collect();
        self.links
            .tell(node, Down::CancelResults { token, results });
    }
}

fn result(it: &Cancelled, position: Position) -> CancelResult {
    let among = |ranges: &[PositionRange]| {
        let at = ranges.partition_point(|range| range.end() <= position);
        ranges.get(at).is_some_and(|range| range.contains(position))
    };
    if among(&it.ranges) || among(&it.before) {
        CancelResult::Cancelled
    } else if among(&it.unknown) {
        CancelResult::NotFound
    } else {
        CancelResult::TooLate
    }
}
