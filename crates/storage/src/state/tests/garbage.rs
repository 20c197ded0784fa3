//! Space that dead blocks hold beside living ones is given back, and that of ranges that were deleted. Files that are all dead of blocks that ended one by
//! one go by themselves and are not looked at here.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::garbage::BlobFiles;
use super::*;

const BLOCK_BYTES: usize = 1 << 20;
const BLOCKS_WRITTEN: u64 = 240;
const WITHIN: Duration = Duration::from_secs(60);

fn files(store: &StateStore) -> BlobFiles {
    BlobFiles::of(&store.shared.database().unwrap()).unwrap()
}

#[test]
fn space_of_dead_blocks_between_living_ones_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = StateOptions {
        write_buffer_bytes: 16 << 20,
        ..StateOptions::default()
    };
    let store = StateStore::open(dir.path(), options).unwrap();
    let state = store.replica(GROUP, REPLICA).unwrap();
    let key = |number: u64| number.to_be_bytes().to_vec();
    for number in 0..BLOCKS_WRITTEN {
        let mut batch = RowBatch::default();
        batch.put(Table::Blocks, key(number), vec![7; BLOCK_BYTES]);
        state.write(batch, Bytes::new()).unwrap();
    }
    store.flush().unwrap();
    store.tend().unwrap();
    assert_eq!(
        *store.shared.collecting.lock(),
        Some(false),
        "nothing is dead"
    );

    // One in four lives on, in each file.
    let mut batch = RowBatch::default();
    for number in (0..BLOCKS_WRITTEN).filter(|number| number % 4 > 0) {
        batch.delete(Table::Blocks, key(number));
    }
    state.write(batch, Bytes::new()).unwrap();
    store.flush().unwrap();
    // RocksDB counts what is dead when it compacts the keys.
    store.compact().unwrap();
    let before = files(&store);
    assert!(before.garbage > before.bytes / 2, "{before:?}");

    let since = Instant::now();
    store.tend().unwrap();
    assert_eq!(*store.shared.collecting.lock(), Some(true));
    while files(&store).garbage >= 64 << 20 {
        assert!(since.elapsed() < WITHIN, "{:?}", files(&store));
        std::thread::sleep(Duration::from_millis(20));
    }
    store.tend().unwrap();
    assert_eq!(*store.shared.collecting.lock(), Some(false));
    // Whoever does not know sets it, whatever it is.
    *store.shared.collecting.lock() = None;
    store.tend().unwrap();
    assert_eq!(*store.shared.collecting.lock(), Some(false));
    for number in (0..BLOCKS_WRITTEN).step_by(4) {
        let block = state.get(Table::Blocks, &key(number)).unwrap().unwrap();
        assert_eq!(block.len(), BLOCK_BYTES, "block {number}");
    }
}

/// As a queue's blocks go when it is deleted, a replica's when it leaves, and rows that were installed and never used.
#[test]
fn space_of_deleted_ranges_is_given_back_at_rest() {
    for removed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), StateOptions::default()).unwrap();
        let state = store.replica(GROUP, REPLICA).unwrap();
        let key = |number: u64| number.to_be_bytes().to_vec();
        let blocks = 4_000;
        let mut batch = RowBatch::default();
        for number in 0..blocks {
            batch.put(Table::Blocks, key(number), vec![7; 16 << 10]);
        }
        state.write(batch, Bytes::new()).unwrap();
        store.flush().unwrap();
        let before = files(&store).bytes;
        assert!(before >= blocks * (16 << 10), "{before}");
        if removed {
            store.remove_group(GROUP).unwrap();
        } else {
            let mut batch = RowBatch::default();
            batch.delete_range(Table::Blocks, key(0), key(blocks - 1));
            state.write(batch, Bytes::new()).unwrap();
            store.flush().unwrap();
        }
        assert_eq!(
            files(&store).bytes,
            before,
            "RocksDB does nothing by itself"
        );
        store.tend().unwrap();
        let now = files(&store);
        assert!(now.bytes - now.garbage <= 20 << 10, "{now:?}");
        assert_eq!(store.shared.deleted.lock().len(), 0);
        if !removed {
            let last = state.get(Table::Blocks, &key(blocks - 1)).unwrap();
            assert_eq!(last.unwrap().len(), 16 << 10);
        }
    }
}
