//! Runs committed entries. Same store, rows, context and entry give the same result on every replica; nothing here can fail.
//! The caller writes the changes on every replica and passes the effects on, on the leader only.
//! Not here: the commands (`command`), the rows of what they touched (`flush`).

use std::ops::Range;

use warren_types::{NotStored, Position};

use super::Store;
use super::command::enqueue::Enqueued;
use super::command::{
    activate, arrived, cancel, create, delete, drop_parked, enqueue, hand_out, move_out, outputs,
    park, purge, rearm, release, remark, requeue, settle, settle_together, together,
};
use super::origins::Refused;
use crate::entry::{ApplyContext, Command, ShardEntry};
use crate::outcome::{Effect, EntryOutcome, Output, Reply};
use crate::rows::Rows;

/// What the batches of an entry must know of its commands.
#[derive(Debug)]
pub(super) enum Note {
    /// Not an enqueue: a batch cannot have a part of it.
    NoMessages,
    /// The queue was gone: none of so many messages is stored.
    Gone { count: u32 },
    /// So many messages; those listed (by index, ascending) are not stored.
    Block {
        count: u32,
        absent: Vec<(u32, NotStored)>,
        /// Of each stored block with scheduled messages: its indexes, and where the first of them is. Ascending.
        places: Vec<(Range<u32>, Position)>,
    },
}

impl Store {
    /// Runs one committed entry, whole. `rows` shows every change of earlier calls and none of this one.
    /// Facts were decided before they were proposed; one that no longer makes sense is a recorded no-op.
    pub fn apply(
        &mut self,
        rows: &dyn Rows,
        at: ApplyContext,
        entry: ShardEntry,
        out: &mut Output,
    ) {
        if entry.now > self.shard.now {
            self.shard.now = entry.now;
            self.shard_touched = true;
        }
        self.topology_seen(entry.topology);
        out.effects.push(Effect::Time {
            now: self.shard.now,
        });
        let (verdicts, refused) = self.origins.judge(&entry.origins);
        let mut replies = Vec::with_capacity(entry.commands.len());
        let mut notes = Vec::with_capacity(entry.commands.len());
        for (number, command) in entry.commands.into_iter().enumerate() {
            let (reply, note) = self.command(rows, command, &refused, number, out);
            replies.push(reply);
            notes.push(note);
        }
        let batches = self.origins.conclude(entry.origins, verdicts, &notes);
        out.entries.push(EntryOutcome {
            proposal: entry.proposal,
            replies,
            batches,
        });
        self.flush(rows, out);
        self.debug_assert_invariants(at);
    }

    fn command(
        &mut self,
        rows: &dyn Rows,
        command: Command,
        refused: &Refused,
        number: usize,
        out: &mut Output,
    ) -> (Reply, Note) {
        let reply = match command {
            Command::Enqueue(it) => {
                let Enqueued { reply, note } =
                    enqueue::apply(self, rows, it, refused.of(number), out);
                return (reply, note);
            }
            Command::EnqueueTogether(it) => {
                let Enqueued { reply, note } =
                    together::apply(self, rows, it, refused.of(number), out);
                return (reply, note);
            }
            Command::AckWithOutputs(it) => outputs::apply(self, rows, it, out),
            Command::SettleTogether(it) => settle_together::apply(self, rows, it, out),
            Command::Settle(it) => settle::apply(self, rows, &it, out),
            Command::Return(it) => requeue::apply(self, rows, it, out),
            Command::HandOut(it) => hand_out::apply(self, rows, &it, out),
            Command::Release(it) => release::apply(self, rows, &it, out),
            Command::CreateQueue(it) => create::apply(self, it, out),
            Command::DeleteQueue(it) => delete::apply(self, &it, out),
            Command::Purge(it) => purge::apply(self, rows, &it, out),
            Command::Activate(it) => activate::apply(self, rows, &it, out),
            Command::MoveOut(it) => move_out::apply(self, rows, &it, out),
            Command::Arrived(it) => arrived::apply(self, rows, &it, out),
            Command::Park(it) => park::apply(self, rows, &it, out),
            Command::DropParked(it) => drop_parked::apply(self, rows, &it, out),
            Command::Rearm(it) => rearm::apply(self, rows, &it, out),
            Command::Cancel(it) => cancel::apply(self, rows, it, out),
            Command::Remark(it) => remark::apply(self, rows, &it),
            #[cfg(feature = "next-version")]
            Command::Note(it) => super::command::note::apply(self, rows, &it),
        };
        (reply, Note::NoMessages)
    }
}

/// The queue and the way to its blocks, or the reply that it is gone.
macro_rules! queue_or_gone {
    ($store:expr, $rows:expr, $id:expr) => {
        match $store.touch($rows, $id) {
            Some(found) => found,
            None => return crate::outcome::Reply::QueueGone,
        }
    };
}
pub(super) use queue_or_gone;
