//! What every engine promises, on each of them. Not here: random histories (`model`), an engine's own faults.

use warren_types::{GroupId, LogIndex, ReplicaId};

use super::*;
use crate::log::contract::GroupLogState;

macro_rules! on_each_engine {
    ($($law:ident),* $(,)?) => {
        mod on_rocks {
            $(#[test] fn $law() { super::$law(super::Kind::Rocks); })*
        }
        mod on_segments {
            $(#[test] fn $law() { super::$law(super::Kind::Segments); })*
        }
    };
}

on_each_engine! {
    append_is_readable_at_once_and_durable_when_done,
    reopened_log_holds_what_was_done,
    truncation_lowers_durable_before_it_returns,
    append_with_a_gap_is_refused,
    purge_beyond_the_end_moves_the_log_there,
    read_stops_at_the_byte_limit_but_returns_one,
    another_replica_is_refused_until_the_group_is_removed,
    groups_share_syncs,
}

fn append_is_readable_at_once_and_durable_when_done(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let engine = kind.open(dir.path());
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

fn reopened_log_holds_what_was_done(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let engine = kind.open(dir.path());
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
    let engine = kind.open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    assert_eq!((log.state(), read_all(&log)), before);
    assert_eq!(before.1.len(), 15);
    assert_eq!(log.durable().borrow().last, Some(id(2, 95)));
    assert_eq!(log.log_id(LogIndex(80)).unwrap(), Some(id(1, 80)));
    assert_eq!(log.log_id(LogIndex(91)).unwrap(), Some(id(2, 91)));
    assert_eq!(log.log_id(LogIndex(96)).unwrap(), None);
}

fn truncation_lowers_durable_before_it_returns(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let engine = kind.open(dir.path());
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

fn append_with_a_gap_is_refused(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let engine = kind.open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=3)).unwrap();
    assert!(matches!(
        append(&log, records(1, 5..=6)),
        Err(LogError::Damaged { .. })
    ));
    assert_eq!(read_all(&log), records(1, 1..=3));
}

fn purge_beyond_the_end_moves_the_log_there(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let engine = kind.open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=3)).unwrap();
    log.purge(id(4, 50));
    assert_eq!(log.state().last, Some(id(4, 50)));
    assert_eq!(log.durable().borrow().last, Some(id(4, 50)));
    append(&log, records(5, 51..=52)).unwrap();
    drop(log);
    engine.close();
    let engine = kind.open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    assert_eq!(read_all(&log), records(5, 51..=52));
}

fn read_stops_at_the_byte_limit_but_returns_one(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        tail_cache_bytes: 500,
        ..LogOptions::default()
    };
    let engine = kind.open_with(dir.path(), options);
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=50)).unwrap();
    // Two rounds of the writer: the first eviction is over when the second is answered.
    vote(&log, 1).unwrap();
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

fn another_replica_is_refused_until_the_group_is_removed(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let engine = kind.open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=100)).unwrap();
    assert!(matches!(
        engine.open_group(GROUP, ReplicaId(12)),
        Err(LogError::WrongReplica { .. })
    ));
    engine.close();
    let engine = kind.open(dir.path());
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
    let engine = kind.open(dir.path());
    assert_eq!(
        engine.open_group(GROUP, ReplicaId(12)).unwrap().state(),
        GroupLogState::default()
    );
}

fn groups_share_syncs(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let engine = kind.open(dir.path());
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
