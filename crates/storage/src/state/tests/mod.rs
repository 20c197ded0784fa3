//! The store against its contract; crashes in `crash`, snapshots in `transfer`.

mod crash;
mod garbage;
mod transfer;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use warren_types::{GroupId, ReplicaId};

use super::*;

pub(super) const GROUP: GroupId = GroupId(5);
pub(super) const REPLICA: ReplicaId = ReplicaId(21);

pub(super) type Content = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

pub(super) fn open(dir: &Path) -> StateStore {
    let options = StateOptions {
        blob_bytes_min: 1_000,
        ..StateOptions::default()
    };
    StateStore::open(dir, options).unwrap()
}

pub(super) fn content(state: &ReplicaState) -> Content {
    let mut content = Content::new();
    for table in [Table::Blocks, Table::Rows] {
        let visit = |key: &[u8], value: &[u8]| {
            content.insert((table, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        };
        state.scan(table, &[], &[0xff; 20], visit).unwrap();
    }
    content
}

/// Write number `number`: adds a block, removes an older one, counts in a row that is overwritten. Meta says the number.
pub(super) fn write(state: &ReplicaState, number: u64) {
    let mut batch = RowBatch::default();
    batch.put(Table::Blocks, number.to_be_bytes().to_vec(), block(number));
    if number > 10 {
        batch.delete(Table::Blocks, (number - 10).to_be_bytes().to_vec());
    }
    batch.put(
        Table::Rows,
        Bytes::from_static(b"count"),
        number.to_be_bytes().to_vec(),
    );
    batch.put(
        Table::Rows,
        format!("row {}", number % 7),
        number.to_string(),
    );
    state.write(batch, meta(number)).unwrap();
}

pub(super) fn block(number: u64) -> Vec<u8> {
    vec![u8::try_from(number % 256).unwrap(); 200 + usize::try_from(number % 5).unwrap() * 700]
}

pub(super) fn meta(number: u64) -> Bytes {
    Bytes::from(format!("meta {number}"))
}

/// What the rows must be after write number `number`.
pub(super) fn expected(number: u64) -> Content {
    let mut content = Content::new();
    for block_number in number.saturating_sub(9).max(1)..=number {
        content.insert(
            (Table::Blocks, block_number.to_be_bytes().to_vec()),
            block(block_number),
        );
    }
    content.insert(
        (Table::Rows, b"count".to_vec()),
        number.to_be_bytes().to_vec(),
    );
    for row in number.saturating_sub(6).max(1)..=number {
        content.insert(
            (Table::Rows, format!("row {}", row % 7).into_bytes()),
            row.to_string().into_bytes(),
        );
    }
    content
}

#[test]
fn written_rows_are_read_and_scanned_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path()).replica(GROUP, REPLICA).unwrap();
    assert_eq!(
        (state.meta(), state.durable_meta(), state.installed_meta()),
        (None, None, None)
    );
    (1..=30).for_each(|number| write(&state, number));
    assert_eq!(content(&state), expected(30));
    assert_eq!(
        state.get(Table::Rows, b"count").unwrap().unwrap(),
        30_u64.to_be_bytes().as_slice()
    );
    assert_eq!(state.get(Table::Rows, b"other").unwrap(), None);
    assert_eq!(state.get(Table::Blocks, b"count").unwrap(), None);
    assert_eq!(state.meta(), Some(meta(30)));

    let mut seen = Vec::new();
    let two = |key: &[u8], _: &[u8]| {
        seen.push(String::from_utf8(key.to_vec()).unwrap());
        if seen.len() == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    state
        .scan_back(Table::Rows, b"row 1", b"row 5", two)
        .unwrap();
    assert_eq!(seen, ["row 4", "row 3"]);
    let never = |_: &[u8], _: &[u8]| panic!("an empty range has no rows");
    state.scan(Table::Rows, b"row 5", b"row 1", never).unwrap();
}

#[test]
fn delete_range_removes_what_it_covers_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (state, other) = (
        store.replica(GROUP, REPLICA).unwrap(),
        store.replica(GroupId(6), REPLICA).unwrap(),
    );
    (1..=9).for_each(|number| write(&state, number));
    (1..=9).for_each(|number| write(&other, number));
    let mut batch = RowBatch::default();
    batch.delete_range(
        Table::Blocks,
        0_u64.to_be_bytes().to_vec(),
        8_u64.to_be_bytes().to_vec(),
    );
    batch.delete_range(Table::Rows, b"row 3".to_vec(), b"row 1".to_vec());
    state.write(batch, meta(10)).unwrap();
    let blocks = content(&state)
        .into_keys()
        .filter(|(table, _)| *table == Table::Blocks)
        .count();
    assert_eq!(blocks, 2);
    assert_eq!(content(&other), expected(9));
}

#[test]
fn durable_meta_follows_flushes_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let state = store.replica(GROUP, REPLICA).unwrap();
    write(&state, 1);
    assert_eq!(state.durable_meta(), None);
    store.flush().unwrap();
    assert_eq!(state.durable_meta(), Some(meta(1)));
    write(&state, 2);
    assert_eq!(
        (state.meta(), state.durable_meta()),
        (Some(meta(2)), Some(meta(1)))
    );
    store.close().unwrap();
    assert!(matches!(
        state.write(RowBatch::default(), meta(3)),
        Err(StateError::Closed)
    ));
    assert!(matches!(
        state.get(Table::Rows, b"count"),
        Err(StateError::Closed)
    ));
    // Closed, the directory is free although a handle is still held.
    let state = open(dir.path()).replica(GROUP, REPLICA).unwrap();
    assert_eq!(
        (state.meta(), state.durable_meta()),
        (Some(meta(2)), Some(meta(2)))
    );
    assert_eq!(content(&state), expected(2));
}

#[test]
fn another_replica_is_refused_until_the_group_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let state = store.replica(GROUP, REPLICA).unwrap();
    let other = store.replica(GroupId(6), REPLICA).unwrap();
    (1..=20).for_each(|number| write(&state, number));
    write(&other, 1);
    assert!(matches!(
        store.replica(GROUP, ReplicaId(22)),
        Err(StateError::WrongReplica {
            found: REPLICA,
            expected: ReplicaId(22),
            ..
        })
    ));
    store.remove_group(GROUP).unwrap();
    assert!(matches!(
        state.write(RowBatch::default(), meta(2)),
        Err(StateError::Removed(GROUP))
    ));
    assert!(matches!(state.snapshot(), Err(StateError::Removed(GROUP))));
    let fresh = store.replica(GROUP, ReplicaId(22)).unwrap();
    assert_eq!((content(&fresh), fresh.meta()), (Content::new(), None));
    write(&fresh, 1);
    drop(store);
    store_reopened_holds(dir.path(), &fresh, &other);
}

fn store_reopened_holds(dir: &Path, fresh: &ReplicaState, other: &ReplicaState) {
    let copy = tempfile::tempdir().unwrap();
    crate::test_files::copy_dir(dir, copy.path());
    assert_eq!((content(fresh), content(other)), (expected(1), expected(1)));
    // The removal was flushed: also a crash does not bring the rows back.
    let store = open(copy.path());
    assert_eq!(
        content(&store.replica(GROUP, ReplicaId(22)).unwrap()),
        Content::new()
    );
}

#[test]
fn single_deletes_leave_nothing_after_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let state = store.replica(GROUP, REPLICA).unwrap();
    for round in 0..5_u64 {
        (round * 40 + 1..=round * 40 + 40).for_each(|number| write(&state, number));
        store.flush().unwrap();
    }
    assert_eq!(content(&state), expected(200));
    store.compact().unwrap();
    assert_eq!(content(&state), expected(200));
}

/// Turns a byte in the middle of each table.
fn damage_tables(dir: &Path) {
    use std::os::unix::fs::FileExt as _;

    for item in std::fs::read_dir(dir.join("rocks")).unwrap() {
        let path = item.unwrap().path();
        if path.extension().is_some_and(|it| it == "sst") {
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).write(true).open(path).unwrap();
            let middle = file.metadata().unwrap().len() / 2;
            let mut byte = [0];
            file.read_exact_at(&mut byte, middle).unwrap();
            file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
        }
    }
}

#[test]
fn damage_that_a_compaction_meets_is_told_from_other_failures() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let state = store.replica(GROUP, REPLICA).unwrap();
    for round in 0..3 {
        let mut batch = RowBatch::default();
        for row in 0..1_000 {
            batch.put(Table::Rows, format!("{row:04}"), vec![round; 100]);
        }
        state.write(batch, meta(1)).unwrap();
        store.flush().unwrap();
    }
    damage_tables(dir.path());
    assert!(!store.is_damaged());
    store.compact().unwrap();
    let failed = (0..100).any(|number| {
        let mut batch = RowBatch::default();
        batch.put(Table::Rows, Bytes::from_static(b"more"), vec![number]);
        state.write(batch, meta(2)).is_err() || store.flush().is_err()
    });
    let cause = store.failed().borrow().clone();
    assert!(failed && store.is_damaged(), "{cause:?}");
    assert!(cause.unwrap().contains("Corruption"));
}

#[test]
fn store_with_a_damaged_table_is_refused_as_damaged_at_the_opening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let state = store.replica(GROUP, REPLICA).unwrap();
    (1..=20).for_each(|number| write(&state, number));
    store.close().unwrap();
    drop((state, store));
    for item in std::fs::read_dir(dir.path().join("rocks")).unwrap() {
        let path = item.unwrap().path();
        if path.extension().is_some_and(|it| it == "sst") {
            let mut bytes = std::fs::read(&path).unwrap();
            let footer = bytes.len() - 40;
            bytes[footer..].iter_mut().for_each(|it| *it ^= 0x55);
            std::fs::write(path, bytes).unwrap();
        }
    }
    let refused = StateStore::open(dir.path(), StateOptions::default()).map(drop);
    assert!(
        matches!(refused, Err(StateError::Damaged(_))),
        "{refused:?}"
    );
}
