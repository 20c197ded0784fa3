//! One queue in memory: its row taken apart, its cached blocks, and what the current entry did to it.
//! Not here: finding blocks (`reach`), writing rows (`flush`), the commands (`command`).

use std::collections::BTreeMap;

use warren_types::{Position, Priority, QueueId, QueueName, VhostId};

use super::blocks::{Block, StoredRows};
use super::memory::Memories;
use super::producers::Producers;
use super::{digest, limits, ranges};
use crate::rows::{Counters, LevelRow, QueueRow};

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: QueueId,
    pub(super) vhost: VhostId,
    pub(super) name: QueueName,
    /// The next position to be given.
    pub(super) next: Position,
    /// Ascending by priority.
    pub(super) levels: Vec<Level>,
    pub(super) counters: Counters,
    pub(super) producers: Producers,
    /// Of the last activation of a single active consumer.
    pub(super) fencing: u64,
    pub(super) memories: Memories,
    #[cfg(feature = "next-version")]
    pub(super) note: u64,
    /// Digest of the row as last written.
    pub(super) digest: u64,
    /// The current entry has it on its list.
    pub(super) touched: bool,
    /// Blocks the current entry changed, each once.
    pub(super) touched_blocks: Vec<(Priority, Position)>,
    /// Blocks that are wholly settled by the current entry; `Rows` still shows them.
    pub(super) removed: BTreeMap<(Priority, Position), StoredRows>,
}

/// One priority of a queue.
#[derive(Debug)]
pub(super) struct Level {
    /// While an entry runs, `head` may lag behind: it is put right when the entry ends.
    pub(super) row: LevelRow,
    /// Descriptors in memory.
    pub(super) blocks: BTreeMap<Position, Block>,
    /// Every block that ends after this position is in memory: there is no need to look for others.
    pub(super) complete_from: Position,
    /// The first block went in the current entry.
    pub(super) head_moved: bool,
}

impl Queue {
    pub(super) fn new(id: QueueId, vhost: VhostId, name: QueueName) -> Self {
        let (next, levels, counters) = (Position(1), Vec::new(), Counters::default());
        let mut queue = Self::open(QueueRow {
            queue: id,
            vhost,
            name,
            next,
            levels,
            counters,
            fencing: 0,
            memories: Vec::new(),
            #[cfg(feature = "next-version")]
            note: 0,
        });
        queue.digest = 0; // nothing is written yet
        queue
    }

    pub(super) fn open(row: QueueRow) -> Self {
        let digest = digest::of_queue(&row);
        let levels = row
            .levels
            .into_iter()
            .map(|level| Level::open(level, row.next))
            .collect();
        Self {
            id: row.queue,
            vhost: row.vhost,
            name: row.name,
            next: row.next,
            levels,
            counters: row.counters,
            producers: Producers::default(),
            fencing: row.fencing,
            memories: Memories::open(row.memories),
            #[cfg(feature = "next-version")]
            note: row.note,
            digest,
            touched: false,
            touched_blocks: Vec::new(),
            removed: BTreeMap::new(),
        }
    }

    pub(super) fn row(&self) -> QueueRow {
        QueueRow {
            queue: self.id,
            vhost: self.vhost,
            name: self.name.clone(),
            next: self.next,
            levels: self.levels.iter().map(|level| level.row.clone()).collect(),
            counters: self.counters,
            fencing: self.fencing,
            memories: self.memories.spans(),
            #[cfg(feature = "next-version")]
            note: self.note,
        }
    }

    pub(super) fn live(&self) -> u64 {
        self.levels.iter().map(|level| level.row.live).sum()
    }

    pub(super) fn level(&self, priority: Priority) -> Option<&Level> {
        self.levels
            .iter()
            .find(|level| level.row.priority == priority)
    }

    pub(super) fn level_mut(&mut self, priority: Priority) -> Option<&mut Level> {
        self.levels
            .iter_mut()
            .find(|level| level.row.priority == priority)
    }

    /// The level of a priority, made at its first use.
    pub(super) fn level_or_new(&mut self, priority: Priority) -> &mut Level {
        let at = self
            .levels
            .partition_point(|level| level.row.priority < priority);
        if self
            .levels
            .get(at)
            .is_none_or(|level| level.row.priority != priority)
        {
            let row = LevelRow {
                priority,
                head: self.next,
                live: 0,
                handed_out: Position(1),
                released: Vec::new(),
                scheduled: 0,
                parked: 0,
            };
            self.levels.insert(at, Level::open(row, Position(0)));
        }
        self.levels
            .get_mut(at)
            .expect("the level was there or was inserted above")
    }
}

impl Level {
    fn open(row: LevelRow, next: Position) -> Self {
        let complete_from = if row.live == 0 { Position(0) } else { next };
        Self {
            row,
            blocks: BTreeMap::new(),
            complete_from,
            head_moved: false,
        }
    }

    /// Raises the mark; never lowers it, and never lets it run far ahead of what exists.
    pub(super) fn raise(&mut self, up_to: Position, next: Position) -> Position {
        let highest = next.plus(limits::MARK_AHEAD_MAX);
        self.row.handed_out = self.row.handed_out.max(up_to.min(highest));
        self.row.handed_out
    }

    /// Drops a descriptor; its rows have all there is to know.
    pub(super) fn evict(&mut self, first: Position) -> u32 {
        let Some(block) = self.blocks.remove(&first) else {
            return 0;
        };
        self.complete_from = self.complete_from.max(block.end());
        block.count
    }

    /// Takes a block out that has no live message left.
    pub(super) fn remove(&mut self, first: Position) -> Option<Block> {
        let block = self.blocks.remove(&first)?;
        if first == self.row.head {
            self.row.head = block.end(); // a lower bound; `flush` finds the block
            self.head_moved = true;
        }
        if self.row.live == 0 {
            self.complete_from = Position(0);
        }
        Some(block)
    }

    /// The first block is known again.
    pub(super) fn set_head(&mut self, head: Position) {
        self.row.head = head;
        self.head_moved = false;
        ranges::remove_below(&mut self.row.released, head);
    }
}
