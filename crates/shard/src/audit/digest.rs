//! Digests frozen rows in the order of their keys, from a place on, up to a bound: the same rows give the same digest, whatever of
//! them is written. Not here: freezing them (`capture`), comparing digests (`verdict`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use warren_codec::{
    AuditPlace, CodecError, RowTable, check_row, decode_key, encode_key, encode_row, table_of,
};
use warren_queue::rows::{Row, RowKey};
use warren_storage::StateError;
use xxhash_rust::xxh3::Xxh3;

use super::capture::{Captured, Frozen};
use super::verdict::Seen;
use crate::replica::table_on_disk;

/// One audit ends with the row that makes it so many bytes,
const BYTES_MAX: u64 = 2 << 20;
/// or rows.
pub(super) const ROWS_MAX: u64 = 20_000;

/// Rows that are not what was written.
#[derive(Debug, Error)]
pub(crate) enum Damage {
    #[error(transparent)]
    Unreadable(#[from] StateError),
    #[error("row {key} is damaged")]
    Row {
        /// In hexadecimal.
        key: String,
        #[source]
        source: CodecError,
    },
}

/// What was read: the digest, and how many bytes that took.
pub(super) struct Digested {
    pub(super) seen: Seen,
    pub(super) bytes: u64,
}

/// Reads and digests. Blocks on the disk.
pub(super) fn digest(captured: &Captured) -> Result<Digested, Damage> {
    digest_from(&captured.frozen, &captured.place)
}

/// From the first row on.
#[cfg(test)]
pub(crate) fn digest_of(frozen: &Frozen) -> Result<Seen, Damage> {
    digest_from(frozen, &AuditPlace::start()).map(|it| it.seen)
}

fn digest_from(frozen: &Frozen, place: &AuditPlace) -> Result<Digested, Damage> {
    let mut digest = Digest::default();
    let mut after = place.after.clone();
    for table in tables_from(place.table) {
        if let ControlFlow::Break(last) = digest.table(frozen, table, &after)? {
            let end = AuditPlace {
                table: *table,
                after: last,
            };
            return Ok(digest.end(Some(end)));
        }
        after = Bytes::new();
    }
    Ok(digest.end(None))
}

fn tables_from(first: RowTable) -> &'static [RowTable] {
    match first {
        RowTable::Blocks => &[RowTable::Blocks, RowTable::Rows],
        RowTable::Rows => &[RowTable::Rows],
    }
}

#[derive(Default)]
struct Digest {
    hasher: Xxh3,
    rows: u64,
    bytes: u64,
}

impl Digest {
    /// Breaks with the key of the last row when it is enough.
    fn table(
        &mut self,
        frozen: &Frozen,
        table: &RowTable,
        after: &Bytes,
    ) -> Result<ControlFlow<Bytes>, Damage> {
        let mut fresh = changed_of(frozen, *table, after).into_iter().peekable();
        let mut damage = None;
        let mut last = None;
        let mut from = BytesMut::from(&after[..]);
        if !after.is_empty() {
            from.put_u8(0); // the first key after it
        }
        let disk = table_on_disk(*table);
        frozen.snapshot.scan(disk, &from, |key, value| {
            while let Some((newer, row)) = fresh.next_if(|(newer, _)| &newer[..] < key) {
                if let Some(row) = row
                    && self.row(&newer, &encode_row(&newer, &row)).is_break()
                {
                    last = Some(newer);
                    return ControlFlow::Break(());
                }
            }
            let added = match fresh.next_if(|(newer, _)| newer == key) {
                Some((_, None)) => ControlFlow::Continue(()),
                Some((newer, Some(row))) => self.row(&newer, &encode_row(&newer, &row)),
                None => match self.stored(frozen, key, value) {
                    Ok(added) => added,
                    Err(found) => {
                        damage = Some(found);
                        return ControlFlow::Break(());
                    }
                },
            };
            if added.is_break() {
                last = Some(Bytes::copy_from_slice(key));
            }
            added
        })?;
        if let Some(damage) = damage {
            return Err(damage);
        }
        if last.is_none() {
            for (newer, row) in fresh {
                if let Some(row) = row
                    && self.row(&newer, &encode_row(&newer, &row)).is_break()
                {
                    last = Some(newer);
                    break;
                }
            }
        }
        Ok(last.map_or(ControlFlow::Continue(()), ControlFlow::Break))
    }

    /// A row as it is on disk, which no later change replaces.
    fn stored(
        &mut self,
        frozen: &Frozen,
        key: &[u8],
        value: &[u8],
    ) -> Result<ControlFlow<()>, Damage> {
        let damaged = |source| Damage::Row {
            key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
            source,
        };
        if !frozen.dropped.is_empty() {
            let name = decode_key(key).map_err(damaged)?;
            let is_own = matches!(name, RowKey::Queue(_));
            let queue = name.queue().filter(|_| !is_own);
            if queue.is_some_and(|queue| frozen.dropped.contains(&queue)) {
                return Ok(ControlFlow::Continue(()));
            }
        }
        check_row(key, value).map_err(damaged)?;
        Ok(self.row(key, value))
    }

    /// Breaks when it is enough.
    fn row(&mut self, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let (key_bytes, value_bytes) = (length(key), length(value));
        self.hasher.update(&key_bytes.to_be_bytes());
        self.hasher.update(&value_bytes.to_be_bytes());
        self.hasher.update(key);
        self.hasher.update(value);
        self.rows += 1;
        self.bytes += key_bytes + value_bytes;
        if self.bytes >= BYTES_MAX || self.rows >= ROWS_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn end(self, end: Option<AuditPlace>) -> Digested {
        Digested {
            seen: Seen {
                end,
                rows: self.rows,
                digest: self.hasher.digest128(),
            },
            bytes: self.bytes,
        }
    }
}

/// The changes of a table that are not written, after a key, in the order of keys.
fn changed_of(frozen: &Frozen, table: RowTable, after: &Bytes) -> BTreeMap<Bytes, Option<Row>> {
    let changed = frozen.changed.iter();
    let changed = changed.filter(|(key, _)| table_of(key) == table);
    let named = changed.map(|(key, row)| (encode_key(key), row.clone()));
    named.filter(|(key, _)| key > after).collect()
}
