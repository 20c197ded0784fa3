//! Keys in the state's RocksDB and the rows about replicas. Not here: replicas' own rows, which are bytes.
//!
//! A replica's rows stand under `group | epoch`. An epoch is one life of its rows: a snapshot is received under a new one and
//! becomes current by one write. Epochs are never used twice, so what is left of an old one is never taken for the new.

use bytes::Bytes;
use warren_types::{GroupId, ReplicaId};

use super::contract::Table;
use crate::files::{sealed, take_u64, unseal};

pub(super) const BLOCKS: &str = "blocks";
pub(super) const ROWS: &str = "rows";
pub(super) const META: &str = "meta";
pub(super) const FAMILIES: [&str; 3] = [BLOCKS, ROWS, META];
pub(super) const TABLES: [Table; 2] = [Table::Blocks, Table::Rows];

pub(super) const PREFIX_BYTES: usize = 12;

/// Which life of a replica's rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Epoch(pub(super) u64);

/// One life of a replica's rows: they have another after each snapshot that is installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowsLife(pub(super) Epoch);

pub(super) fn family(table: Table) -> &'static str {
    match table {
        Table::Blocks => BLOCKS,
        Table::Rows => ROWS,
    }
}

/// What all keys of one epoch of a group begin with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Prefix(pub(super) [u8; PREFIX_BYTES]);

impl Prefix {
    pub(super) fn new(group: GroupId, epoch: Epoch) -> Self {
        let mut bytes = [0; PREFIX_BYTES];
        let (head, tail) = bytes.split_at_mut(4);
        head.copy_from_slice(&group.0.to_be_bytes());
        tail.copy_from_slice(&epoch.0.to_be_bytes());
        Self(bytes)
    }

    pub(super) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(PREFIX_BYTES + key.len());
        full.extend_from_slice(&self.0);
        full.extend_from_slice(key);
        full
    }

    /// The first key after all keys with this prefix.
    pub(super) fn end(self) -> Vec<u8> {
        let mut end = self.0;
        for byte in end.iter_mut().rev() {
            let (next, carry) = byte.overflowing_add(1);
            *byte = next;
            if !carry {
                return end.to_vec();
            }
        }
        last_key()
    }
}

/// After every key: no group has the number 2^32 - 1.
pub(super) fn last_key() -> Vec<u8> {
    vec![0xff; PREFIX_BYTES + 1]
}

/// What is kept about a replica beside its rows. The numbers are on disk: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum About {
    /// Its id and the current epoch of its rows.
    Current = 1,
    /// What came with the last write: how far it has applied, opaque here.
    Meta = 2,
    /// The meta of the snapshot its rows came from, if they came from one.
    Installed = 3,
    /// The epoch of rows that came by a snapshot and were seen to be those of most other replicas.
    Proven = 4,
}

pub(super) const ABOUT: [About; 4] = [About::Current, About::Meta, About::Installed, About::Proven];

pub(super) type AboutKey = [u8; 5];

pub(super) fn about_key(about: About, group: GroupId) -> AboutKey {
    let [a, b, c, d] = group.0.to_be_bytes();
    [about as u8, a, b, c, d]
}

/// The group in a key of [`About::Current`]; `None` for other keys.
pub(super) fn current_group(key: &[u8]) -> Option<GroupId> {
    let key: AboutKey = key.try_into().ok()?;
    let [kind, a, b, c, d] = key;
    (kind == About::Current as u8).then(|| GroupId(u32::from_be_bytes([a, b, c, d])))
}

pub(super) fn encode_current(key: &[u8], epoch: Epoch, replica: ReplicaId) -> Vec<u8> {
    sealed(key, |out| {
        out.extend_from_slice(&epoch.0.to_be_bytes());
        out.extend_from_slice(&replica.0.to_be_bytes());
    })
}

pub(super) fn decode_current(key: &[u8], value: &[u8]) -> Option<(Epoch, ReplicaId)> {
    let mut content = unseal(key, value)?;
    let epoch = Epoch(take_u64(&mut content)?);
    let replica = ReplicaId(take_u64(&mut content)?);
    content.is_empty().then_some((epoch, replica))
}

pub(super) fn encode_meta(key: &[u8], meta: &[u8]) -> Vec<u8> {
    sealed(key, |out| out.extend_from_slice(meta))
}

pub(super) fn decode_meta(key: &[u8], value: &[u8]) -> Option<Bytes> {
    unseal(key, value).map(Bytes::copy_from_slice)
}

pub(super) fn encode_proven(key: &[u8], epoch: Epoch) -> Vec<u8> {
    encode_meta(key, &epoch.0.to_be_bytes())
}

/// `None`: it does not match its checksum, or is no epoch.
pub(super) fn decode_proven(key: &[u8], value: &[u8]) -> Option<Epoch> {
    let mut content = unseal(key, value)?;
    take_u64(&mut content).map(Epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_next_prefix() {
        let prefix = Prefix::new(GroupId(1), Epoch(7));
        assert_eq!(prefix.end(), Prefix::new(GroupId(1), Epoch(8)).0);
        assert_eq!(
            Prefix::new(GroupId(1), Epoch(u64::MAX)).end(),
            Prefix::new(GroupId(2), Epoch(0)).0
        );
        assert!(prefix.key(&[0xff; 40]) < prefix.end());
        assert!(Prefix::new(GroupId(u32::MAX - 1), Epoch(u64::MAX)).end() < last_key());
    }
}
