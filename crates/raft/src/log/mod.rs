//! openraft's log interface over a `GroupLog`. Not here: files, syncs, caches (`warren-storage`).

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use std::sync::Arc;

use futures::Stream;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::oneshot;
use warren_storage::{GroupLog, LogError};

use crate::config::{EntryOf, LogIdOf, TypeConfig, VoteOf};
use crate::convert;

/// No more than this is read at once, for a follower or for apply; one entry may exceed it.
const READ_BYTES_MAX: usize = 1 << 20;

/// One replica's log as openraft sees it. Clones read the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<dyn GroupLog>,
}

impl LogStore {
    pub(crate) fn new(log: Arc<dyn GroupLog>) -> Self {
        Self { log }
    }

    /// Entries of the range, about a mebibyte of them.
    fn read(&self, range: Range<u64>) -> Result<Vec<EntryOf>, io::Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let records = self
            .log
            .read(
                convert::index_from_raft(range.start)..convert::index_from_raft(range.end),
                READ_BYTES_MAX,
            )
            .map_err(io_error)?;
        records
            .into_iter()
            .map(|record| convert::entry_from_record(record).map_err(io::Error::other))
            .collect()
    }

    /// All entries of the range that follow each other from its start.
    fn read_all(&self, range: Range<u64>) -> Result<Vec<EntryOf>, io::Error> {
        let mut entries = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let more = self.read(at..range.end)?;
            let Some(last) = more.last() else { break };
            at = last.log_id.index + 1;
            entries.extend(more);
        }
        Ok(entries)
    }

    fn log_id(&self, index: u64) -> Result<LogIdOf, io::Error> {
        let id = self
            .log
            .log_id(convert::index_from_raft(index))
            .map_err(io_error)?;
        id.map(convert::log_id_to_raft)
            .ok_or_else(|| io::Error::other(format!("log has no entry {index}")))
    }

    /// The range's first and last index; an open end is the end of the log.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> Range<u64> {
        let state = self.log.state();
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => state
                .purged
                .map_or(0, |id| convert::index_to_raft(id.index) + 1),
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => state
                .last
                .map_or(0, |id| convert::index_to_raft(id.index) + 1),
        };
        start..end
    }
}

fn io_error(error: LogError) -> io::Error {
    io::Error::other(error)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<EntryOf>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read_all(self.bounds(&range))
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<EntryOf, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let end = self.log.state().last;
        let end = end.map_or(0, |id| convert::index_to_raft(id.index) + 1);
        let mut range = self.bounds(&range);
        range.end = range.end.min(end);
        let at = EntriesAt {
            store: self.clone(),
            range,
            read: Vec::new().into_iter(),
        };
        futures::stream::unfold(Some(at), |at| async move {
            let mut at = at?;
            match at.next() {
                Ok(Some(entry)) => Some((Ok(entry), Some(at))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf>, io::Error> {
        Ok(self.log.state().vote.map(convert::vote_to_raft))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<EntryOf>, io::Error> {
        self.read(start..end)
    }

    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogIdOf>,
    ) -> Result<Vec<LogIdOf>, io::Error> {
        // The last entry of each leader: that is what the core keeps, whatever the trait's text says of first ones.
        let (mut at, last) = range.into_inner();
        let mut keys = Vec::new();
        while at.leader_id != last.leader_id {
            // Leaders only grow along the log, so where the next one begins can be halved for.
            let (mut same, mut other) = (at.index, last.index);
            while other - same > 1 {
                let middle = same + (other - same) / 2;
                if self.log_id(middle)?.leader_id == at.leader_id {
                    same = middle;
                } else {
                    other = middle;
                }
            }
            keys.push(self.log_id(same)?);
            at = self.log_id(other)?;
        }
        keys.push(last);
        Ok(keys)
    }
}

/// Reads a range piece by piece, so that a long apply never holds all its entries at once.
struct EntriesAt {
    store: LogStore,
    range: Range<u64>,
    read: std::vec::IntoIter<EntryOf>,
}

impl EntriesAt {
    fn next(&mut self) -> Result<Option<EntryOf>, io::Error> {
        if let Some(entry) = self.read.next() {
            return Ok(Some(entry));
        }
        if self.range.is_empty() {
            return Ok(None);
        }
        let entries = self.store.read(self.range.clone())?;
        let Some(last) = entries.last() else {
            return Err(io::Error::other(format!(
                "log has no entry {}",
                self.range.start
            )));
        };
        self.range.start = last.log_id.index + 1;
        self.read = entries.into_iter();
        Ok(self.read.next())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(convert::log_id_to_raft),
            last_log_id: state.last.map(convert::log_id_to_raft),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf) -> Result<(), io::Error> {
        let (saved, on_disk) = oneshot::channel();
        let done = Box::new(move |result| {
            // The receiver is gone only if the whole replica is being stopped.
            let _ = saved.send(result);
        });
        self.log.save_vote(convert::vote_from_raft(vote), done);
        match on_disk.await {
            Ok(result) => result.map_err(io_error),
            Err(_) => Err(io_error(LogError::Closed)),
        }
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf>) -> Result<(), io::Error> {
        self.log
            .save_committed(committed.as_ref().map(convert::log_id_from_raft));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf>, io::Error> {
        // An un-synced mark may have survived entries that did not: it never reaches beyond the log.
        let state = self.log.state();
        let committed = state
            .committed
            .map(|id| state.last.map_or(id, |last| id.min(last)));
        Ok(committed.map(convert::log_id_to_raft))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries
            .into_iter()
            .map(|entry| convert::entry_to_record(&entry))
            .collect();
        let done = Box::new(move |result: Result<(), LogError>| {
            callback.io_completed(result.map_err(io_error));
        });
        self.log.append(records, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last_kept: Option<LogIdOf>) -> Result<(), io::Error> {
        self.log
            .truncate_after(last_kept.as_ref().map(convert::log_id_from_raft));
        Ok(())
    }

    async fn purge(&mut self, upto: LogIdOf) -> Result<(), io::Error> {
        self.log.purge(convert::log_id_from_raft(&upto));
        Ok(())
    }
}
