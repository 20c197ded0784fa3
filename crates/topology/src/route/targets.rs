//! Where a message goes. Not here: how that is found.

use warren_types::{QueueId, ShardId};

/// One queue a message goes to, with the shard it is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target {
    pub queue: QueueId,
    pub shard: ShardId,
}

/// The queues a message goes to, each once. Kept and reused by the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    found: Vec<Target>,
}

impl Targets {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn as_slice(&self) -> &[Target] {
        &self.found
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Target> + '_ {
        self.found.iter().copied()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// The message is unroutable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn clear(&mut self) {
        self.found.clear();
    }

    /// The caller sees to it that no queue comes twice.
    pub(super) fn push(&mut self, target: Target) {
        self.found.push(target);
    }
}
