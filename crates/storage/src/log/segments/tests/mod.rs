//! What only this engine has; what it promises as every other is in `log::tests`. Power cuts in `crash`, damage in `damage`,
//! a disk that fails or is full in `faults`, damage that is found while the engine runs in `scrub` and `scrub_active`.

mod crash;
mod damage;
mod faults;
mod history;
mod scrub;
mod scrub_active;
mod space;

use std::path::{Path, PathBuf};

use super::*;
use crate::log::test_disk::TestDisk;
use crate::log::tests::{
    GROUP, REPLICA, answer, append, id, read_all, record, records, vote, wait,
};

const DIR: &str = "/log";

/// The smallest segments: a head and as much again.
fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 2 * format::HEAD_BYTES,
        tail_cache_bytes: 2_000,
        ..LogOptions::default()
    }
}

fn open_on(disk: &TestDisk) -> Result<SegmentLog, LogError> {
    SegmentLog::open_on(Arc::new(disk.clone()), Path::new(DIR), options())
}

fn segment_path(sequence: u64) -> PathBuf {
    Path::new(DIR).join(segment::segment_name(sequence))
}

#[test]
fn records_in_memory_stay_within_the_budget() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, (1..=50).map(|index| record(1, index, 100)).collect()).unwrap();
    // Two rounds of the writer: the first eviction is over when the second is answered.
    vote(&log, 1).unwrap();
    assert!(engine.tail_bytes() <= 2_000, "{}", engine.tail_bytes());
    assert_eq!(read_all(&log).len(), 50);
}

#[test]
fn append_longer_than_a_segment_is_written_whole() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    let long = vec![
        record(1, 1, 300_000),
        record(1, 2, 10),
        record(1, 3, 200_000),
    ];
    append(&log, long.clone()).unwrap();
    append(&log, records(1, 4..=5)).unwrap();
    engine.close();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    assert_eq!(read_all(&log), [long, records(1, 4..=5)].concat());
}

#[test]
fn engine_at_rest_asks_nothing_of_the_disk() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=3)).unwrap();
    log.purge(id(1, 1));
    // The purge and the marks follow within moments; then there is nothing left to do.
    let mut before = 0;
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let calls = disk.calls().len();
        if calls == before {
            return;
        }
        before = calls;
    }
    panic!("the disk never rests");
}
