//! Raft's own small values, as this project keeps and sends them. Not here: openraft's types (only `raft` knows them), formats (`codec`, `proto`).

use crate::{LogIndex, NodeId, ReplicaId, Term};

/// Names one entry of a group's log. Entries are equal if and only if their log ids are (Raft paper §5.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LogId {
    pub term: Term,
    /// The replica that led the term when the entry was made.
    pub leader: ReplicaId,
    pub index: LogIndex,
}

/// A replica's vote: the highest term it has seen and whom it voted for in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Vote {
    pub term: Term,
    pub replica: ReplicaId,
    /// A majority granted it: `replica` leads `term`.
    pub committed: bool,
}

/// Where a replica lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    pub replica: ReplicaId,
    pub node: NodeId,
}

/// What a node knows of a group's leadership at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leadership {
    pub term: Term,
    /// `None`: no leader is known (an election is under way, or no majority is reachable).
    pub leader: Option<Leader>,
}

/// The leader of a term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leader {
    pub replica: ReplicaId,
    pub node: NodeId,
}
