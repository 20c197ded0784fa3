//! Snapshots: frozen view, chunks, installation, damage on the way.

use std::sync::Arc;

use super::*;
use crate::test_files::copy_dir;

fn chunks(state: &ReplicaState, bytes_max: usize) -> Vec<Bytes> {
    Arc::new(state.snapshot().unwrap())
        .chunks(bytes_max)
        .map(Result::unwrap)
        .collect()
}

#[test]
fn snapshot_stays_as_it_was_while_rows_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let state = store.replica(GROUP, REPLICA).unwrap();
    (1..=25).for_each(|number| write(&state, number));
    let snapshot = Arc::new(state.snapshot().unwrap());
    (26..=60).for_each(|number| write(&state, number));
    store.flush().unwrap();
    (61..=70).for_each(|number| write(&state, number));
    assert_eq!(snapshot.meta(), Some(&meta(25)));
    let target = store.replica(GroupId(8), REPLICA).unwrap();
    let mut installer = target.installer().unwrap();
    // It may be read on another thread.
    let chunks = std::thread::spawn(move || snapshot.chunks(900).collect::<Vec<_>>())
        .join()
        .unwrap();
    assert!(chunks.len() > 10);
    chunks
        .into_iter()
        .for_each(|chunk| installer.chunk(&chunk.unwrap()).unwrap());
    installer.finish(meta(25)).unwrap();
    assert_eq!(content(&target), expected(25));
}

#[test]
fn digest_of_what_is_written_is_that_of_what_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let source = store.replica(GROUP, REPLICA).unwrap();
    (1..=60).for_each(|number| write(&source, number));
    let mut digests = Vec::new();
    // However they are cut into chunks.
    for (bytes_max, group) in [(500, 8), (4_000, 9), (1 << 20, 10)] {
        let target = store.replica(GroupId(group), REPLICA).unwrap();
        let mut installer = target.installer().unwrap();
        let mut chunks = Arc::new(source.snapshot().unwrap()).chunks(bytes_max);
        for chunk in &mut chunks {
            installer.chunk(&chunk.unwrap()).unwrap();
        }
        assert_eq!(chunks.digest(), installer.digest());
        digests.push(installer.digest());
    }
    write(&source, 61);
    let mut more = Arc::new(source.snapshot().unwrap()).chunks(500);
    assert!(more.by_ref().all(|chunk| chunk.is_ok()));
    digests.push(more.digest());
    digests.dedup();
    assert_eq!(digests.len(), 2, "one for the rows before and one after");
}

#[test]
fn installed_snapshot_replaces_rows_and_is_durable() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = open(from.path()).replica(GROUP, REPLICA).unwrap();
    (1..=300).for_each(|number| write(&source, number));
    let store = open(to.path());
    let target = store.replica(GROUP, ReplicaId(22)).unwrap();
    (1..=15).for_each(|number| write(&target, number));
    let neighbour = store.replica(GroupId(6), REPLICA).unwrap();
    write(&neighbour, 1);

    let mut installer = target.installer().unwrap();
    chunks(&source, 4_000)
        .iter()
        .for_each(|chunk| installer.chunk(chunk).unwrap());
    assert_eq!(
        content(&target),
        expected(15),
        "nothing changes before the end"
    );
    installer.finish(meta(300)).unwrap();
    assert_eq!(content(&target), expected(300));
    assert_eq!(
        (target.meta(), target.durable_meta()),
        (Some(meta(300)), Some(meta(300)))
    );
    assert_eq!(target.installed_meta(), Some(meta(300)));

    // Crash right after: the new rows stand and go on.
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(to.path(), crashed.path());
    let copy = open(crashed.path());
    let target = copy.replica(GROUP, ReplicaId(22)).unwrap();
    assert_eq!(
        (content(&target), target.installed_meta()),
        (expected(300), Some(meta(300)))
    );
    assert_eq!(
        content(&copy.replica(GroupId(6), REPLICA).unwrap()),
        expected(1)
    );
    assert_eq!(copy.row_count(), content(&target).len() + 3);
    (301..=330).for_each(|number| write(&target, number));
    copy.flush().unwrap();
    copy.compact().unwrap();
    assert_eq!(content(&target), expected(330));
}

#[test]
fn empty_replica_can_be_sent_and_installed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let source = store.replica(GROUP, REPLICA).unwrap();
    let target = store.replica(GroupId(8), REPLICA).unwrap();
    write(&target, 1);
    let mut installer = target.installer().unwrap();
    let chunks = chunks(&source, 1_000);
    assert_eq!(chunks.len(), 1);
    chunks
        .iter()
        .for_each(|chunk| installer.chunk(chunk).unwrap());
    installer.finish(meta(0)).unwrap();
    assert_eq!(
        (content(&target), target.meta()),
        (Content::new(), Some(meta(0)))
    );
}

#[test]
fn damaged_missing_or_repeated_chunks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let source = store.replica(GROUP, REPLICA).unwrap();
    (1..=60).for_each(|number| write(&source, number));
    let target = store.replica(GroupId(8), REPLICA).unwrap();
    let chunks = chunks(&source, 2_000);
    let refused = |result: Result<(), StateError>| {
        assert!(matches!(result, Err(StateError::BadChunk { .. })))
    };

    for byte in 0..chunks[0].len() {
        let mut bad = chunks[0].to_vec();
        bad[byte] ^= 4;
        assert!(
            matches!(chunk::read(&bad, 0), Err(StateError::BadChunk { .. })),
            "byte {byte}"
        );
    }
    refused(target.installer().unwrap().chunk(&chunks[1]));
    {
        let mut installer = target.installer().unwrap();
        installer.chunk(&chunks[0]).unwrap();
        refused(installer.chunk(&chunks[0]));
    }
    let mut installer = target.installer().unwrap();
    chunks[..chunks.len() - 1]
        .iter()
        .for_each(|chunk| installer.chunk(chunk).unwrap());
    refused(installer.finish(meta(60)));
    assert_eq!((content(&target), target.meta()), (Content::new(), None));
    assert_eq!(store.row_count(), content(&source).len());
    assert_eq!(
        std::fs::read_dir(dir.path().join("install"))
            .unwrap()
            .count(),
        0,
        "dropped installers clean up"
    );
}

#[test]
fn installer_dropped_after_hand_over_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let source = store.replica(GROUP, REPLICA).unwrap();
    (1..=60).for_each(|number| write(&source, number));
    let target = store.replica(GroupId(8), REPLICA).unwrap();
    let mut installer = target.installer().unwrap();
    chunks(&source, 2_000)
        .iter()
        .for_each(|chunk| installer.chunk(chunk).unwrap());
    installer.hand_over().unwrap();
    assert_eq!(store.row_count(), 2 * content(&source).len());
    drop(installer);
    assert_eq!(store.row_count(), content(&source).len());
}
