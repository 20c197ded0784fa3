//! Gathers the settles and returns of one step into as few commands as can be. Not here: whether they are right (`dispose`).

use std::sync::Arc;

use warren_types::{Position, PositionRange, QueueId, ShardTime};

use super::io::{Action, Actions, Held, OutputsId};
use super::leaving::Fate;
use crate::entry::{
    Ending, Park, ParkCause, Remark, Return, ReturnKind, Said, Settle, SettleReason,
};

/// Positions that share a reason, in no order.
type Group<K> = (K, Vec<Position>);

#[derive(Debug, Default)]
pub(super) struct Proposals {
    settles: Vec<Group<SettleReason>>,
    returns: Vec<Group<(ReturnKind, Option<ShardTime>)>>,
    parks: Vec<Group<(ParkCause, ReturnKind)>>,
    outputs: Vec<(OutputsId, Held)>,
    remarks: Vec<Group<Arc<Said>>>,
}

impl Proposals {
    pub(super) fn settle(&mut self, reason: SettleReason, position: Position) {
        gather(&mut self.settles, reason, position);
    }

    pub(super) fn give_back(
        &mut self,
        kind: ReturnKind,
        not_before: Option<ShardTime>,
        position: Position,
    ) {
        gather(&mut self.returns, (kind, not_before), position);
    }

    pub(super) fn park(&mut self, cause: ParkCause, kind: ReturnKind, position: Position) {
        gather(&mut self.parks, (cause, kind), position);
    }

    pub(super) fn with_outputs(&mut self, outputs: OutputsId, held: Held) {
        self.outputs.push((outputs, held));
    }

    /// Before what becomes of it.
    pub(super) fn remark(&mut self, said: Arc<Said>, position: Position) {
        gather(&mut self.remarks, said, position);
    }

    /// A message that nobody holds leaves.
    pub(super) fn leave(&mut self, fate: Fate, position: Position) {
        match fate {
            Fate::Settle(reason) => self.settle(reason, position),
            Fate::Park(cause) => self.park(cause, ReturnKind::Untouched, position),
        }
    }

    pub(super) fn propose(mut self, queue: QueueId, out: &mut Actions) {
        let outputs = std::mem::take(&mut self.outputs);
        let endings = self.endings(queue).into_iter();
        let commands = endings.map(|it| Action::Propose(it.into()));
        out.list.extend(commands);
        for (outputs, held) in outputs {
            out.list.push(Action::ProposeOutputs {
                queue,
                held,
                outputs,
            });
        }
    }

    /// All but what comes with outputs.
    pub(super) fn endings(self, queue: QueueId) -> Vec<Ending> {
        let remarks = self.remarks.into_iter().map(|(said, positions)| {
            Ending::Remark(Remark {
                queue,
                ranges: ranges(positions),
                said: Arc::unwrap_or_clone(said),
            })
        });
        let settles = self.settles.into_iter().map(|(reason, positions)| {
            Ending::Settle(Settle {
                queue,
                ranges: ranges(positions),
                reason,
            })
        });
        let returns = self.returns.into_iter();
        let returns = returns.map(|((kind, not_before), positions)| {
            Ending::Return(Return {
                queue,
                ranges: ranges(positions),
                kind,
                not_before,
            })
        });
        let parks = self.parks.into_iter().map(|((cause, kind), positions)| {
            Ending::Park(Park {
                queue,
                ranges: ranges(positions),
                cause,
                kind,
            })
        });
        let all = remarks.chain(settles).chain(returns).chain(parks);
        all.collect()
    }
}

fn gather<K: PartialEq>(groups: &mut Vec<Group<K>>, key: K, position: Position) {
    match groups.iter_mut().find(|(it, _)| *it == key) {
        Some((_, positions)) => positions.push(position),
        None => groups.push((key, vec![position])),
    }
}

fn ranges(mut positions: Vec<Position>) -> Vec<PositionRange> {
    positions.sort_unstable();
    PositionRange::collect(positions)
}
