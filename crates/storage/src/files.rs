//! Small files that are replaced as a whole, and checksums. Not here: RocksDB's files, the log's acknowledged marks (`log::rocks::acked`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` so that a crash leaves the old or the new content: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Makes the directory entry of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

/// Creates a directory and its parents, durably.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
    {
        create_directory(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    sync_parent(path)
}

/// CRC-32C of several slices as if they were one.
pub(crate) fn checksum(parts: &[&[u8]]) -> u32 {
    parts
        .iter()
        .fold(0, |sum, part| crc32c::crc32c_append(sum, part))
}

const CHECKSUM_BYTES: usize = 4;

/// A value with its checksum in front, which covers the key too: neither a flipped bit nor a value under another's key passes.
pub(crate) fn sealed(key: &[u8], content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; CHECKSUM_BYTES];
    content(&mut out);
    seal(key, &mut out);
    out
}

/// Writes the checksum into the first four bytes of `value`, which are kept free for it.
pub(crate) fn seal(key: &[u8], value: &mut [u8]) {
    if let Some((sum, content)) = value.split_first_chunk_mut::<CHECKSUM_BYTES>() {
        *sum = checksum(&[key, content]).to_be_bytes();
    }
}

/// The content of a sealed value; `None` if it does not match its checksum.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let mut content = value;
    let sum = take_u32(&mut content)?;
    (sum == checksum(&[key, content])).then_some(content)
}

/// Takes `N` bytes off the front, if there are as many.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

pub(crate) fn take_u8(bytes: &mut &[u8]) -> Option<u8> {
    take::<1>(bytes).map(|[byte]| byte)
}

pub(crate) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_be_bytes)
}

pub(crate) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_be_bytes)
}
