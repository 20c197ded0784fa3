//! The data directory. API first; the bodies follow in the next change.

use std::path::{Path, PathBuf};

use warren_types::{ClusterId, Incarnation, NodeId, Run};

pub const FORMAT_VERSION: u32 = 1;
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskId(pub u128);
pub struct DataDir {}
impl DataDir {
    /// Locks the directory, reads or (blank directory) makes its manifest, raises and syncs `run`.
    pub fn open(path: &Path, node: NodeId) -> Result<Self, DataDirError> {
        unimplemented!("follows")
    }
    pub fn node(&self) -> NodeId {
        unimplemented!("follows")
    }
    pub fn incarnation(&self) -> Incarnation {
        unimplemented!("follows")
    }
    pub fn cluster(&self) -> Option<ClusterId> {
        unimplemented!("follows")
    }
    pub fn set_cluster(&self, cluster: ClusterId) -> Result<(), DataDirError> {
        unimplemented!("follows")
    } // refuses another cluster's id
    pub fn disk(&self) -> DiskId {
        unimplemented!("follows")
    }
    pub fn run(&self) -> Run {
        unimplemented!("follows")
    }
    pub fn path(&self) -> &Path {
        unimplemented!("follows")
    }
    pub fn log_dir(&self) -> PathBuf {
        unimplemented!("follows")
    }
    pub fn state_dir(&self) -> PathBuf {
        unimplemented!("follows")
    }
}
/// Bytes an unprivileged process may still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    unimplemented!("follows")
}
