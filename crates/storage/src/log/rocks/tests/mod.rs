//! What only this engine has; what it promises as every other is in `log::tests`.

mod faults;

use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::log::tests::{
    GROUP, REPLICA, answer, append, id, read_all, record, records, vote, wait,
};
use crate::test_files::copy_dir;

fn open(dir: &Path) -> RocksLog {
    RocksLog::open(dir, LogOptions::default()).unwrap()
}

#[test]
fn records_in_memory_stay_within_the_budget() {
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
}
