//! What must hold after every entry, checked in debug builds for what the entry could have broken. Not here: the tests.

use super::Store;
use crate::entry::ApplyContext;

impl Store {
    /// Totals add up; heads, marks and positions are in order; nothing of the entry is left over.
    #[cfg(debug_assertions)]
    pub(super) fn debug_assert_invariants(&self, at: ApplyContext) {
        let mut blocks = 0;
        for queue in self.queues.values() {
            let (id, counters) = (queue.id, &queue.counters);
            let settled = counters.acked
                + counters.rejected
                + counters.expired
                + counters.dropped
                + counters.dead_lettered
                + counters.no_ack;
            let sum = queue.live() + settled + counters.purged + counters.cancelled;
            assert_eq!(
                counters.enqueued, sum,
                "queue {id}: totals add up at {at:?}"
            );
            assert!(
                counters.enqueued < queue.next.0,
                "queue {id}: every message has a position at {at:?}"
            );
            assert!(
                !queue.touched && queue.removed.is_empty() && queue.touched_blocks.is_empty(),
                "{id} at {at:?}"
            );
            for level in &queue.levels {
                level.debug_assert_invariants(queue, at);
                blocks += level.blocks.len();
            }
        }
        assert_eq!(
            self.cache.blocks(),
            blocks,
            "the cache counts its blocks at {at:?}"
        );
        assert!(
            blocks <= self.options.cached_blocks_max,
            "the cache keeps within its bound at {at:?}"
        );
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "same shape as the checking one")]
    pub(super) fn debug_assert_invariants(&self, _: ApplyContext) {}
}

#[cfg(debug_assertions)]
impl super::queue::Level {
    fn debug_assert_invariants(&self, queue: &super::queue::Queue, at: ApplyContext) {
        let (id, row) = (queue.id, &self.row);
        assert!(
            row.head <= queue.next && !self.head_moved,
            "queue {id}: head at {at:?}"
        );
        let mut end = row.head;
        let mut live = 0;
        for (first, block) in &self.blocks {
            assert_eq!(*first, block.first, "queue {id} at {at:?}");
            assert!(
                *first >= end,
                "queue {id}: blocks do not overlap and none lies below the head at {at:?}"
            );
            assert!(
                block.live() > 0,
                "queue {id}: a block without messages is gone at {at:?}"
            );
            assert!(
                block.fresh.is_none() && !block.touched,
                "queue {id}: the entry left nothing behind at {at:?}"
            );
            end = block.end();
            live += u64::from(block.live());
        }
        assert!(
            end <= queue.next,
            "queue {id}: blocks lie below the next position at {at:?}"
        );
        assert!(
            live <= row.live,
            "queue {id}: live messages of blocks in memory at {at:?}"
        );
        if self.complete_from <= row.head {
            assert_eq!(
                live, row.live,
                "queue {id}: all blocks are in memory at {at:?}"
            );
        }
        assert!(
            row.scheduled + row.parked <= row.live,
            "queue {id}: scheduled and parked messages are live ones at {at:?}"
        );
        assert!(
            row.live == 0 || row.head < queue.next,
            "queue {id}: a live message lies above the head at {at:?}"
        );
        let mut above = row.head;
        for range in &row.released {
            assert!(
                range.count > 0 && range.first >= above,
                "queue {id}: released ranges ascend at {at:?}"
            );
            above = range.end().plus(1);
        }
    }
}
