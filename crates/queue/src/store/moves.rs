//! Messages on their way to other shards: numbered per target shard, kept until each has been taken there (architecture, "Moves across
//! shards"). Not here: the commands (`command::{move_out, arrived}`), sending (`warren-shard`), what the target keeps (`origins`: a source
//! shard is an origin like a node).

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{PositionRange, QueueId, ShardId};

use super::{Store, ranges};
use crate::death;
use crate::rows::{Change, OutgoingRow, Row, RowKey};

#[derive(Debug, Default)]
pub(super) struct Moves {
    outgoing: BTreeMap<(ShardId, u64), OutgoingRow>,
    /// Rows the current entry changed.
    touched: BTreeSet<(ShardId, u64)>,
}

impl Moves {
    pub(super) fn open(rows: Vec<((ShardId, u64), OutgoingRow)>) -> Self {
        Self {
            outgoing: rows.into_iter().collect(),
            touched: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.outgoing.len()
    }

    pub(super) fn put(&mut self, key: (ShardId, u64), row: OutgoingRow) {
        self.outgoing.insert(key, row);
        self.touched.insert(key);
    }

    pub(super) fn take(&mut self, key: (ShardId, u64)) -> Option<OutgoingRow> {
        let row = self.outgoing.remove(&key)?;
        self.touched.insert(key);
        Some(row)
    }

    /// What of a queue is on its way.
    pub(super) fn leaving(&self, queue: QueueId) -> Vec<PositionRange> {
        self.ranges_of(|row| row.queue == queue)
    }

    /// Of it: dead letters.
    pub(super) fn dying(&self, queue: QueueId) -> Vec<PositionRange> {
        self.ranges_of(|row| row.queue == queue && death::reason_name(row.reason).is_some())
    }

    fn ranges_of(&self, is_meant: impl Fn(&OutgoingRow) -> bool) -> Vec<PositionRange> {
        let rows = self.outgoing.values().filter(|row| is_meant(row));
        let mut leaving = Vec::new();
        for range in rows.flat_map(|row| &row.ranges) {
            ranges::insert(&mut leaving, *range);
        }
        leaving
    }

    /// Other numbers under which messages of the named ranges are on their way learn that they have arrived.
    pub(super) fn note_arrived(&mut self, queue: QueueId, arrived: &[PositionRange]) {
        for (key, row) in &mut self.outgoing {
            if row.queue != queue {
                continue;
            }
            for range in arrived {
                for own in row.ranges.clone() {
                    if let Some(both) = ranges::clip(*range, own.first, own.end()) {
                        ranges::insert(&mut row.arrived, both);
                        self.touched.insert(*key);
                    }
                }
            }
        }
    }

    pub(super) fn flush(&mut self, changes: &mut Vec<Change>) {
        while let Some(key @ (shard, number)) = self.touched.pop_first() {
            let name = RowKey::Outgoing { shard, number };
            changes.push(match self.outgoing.get(&key) {
                Some(row) => Change::Put(name, Row::Outgoing(row.clone())),
                None => Change::Delete(name),
            });
        }
    }
}

impl Store {
    /// How many messages of a queue are on their way.
    #[must_use]
    pub fn leaving_count(&self, queue: QueueId) -> u64 {
        let leaving = self.moves.leaving(queue);
        leaving.iter().map(|range| range.count).sum()
    }

    /// Everything that is on its way to other shards, by target shard and number.
    pub fn outgoing(&self) -> impl Iterator<Item = (ShardId, u64, &OutgoingRow)> + '_ {
        let rows = self.moves.outgoing.iter();
        rows.map(|(&(shard, number), row)| (shard, number, row))
    }
}
