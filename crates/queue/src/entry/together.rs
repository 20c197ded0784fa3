//! Several deliveries that end in one, and the messages that come with it (features X4, ADR 0081). Not here: what it does (`store`).

use warren_types::{Attempt, ClusterVersion, Position, QueueId};

use super::{Command, Enqueue, MoveOut, Park, Remark, Return, Settle};

/// Deliveries end and messages come into queues of the shard, all of it or nothing. Nothing happens if a message is refused for a reason
/// other than being a duplicate, a delivery has left its queue, or too much is on its way for dead letters to join it. That it happened is remembered under each delivery's position and attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct SettleTogether {
    /// Each once; never empty.
    pub deliveries: Vec<EndedDelivery>,
    /// What becomes of them, in order. Remarks stand before the ends they are about, which name each delivery once.
    pub endings: Vec<Ending>,
    /// What comes with it, if anything.
    pub blocks: Vec<Enqueue>,
}

impl SettleTogether {
    /// The version that it came with.
    pub const SINCE: ClusterVersion = ClusterVersion(2);
    /// So many deliveries may end in one.
    pub const DELIVERIES_MAX: usize = 1_000;
}

/// A message as it was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndedDelivery {
    pub queue: QueueId,
    pub position: Position,
    /// Under which it was handed out.
    pub attempt: Attempt,
}

/// What can become of deliveries, of those that end in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Remark(Remark),
    Settle(Settle),
    Return(Return),
    Park(Park),
    /// They begin their way as dead letters.
    MoveOut(MoveOut),
}

impl From<Ending> for Command {
    fn from(it: Ending) -> Self {
        match it {
            Ending::Remark(it) => Self::Remark(it),
            Ending::Settle(it) => Self::Settle(it),
            Ending::Return(it) => Self::Return(it),
            Ending::Park(it) => Self::Park(it),
            Ending::MoveOut(it) => Self::MoveOut(it),
        }
    }
}
