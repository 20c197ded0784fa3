//! The rows of a topology's replica: the last snapshot and the entries since. Not here: when they are written (`machine`), what entries do
//! (`warren-topology`).

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use warren_codec::{CodecError, decode_topology, decode_topology_entry};
use warren_storage::{ReplicaState, StateError, StateSnapshot, Table};
use warren_topology::Topology;
use warren_types::TopologyIndex;

pub(super) const SNAPSHOT_KEY: &[u8] = b"s";
pub(super) const ENTRY_PREFIX: u8 = b'e';
const KEYS_END: &[u8] = &[0xff];

/// Where the replica that is open has its rows, for who compares them; none before it is.
#[derive(Clone, Default)]
pub(crate) struct Stored(Arc<Mutex<Option<ReplicaState>>>);

impl Stored {
    pub(super) fn set(&self, state: ReplicaState) {
        *self.0.lock() = Some(state);
    }

    pub(crate) fn get(&self) -> Option<ReplicaState> {
        self.0.lock().clone()
    }
}

/// Rows as they were read.
#[derive(Default)]
pub(crate) struct StoredRows {
    pub(super) snapshot: Option<Bytes>,
    /// In order.
    pub(super) entries: Vec<(TopologyIndex, Bytes)>,
}

impl StoredRows {
    pub(super) fn of(state: &ReplicaState) -> Result<Self, StateError> {
        let mut rows = Self::default();
        let take = |key: &[u8], value: &[u8]| rows.take(key, value);
        state.scan(Table::Rows, &[], KEYS_END, take)?;
        Ok(rows)
    }

    pub(crate) fn frozen(state: &StateSnapshot) -> Result<Self, StateError> {
        let mut rows = Self::default();
        state.scan(Table::Rows, &[], |key, value| rows.take(key, value))?;
        Ok(rows)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        let value = Bytes::copy_from_slice(value);
        if key == SNAPSHOT_KEY {
            self.snapshot = Some(value);
        } else if let Some((&ENTRY_PREFIX, index)) = key.split_first()
            && let Ok(index) = index.try_into()
        {
            let index = TopologyIndex(u64::from_be_bytes(index));
            self.entries.push((index, value));
        }
        ControlFlow::Continue(())
    }

    /// What they make.
    pub(crate) fn topology(&self) -> Result<Topology, CodecError> {
        let mut topology = match &self.snapshot {
            Some(bytes) => decode_topology(bytes)?,
            None => Topology::new(),
        };
        for (index, entry) in &self.entries {
            let entry = decode_topology_entry(entry)?;
            topology.apply(*index, entry.command);
        }
        Ok(topology)
    }
}

pub(super) fn entry_key(index: TopologyIndex) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(ENTRY_PREFIX);
    key.extend_from_slice(&index.0.to_be_bytes());
    key
}
