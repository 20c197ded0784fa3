//! One file past the page cache (`O_DIRECT`): what the log writes is read again seldom, and copying it to pages that are dropped soon
//! costs more than writing it. Whole blocks only, so the block in which a write begins is written again with what was in it: the same
//! bytes, so a write that is torn takes nothing away. Reads go past the cache too: a page that is read while its block is written would
//! make a later sync fail. And whether a directory's file system has such an access. Not here: whether it is used (`disk`, `state`).

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::OFlags;

/// Offsets, lengths and memory are multiples of it: the largest logical block of a disk in use.
const BLOCK: usize = 4_096;
/// A longer write is several calls, so that what is gathered for one is still near the processor.
const CHUNK: usize = 1 << 20;

thread_local! {
    /// What is gathered for one call. Few threads write; each keeps a chunk at most.
    static GATHERED: RefCell<Aligned> = RefCell::new(Aligned::with_room(BLOCK));
}

pub(super) struct DirectFile {
    file: File,
    last: Mutex<Option<Unfilled>>,
}

/// Whether files of a directory can be written so. It is tried, with one block of a file that is removed again.
pub(crate) fn is_possible_in(dir: &Path) -> bool {
    let path = dir.join("direct");
    let tried = File::create(&path)
        .and_then(|_| DirectFile::open(&path))
        .and_then(|file| file.write_at(&[IoSlice::new(&[0; BLOCK])], 0));
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(path = %path.display(), %error, "not removed");
    }
    if let Err(error) = &tried {
        tracing::info!(dir = %dir.display(), %error, "no direct access here: the page cache is used");
    }
    tried.is_ok()
}

/// A block that was written in part.
struct Unfilled {
    start: u64,
    bytes: Vec<u8>,
}

impl DirectFile {
    /// # Errors
    /// The file system has no such access, or the system's.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECT.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags);
        Ok(Self {
            file: options.open(path)?,
            last: Mutex::new(None),
        })
    }

    /// Writes all of it. Bytes behind it, up to the end of its last block, are zero afterwards.
    ///
    /// # Errors
    /// The system's; `InvalidInput` if the disk has larger blocks. Some of it may have been written then.
    pub(super) fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let before = usize::try_from(offset % BLOCK as u64).unwrap_or_default();
        let mut at = offset - before as u64;
        let mut last = self.last.lock();
        GATHERED.with_borrow_mut(|gathered| {
            let bytes: usize = slices.iter().map(|it| it.len()).sum();
            gathered.clear((before + bytes).next_multiple_of(BLOCK).min(CHUNK));
            if before > 0 {
                match last.as_ref().filter(|it| it.start == at) {
                    Some(known) => gathered.take(known.bytes.get(..before).unwrap_or_default()),
                    None => gathered.take(self.block_at(at)?.get(..before).unwrap_or_default()),
                };
            }
            for slice in slices {
                let mut rest: &[u8] = slice;
                while !rest.is_empty() {
                    rest = gathered.take(rest);
                    if gathered.is_full() {
                        self.file.write_all_at(gathered.bytes(), at)?;
                        at += gathered.bytes().len() as u64;
                        gathered.clear(CHUNK);
                    }
                }
            }
            let whole = gathered.bytes().len() / BLOCK * BLOCK;
            let unfilled = Unfilled {
                start: at + whole as u64,
                bytes: gathered.bytes().get(whole..).unwrap_or_default().to_vec(),
            };
            gathered.pad();
            self.file.write_all_at(gathered.bytes(), at)?;
            *last = Some(unfilled);
            Ok(bytes)
        })
    }

    /// Reads some bytes; none at the file's end.
    ///
    /// # Errors
    /// The system's; `InvalidInput` if the disk has larger blocks.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let before = usize::try_from(offset % BLOCK as u64).unwrap_or_default();
        let mut blocks = Aligned::with_room((before + buffer.len()).next_multiple_of(BLOCK));
        let read = self.file.read_at(blocks.room(), offset - before as u64)?;
        let count = read.saturating_sub(before).min(buffer.len());
        if let (Some(to), Some(from)) = (
            buffer.get_mut(..count),
            blocks.room().get(before..before + count),
        ) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    /// A block as it is on the disk; zeros behind the file's end.
    fn block_at(&self, start: u64) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.read_at(&mut block, start)?;
        Ok(block)
    }
}

/// Memory that begins at a multiple of the block size.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    room: usize,
    filled: usize,
}

impl Aligned {
    fn with_room(room: usize) -> Self {
        let memory = vec![0; room + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        Self {
            memory,
            start,
            room,
            filled: 0,
        }
    }

    /// Empties it and gives it at least so much room.
    fn clear(&mut self, room: usize) {
        if room > self.room {
            *self = Self::with_room(room);
        }
        self.filled = 0;
    }

    fn room(&mut self) -> &mut [u8] {
        let end = self.start + self.room;
        self.memory.get_mut(self.start..end).unwrap_or_default()
    }

    /// Takes as many of the bytes as there is room for; returns the others.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let filled = self.filled;
        let room = self.room().get_mut(filled..).unwrap_or_default();
        let count = room.len().min(bytes.len());
        let (taken, rest) = bytes.split_at(count);
        if let Some(room) = room.get_mut(..count) {
            room.copy_from_slice(taken);
        }
        self.filled += count;
        rest
    }

    fn is_full(&self) -> bool {
        self.filled == self.room
    }

    fn bytes(&self) -> &[u8] {
        let end = self.start + self.filled;
        self.memory.get(self.start..end).unwrap_or_default()
    }

    /// Zeros up to the end of a block.
    fn pad(&mut self) {
        let (from, to) = (self.filled, self.filled.next_multiple_of(BLOCK));
        if let Some(rest) = self.room().get_mut(from..to) {
            rest.fill(0);
        }
        self.filled = to;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    /// `None`, and said so: the file system of the test has no such access.
    fn direct(path: &Path) -> Option<DirectFile> {
        DirectFile::open(path)
            .inspect_err(|error| println!("not tested here: {error}"))
            .ok()
    }

    #[derive(Clone, Debug)]
    struct Step {
        bytes: usize,
        first_slice: prop::sample::Index,
        reopened: bool,
        read_from: prop::sample::Index,
        read_bytes: usize,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = prop_oneof![1..40_usize, 1..9_000_usize, 1..2_500_000_usize];
        let index = any::<prop::sample::Index>;
        let step = (bytes, index(), any::<bool>(), index(), 1..70_000_usize);
        let step = step.prop_map(
            |(bytes, first_slice, reopened, read_from, read_bytes)| Step {
                bytes,
                first_slice,
                reopened,
                read_from,
                read_bytes,
            },
        );
        prop::collection::vec(step, 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_is_appended_is_found_by_every_door(steps in steps()) {
            let (_dir, path) = file_of(&[9; 100_000]);
            let Some(mut file) = direct(&path) else { return Ok(()) };
            let mut all: Vec<u8> = Vec::new();
            for step in steps {
                let from = all.len();
                all.extend((from..from + step.bytes).map(|at| (at / 7 % 251) as u8));
                let (one, other) = all[from..].split_at(step.first_slice.index(step.bytes));
                let slices = [IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(other)];
                prop_assert_eq!(file.write_at(&slices, from as u64).unwrap(), step.bytes);
                if step.reopened {
                    // It does not know any more what its last block holds.
                    file = DirectFile::open(&path).unwrap();
                }
                let from = step.read_from.index(all.len());
                let mut read = vec![0; step.read_bytes.min(all.len() - from)];
                prop_assert_eq!(file.read_at(&mut read, from as u64).unwrap(), read.len());
                prop_assert!(read == all[from..from + read.len()]);
            }
            let found = std::fs::read(&path).unwrap();
            let end = all.len().next_multiple_of(BLOCK);
            prop_assert!(found.starts_with(&all));
            prop_assert!(found[all.len()..end].iter().all(|byte| *byte == 0));
            prop_assert!(found[end..].iter().all(|byte| *byte == 9));
        }
    }

    #[test]
    fn reading_ends_where_the_file_does() {
        let (_dir, path) = file_of(&[7; 5_000]);
        let Some(file) = direct(&path) else { return };
        let mut read = [0; 9_000];
        assert_eq!(file.read_at(&mut read, 4_990).unwrap(), 10);
        assert_eq!((read[9], read[10]), (7, 0));
        assert_eq!(file.read_at(&mut read, 5_000).unwrap(), 0);
        assert_eq!(file.read_at(&mut read, 50_000).unwrap(), 0);
    }
}
