//! The engines against what they promise: laws in `contract`, random histories in `model`. Not here: each engine's own tests.

mod contract;
mod model;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Term, Vote};

use super::{Done, GroupLog, LogEngine, LogError, LogOptions, LogRecord, RocksLog, SegmentLog};

/// An engine under test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Rocks,
    Segments,
}

impl Kind {
    pub(crate) fn open(self, dir: &Path) -> Arc<dyn LogEngine> {
        let options = LogOptions {
            segment_bytes: 64 << 10,
            ..LogOptions::default()
        };
        self.open_with(dir, options)
    }

    pub(crate) fn open_with(self, dir: &Path, options: LogOptions) -> Arc<dyn LogEngine> {
        match self {
            Self::Rocks => Arc::new(RocksLog::open(dir, options).unwrap()),
            Self::Segments => Arc::new(SegmentLog::open(dir, options).unwrap()),
        }
    }
}

pub(crate) const GROUP: GroupId = GroupId(3);
pub(crate) const REPLICA: ReplicaId = ReplicaId(11);

pub(crate) fn id(term: u64, index: u64) -> LogId {
    LogId {
        term: Term(term),
        leader: ReplicaId(term % 3),
        index: LogIndex(index),
    }
}

pub(crate) fn record(term: u64, index: u64, bytes: usize) -> LogRecord {
    let fill = u8::try_from((term * 31 + index) % 251).unwrap();
    LogRecord {
        id: id(term, index),
        bytes: Bytes::from(vec![fill; bytes]),
    }
}

pub(crate) fn records(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<LogRecord> {
    indexes.map(|index| record(term, index, 20)).collect()
}

pub(crate) type Answer = mpsc::Receiver<Result<(), LogError>>;

pub(crate) fn answer() -> (Done, Answer) {
    let (send, receive) = mpsc::sync_channel(1);
    (Box::new(move |result| send.send(result).unwrap()), receive)
}

pub(crate) fn wait(answer: &Answer) -> Result<(), LogError> {
    answer
        .recv_timeout(Duration::from_secs(30))
        .expect("every done is called")
}

pub(crate) fn append(log: &Arc<dyn GroupLog>, records: Vec<LogRecord>) -> Result<(), LogError> {
    let (done, answered) = answer();
    log.append(records, done);
    wait(&answered)
}

pub(crate) fn vote(log: &Arc<dyn GroupLog>, term: u64) -> Result<(), LogError> {
    let (done, answered) = answer();
    log.save_vote(
        Vote {
            term: Term(term),
            replica: REPLICA,
            committed: false,
        },
        done,
    );
    wait(&answered)
}

pub(crate) fn read_all(log: &Arc<dyn GroupLog>) -> Vec<LogRecord> {
    log.read(LogIndex(0)..LogIndex(u64::MAX), usize::MAX)
        .unwrap()
}
