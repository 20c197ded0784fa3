//! Space that dead blocks hold beside living ones is given back. Files that are all dead go by themselves and are not looked at here.

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
