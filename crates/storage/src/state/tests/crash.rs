//! Crashes: the files of a running store are copied and opened elsewhere. What is left must be the state after one write, whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::*;
use crate::test_files::copy_dir;

fn number_of(meta: Option<Bytes>) -> u64 {
    let Some(meta) = meta else { return 0 };
    std::str::from_utf8(&meta)
        .unwrap()
        .strip_prefix("meta ")
        .unwrap()
        .parse()
        .unwrap()
}

fn assert_prefix(store: &StateStore, group: GroupId, floor: u64) -> u64 {
    let state = store.replica(group, REPLICA).unwrap();
    let number = number_of(state.meta());
    assert!(number >= floor, "{number} of {floor} flushed");
    let whole = if number == 0 {
        Content::new()
    } else {
        expected(number)
    };
    assert!(
        content(&state) == whole,
        "group {group} is not as write {number} left it"
    );
    number
}

#[test]
fn unflushed_writes_are_lost_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let state = store.replica(GROUP, REPLICA).unwrap();
    (1..=20).for_each(|number| write(&state, number));
    store.flush().unwrap();
    (21..=40).for_each(|number| write(&state, number));
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), crashed.path());
    assert_eq!(assert_prefix(&open(crashed.path()), GROUP, 20), 20);
}

#[test]
fn crash_at_any_moment_leaves_rows_and_meta_of_one_write() {
    let dir = tempfile::tempdir().unwrap();
    // Small buffers, so that RocksDB flushes by itself at moments of its own.
    let options = StateOptions {
        write_buffer_bytes: 256 << 10,
        blob_bytes_min: 1_000,
        ..StateOptions::default()
    };
    let store = StateStore::open(dir.path(), options).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    // Writes change memory only. What a copy must not see two moments of are RocksDB's own flushes and compactions, which go on
    // while writes wait here, and come to an end: written at full speed the files would rest for no copy of a slow disk.
    let gate = Arc::new(RwLock::new(()));
    let writers: Vec<_> = [GroupId(5), GroupId(6)]
        .into_iter()
        .map(|group| {
            let state = store.replica(group, REPLICA).unwrap();
            let (stop, gate) = (stop.clone(), gate.clone());
            std::thread::spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    let _open = gate.read();
                    write(&state, number);
                }
            })
        })
        .collect();
    let mut reached = 0;
    for round in 0..6 {
        let floor = number_of(store.replica(GROUP, REPLICA).unwrap().durable_meta());
        let crashed = tempfile::tempdir().unwrap();
        let shut = gate.write();
        copy_dir(dir.path(), crashed.path());
        drop(shut);
        let copy = open(crashed.path());
        reached = assert_prefix(&copy, GroupId(5), floor);
        assert_prefix(&copy, GroupId(6), 0);
        if round % 2 == 0 {
            store.flush().unwrap();
        }
    }
    stop.store(true, Ordering::SeqCst);
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    assert!(reached > 0);
}

#[test]
fn epochs_left_behind_are_dropped_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let state = store.replica(GROUP, REPLICA).unwrap();
    let source = store.replica(GroupId(9), REPLICA).unwrap();
    (1..=15).for_each(|number| write(&state, number));
    (1..=40).for_each(|number| write(&source, number));
    let snapshot = Arc::new(source.snapshot().unwrap());
    let mut installer = state.installer().unwrap();
    snapshot
        .chunks(1_000)
        .for_each(|chunk| installer.chunk(&chunk.unwrap()).unwrap());
    installer.hand_over().unwrap();
    store.flush().unwrap();
    assert_eq!(content(&state), expected(15));
    assert!(
        store.row_count() > content(&state).len() + content(&source).len(),
        "the new epoch is in the database"
    );

    // Crash before the switch: the old rows stand, the new ones are garbage and go.
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), crashed.path());
    let copy = open(crashed.path());
    let (state, source) = (
        copy.replica(GROUP, REPLICA).unwrap(),
        copy.replica(GroupId(9), REPLICA).unwrap(),
    );
    assert_eq!(
        (content(&state), content(&source)),
        (expected(15), expected(40))
    );
    assert_eq!(state.installed_meta(), None);
    assert_eq!(
        copy.row_count(),
        content(&state).len() + content(&source).len()
    );
    assert_eq!(
        std::fs::read_dir(crashed.path().join("install"))
            .unwrap()
            .count(),
        0
    );
}
