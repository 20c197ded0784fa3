//! Measures the log engines and the state store on this machine: CPU per million messages, bytes written per payload byte, syncs.
//! `measure [directory] [log|state]`. The log stands beside its floor, a bare `pwrite` and `fdatasync` of the same batches.
//! Not here: a pass or a fail.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use bytes::Bytes;
use warren_storage::{
    LogEngine, LogError, LogOptions, LogRecord, RocksLog, RowBatch, SegmentLog, StateOptions,
    StateStore, Table,
};
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Term};

const MESSAGE_BYTES: usize = 1_024;
const MESSAGES_PER_BATCH: u64 = 100;
const BATCHES: u64 = 4_000;
/// What one run of the log writes in all.
const LOG_BYTES: usize = 192 << 20;
/// Entries of a group kept behind the newest one before its log is purged.
const KEPT: u64 = 40;

/// Messages of one entry.
#[derive(Clone, Copy)]
struct Shape {
    message_bytes: usize,
    messages: usize,
}

const SHAPES: [Shape; 3] = [
    Shape {
        message_bytes: 100,
        messages: 1_000,
    },
    Shape {
        message_bytes: 1_024,
        messages: 100,
    },
    Shape {
        message_bytes: 16 << 10,
        messages: 16,
    },
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next();
    let part = arguments.next();
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let dir = place.map_or_else(
        || tempfile::tempdir().unwrap(),
        |place| tempfile::tempdir_in(place).unwrap(),
    );
    if wanted("log") {
        for shape in SHAPES {
            logs(dir.path(), shape);
        }
    }
    if wanted("state") {
        state(&dir.path().join("state"));
    }
}

/// One shape of batch on the bare file, then on each engine.
fn logs(dir: &Path, shape: Shape) {
    let payload = payload(shape.message_bytes * shape.messages);
    let batches = LOG_BYTES / payload.len();
    let Shape {
        message_bytes,
        messages,
    } = shape;
    println!("{message_bytes} B x {messages}, {batches} batches");
    let floor = bare(&dir.join("bare"), &payload, batches);
    let count = batches * messages;
    floor.print("  bare pwrite + fdatasync", count, message_bytes, &floor);
    for groups in [1, 16, 64] {
        let path = dir.join(format!("segments-{message_bytes}-{groups}"));
        let engine: Arc<dyn LogEngine> =
            Arc::new(SegmentLog::open(&path, LogOptions::default()).unwrap());
        let spent = log(&*engine, &payload, batches, groups);
        spent.print(
            &format!("  segments, {groups} groups"),
            count,
            message_bytes,
            &floor,
        );
        engine.close();
        std::fs::remove_dir_all(path).unwrap();
    }
    let path = dir.join(format!("rocks-{message_bytes}"));
    let engine: Arc<dyn LogEngine> =
        Arc::new(RocksLog::open(&path, LogOptions::default()).unwrap());
    let spent = log(&*engine, &payload, batches, 16);
    spent.print("  rocks, 16 groups", count, message_bytes, &floor);
    engine.close();
    std::fs::remove_dir_all(path).unwrap();
}

/// The floor: the same bytes to a file that is overwritten round and round.
fn bare(path: &Path, payload: &Bytes, batches: usize) -> Usage {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    let before = Usage::now();
    let places = (64 << 20) / payload.len();
    for batch in 0..batches {
        let offset = batch % places * payload.len();
        file.write_all_at(payload, offset as u64).unwrap();
        file.sync_data().unwrap();
    }
    let spent = Usage::now().since(&before);
    std::fs::remove_file(path).unwrap();
    spent
}

/// Bytes that do not compress.
fn payload(bytes: usize) -> Bytes {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let words = bytes / 8;
    let next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    };
    std::iter::repeat_with(next).take(words).flatten().collect()
}

/// Each group has one entry in flight.
fn log(engine: &dyn LogEngine, payload: &Bytes, batches: usize, groups: u32) -> Usage {
    let logs: Vec<_> = (0..groups)
        .map(|group| engine.open_group(GroupId(group), ReplicaId(1)).unwrap())
        .collect();
    let id = |index| LogId {
        term: Term(1),
        leader: ReplicaId(1),
        index: LogIndex(index),
    };
    let before = Usage::now();
    let (done, answered) = sync_channel::<Result<(), LogError>>(logs.len());
    for batch in 0..batches {
        if batch >= logs.len() {
            answered.recv().unwrap().unwrap();
        }
        let group = &logs[batch % logs.len()];
        let index = (batch / logs.len()) as u64 + 1;
        let done = done.clone();
        let record = LogRecord {
            id: id(index),
            bytes: payload.clone(),
        };
        group.append(
            vec![record],
            Box::new(move |result| done.send(result).unwrap()),
        );
        if index > KEPT && index.is_multiple_of(KEPT) {
            group.purge(id(index - KEPT));
        }
    }
    (0..logs.len().min(batches)).for_each(|_| answered.recv().unwrap().unwrap());
    let stats = engine.stats();
    let spent = Usage::now().since(&before);
    println!(
        "    syncs {}, written again {} bytes",
        stats.syncs, stats.bytes_rewritten
    );
    spent
}

fn state(dir: &Path) {
    let payload = payload(MESSAGE_BYTES * usize::try_from(MESSAGES_PER_BATCH).unwrap());
    for consumed_after in [50, BATCHES] {
        let dir = dir.join(consumed_after.to_string());
        let store = StateStore::open(&dir, StateOptions::default()).unwrap();
        let state = store.replica(GroupId(1), ReplicaId(1)).unwrap();
        let before = Usage::now();
        for batch in 0..BATCHES {
            let mut rows = RowBatch::default();
            rows.put(Table::Blocks, batch.to_be_bytes().to_vec(), payload.clone());
            if let Some(consumed) = batch.checked_sub(consumed_after) {
                rows.delete(Table::Blocks, consumed.to_be_bytes().to_vec());
            }
            rows.put(
                Table::Rows,
                Bytes::from_static(b"counters"),
                batch.to_be_bytes().to_vec(),
            );
            state.write(rows, Bytes::from_static(b"applied")).unwrap();
        }
        store.flush().unwrap();
        let spent = Usage::now().since(&before);
        let messages = usize::try_from(BATCHES * MESSAGES_PER_BATCH).unwrap();
        let what = format!("state, consumed {consumed_after} batches later");
        spent.print(&what, messages, MESSAGE_BYTES, &spent);
        let before = Usage::now();
        let bytes: usize = Arc::new(state.snapshot().unwrap())
            .chunks(1 << 20)
            .map(|chunk| chunk.unwrap().len())
            .sum();
        println!(
            "  snapshot read: {} MiB in {:.2} s",
            bytes >> 20,
            before.at.elapsed().as_secs_f64()
        );
        store.close().unwrap();
    }
}

/// What was used up to a moment, or between two.
struct Usage {
    at: Instant,
    seconds: f64,
    cpu_ticks: u64,
    written_bytes: u64,
}

impl Usage {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
        let io = std::fs::read_to_string("/proc/self/io").unwrap();
        let written = io
            .lines()
            .find_map(|line| line.strip_prefix("wchar: "))
            .unwrap();
        Self {
            at: Instant::now(),
            seconds: 0.0,
            cpu_ticks: ticks(11) + ticks(12),
            written_bytes: written.parse().unwrap(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            at: self.at,
            seconds: (self.at - before.at).as_secs_f64(),
            cpu_ticks: self.cpu_ticks - before.cpu_ticks,
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }

    fn print(&self, what: &str, messages: usize, message_bytes: usize, floor: &Self) {
        let messages = messages as f64;
        // The kernel counts CPU in hundredths of a second.
        let cpu = |ticks: u64| ticks as f64 / 100.0 / messages * 1e6;
        println!(
            "{what}: {:.0} messages/s, {:.3} CPU s per million ({:.2} x floor), {:.3} bytes written per payload byte",
            messages / self.seconds,
            cpu(self.cpu_ticks),
            self.cpu_ticks as f64 / floor.cpu_ticks.max(1) as f64,
            self.written_bytes as f64 / messages / message_bytes as f64,
        );
    }
}
