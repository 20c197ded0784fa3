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

impl Leadership {
    /// It is of a later term than `before`, or has the second leader of the same term. Nothing that was proposed to the
    /// first one and is not in the log of the second can be committed any more.
    #[must_use]
    pub fn is_after(&self, before: &Self) -> bool {
        let replaced = match (before.leader, self.leader) {
            (Some(first), Some(now)) => first.replica != now.replica,
            (None, _) | (_, None) => false,
        };
        self.term > before.term || (self.term == before.term && replaced)
    }
}

/// Who was elected in a term. Two can be, one after the other; at most one of them commits an entry of its own (ADR 0087).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leader {
    pub replica: ReplicaId,
    pub node: NodeId,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(term: u64, by: Option<u64>) -> Leadership {
        let leader = by.map(|replica| Leader {
            replica: ReplicaId(replica),
            node: NodeId(1),
        });
        Leadership {
            term: Term(term),
            leader,
        }
    }

    #[test]
    fn second_leader_of_a_term_is_after_the_first() {
        assert!(led(3, Some(5)).is_after(&led(3, Some(2))));
        assert!(led(4, None).is_after(&led(3, Some(2))));
        assert!(led(4, Some(2)).is_after(&led(3, Some(2))));
        assert!(!led(3, Some(2)).is_after(&led(3, Some(2))));
        // It gave up, and nobody else is known.
        assert!(!led(3, None).is_after(&led(3, Some(2))));
    }
}
