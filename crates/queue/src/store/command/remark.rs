//! What consumers say of deliveries that they give back is kept with the message (features X6). Not here: giving back (`requeue`, `park`,
//! `settle`), what of it a dead letter takes along (`death`).

use warren_types::{Position, PositionRange, ShardTime};

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::blocks::Block;
use super::super::limits::{SAID_BLOCK_BYTES_MAX, SAID_MAX};
use super::super::reach::Visit;
use crate::entry::{Remark, Said};
use crate::outcome::Reply;
use crate::rows::{Rows, SaidAt};

/// Only of live messages. Beyond the newest eight of a message the oldest are forgotten; beyond its bytes a block takes no more.
pub(in super::super) fn apply(store: &mut Store, rows: &dyn Rows, it: &Remark) -> Reply {
    let now = store.now();
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let mut count = 0;
    queue.each_piece(&mut reach, &it.ranges, |_, block, indexes| {
        let mut live = Vec::new();
        block.each_live(indexes, |run| live.push(run));
        let mut visit = Visit::Read;
        for position in live.iter().flat_map(|run| run.positions()) {
            if block.say(position, now, &it.said) {
                count += 1;
                visit = Visit::Changed;
            }
        }
        visit
    });
    Reply::Remarked { count }
}

impl Block {
    /// What its row tells of a message.
    pub(in super::super) fn take_said(&mut self, position: Position, said: Vec<SaidAt>) {
        if let Some(indexes) = self.indexes(PositionRange::one(position)) {
            let states = self.states.get_or_insert_default();
            states.said_bytes += said.iter().map(|it| it.said.bytes()).sum::<usize>();
            states.said.insert(indexes.start, said);
        }
    }

    /// False: there is no room for it.
    fn say(&mut self, position: Position, at: ShardTime, said: &Said) -> bool {
        let Some(indexes) = self.indexes(PositionRange::one(position)) else {
            return false;
        };
        let taken = self.states.as_ref().map_or(0, |it| it.said_bytes);
        if taken + said.bytes() > SAID_BLOCK_BYTES_MAX {
            return false;
        }
        let states = self.states.get_or_insert_default();
        let of_it = states.said.entry(indexes.start).or_default();
        if of_it.len() >= SAID_MAX {
            states.said_bytes -= of_it.remove(0).said.bytes();
        }
        states.said_bytes += said.bytes();
        let said = said.clone();
        of_it.push(SaidAt { at, said });
        self.counts_changed = true;
        true
    }
}
