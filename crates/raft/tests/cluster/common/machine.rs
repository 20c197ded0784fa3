//! A machine that keeps every command as a row and a digest over all of them, and shows both to the test.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use warren_raft::{Changes, Committed, Machine, MachineError, MachineFactory, MachineWaker};
use warren_storage::{ReplicaState, RowBatch, Table};
use warren_types::LogId;

const TOTAL: &[u8] = b"total";

/// What the test sees of one replica's machine.
#[derive(Clone, Default)]
pub(crate) struct View(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    count: u64,
    digest: u64,
    restored: u64,
    keep: bool,
    panics: u32,
    finds_damage: bool,
    payloads: Vec<Bytes>,
}

impl View {
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().count
    }

    pub(crate) fn digest(&self) -> (u64, u64) {
        let seen = self.0.lock();
        (seen.count, seen.digest)
    }

    /// How many snapshots were installed.
    pub(crate) fn restored(&self) -> u64 {
        self.0.lock().restored
    }

    /// From now on, keep what is applied.
    pub(crate) fn keep_payloads(&self) {
        self.0.lock().keep = true;
    }

    /// The next so many calls of `apply` panic.
    pub(crate) fn panic_times(&self, times: u32) {
        self.0.lock().panics = times;
    }

    /// The next call of `apply` finds that rows are damaged.
    pub(crate) fn find_damage(&self) {
        self.0.lock().finds_damage = true;
    }

    fn panic_if_told(&self) {
        if std::mem::take(&mut self.0.lock().finds_damage) {
            warren_raft::damaged("row 7".to_owned());
        }
        let told = {
            let mut seen = self.0.lock();
            let left = seen.panics;
            seen.panics = left.saturating_sub(1);
            left > 0
        };
        assert!(!told, "told to panic");
    }

    pub(crate) fn payloads(&self) -> Vec<Bytes> {
        self.0.lock().payloads.clone()
    }
}

/// Holds back `apply` while it is closed.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn close(&self) {
        *self.0.0.lock() = true;
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock() = false;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.0.0.lock();
        while *closed {
            self.0.1.wait(&mut closed);
        }
    }
}

pub(crate) struct Recorder {
    pub(crate) view: View,
    pub(crate) gate: Gate,
}

struct Recording {
    view: View,
    gate: Gate,
    count: u64,
    digest: u64,
    new: Vec<Bytes>,
    /// Not written yet: the payload of each count.
    kept: Vec<(u64, Bytes)>,
    chunks: u64,
}

/// Every so many chunks the changes are written.
const CHUNKS_KEPT: u64 = 3;

impl Recording {
    fn read(&mut self, state: &ReplicaState) -> Result<(), MachineError> {
        let total = state
            .get(Table::Rows, TOTAL)
            .map_err(|e| MachineError(e.to_string()))?;
        let total = total.unwrap_or_else(|| Bytes::from_static(&[0; 16]));
        self.count = u64::from_be_bytes(total[..8].try_into().unwrap());
        self.digest = u64::from_be_bytes(total[8..].try_into().unwrap());
        self.show();
        Ok(())
    }

    fn show(&mut self) {
        let mut seen = self.view.0.lock();
        seen.count = self.count;
        seen.digest = self.digest;
        if seen.keep {
            seen.payloads.append(&mut self.new);
        } else {
            self.new.clear();
        }
    }
}

impl MachineFactory for Recorder {
    fn open(
        &self,
        state: ReplicaState,
        _waker: MachineWaker,
        _applied: Option<LogId>,
    ) -> Result<Box<dyn Machine>, MachineError> {
        let (view, gate) = (self.view.clone(), self.gate.clone());
        let mut machine = Recording {
            view,
            gate,
            count: 0,
            digest: 0,
            new: Vec::new(),
            kept: Vec::new(),
            chunks: 0,
        };
        machine.read(&state)?;
        Ok(Box::new(machine))
    }
}

impl Machine for Recording {
    fn apply(&mut self, entries: &[Committed], rows: &mut RowBatch) -> Changes {
        self.gate.pass();
        self.view.panic_if_told();
        for entry in entries {
            self.count += 1;
            let sum = u64::from(crc32c::crc32c(&entry.payload));
            self.digest = self.digest.wrapping_mul(0x0100_0000_01b3) ^ sum ^ entry.id.index.0;
            self.kept.push((self.count, entry.payload.clone()));
            self.new.push(entry.payload.clone());
        }
        self.chunks += 1;
        if !self.chunks.is_multiple_of(CHUNKS_KEPT) {
            return Changes::Kept;
        }
        self.give(rows);
        Changes::Given
    }

    fn give(&mut self, rows: &mut RowBatch) {
        for (count, payload) in self.kept.drain(..) {
            rows.put(Table::Blocks, count.to_be_bytes().to_vec(), payload);
        }
        let mut total = self.count.to_be_bytes().to_vec();
        total.extend(self.digest.to_be_bytes());
        rows.put(Table::Rows, TOTAL, total);
    }

    fn applied(&mut self, _applied: LogId) {
        self.show();
    }

    fn restored(&mut self, state: ReplicaState, _applied: LogId) {
        self.kept.clear();
        self.read(&state).unwrap();
        self.view.0.lock().restored += 1;
    }

    fn poll(&mut self) {}
}
