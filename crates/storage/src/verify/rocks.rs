//! Checks a RocksDB database by reading all of it: the names in `CURRENT`, the records of its `MANIFEST`, every block and blob that
//! a row needs, and the other blocks of its tables. Not here: what the rows mean, those other blocks (`table`).

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamilyDescriptor, DB, IteratorMode, Options, ReadOptions};

use super::{Findings, table};
use crate::files::checksum;

/// What may be wrong with a row: its family, key and value.
pub(super) type CheckRow<'a> = &'a mut dyn FnMut(&str, &[u8], &[u8]) -> Option<String>;

/// The databases in a directory: itself or one below it.
pub(super) fn databases(dir: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = below.map(|item| item.path()).collect();
    found.push(dir.to_owned());
    // A database that lost its CURRENT is one still.
    found.retain(|path| path.join("CURRENT").exists() || path.join("IDENTITY").exists());
    found.sort();
    found
}

/// Reads everything; every finding names a file where RocksDB does.
pub(super) fn verify(dir: &Path, findings: &mut Findings<'_>, check: CheckRow<'_>) {
    for item in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        let bytes = item.metadata().map_or(0, |about| about.len());
        let is_data = ["sst", "blob", "log"].iter().any(|ending| {
            name.rsplit_once('.')
                .is_some_and(|(_, found)| found == *ending)
        });
        if is_data || name == "CURRENT" || name.starts_with("MANIFEST-") {
            findings.file(&item.path(), bytes);
        }
    }
    let Some(manifest) = current(dir, findings) else {
        return;
    };
    match fs::read(&manifest) {
        Ok(bytes) => {
            if let Some(offset) = first_bad_record(&bytes) {
                let detail = "a record does not match its checksum";
                findings.damage(&manifest, Some(offset), detail);
                return;
            }
        }
        Err(error) => return findings.damage(&manifest, None, error.to_string()),
    }
    if let Err(error) = read_all(dir, findings, check) {
        let text = error.into_string();
        let (path, offset) = place(&text).unwrap_or((dir.to_owned(), None));
        findings.damage(&path, offset, text);
    }
}

/// The manifest that `CURRENT` names.
fn current(dir: &Path, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let path = dir.join("CURRENT");
    let named = match fs::read_to_string(&path) {
        Ok(text) => text.strip_suffix('\n').map(|name| dir.join(name)),
        Err(error) => {
            findings.damage(&path, None, error.to_string());
            return None;
        }
    };
    let manifest = named.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("MANIFEST-") && path.parent() == Some(dir) && path.is_file()
    });
    if manifest.is_none() {
        findings.damage(&path, Some(0), "it does not name a manifest that is there");
    }
    manifest
}

fn read_all(
    dir: &Path,
    findings: &mut Findings<'_>,
    check: CheckRow<'_>,
) -> Result<(), rocksdb::Error> {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    let names = DB::list_cf(&options, dir)?;
    let families = names
        .iter()
        .map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    let database = DB::open_cf_descriptors_read_only(&options, dir, families, false)?;
    // Of files that are in use only: others may be what a crash has cut off.
    for file in database.live_files()? {
        let path = dir.join(file.name.trim_start_matches('/'));
        table::verify(&path, findings);
    }
    let mut first_error = None;
    for name in &names {
        let Some(family) = database.cf_handle(name) else {
            continue;
        };
        let mut reading = ReadOptions::default();
        reading.set_verify_checksums(true);
        reading.fill_cache(false);
        reading.set_readahead_size(2 << 20);
        for row in database.iterator_cf_opt(family, reading, IteratorMode::Start) {
            let (key, value) = match row {
                Ok(row) => row,
                Err(error) => {
                    // The other families are read all the same; their rows count.
                    first_error.get_or_insert(error);
                    break;
                }
            };
            findings.rows += 1;
            if let Some(detail) = check(name, &key, &value) {
                findings.damage(dir, None, detail);
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// File and offset in an error of RocksDB's, such as `... in /path/000012.sst offset 3456 size 4096`.
fn place(text: &str) -> Option<(PathBuf, Option<u64>)> {
    let mut words = text.split_whitespace();
    let path = words.find(|word| {
        let word = word.trim_end_matches([',', '.', ':']);
        word.contains('/')
            && [".sst", ".blob"]
                .iter()
                .any(|ending| word.ends_with(ending))
    })?;
    let path = PathBuf::from(path.trim_end_matches([',', '.', ':']));
    let offset = match (words.next(), words.next()) {
        (Some("offset"), Some(number)) => number.parse().ok(),
        _ => None,
    };
    Some((path, offset))
}

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;

/// The offset of the first record of a RocksDB log file whose checksum does not match. Layout: blocks of 32 KiB, in them records of
/// {masked CRC-32C u32, length u16, type u8, payload}, little-endian, the checksum over type and payload; a block's last
/// bytes are zeros where no header fits (RocksDB's wiki, "Write Ahead Log File Format").
fn first_bad_record(bytes: &[u8]) -> Option<u64> {
    for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let mut at = 0;
        while let Some(header) = block.get(at..at + HEADER_BYTES) {
            let bad = Some((number * BLOCK_BYTES + at) as u64);
            let [a, b, c, d, low, high, _] = *header else {
                return bad;
            };
            let length = usize::from(u16::from_le_bytes([low, high]));
            let Some(content) = block.get(at + HEADER_BYTES - 1..at + HEADER_BYTES + length) else {
                return bad;
            };
            if u32::from_le_bytes([a, b, c, d]) != masked(checksum(&[content])) {
                return bad;
            }
            at += HEADER_BYTES + length;
        }
        let rest = block.get(at..).unwrap_or_default();
        if rest.iter().any(|byte| *byte != 0) {
            return Some((number * BLOCK_BYTES + at) as u64);
        }
    }
    None
}

/// RocksDB never stores a checksum bare, so that data that holds checksums can be summed too.
pub(super) fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_read_from_errors_that_name_one() {
        let text = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /d/rocks/000012.sst offset 3456 size 99";
        assert_eq!(
            place(text),
            Some((PathBuf::from("/d/rocks/000012.sst"), Some(3456)))
        );
        let text = "Corruption: Bad table magic number: expected 1, found 2 in /d/000007.sst";
        assert_eq!(place(text), Some((PathBuf::from("/d/000007.sst"), None)));
        assert_eq!(place("Corruption: no file is named"), None);
    }
}
