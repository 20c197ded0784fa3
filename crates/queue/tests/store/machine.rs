//! A store on rows in memory. Not here: what the tests expect, the rows (`rows`).

use warren_queue::entry::{ApplyContext, ShardEntry};
use warren_queue::outcome::Output;
use warren_queue::store::{Store, StoreOptions};
use warren_types::{LogIndex, Term};

pub(crate) use crate::rows::MapRows;

/// Two blocks in memory: nearly everything is read through `Rows`.
pub(crate) const SMALL: StoreOptions = StoreOptions {
    cached_blocks_max: 2,
    cached_messages_max: u64::MAX,
    listed_producers_max: 1,
};

/// Everything in memory.
pub(crate) const LARGE: StoreOptions = StoreOptions {
    cached_blocks_max: usize::MAX,
    cached_messages_max: u64::MAX,
    listed_producers_max: usize::MAX,
};

pub(crate) struct Machine {
    pub(crate) store: Store,
    pub(crate) rows: MapRows,
    index: u64,
}

impl Machine {
    pub(crate) fn new(options: StoreOptions) -> Self {
        Self::on(MapRows::default(), options)
    }

    /// A store opened on rows, as after a start or a snapshot.
    pub(crate) fn on(rows: MapRows, options: StoreOptions) -> Self {
        Self {
            store: Store::open(&rows, options),
            rows,
            index: 0,
        }
    }

    pub(crate) fn apply(&mut self, entry: ShardEntry) -> Output {
        self.index += 1;
        let at = ApplyContext {
            index: LogIndex(self.index),
            term: Term(1),
        };
        let mut out = Output::default();
        self.store.apply(&self.rows, at, entry, &mut out);
        self.rows.take(&out.changes);
        out
    }
}
