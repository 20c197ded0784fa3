//! The seam between the log and the file system: the few calls the log makes, so that tests can put a disk below it that
//! fails, fills up or forgets. Not here: when they are made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FallocateFlags, fallocate};

use super::direct::DirectFile;

/// A file system, as far as the log needs one.
pub(crate) trait Disk: Send + Sync {
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Names and sizes of the files in a directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Opens a file that is there, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes names that were created, renamed or removed in the directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Bytes that may still be written.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file.
pub(crate) trait DiskFile: Send + Sync {
    fn size(&self) -> io::Result<u64>;

    /// Reads some bytes; none at the file's end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of the bytes.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// fdatasync: what was written is on the disk when it returns.
    fn sync(&self) -> io::Result<()>;

    /// Makes sure of space for the first `bytes` bytes; the file is at least as long then.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// From now on the file is written from front to back and read seldom; `path` is where it is. Nobody reads it at this moment. Whether
    /// it goes past the page cache from now on.
    fn stream(&self, path: &Path) -> bool;
}

/// The operating system's.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        crate::files::create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        fs::read_dir(directory)?
            .map(|item| {
                let item = item?;
                let name = item.file_name().to_string_lossy().into_owned();
                Ok((name, item.metadata()?.len()))
            })
            .collect()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile::new(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(RealFile::new(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        crate::disk_space::free_bytes(path)
    }
}

/// The same for reading only: nothing that it opens can be changed.
pub(crate) struct ReadOnlyDisk;

fn refused() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl Disk for ReadOnlyDisk {
    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        RealDisk.list(directory)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile::new(File::open(path)?)))
    }

    fn create(&self, _path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(refused())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }
}

struct RealFile {
    file: File,
    /// Reads and writes go through it while the disk takes them.
    direct: OnceLock<DirectFile>,
    is_direct: AtomicBool,
}

impl RealFile {
    fn new(file: File) -> Self {
        Self {
            file,
            direct: OnceLock::new(),
            is_direct: AtomicBool::new(false),
        }
    }

    /// Goes past the page cache where that is possible. `None`: it is to go through it.
    fn directly<T>(&self, go: impl FnOnce(&DirectFile) -> io::Result<T>) -> Option<io::Result<T>> {
        let direct = self.direct.get()?;
        if !self.is_direct.load(Ordering::Relaxed) {
            return None;
        }
        match go(direct) {
            // Its blocks are larger than any known, or it says only now that it cannot.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.is_direct.store(false, Ordering::Relaxed);
                tracing::info!(%error, "log goes through the page cache: its disk takes no direct access");
                None
            }
            result => Some(result),
        }
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.directly(|direct| direct.read_at(buffer, offset)) {
            Some(read) => read,
            None => self.file.read_at(buffer, offset),
        }
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match self.directly(|direct| direct.write_at(slices, offset)) {
            Some(written) => written,
            None => Ok(rustix::io::pwritev(&self.file, slices, offset)?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // A file system without preallocation: the file is as long, its blocks come when it is written.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.file.set_len(self.file.metadata()?.len().max(bytes))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn stream(&self, path: &Path) -> bool {
        match DirectFile::open(path) {
            Ok(direct) => {
                let is_new = self.direct.set(direct).is_ok();
                self.is_direct.store(is_new, Ordering::Relaxed);
                is_new
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "no direct access: the page cache is used");
                false
            }
        }
    }
}

/// At most so many slices go to one call; the system's own limit.
const SLICES_MAX: usize = 1024;

/// Writes all slices, in as few calls as the file takes them. The slices are used up.
pub(crate) fn write_all(
    file: &dyn DiskFile,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let some = slices.get(..SLICES_MAX).unwrap_or(slices);
        match file.write_at(some, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut slices, written);
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills the buffer from `offset`; returns how much there was.
pub(crate) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all(file, &mut [IoSlice::new(bytes)], offset)
    }

    fn read(file: &dyn DiskFile, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        let read = read_full(file, &mut buffer, 0).unwrap();
        buffer.truncate(read);
        buffer
    }

    #[test]
    fn file_that_cannot_be_opened_directly_goes_through_the_page_cache() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("file")).unwrap();
        write(&*file, b"one", 0).unwrap();
        assert!(!file.stream(&dir.path().join("not there")));
        write(&*file, b"two", 3).unwrap();
        assert_eq!(read(&*file, 100), b"onetwo");
    }

    #[test]
    fn file_whose_disk_refuses_a_direct_write_goes_through_the_page_cache_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealDisk.create(&path).unwrap();
        file.stream(&path);
        write(&*file, b"one", 0).unwrap();
        // The system says of such an offset what it says of blocks that do not fit.
        assert!(write(&*file, b"far", u64::MAX - 8_191).is_err());
        write(&*file, b"two", 3).unwrap();
        assert_eq!(read(&*file, 6), b"onetwo");
    }
}
