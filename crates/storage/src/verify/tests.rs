//! Every kind of file of a data directory, with one byte flipped: it is said, or what is stored is unharmed.

use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use warren_types::{GroupId, LogIndex, NodeId};

use super::*;
use crate::log::tests::{GROUP, REPLICA, append, record, vote};
use crate::test_files::copy_dir;
use crate::{
    DataDir, LogEngine, LogOptions, LogRecord, RowBatch, SegmentLog, StateOptions, StateStore,
    Table,
};

const NODE: NodeId = NodeId(1);
/// How many flips are tried in each class of files.
const FLIPS: usize = 200;

fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 32 << 10,
        ..LogOptions::default()
    }
}

fn open_state(dir: &Path) -> Result<StateStore, crate::StateError> {
    let options = StateOptions {
        blob_bytes_min: 1_000,
        ..StateOptions::default()
    };
    StateStore::open(dir, options)
}

/// A directory as a node leaves it that was stopped: several segments, tables with blobs and deleted rows, two replicas.
fn written(path: &Path) {
    let dir = DataDir::open(path, NODE).unwrap();
    let engine = SegmentLog::open(&dir.log_dir(), log_options()).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    vote(&log, 3).unwrap();
    for index in 1..=200 {
        append(&log, vec![record(1, index, 700)]).unwrap();
    }
    engine.close();
    let state = open_state(&dir.state_dir()).unwrap();
    for group in [GroupId(5), GroupId(6)] {
        let rows = state.replica(group, REPLICA).unwrap();
        for number in 0..60_u64 {
            let mut batch = RowBatch::default();
            let size = if number % 2 == 0 { 3_000 } else { 300 };
            let fill = u8::try_from(number).unwrap();
            batch.put(
                Table::Blocks,
                number.to_be_bytes().to_vec(),
                vec![fill; size],
            );
            batch.put(
                Table::Rows,
                format!("row {number}"),
                format!("value {number}"),
            );
            rows.write(batch, Bytes::from(number.to_string())).unwrap();
            if number % 25 == 0 {
                state.flush().unwrap();
            }
        }
    }
    state.close().unwrap();
}

/// All that can be read back, or that it cannot.
fn content(path: &Path) -> Option<(Vec<LogRecord>, Vec<Vec<u8>>)> {
    let dir = DataDir::open(path, NODE).ok()?;
    let engine = SegmentLog::open(&dir.log_dir(), log_options()).ok()?;
    let log = engine.open_group(GROUP, REPLICA).ok()?;
    let records = log.read(LogIndex(0)..LogIndex(u64::MAX), usize::MAX).ok()?;
    engine.close();
    let state = open_state(&dir.state_dir()).ok()?;
    let mut rows = Vec::new();
    for group in [GroupId(5), GroupId(6)] {
        let replica = state.replica(group, REPLICA).ok()?;
        rows.push(replica.durable_meta().map(|it| it.to_vec())?);
        for table in [Table::Blocks, Table::Rows] {
            let visit = |key: &[u8], value: &[u8]| {
                rows.push([key, value].concat());
                ControlFlow::Continue(())
            };
            replica.scan(table, &[], &[0xff; 20], visit).ok()?;
        }
    }
    state.close().ok()?;
    Some((records, rows))
}

fn findings(path: &Path) -> Vec<Finding> {
    match verify(path, &mut |_, _| ()) {
        Ok(verified) => verified.findings,
        Err(error) => vec![Finding::damage(path, None, error.to_string())],
    }
}

/// Files whose names end so, with the bytes of each that hold anything.
fn files(dir: &Path, is_one: fn(&str) -> bool) -> Vec<(PathBuf, Range<usize>)> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path, is_one));
        } else if is_one(&name) {
            let bytes = fs::read(&path).unwrap();
            let end = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at + 1);
            if end > 0 {
                found.push((path, 0..end));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Flips bytes of files of one class; how many of the flips were said. The others must have changed nothing that is stored.
fn flip(class: &str, is_one: fn(&str) -> bool) -> usize {
    let root = tempfile::tempdir().unwrap();
    let good = root.path().join("good");
    written(&good);
    let whole = content(&good).expect("the directory can be read");
    assert_eq!(findings(&good), [], "{class}: nothing is wrong yet");
    let files = files(&good, is_one);
    assert!(!files.is_empty(), "{class}: there is such a file");
    let mut seed = 20_251_125_u64;
    let mut below = |bound: usize| {
        // Knuth's MMIX generator: the same flips in each run.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % bound
    };
    let mut said = 0;
    for _ in 0..FLIPS {
        let (path, range) = &files[below(files.len())];
        let (at, bit) = (below(range.end), below(8));
        let original = fs::read(path).unwrap();
        let mut bytes = original.clone();
        bytes[at] ^= 1 << bit;
        fs::write(path, &bytes).unwrap();
        let about = format!("{class}: bit {bit} of byte {at} of {}", path.display());
        let found = findings(&good);
        if found.is_empty() {
            let copy = root.path().join("copy");
            copy_dir(&good, &copy);
            assert!(content(&copy).as_ref() == Some(&whole), "{about}: unsaid");
            fs::remove_dir_all(copy).unwrap();
        } else {
            said += 1;
            let beside = found.iter().any(|it| it.path.starts_with(&good));
            assert!(beside, "{about}: {found:?}");
        }
        fs::write(path, original).unwrap();
    }
    println!("{class}: {said} of {FLIPS} flips said, the others changed nothing that is stored");
    said
}

#[test]
fn flipped_byte_of_a_segment_is_said() {
    assert_eq!(flip("segments", |name| name.ends_with(".segment")), FLIPS);
}

#[test]
fn flipped_byte_of_the_marks_is_said() {
    // Zeros in a slot whose second copy was never written are what they were: a flip in them makes a copy that does not match.
    assert_eq!(flip("acked", |name| name == "acked"), FLIPS);
}

#[test]
fn flipped_byte_of_a_table_is_said() {
    assert_eq!(flip("tables", |name| name.ends_with(".sst")), FLIPS);
}

#[test]
fn flipped_byte_of_a_blob_is_said() {
    assert_eq!(flip("blobs", |name| name.ends_with(".blob")), FLIPS);
}

#[test]
fn flipped_byte_of_the_manifests_is_said() {
    assert_eq!(
        flip("manifests of RocksDB", |name| name.starts_with("MANIFEST-")),
        FLIPS
    );
    assert_eq!(flip("CURRENT", |name| name == "CURRENT"), FLIPS);
    assert_eq!(flip("manifest", |name| name == "MANIFEST"), FLIPS);
    assert_eq!(flip("epochs", |name| name == "epochs"), FLIPS);
}

#[test]
fn verify_changes_nothing_and_counts_what_it_reads() {
    let root = tempfile::tempdir().unwrap();
    written(root.path());
    let before = files(root.path(), |_| true);
    let bytes = |files: &[(PathBuf, Range<usize>)]| -> Vec<Vec<u8>> {
        files
            .iter()
            .map(|(path, _)| fs::read(path).unwrap())
            .collect()
    };
    let content_before = bytes(&before);
    let mut begun = Vec::new();
    let verified = verify(root.path(), &mut |path, _| begun.push(path.to_owned())).unwrap();
    assert_eq!((verified.node, verified.cluster), (NODE, None));
    assert_eq!(verified.records, 200);
    // Of both replicas: 60 blocks, 60 rows, and two rows about each.
    assert_eq!(verified.rows, 2 * (60 + 60 + 2));
    assert_eq!(verified.group_rows.values().sum::<u64>(), 2 * (60 + 60));
    assert_eq!(verified.group_rows.len(), 2);
    assert_eq!(usize::try_from(verified.files).unwrap(), begun.len());
    assert_eq!(files(root.path(), |_| true), before);
    assert_eq!(bytes(&before), content_before);
}

#[test]
fn directory_in_use_or_without_manifest_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path(), NODE).unwrap();
    let refused = verify(root.path(), &mut |_, _| ()).unwrap_err();
    assert!(matches!(refused, DataDirError::InUse { .. }), "{refused}");
    drop(dir);
    assert_eq!(findings(root.path()), []);
    let empty = tempfile::tempdir().unwrap();
    let refused = verify(empty.path(), &mut |_, _| ()).unwrap_err();
    assert!(refused.to_string().contains("MANIFEST"), "{refused}");
}

#[test]
fn missing_file_is_said() {
    for gone in [".sst", ".blob", "acked", "epochs", "CURRENT"] {
        let root = tempfile::tempdir().unwrap();
        written(root.path());
        let path = fs_find(root.path(), gone);
        fs::remove_file(&path).unwrap();
        assert!(!findings(root.path()).is_empty(), "{gone}");
    }
}

fn fs_find(dir: &Path, ending: &str) -> PathBuf {
    let all = files(dir, |_| true);
    let found = all.into_iter().map(|(path, _)| path);
    let mut found = found.filter(|path| path.to_string_lossy().ends_with(ending));
    found.next().expect("there is such a file")
}

#[test]
fn log_that_ends_before_what_was_acknowledged_is_damage() {
    let root = tempfile::tempdir().unwrap();
    written(root.path());
    let mut segments = files(root.path(), |name| name.ends_with(".segment"));
    // The segment that is ready to follow has its head only.
    segments.retain(|(_, range)| range.end > 4_096);
    let (last, range) = segments.pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[range.end - 400..range.end].fill(0);
    fs::write(&last, bytes).unwrap();
    let found = findings(root.path());
    assert!(
        found.iter().any(|it| it.grade == Grade::Damage
            && it.path == last
            && it.detail.contains("acknowledged")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|it| it.grade == Grade::Torn && it.path == last),
        "{found:?}"
    );
}

#[test]
fn dumped_log_is_what_was_written() {
    let root = tempfile::tempdir().unwrap();
    written(root.path());
    let mut groups = Vec::new();
    let mut records = Vec::new();
    let mut group = |it: &DumpedGroup| {
        groups.push((it.group, it.replica, it.state.last.map(|id| id.index)));
        true
    };
    let mut record_of = |id, it: LogRecord| {
        assert_eq!(id, GROUP);
        records.push(it);
        Ok(())
    };
    dump_log(root.path(), &mut group, &mut record_of).unwrap();
    assert_eq!(groups, [(GROUP, REPLICA, Some(LogIndex(200)))]);
    let expected: Vec<LogRecord> = (1..=200).map(|index| record(1, index, 700)).collect();
    assert_eq!(records, expected);
}
