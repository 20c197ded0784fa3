//! Checks the blocks of a table file that no row is read from: its footer, the list of its other blocks, filters, statistics, indexes. Each
//! has a checksum of its own, over what is on the disk, so nothing is unpacked. Not here: blocks of rows, which RocksDB checks as it
//! reads them (`rocks`).
//!
//! Layout (RocksDB's `table/format.cc`, format versions 6 and 7): each block is followed by `type u8 | checksum u32`, both little-endian; the
//! last 53 bytes are `checksum type u8 | 3e 00 7a 00 | checksum u32 | base u32 | bytes of the list u32 | 24 zeros | version u32 | magic u64`,
//! and the list of blocks ends right before them. Checksums have the place in the file and the base added.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::Findings;
use super::rocks::masked;

const MAGIC: u64 = 0x88e2_41b7_85f4_cff7;
const FOOTER_BYTES: usize = 53;
const FOOTER_CHECKSUM_AT: std::ops::Range<usize> = 5..9;
const TRAILER_BYTES: u64 = 5;
/// Flags stand above the number of restarts.
const RESTARTS_MASK: u32 = (1 << 28) - 1;

/// Checks one file. What newer or older software wrote otherwise is left to RocksDB, which says whether it can read it.
pub(super) fn verify(path: &Path, findings: &mut Findings<'_>) {
    match Table::open(path) {
        Ok(Some(table)) => table.check(path, findings),
        Ok(None) => {}
        Err(error) => findings.damage(path, None, error.to_string()),
    }
}

#[derive(Clone, Copy)]
enum Sum {
    Crc32c,
    Xxh3,
}

impl Sum {
    fn of(self, content: &[u8], last: u8) -> u32 {
        match self {
            Self::Crc32c => masked(crc32c::crc32c_append(crc32c::crc32c(content), &[last])),
            // The lower half; the last byte is mixed in by itself.
            Self::Xxh3 => {
                let [a, b, c, d, ..] = xxh3_64(content).to_le_bytes();
                u32::from_le_bytes([a, b, c, d]) ^ u32::from(last).wrapping_mul(0x6b90_83d9)
            }
        }
    }
}

/// Where a block is.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    bytes: u64,
}

struct Table {
    file: File,
    /// Where the footer begins.
    end: u64,
    footer: [u8; FOOTER_BYTES],
    sum: Sum,
    base: u32,
    list: Place,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let (four, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
    Some(u32::from_le_bytes(*four))
}

impl Table {
    /// `None`: its format is another one.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let mut footer = [0; FOOTER_BYTES];
        let Some(end) = file.metadata()?.len().checked_sub(FOOTER_BYTES as u64) else {
            return Ok(None);
        };
        file.read_exact_at(&mut footer, end)?;
        let is_known = footer.ends_with(&MAGIC.to_le_bytes())
            && footer.get(1..5) == Some(&[0x3e, 0, 0x7a, 0])
            && matches!(u32_at(&footer, 41), Some(6 | 7));
        let sum = match footer.first() {
            Some(1) => Sum::Crc32c,
            Some(4) => Sum::Xxh3,
            Some(_) | None => return Ok(None),
        };
        let (Some(base), Some(bytes)) = (u32_at(&footer, 9), u32_at(&footer, 13)) else {
            return Ok(None);
        };
        let list_at = end.checked_sub(TRAILER_BYTES + u64::from(bytes));
        let list = list_at.map(|offset| Place {
            offset,
            bytes: bytes.into(),
        });
        Ok(list.filter(|_| is_known).map(|list| Self {
            file,
            end,
            footer,
            sum,
            base,
            list,
        }))
    }

    fn check(&self, path: &Path, findings: &mut Findings<'_>) {
        if !self.footer_matches() {
            let detail = "the footer does not match its checksum";
            return findings.damage(path, Some(self.end), detail);
        }
        let blocks = match self.block(self.list) {
            Ok(list) => entries(&list),
            Err(detail) => {
                return findings.damage(
                    path,
                    Some(self.list.offset),
                    format!("the list of blocks {detail}"),
                );
            }
        };
        let Some(blocks) = blocks else {
            let detail = "the list of blocks makes no sense";
            return findings.damage(path, Some(self.list.offset), detail);
        };
        for (name, place) in blocks {
            if let Err(detail) = self.block(place) {
                let detail = format!("the block {name} {detail}");
                findings.damage(path, Some(place.offset), detail);
            }
        }
    }

    /// What is added to the checksum of what stands there.
    fn context(&self, offset: u64) -> u32 {
        let [a, b, c, d, e, f, g, h] = offset.to_le_bytes();
        let halves = [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes);
        let sum = halves.into_iter().fold(0, u32::wrapping_add);
        if self.base == 0 { 0 } else { self.base ^ sum }
    }

    fn footer_matches(&self) -> bool {
        let mut bare = self.footer;
        if let Some(sum) = bare.get_mut(FOOTER_CHECKSUM_AT) {
            sum.fill(0);
        }
        let Some((last, content)) = bare.split_last() else {
            return false;
        };
        let sum = self.sum.of(content, *last);
        u32_at(&self.footer, FOOTER_CHECKSUM_AT.start)
            == Some(sum.wrapping_add(self.context(self.end)))
    }

    /// A block's content as it is on the disk; else what is wrong with it.
    fn block(&self, place: Place) -> Result<Vec<u8>, String> {
        let end = place.offset.checked_add(place.bytes);
        let end = end.and_then(|end| end.checked_add(TRAILER_BYTES));
        if end.is_none_or(|end| end > self.end) {
            return Err("does not lie within the file".to_owned());
        }
        let bytes =
            usize::try_from(place.bytes + TRAILER_BYTES).map_err(|error| error.to_string())?;
        let mut content = vec![0; bytes];
        let read = self.file.read_exact_at(&mut content, place.offset);
        read.map_err(|error| format!("was not read: {error}"))?;
        let trailer = content.split_off(bytes - TRAILER_BYTES as usize);
        let computed = trailer.first().map(|kind| {
            let sum = self.sum.of(&content, *kind);
            sum.wrapping_add(self.context(place.offset))
        });
        if computed == u32_at(&trailer, 1) {
            Ok(content)
        } else {
            Err("does not match its checksum".to_owned())
        }
    }
}

/// Names and places in a list of blocks: entries of `shared, unshared, value bytes` as varints, the name's unshared rest, and two varints as
/// the value; then as many words as there are restarts, and their number.
fn entries(list: &[u8]) -> Option<Vec<(String, Place)>> {
    let number_at = list.len().checked_sub(4)?;
    let restarts = u32_at(list, number_at)? & RESTARTS_MASK;
    let end = number_at.checked_sub(4 * usize::try_from(restarts).ok()?)?;
    let mut rest = list.get(..end)?;
    let mut name: Vec<u8> = Vec::new();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let [shared, unshared, value] =
            [length(&mut rest)?, length(&mut rest)?, length(&mut rest)?];
        name.truncate(shared);
        let (new, after) = rest.split_at_checked(unshared)?;
        name.extend_from_slice(new);
        let (mut value, after) = after.split_at_checked(value)?;
        rest = after;
        let (offset, bytes) = (varint(&mut value)?, varint(&mut value)?);
        let name = String::from_utf8_lossy(&name).into_owned();
        found.push((name, Place { offset, bytes }));
    }
    Some(found)
}

fn length(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(varint(bytes)?).ok()
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rocksdb::{BlockBasedOptions, Options, SstFileWriter};

    use super::*;

    fn findings(path: &Path) -> Vec<Option<u64>> {
        let mut begin = |_: &Path, _| ();
        let mut findings = Findings::new(&mut begin);
        verify(path, &mut findings);
        findings.found.iter().map(|it| it.offset).collect()
    }

    /// Every byte behind the rows' blocks belongs to something that is checked.
    fn every_byte_is_checked(checksum: rocksdb::ChecksumType) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.sst");
        let mut table = BlockBasedOptions::default();
        table.set_checksum_type(checksum);
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        let mut writer = SstFileWriter::create(&options);
        writer.open(&path).unwrap();
        for number in 0..400_u32 {
            writer.put(number.to_be_bytes(), [7; 20]).unwrap();
        }
        writer.finish().unwrap();
        drop(writer);
        assert_eq!(findings(&path), []);
        let table = Table::open(&path).unwrap().expect("its format is known");
        let blocks = entries(&table.block(table.list).unwrap()).unwrap();
        let names: Vec<&str> = blocks.iter().map(|(name, _)| &**name).collect();
        for kind in ["filter", "rocksdb.properties", "rocksdb.index"] {
            assert!(names.iter().any(|it| it.contains(kind)), "{names:?}");
        }
        let first = blocks.iter().map(|(_, place)| place.offset).min().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in usize::try_from(first).unwrap()..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x04;
            std::fs::write(&path, &bytes).unwrap();
            // What makes the footer another format's is RocksDB's to say.
            let is_left = Table::open(&path).unwrap().is_none();
            let in_footer = at >= whole.len() - FOOTER_BYTES;
            assert!(
                findings(&path).len() == 1 || (is_left && in_footer),
                "byte {at} of {}",
                whole.len()
            );
        }
    }

    #[test]
    fn flipped_byte_of_every_block_without_rows_is_said() {
        every_byte_is_checked(rocksdb::ChecksumType::XXH3);
        every_byte_is_checked(rocksdb::ChecksumType::CRC32c);
    }
}
