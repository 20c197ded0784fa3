//! How much room a file system has. Not here: what is done when there is little.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Bytes that this process may still write on the file system of `path`.
///
/// # Errors
/// The system's, if `path` cannot be asked about.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    disk_space(path).map(|space| space.free_bytes)
}

/// A file system's size, as this process may use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    /// May still be written.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The file system of `path`.
///
/// # Errors
/// The system's, if `path` cannot be asked about.
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let stat = statvfs(path)?;
    Ok(DiskSpace {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_bytes_of_a_real_directory_is_known() {
        let space = disk_space(Path::new("/")).unwrap();
        assert!(space.free_bytes > 0 && space.total_bytes >= space.free_bytes);
        assert!(disk_space(Path::new("/no/such/place")).is_err());
    }
}
