//! A log engine in memory, with a writer thread whose sync takes as long as the test says. Not here: crashes.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use warren_storage::{
    Done, Durable, GroupLog, GroupLogState, LogEngine, LogError, LogRecord, LogSpace, LogStats,
};
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Vote};

type Sync = Box<dyn FnOnce() + Send>;

/// All groups of one node.
pub(crate) struct MemLog {
    queue: mpsc::SyncSender<Sync>,
    groups: Mutex<BTreeMap<GroupId, Arc<MemGroup>>>,
}

struct MemGroup {
    queue: mpsc::SyncSender<Sync>,
    kept: Arc<Mutex<Kept>>,
    durable: watch::Sender<Durable>,
}

#[derive(Default)]
struct Kept {
    state: GroupLogState,
    records: BTreeMap<LogIndex, LogRecord>,
}

impl MemLog {
    pub(crate) fn new(sync_takes: Duration) -> Self {
        let (queue, syncs) = mpsc::sync_channel::<Sync>(1024);
        std::thread::spawn(move || {
            while let Ok(first) = syncs.recv() {
                let batch: Vec<Sync> = std::iter::once(first).chain(syncs.try_iter()).collect();
                std::thread::sleep(sync_takes);
                batch.into_iter().for_each(|done| done());
            }
        });
        Self {
            queue,
            groups: Mutex::default(),
        }
    }
}

impl LogEngine for MemLog {
    fn open_group(&self, group: GroupId, _: ReplicaId) -> Result<Arc<dyn GroupLog>, LogError> {
        let mut groups = self.groups.lock();
        let log = groups.entry(group).or_insert_with(|| {
            Arc::new(MemGroup {
                queue: self.queue.clone(),
                kept: Arc::default(),
                durable: watch::Sender::new(Durable::default()),
            })
        });
        Ok(log.clone())
    }

    fn remove_group(&self, group: GroupId, done: Done) {
        self.groups.lock().remove(&group);
        done(Ok(()));
    }

    fn failed(&self) -> watch::Receiver<Option<Arc<str>>> {
        watch::Sender::new(None).subscribe()
    }

    fn stats(&self) -> LogStats {
        LogStats::default()
    }

    fn space(&self) -> std::io::Result<LogSpace> {
        Ok(LogSpace::default())
    }

    fn close(&self) {}
}

impl GroupLog for MemGroup {
    fn state(&self) -> GroupLogState {
        self.kept.lock().state
    }

    fn append(&self, records: Vec<LogRecord>, done: Done) {
        let mut kept = self.kept.lock();
        let last = records.last().map(|record| record.id);
        for record in records {
            if let Some(last) = kept.state.last {
                assert_eq!(record.id.index.0, last.index.0 + 1, "hole in the log");
            }
            kept.state.last = Some(record.id);
            kept.records.insert(record.id.index, record);
        }
        drop(kept);
        let durable = self.durable.clone();
        let kept = self.kept.clone();
        self.sync(move || {
            // Truncated meanwhile: it does not count.
            let there = last.filter(|id| {
                kept.lock()
                    .records
                    .get(&id.index)
                    .is_some_and(|it| it.id == *id)
            });
            if there.is_some() {
                durable.send_modify(|durable| durable.last = durable.last.max(there));
            }
            done(Ok(()));
        });
    }

    fn save_vote(&self, vote: Vote, done: Done) {
        let kept = self.kept.clone();
        self.sync(move || {
            kept.lock().state.vote = Some(vote);
            done(Ok(()));
        });
    }

    fn truncate_after(&self, last_kept: Option<LogId>) {
        let mut kept = self.kept.lock();
        if last_kept >= kept.state.last {
            return;
        }
        let from = last_kept.map_or(LogIndex(0), |id| LogIndex(id.index.0 + 1));
        kept.records.split_off(&from);
        let purged = kept.state.purged;
        kept.state.last = last_kept.or(purged);
        let last = kept.state.last;
        self.durable
            .send_modify(|durable| durable.last = durable.last.min(last));
    }

    fn save_committed(&self, committed: Option<LogId>) {
        self.kept.lock().state.committed = committed;
    }

    fn purge(&self, upto: LogId) {
        let mut kept = self.kept.lock();
        kept.records = kept.records.split_off(&LogIndex(upto.index.0 + 1));
        kept.state.purged = kept.state.purged.max(Some(upto));
        kept.state.last = kept.state.last.max(Some(upto));
        self.durable
            .send_modify(|durable| durable.last = durable.last.max(Some(upto)));
    }

    fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<LogRecord>, LogError> {
        let kept = self.kept.lock();
        let mut bytes = 0;
        let mut records = Vec::new();
        for index in range.start.0..range.end.0 {
            let Some(record) = kept.records.get(&LogIndex(index)) else {
                break;
            };
            bytes += record.bytes.len();
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push(record.clone());
        }
        Ok(records)
    }

    fn log_id(&self, index: LogIndex) -> Result<Option<LogId>, LogError> {
        let kept = self.kept.lock();
        let purged = kept.state.purged.filter(|id| id.index == index);
        Ok(kept.records.get(&index).map(|record| record.id).or(purged))
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }
}

impl MemGroup {
    fn sync(&self, done: impl FnOnce() + Send + 'static) {
        self.queue.send(Box::new(done)).unwrap();
    }
}
