//! Ids, positions and marks as newtypes. Not here: names that clients choose (`names`), how ids are allotted (`topology`).

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

id! {
    /// A node's configured number. Zero is never a node.
    NodeId(u64)
}
id! {
    /// A Raft group. Zero is the topology group; a shard's group has the shard's number.
    GroupId(u32)
}
id! {
    /// A set of queues placed together. Numbered from one.
    ShardId(u32)
}
id! {
    /// One node's copy of one group. Allotted by the topology, never used twice.
    ReplicaId(u64)
}
id! {
    /// Counts the changes of a group's placement.
    Generation(u64)
}
id! {
    /// A virtual host. The first one, `/`, is 1.
    VhostId(u32)
}
id! {
    /// An exchange. Never reused.
    ExchangeId(u64)
}
id! {
    /// A queue. Never reused, so a name declared again never meets its past.
    QueueId(u64)
}
id! {
    /// A message's number in its queue, from 1, never reused.
    Position(u64)
}
id! {
    /// A Raft term.
    Term(u64)
}
id! {
    /// An index in a group's log; index 0 is "nothing".
    LogIndex(u64)
}
id! {
    /// Index of the topology group's log that a decision was based on.
    TopologyIndex(u64)
}
id! {
    /// Counts the starts of one node's process; kept in its data directory, raised and synced before use.
    Run(u64)
}
id! {
    /// A batch's number among those that one run of a node sent to one shard, from 1, without gaps.
    BatchSequence(u64)
}
id! {
    /// A client session on its node: one AMQP channel or gRPC stream. Unique within a run of the node.
    SessionId(u64)
}
id! {
    /// One consumer of one session; unique within a run of the node.
    ConsumerId(u64)
}
id! {
    /// Milliseconds of shard time since the Unix epoch: stamped by the shard's leader, never runs backwards.
    ShardTime(u64)
}

impl GroupId {
    /// The group that replicates the topology.
    pub const TOPOLOGY: Self = Self(0);

    /// The shard this group replicates, if it is not the topology's.
    #[must_use]
    pub fn shard(self) -> Option<ShardId> {
        (self != Self::TOPOLOGY).then_some(ShardId(self.0))
    }
}

impl From<ShardId> for GroupId {
    fn from(shard: ShardId) -> Self {
        Self(shard.0)
    }
}

impl Position {
    /// The position `count` further on. Saturates: 2^64 messages never pass through one queue.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// A node's identity beside its number: made once, at the first start of a data directory.
/// A wiped disk gets a new one and so cannot speak for the old.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

/// A cluster's identity, made when it is formed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// Under which hand-out a delivery was made: the leader's term and a number that rises within it.
/// A settle or return counts only if its attempt is the one on record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Attempt {
    pub term: Term,
    pub number: u64,
}

/// A message's priority level, 0 (lowest) to 31.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Priority(u8);

impl Priority {
    pub const LEVELS: usize = 32;
    pub const MIN: Self = Self(0);
    pub const MAX: Self = Self(31);
    /// What a message without a priority gets.
    pub const DEFAULT: Self = Self(4);

    /// The level for a wire priority; above 31 counts as 31.
    #[must_use]
    pub fn clamped(priority: u8) -> Self {
        Self(priority.min(Self::MAX.0))
    }

    #[must_use]
    pub fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// `count` positions from `first` on; never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PositionRange {
    pub first: Position,
    pub count: u64,
}

impl PositionRange {
    #[must_use]
    pub fn one(position: Position) -> Self {
        Self {
            first: position,
            count: 1,
        }
    }

    /// The first position after the range.
    #[must_use]
    pub fn end(self) -> Position {
        self.first.plus(self.count)
    }

    #[must_use]
    pub fn contains(self, position: Position) -> bool {
        self.first <= position && position < self.end()
    }

    pub fn positions(self) -> impl Iterator<Item = Position> {
        (self.first.0..self.end().0).map(Position)
    }

    /// Ranges for positions given in ascending order; adjacent ones are joined.
    #[must_use]
    pub fn collect(positions: impl IntoIterator<Item = Position>) -> Vec<Self> {
        let mut ranges: Vec<Self> = Vec::new();
        for position in positions {
            match ranges.last_mut() {
                Some(last) if last.end() == position => last.count += 1,
                _ => ranges.push(Self::one(position)),
            }
        }
        ranges
    }
}
