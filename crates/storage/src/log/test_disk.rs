//! A disk in memory that forgets what was not synced, tears the last write, and fails at the call the test names. Tests only.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, DiskFile};

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct TestDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    /// Names as they are seen, and as they would be found after a power cut.
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    calls: u64,
    calls_made: Vec<Call>,
    fault: Option<(u64, Fault)>,
}

#[derive(Clone, Default)]
struct Node {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync, in order.
    writes: Vec<(usize, Vec<u8>)>,
}

/// What the log asked for. Reads and questions are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    Rename,
    Remove,
    SyncDirectory,
    Write,
    Sync,
    Allocate,
}

/// What happens at the call with the number given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This call and all after it fail and do nothing: the power is gone.
    Cut,
    Error(io::ErrorKind),
    /// The next sync of a segment fails.
    SegmentSync,
    /// A write takes only part of what it was given; all others are not disturbed.
    Short,
    /// So many calls find no space.
    FullFor(u64),
    /// So many files find no space from here on; those that are there are not disturbed.
    NoNewFiles(u64),
}

/// What of unsynced writes a power cut leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    Nothing,
    All,
    /// All but the last, and so many bytes of that.
    Torn(usize),
    /// All but the last, and that without its first bytes.
    TornFront(usize),
}

impl TestDisk {
    /// Lets the call with this number, counted from now, meet a fault.
    pub(crate) fn fault_at(&self, call: u64, fault: Fault) {
        let mut state = self.0.lock();
        state.fault = Some((state.calls + call, fault));
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.lock().calls_made.clone()
    }

    /// Length of the last write that was not synced, if there is one.
    pub(crate) fn last_unsynced_write(&self) -> Option<usize> {
        let state = self.0.lock();
        let mut writes = state.nodes.iter().filter_map(|node| node.writes.last());
        writes.next().map(|(_, bytes)| bytes.len())
    }

    /// The disk as it is found after a power cut.
    pub(crate) fn after_power_cut(&self, left: Left, names: Names) -> Self {
        let state = self.0.lock();
        let names = match names {
            Names::Synced => &state.synced_names,
            Names::Seen => &state.names,
        };
        let nodes = state.nodes.iter().map(|node| node.after_power_cut(left));
        Self(Arc::new(Mutex::new(State {
            nodes: nodes.collect(),
            names: names.clone(),
            synced_names: names.clone(),
            ..State::default()
        })))
    }

    /// Changes a file behind everybody's back.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        let node = state.names[path];
        let node = &mut state.nodes[node];
        change(&mut node.bytes);
        node.synced = node.bytes.clone();
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }
}

/// Which names a power cut leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Names {
    Synced,
    Seen,
}

impl Node {
    fn after_power_cut(&self, left: Left) -> Self {
        let mut bytes = self.synced.clone();
        let whole = match left {
            Left::Nothing => 0,
            Left::All => self.writes.len(),
            Left::Torn(_) | Left::TornFront(_) => self.writes.len().saturating_sub(1),
        };
        for (offset, written) in &self.writes[..whole] {
            put(&mut bytes, *offset, written);
        }
        if let Some((offset, written)) = self.writes.last() {
            match left {
                Left::Nothing | Left::All => {}
                Left::Torn(kept) => put(&mut bytes, *offset, &written[..kept.min(written.len())]),
                Left::TornFront(lost) => {
                    let lost = lost.min(written.len());
                    put(&mut bytes, *offset + lost, &written[lost..]);
                }
            }
        }
        Self {
            synced: bytes.clone(),
            bytes,
            writes: Vec::new(),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if bytes.len() < offset + written.len() {
        bytes.resize(offset + written.len(), 0);
    }
    bytes[offset..offset + written.len()].copy_from_slice(written);
}

impl State {
    /// Counts a call; `Ok(true)` if it is to be cut short.
    fn call(&mut self, call: Call) -> io::Result<bool> {
        let number = self.calls;
        self.calls += 1;
        self.calls_made.push(call);
        match self.fault {
            Some((at, Fault::Cut)) if number >= at => Err(io::Error::other("the power is gone")),
            Some((at, Fault::Error(kind))) if number == at => Err(kind.into()),
            Some((at, Fault::Short)) if number == at => Ok(true),
            Some((at, Fault::FullFor(calls)))
                if (at..at + calls).contains(&number)
                    && matches!(call, Call::Write | Call::Allocate | Call::Create) =>
            {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some((at, Fault::NoNewFiles(files)))
                if number >= at && files > 0 && matches!(call, Call::Allocate) =>
            {
                self.fault = Some((at, Fault::NoNewFiles(files - 1)));
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(false),
        }
    }
}

impl Disk for TestDisk {
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.0.lock();
        let files = state.names.iter();
        Ok(files
            .filter(|(path, _)| path.parent() == Some(directory))
            .map(|(path, node)| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, state.nodes[*node].bytes.len() as u64)
            })
            .collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = self.0.lock().names.get(path).copied();
        let node = node.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(TestFile {
            disk: self.clone(),
            node,
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.call(Call::Create)?;
        state.nodes.push(Node::default());
        let node = state.nodes.len() - 1;
        state.names.insert(path.to_owned(), node);
        drop(state);
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(Call::Rename)?;
        let node = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(Call::Remove)?;
        let removed = state.names.remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(Call::SyncDirectory)?;
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct TestFile {
    disk: TestDisk,
    node: usize,
}

impl DiskFile for TestFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().nodes[self.node].bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.0.lock();
        let bytes = &state.nodes[self.node].bytes;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.0.lock();
        let short = state.call(Call::Write)?;
        let mut all: Vec<u8> = slices.iter().flat_map(|it| it.iter().copied()).collect();
        if short {
            all.truncate(all.len().div_ceil(2));
        }
        let node = &mut state.nodes[self.node];
        let offset = usize::try_from(offset).unwrap();
        put(&mut node.bytes, offset, &all);
        let written = all.len();
        node.writes.push((offset, all));
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.call(Call::Sync)?;
        let segment = state.names.iter().any(|(path, node)| {
            *node == self.node && path.extension().is_some_and(|it| it == "segment")
        });
        if segment && matches!(state.fault, Some((_, Fault::SegmentSync))) {
            state.fault = None;
            return Err(io::Error::other("input/output error"));
        }
        let node = &mut state.nodes[self.node];
        node.synced = node.bytes.clone();
        node.writes.clear();
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.call(Call::Allocate)?;
        let node = &mut state.nodes[self.node];
        let bytes = usize::try_from(bytes).unwrap().max(node.bytes.len());
        node.bytes.resize(bytes, 0);
        Ok(())
    }

    fn stream(&self, _: &Path) -> bool {
        true // it has no cache
    }
}
