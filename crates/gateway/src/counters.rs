//! What clients have done on this node since its start, as plain counts. Not here: showing them (`management`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warren_types::Alarm;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0
            .fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One protocol's.
#[derive(Debug, Default)]
pub struct FrontCounters {
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    /// Messages that clients sent to be published.
    pub received: Counter,
    /// Messages that went on their way to at least one queue.
    pub routed: Counter,
    /// Messages that no queue takes.
    pub unroutable: Counter,
    /// Messages on the disks of a majority, for every queue they went to; duplicates too.
    pub confirmed: Counter,
    /// Messages that were refused after they were on their way, or whose outcome is not known.
    pub failed: Counter,
    /// Publishes that memory or disk held back: refused over gRPC, made to wait over AMQP.
    pub held_back_by_memory: Counter,
    pub held_back_by_disk: Counter,
    /// Publishes that waited for their time by their vhost's limit; over gRPC, batches.
    pub held_back_by_rate: Counter,
    /// Publishes into a vhost that stores as much as it may: refused over gRPC, made to wait over AMQP.
    pub held_back_by_quota: Counter,
}

impl FrontCounters {
    pub(crate) fn held_back(&self, alarm: Alarm) {
        match alarm {
            Alarm::Memory => self.held_back_by_memory.add(1),
            Alarm::Disk => self.held_back_by_disk.add(1),
        }
    }
}

/// All of a node's.
#[derive(Debug, Default)]
pub struct Counters {
    pub amqp: Arc<FrontCounters>,
    pub grpc: Arc<FrontCounters>,
}

/// Counts a connection while it lives.
#[derive(Debug)]
pub(crate) struct CountedConnection(Arc<FrontCounters>);

impl CountedConnection {
    pub(crate) fn open(front: &Arc<FrontCounters>) -> Self {
        front.connections_opened.add(1);
        Self(Arc::clone(front))
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.connections_closed.add(1);
    }
}
