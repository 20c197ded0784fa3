//! A disk that fails, a log that lost its end, a crash at any moment.

use rocksdb::WriteBatch;

use super::*;

struct FailingSink {
    inner: RocksSink,
    writes_left: usize,
}

impl Sink for FailingSink {
    fn write(&mut self, batch: WriteBatch, sync: bool) -> Result<(), String> {
        if self.writes_left == 0 {
            return Err("input/output error".into());
        }
        self.writes_left -= 1;
        self.inner.write(batch, sync)
    }
}

fn failing(dir: &Path, writes_left: usize) -> RocksLog {
    RocksLog::open_with(dir, &LogOptions::default(), |database| {
        Box::new(FailingSink {
            inner: RocksSink(database),
            writes_left,
        })
    })
    .unwrap()
}

#[test]
fn failed_sync_fails_all_waiters_and_everything_after() {
    let dir = tempfile::tempdir().unwrap();
    // Two groups are created, two appends written; the next write fails.
    let engine = failing(dir.path(), 4);
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    let other = engine.open_group(GroupId(4), REPLICA).unwrap();
    append(&log, records(1, 1..=2)).unwrap();
    append(&other, records(1, 1..=1)).unwrap();
    let failed = engine.failed();
    assert_eq!(*failed.borrow(), None);

    assert!(matches!(
        append(&log, records(1, 3..=3)),
        Err(LogError::Failed(_))
    ));
    assert!(
        failed
            .borrow()
            .as_deref()
            .unwrap()
            .contains("input/output error")
    );
    assert!(log.durable().borrow().poisoned && other.durable().borrow().poisoned);
    assert_eq!(log.durable().borrow().last, Some(id(1, 2)));
    assert!(matches!(
        append(&other, records(1, 2..=2)),
        Err(LogError::Failed(_))
    ));
    assert!(matches!(vote(&other, 9), Err(LogError::Failed(_))));
    assert_eq!(other.state().vote, None);
    assert!(matches!(
        other.read(LogIndex(1)..LogIndex(2), 100),
        Err(LogError::Failed(_))
    ));
    assert!(matches!(
        engine.open_group(GroupId(5), REPLICA),
        Err(LogError::Failed(_))
    ));
    engine.close();
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(
        read_all(&engine.open_group(GROUP, REPLICA).unwrap()),
        records(1, 1..=2)
    );
}

/// Writes only when the test lets it.
struct GatedSink {
    inner: RocksSink,
    gate: mpsc::Receiver<()>,
}

impl Sink for GatedSink {
    fn write(&mut self, batch: WriteBatch, sync: bool) -> Result<(), String> {
        // A gate that is gone is open.
        let _ = self.gate.recv();
        self.inner.write(batch, sync)
    }
}

#[test]
fn append_truncated_before_its_sync_does_not_count_as_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (open_gate, gate) = mpsc::sync_channel(10);
    let options = LogOptions {
        tail_cache_bytes: 0,
        ..LogOptions::default()
    };
    let engine = RocksLog::open_with(dir.path(), &options, |database| {
        Box::new(GatedSink {
            inner: RocksSink(database),
            gate,
        })
    })
    .unwrap();
    open_gate.send(()).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    let (done, first) = answer();
    log.append(records(1, 1..=10), done);
    assert_eq!(log.durable().borrow().last, None, "nothing is written yet");
    log.truncate_after(Some(id(1, 4)));
    let (done, second) = answer();
    log.append(records(2, 5..=7), done);
    let kept = [records(1, 1..=4), records(2, 5..=7)].concat();
    assert_eq!(
        read_all(&log),
        kept,
        "what is not durable is pinned in memory whatever the budget"
    );
    open_gate.send(()).unwrap();
    wait(&first).unwrap();
    // The second append may have gone with the first batch or waits at the gate still.
    let durable = log.durable().borrow().last;
    assert!(
        durable == Some(id(1, 4)) || durable == Some(id(2, 7)),
        "{durable:?}"
    );
    drop(open_gate);
    wait(&second).unwrap();
    assert_eq!(log.durable().borrow().last, Some(id(2, 7)));
    assert_eq!(read_all(&log), kept);
}

#[test]
fn log_shorter_than_acknowledged_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=3)).unwrap();
    engine.close();
    copy_dir(&dir.path().join("rocks"), &old.path().join("rocks"));
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 4..=7)).unwrap();
    engine.close();

    // The log's own files go back in time, the marks do not.
    std::fs::remove_dir_all(dir.path().join("rocks")).unwrap();
    copy_dir(&old.path().join("rocks"), &dir.path().join("rocks"));
    let engine = open(dir.path());
    let Err(error) = engine.open_group(GROUP, REPLICA) else {
        panic!("a log that lost entries was opened")
    };
    let text = error.to_string();
    assert!(
        text.contains("group 3") && text.contains("ends at 3") && text.contains("up to 7"),
        "{text}"
    );
    assert!(
        matches!(
            engine.open_group(GROUP, REPLICA),
            Err(LogError::Damaged { .. })
        ),
        "and stays so"
    );
    engine.open_group(GroupId(8), REPLICA).unwrap();
    // Set aside, the group may come back under a new replica id.
    let (done, answered) = answer();
    engine.remove_group(GROUP, done);
    wait(&answered).unwrap();
    engine.open_group(GROUP, ReplicaId(99)).unwrap();
    engine.close();
    open(dir.path()).open_group(GROUP, ReplicaId(99)).unwrap();
}

#[test]
fn lost_log_with_marks_is_damaged_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    append(
        &engine.open_group(GROUP, REPLICA).unwrap(),
        records(1, 1..=3),
    )
    .unwrap();
    engine.close();
    std::fs::remove_dir_all(dir.path().join("rocks")).unwrap();
    assert!(matches!(
        open(dir.path()).open_group(GROUP, REPLICA),
        Err(LogError::Damaged { .. })
    ));
}

#[test]
fn crash_after_truncation_is_not_taken_for_damage() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(&log, records(1, 1..=20)).unwrap();
    engine.close();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    log.truncate_after(Some(id(1, 5)));
    vote(&log, 2).unwrap();
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), crashed.path());
    let engine = open(crashed.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    assert_eq!(read_all(&log), records(1, 1..=5));
}

#[test]
fn crash_at_any_moment_keeps_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(open(dir.path()));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let acknowledged = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let writer = {
        let (engine, stop, acknowledged) = (engine.clone(), stop.clone(), acknowledged.clone());
        std::thread::spawn(move || {
            let log = engine.open_group(GROUP, REPLICA).unwrap();
            for index in 1.. {
                if stop.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                append(&log, vec![record(1, index, 300)]).unwrap();
                acknowledged.store(index, std::sync::atomic::Ordering::SeqCst);
            }
        })
    };
    for _ in 0..8 {
        let floor = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
        let crashed = tempfile::tempdir().unwrap();
        // Marks first: in the copy as on a disk they may lag behind the log, never lead it.
        std::fs::copy(dir.path().join("acked"), crashed.path().join("acked")).unwrap();
        copy_dir(&dir.path().join("rocks"), &crashed.path().join("rocks"));
        let log = open(crashed.path()).open_group(GROUP, REPLICA).unwrap();
        let last = log.state().last.map_or(0, |id| id.index.0);
        assert!(last >= floor, "{last} of {floor} acknowledged");
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    writer.join().unwrap();
}

#[test]
fn flipped_byte_in_a_table_is_reported_not_returned() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    append(
        &log,
        (1..=200).map(|index| record(1, index, 1_000)).collect(),
    )
    .unwrap();
    let database = engine.core.database().unwrap();
    database
        .flush_cf(core::column_family(&database, format::ENTRIES))
        .unwrap();
    drop(database);
    engine.close();
    let table = std::fs::read_dir(dir.path().join("rocks"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    let engine = open(dir.path());
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    assert!(matches!(
        log.read(LogIndex(1)..LogIndex(201), usize::MAX),
        Err(LogError::Damaged { .. })
    ));
}

#[test]
fn full_queue_blocks_the_caller_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        queue_bytes: 4_000,
        ..LogOptions::default()
    };
    let engine = RocksLog::open(dir.path(), options).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    let answers: Vec<_> = (1..=200)
        .map(|index| {
            let (done, answered) = answer();
            log.append(vec![record(1, index, 1_000)], done);
            answered
        })
        .collect();
    answers.iter().for_each(|answered| wait(answered).unwrap());
    assert_eq!(log.durable().borrow().last, Some(id(1, 200)));
}
