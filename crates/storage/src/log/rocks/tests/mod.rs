//! The engine against its contract; faults in `faults`, random histories in `model`.

mod faults;
mod model;

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use warren_types::{LogId, Term, Vote};

use super::*;
use crate::log::contract::{GroupLogState, LogRecord};
pub(super) use crate::test_files::copy_dir;

pub(super) const GROUP: GroupId = GroupId(3);
pub(super) const REPLICA: ReplicaId = ReplicaId(11);

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId {
        term: Term(term),
        leader: ReplicaId(term % 3),
        index: LogIndex(index),
    }
}

pub(super) fn record(term: u64, index: u64, bytes: usize) -> LogRecord {
    let fill = u8::try_from((term * 31 + index) % 251).unwrap();
    LogRecord {
        id: id(term, index),
        bytes: Bytes::from(vec![fill; bytes]),
    }
}

pub(super) fn records(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<LogRecord> {
    indexes.map(|index| record(term, index, 20)).collect()
}

pub(super) type Answer = mpsc::Receiver<Result<(), LogError>>;

pub(super) fn answer() -> (Done, Answer) {
    let (send, receive) = mpsc::sync_channel(1);
    (Box::new(move |result| send.send(result).unwrap()), receive)
}

pub(super) fn wait(answer: &Answer) -> Result<(), LogError> {
    answer
        .recv_timeout(Duration::from_secs(30))
        .expect("every done is called")
}

pub(super) fn append(log: &Arc<dyn GroupLog>, records: Vec<LogRecord>) -> Result<(), LogError> {
    let (done, answered) = answer();
    log.append(records, done);
    wait(&answered)
}

pub(super) fn vote(log: &Arc<dyn GroupLog>, term: u64) -> Result<(), LogError> {
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

pub(super) fn read_all(log: &Arc<dyn GroupLog>) -> Vec<LogRecord> {
    log.read(LogIndex(0)..LogIndex(u64::MAX), usize::MAX)
        .unwrap()
}

pub(super) fn open(dir: &Path) -> RocksLog {
    RocksLog::open(dir, LogOptions::default()).unwrap()
}

#[test]
fn append_is_readable_at_once_and_durable_when_done() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    let (done, answered) = answer();
    log.append(records(1, 1..=10), done);
    assert_eq!(read_all(&log), records(1, 1..=10));
    wait(&answered).unwrap();
    assert_eq!(log.durable().borrow().last, Some(id(1, 10)));
    assert_eq!(
        log.state(),
        GroupLogState {
            last: Some(id(1, 10)),
            ..Default::default()
        }
    );
}

#[test]
fn reopened_log_holds_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=100)).unwrap();
    log.truncate_after(Some(id(1, 90)));
    append(&log, records(2, 91..=95)).unwrap();
    log.purge(id(1, 80));
    log.save_committed(Some(id(2, 93)));
    vote(&log, 2).unwrap();
    let before = (log.state(), read_all(&log));
    engine.close();
    assert!(matches!(
        append(&log, records(2, 96..=96)),
        Err(LogError::Closed)
    ));
    drop(engine);
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    assert_eq!((log.state(), read_all(&log)), before);
    assert_eq!(before.1.len(), 15);
    assert_eq!(log.durable().borrow().last, Some(id(2, 95)));
    assert_eq!(log.log_id(LogIndex(80)).unwrap(), Some(id(1, 80)));
    assert_eq!(log.log_id(LogIndex(91)).unwrap(), Some(id(2, 91)));
    assert_eq!(log.log_id(LogIndex(96)).unwrap(), None);
}

#[test]
fn truncation_lowers_durable_before_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=10)).unwrap();
    log.truncate_after(Some(id(1, 4)));
    assert_eq!(log.durable().borrow().last, Some(id(1, 4)));
    log.truncate_after(None);
    assert_eq!(log.durable().borrow().last, None);
    assert_eq!(log.state().last, None);
    append(&log, records(3, 1..=2)).unwrap();
    assert_eq!(read_all(&log), records(3, 1..=2));
}

#[test]
fn append_with_a_gap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=3)).unwrap();
    assert!(matches!(
        append(&log, records(1, 5..=6)),
        Err(LogError::Damaged { .. })
    ));
    assert_eq!(read_all(&log), records(1, 1..=3));
}

#[test]
fn purge_beyond_the_end_moves_the_log_there() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=3)).unwrap();
    log.purge(id(4, 50));
    assert_eq!(log.state().last, Some(id(4, 50)));
    assert_eq!(log.durable().borrow().last, Some(id(4, 50)));
    append(&log, records(5, 51..=52)).unwrap();
    drop(log);
    engine.close();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    assert_eq!(read_all(&log), records(5, 51..=52));
}

#[test]
fn read_stops_at_the_byte_limit_but_returns_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        tail_cache_bytes: 500,
        ..LogOptions::default()
    };
    let engine = RocksLog::open(dir.path(), options).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=50)).unwrap();
    // Two rounds of the writer: the first eviction is over when the second is answered.
    vote(&log, 1).unwrap();
    assert!(engine.tail_bytes() <= 500, "{}", engine.tail_bytes());
    for (bytes_max, expected) in [
        (0, 1),
        (19, 1),
        (20, 1),
        (40, 2),
        (45, 2),
        (980, 49),
        (1_000, 50),
    ] {
        let read = log.read(LogIndex(1)..LogIndex(100), bytes_max).unwrap();
        assert_eq!(read, records(1, 1..=expected), "bytes_max {bytes_max}");
    }
    assert_eq!(
        log.read(LogIndex(10)..LogIndex(13), usize::MAX).unwrap(),
        records(1, 10..=12)
    );
    assert_eq!(
        log.read(LogIndex(51)..LogIndex(60), usize::MAX).unwrap(),
        vec![]
    );
}

#[test]
fn another_replica_is_refused_until_the_group_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=100)).unwrap();
    assert!(matches!(
        engine.open_group(GROUP, ReplicaId(12)),
        Err(LogError::WrongReplica { .. })
    ));
    engine.close();
    let engine = open(dir.path());
    assert!(matches!(
        engine.open_group(GROUP, ReplicaId(12)),
        Err(LogError::WrongReplica {
            found: REPLICA,
            expected: ReplicaId(12),
            ..
        })
    ));
    let old = engine.open_group(GROUP, REPLICA).unwrap();
    let (done, answered) = answer();
    engine.remove_group(GROUP, done);
    let log = engine.open_group(GROUP, ReplicaId(12)).unwrap();
    wait(&answered).unwrap();
    assert_eq!(log.state(), GroupLogState::default());
    assert!(matches!(
        append(&old, records(1, 101..=101)),
        Err(LogError::Closed)
    ));
    engine.close();
    let engine = open(dir.path());
    assert_eq!(
        engine.open_group(GROUP, ReplicaId(12)).unwrap().state(),
        GroupLogState::default()
    );
}

#[test]
fn groups_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let logs: Vec<_> = (1..=20)
        .map(|group| engine.open_group(GroupId(group), REPLICA).unwrap())
        .collect();
    let before = engine.stats();
    let mut answers = Vec::new();
    for round in 1..=20 {
        for log in &logs {
            let (done, answered) = answer();
            log.append(vec![record(1, round, 100)], done);
            answers.push(answered);
        }
    }
    answers.iter().for_each(|answered| wait(answered).unwrap());
    let stats = engine.stats();
    assert_eq!(stats.records - before.records, 400);
    assert!(stats.syncs - before.syncs < 400, "{stats:?}");
}
