//! Measures the log engine and the state store on this machine: CPU per million messages, bytes written per payload byte, syncs.
//! `cargo run --release -p warren-storage --example measure [directory]`. Not here: a pass or a fail.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use bytes::Bytes;
use warren_storage::{
    LogEngine, LogOptions, LogRecord, RocksLog, RowBatch, StateOptions, StateStore, Table,
};
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Term};

const MESSAGE_BYTES: usize = 1_024;
const MESSAGES_PER_BATCH: u64 = 100;
const BATCHES: u64 = 4_000;
const GROUPS: u32 = 16;
/// Entries kept behind the newest one before the log is purged.
const KEPT: u64 = 40;

fn main() {
    let place = std::env::args().nth(1);
    let dir = place.map_or_else(
        || tempfile::tempdir().unwrap(),
        |place| tempfile::tempdir_in(place).unwrap(),
    );
    for in_flight in [1, 16, 64] {
        log(&dir.path().join(format!("log-{in_flight}")), in_flight);
    }
    state(&dir.path().join("state"));
}

/// Bytes that do not compress.
fn payload() -> Bytes {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let words = MESSAGE_BYTES * usize::try_from(MESSAGES_PER_BATCH).unwrap() / 8;
    let next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    };
    std::iter::repeat_with(next).take(words).flatten().collect()
}

fn log(dir: &Path, in_flight: usize) {
    let engine = RocksLog::open(dir, LogOptions::default()).unwrap();
    let groups: Vec<_> = (0..GROUPS)
        .map(|group| engine.open_group(GroupId(group), ReplicaId(1)).unwrap())
        .collect();
    let payload = payload();
    let before = (Usage::now(), engine.stats());
    let (done, answered) = sync_channel(in_flight);
    let mut waiting = 0;
    for batch in 0..BATCHES {
        let group = &groups[usize::try_from(batch % u64::from(GROUPS)).unwrap()];
        let index = batch / u64::from(GROUPS) + 1;
        let id = |index| LogId {
            term: Term(1),
            leader: ReplicaId(1),
            index: LogIndex(index),
        };
        let done = done.clone();
        group.append(
            vec![LogRecord {
                id: id(index),
                bytes: payload.clone(),
            }],
            Box::new(move |result| done.send(result).unwrap()),
        );
        if index > KEPT && index.is_multiple_of(KEPT) {
            group.purge(id(index - KEPT));
        }
        waiting += 1;
        if waiting == in_flight {
            answered.recv().unwrap().unwrap();
            waiting -= 1;
        }
    }
    (0..waiting).for_each(|_| answered.recv().unwrap().unwrap());
    let stats = engine.stats();
    Usage::now().print(&format!("log, {in_flight} batches in flight"), &before.0);
    println!(
        "  syncs {}, batches {}",
        stats.syncs - before.1.syncs,
        stats.batches - before.1.batches
    );
    engine.close();
}

fn state(dir: &Path) {
    let payload = payload();
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
        Usage::now().print(
            &format!("state, consumed {consumed_after} batches later"),
            &before,
        );
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

struct Usage {
    at: Instant,
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
            cpu_ticks: ticks(11) + ticks(12),
            written_bytes: written.parse().unwrap(),
        }
    }

    fn print(&self, what: &str, before: &Self) {
        let messages = (BATCHES * MESSAGES_PER_BATCH) as f64;
        let seconds = (self.at - before.at).as_secs_f64();
        // The kernel counts CPU in hundredths of a second.
        let cpu = (self.cpu_ticks - before.cpu_ticks) as f64 / 100.0 / messages * 1e6;
        let amplification =
            (self.written_bytes - before.written_bytes) as f64 / messages / MESSAGE_BYTES as f64;
        println!(
            "{what}: {:.0} messages/s, {cpu:.2} CPU s per million, {amplification:.2} bytes written per payload byte",
            messages / seconds
        );
    }
}
