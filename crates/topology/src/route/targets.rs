//! Where a message goes, and what is still to be visited on the way there. Not here: how that is found.

use std::collections::BTreeSet;

use warren_types::{ExchangeName, QueueId, ShardId};

use super::hop::Hop;

/// One queue a message goes to, with the shard it is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target {
    pub queue: QueueId,
    pub shard: ShardId,
}

/// The queues a message goes to, each once. Kept and reused by the session.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    found: Vec<Target>,
    /// Sets of hops that were added: within one, no queue comes twice.
    sets: usize,
    /// Exchanges still to route through. Bounded by the hops of the exchanges that were visited.
    pending: Vec<ExchangeName>,
    /// Each exchange routes a message once: that cuts cycles.
    visited: BTreeSet<ExchangeName>,
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
        self.sets = 0;
        self.pending.clear();
        if !self.visited.is_empty() {
            self.visited.clear();
        }
    }

    /// The hops added next are distinct among themselves.
    pub(super) fn begin_set(&mut self) -> &mut Self {
        self.sets += 1;
        self
    }

    pub(super) fn add(&mut self, hop: &Hop) {
        match hop {
            Hop::Queue(target) => self.found.push(*target),
            Hop::Exchange(name) => self.pending.push(name.clone()),
        }
    }

    /// The message goes on to this exchange too.
    pub(super) fn follow(&mut self, exchange: &ExchangeName) {
        self.pending.push(exchange.clone());
    }

    /// Grows with every hop that is added.
    pub(super) fn hops(&self) -> usize {
        self.found.len() + self.pending.len()
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// `false`: it has routed this message before.
    pub(super) fn visit(&mut self, exchange: &ExchangeName) -> bool {
        self.visited.insert(exchange.clone())
    }

    /// An exchange that has not routed this message yet.
    pub(super) fn next_pending(&mut self) -> Option<ExchangeName> {
        while let Some(next) = self.pending.pop() {
            if self.visited.insert(next.clone()) {
                return Some(next);
            }
        }
        None
    }

    /// Each queue once, however many paths lead to it.
    pub(super) fn finish(&mut self) {
        if self.sets > 1 {
            self.found.sort_unstable();
            self.found.dedup();
        }
    }
}
