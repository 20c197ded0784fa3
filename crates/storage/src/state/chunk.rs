//! A snapshot's rows as a run of checksummed chunks. Not here: where rows come from (`snapshot`) and go to (`install`).
//!
//! Layout, big-endian: `crc32c u32 | version u8 | kind u8 | number u64 | rows u64`, then per row `key length u32 | value length u32 | key | value`.
//! The last chunk has the kind "end", no rows, and the total of rows in their place. The checksum of rows is taken of what the store gives,
//! not of the copies in the chunk: a bit that flips while they are gathered is no part of it.

use std::sync::Arc;

use super::contract::Table;
use super::error::StateError;
use crate::files::{checksum, seal, take_u8, take_u32, take_u64, unseal};

const VERSION: u8 = 1;
const KIND_BLOCKS: u8 = 1;
const KIND_ROWS: u8 = 2;
const KIND_END: u8 = 3;
const CHECKSUM_BYTES: usize = 4;
const ROWS_AT: usize = 14;
const HEADER_BYTES: usize = 22;

/// Builds one chunk.
pub(super) struct ChunkWriter {
    bytes: Vec<u8>,
    rows: u64,
    /// Of the rows.
    checksum: u32,
}

impl ChunkWriter {
    pub(super) fn new(table: Table, number: u64) -> Self {
        let kind = match table {
            Table::Blocks => KIND_BLOCKS,
            Table::Rows => KIND_ROWS,
        };
        Self {
            bytes: header(kind, number, 0),
            rows: 0,
            checksum: 0,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether a row still fits. The first always does.
    pub(super) fn has_room(&self, key: &[u8], value: &[u8], bytes_max: usize) -> bool {
        self.rows == 0 || self.bytes.len() + 8 + key.len() + value.len() <= bytes_max
    }

    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        let lengths = [length(key).to_be_bytes(), length(value).to_be_bytes()];
        for part in [lengths.as_flattened(), key, value] {
            self.checksum = crc32c::crc32c_append(self.checksum, part);
            self.bytes.extend_from_slice(part);
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if let Some(rows) = self.bytes.get_mut(ROWS_AT..HEADER_BYTES) {
            rows.copy_from_slice(&self.rows.to_be_bytes());
        }
        let rows_bytes = self.bytes.len() - HEADER_BYTES;
        let header = self.bytes.get(CHECKSUM_BYTES..HEADER_BYTES);
        let header = checksum(&[header.unwrap_or_default()]);
        let whole = crc32c::crc32c_combine(header, self.checksum, rows_bytes);
        if let Some(sum) = self.bytes.get_mut(..CHECKSUM_BYTES) {
            sum.copy_from_slice(&whole.to_be_bytes());
        }
        self.bytes
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("RocksDB keeps no key or value of 4 GiB")
}

fn header(kind: u8, number: u64, rows: u64) -> Vec<u8> {
    let mut bytes = vec![0; CHECKSUM_BYTES];
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&rows.to_be_bytes());
    bytes
}

/// The last chunk.
pub(super) fn end_chunk(number: u64, rows: u64) -> Vec<u8> {
    let mut bytes = header(KIND_END, number, rows);
    seal(&[], &mut bytes);
    bytes
}

/// One chunk as received, checked.
pub(super) enum Chunk<'a> {
    Rows { table: Table, rows: Rows<'a> },
    End { rows: u64 },
}

/// The rows of one chunk.
pub(super) struct Rows<'a> {
    rest: &'a [u8],
    number: u64,
    left: u64,
}

fn refuse(number: u64, detail: &str) -> StateError {
    StateError::BadChunk {
        number,
        detail: Arc::from(detail),
    }
}

/// Checks a chunk that must be number `number`.
pub(super) fn read(bytes: &[u8], number: u64) -> Result<Chunk<'_>, StateError> {
    let refused = |detail| refuse(number, detail);
    let mut rest = unseal(&[], bytes).ok_or_else(|| refused("it does not match its checksum"))?;
    let short = || refused("it is too short");
    if take_u8(&mut rest).ok_or_else(short)? != VERSION {
        return Err(refused("its version is not known"));
    }
    let kind = take_u8(&mut rest).ok_or_else(short)?;
    if take_u64(&mut rest).ok_or_else(short)? != number {
        return Err(refused("another one was expected"));
    }
    let left = take_u64(&mut rest).ok_or_else(short)?;
    let table = match kind {
        KIND_BLOCKS => Table::Blocks,
        KIND_ROWS => Table::Rows,
        KIND_END if rest.is_empty() => return Ok(Chunk::End { rows: left }),
        _ => return Err(refused("its kind is not known")),
    };
    Ok(Chunk::Rows {
        table,
        rows: Rows { rest, number, left },
    })
}

impl<'a> Rows<'a> {
    fn row(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let key_bytes = usize::try_from(take_u32(&mut self.rest)?).ok()?;
        let value_bytes = usize::try_from(take_u32(&mut self.rest)?).ok()?;
        let (key, rest) = self.rest.split_at_checked(key_bytes)?;
        let (value, rest) = rest.split_at_checked(value_bytes)?;
        self.rest = rest;
        Some((key, value))
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let leftover = !std::mem::take(&mut self.rest).is_empty();
            return leftover.then(|| Err(refuse(self.number, "it has bytes after its last row")));
        }
        let row = self.row();
        self.left = if row.is_some() { self.left - 1 } else { 0 };
        if row.is_none() {
            self.rest = &[];
        }
        Some(row.ok_or_else(|| refuse(self.number, "a row is cut off")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_that_flips_while_rows_are_gathered_is_seen() {
        let written = || {
            let mut writer = ChunkWriter::new(Table::Blocks, 3);
            writer.push(b"key", b"a value");
            writer.push(b"other", b"");
            writer
        };
        let mut sealed = written().finish();
        assert!(read(&sealed, 3).is_ok());
        let before = sealed.clone();
        seal(&[], &mut sealed);
        assert_eq!(before, sealed, "the same bytes as ever");
        for at in HEADER_BYTES..sealed.len() {
            let mut writer = written();
            writer.bytes[at] ^= 0x20;
            assert!(read(&writer.finish(), 3).is_err(), "byte {at}");
        }
    }
}
