//! The data directory: its lock, its manifest (whose it is), where log and state lie. Not here: what is in them.
//!
//! A directory that holds anything but has no manifest is never taken for a fresh one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use uuid::Uuid;
use warren_types::{ClusterId, Incarnation, NodeId, Run};

use crate::damaged::{self, Damaged};
use crate::files::{create_directory, replace};
use crate::manifest::Manifest;
use crate::set_aside::SetAside;

pub use crate::manifest::{DiskId, FORMAT_VERSION, LogEngineKind};

pub(crate) const LOCK: &str = "LOCK";
pub(crate) const MANIFEST: &str = "MANIFEST";
const LOG: &str = "log";
const STATE: &str = "state";
pub(crate) const SET_ASIDE: &str = "set-aside";
pub(crate) const RECOVERIES: &str = "recoveries";
/// What may lie in a directory that counts as blank: the lock, what a first start left that was cut off, what file systems put there, what
/// was left behind as damaged.
const BLANK_NAMES: [&str; 4] = [LOCK, "MANIFEST.tmp", "lost+found", damaged::BEHIND];

#[derive(Debug, Error)]
pub enum DataDirError {
    #[error("data directory {path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("data directory {path} is in use by process {pid}", path = path.display())]
    InUse { path: PathBuf, pid: String },
    #[error(
        "data directory {path} holds {found} but no manifest: it is not taken for a fresh one; restore it or name an empty directory",
        path = path.display()
    )]
    NotBlank { path: PathBuf, found: String },
    #[error("{path} is damaged: {detail}", path = path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("{path} has format {found}; this program knows formats up to {FORMAT_VERSION}", path = path.display())]
    NewerFormat { path: PathBuf, found: u32 },
    #[error("{path} belongs to node {found}, not to node {expected}", path = path.display())]
    OtherNode {
        path: PathBuf,
        found: NodeId,
        expected: NodeId,
    },
    #[error(
        "{path}: the log was made by engine '{found}', but '{expected}' is set: set storage.log_engine to '{found}', or start with an empty directory and let the node join anew",
        path = path.display(), found = found.name(), expected = expected.name()
    )]
    OtherLogEngine {
        path: PathBuf,
        found: LogEngineKind,
        expected: LogEngineKind,
    },
    #[error("{path} belongs to cluster {found}, not to cluster {expected}", path = path.display())]
    OtherCluster {
        path: PathBuf,
        found: ClusterId,
        expected: ClusterId,
    },
}

/// An opened data directory; locked until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    manifest: Mutex<Manifest>,
    /// Holds the lock by being open.
    _lock: File,
}

impl DataDir {
    /// Locks the directory, reads its manifest (makes one in a blank directory), raises its run and syncs that.
    ///
    /// # Errors
    /// One variant per reason to refuse, naming file and cause.
    pub fn open(path: &Path, node: NodeId) -> Result<Self, DataDirError> {
        Self::open_with(path, node, LogEngineKind::default())
    }

    /// Same, for a log by another engine than the usual one.
    ///
    /// # Errors
    /// Same; [`DataDirError::OtherLogEngine`] if the directory's log is by another one.
    pub fn open_with(
        path: &Path,
        node: NodeId,
        log_engine: LogEngineKind,
    ) -> Result<Self, DataDirError> {
        let at = |source| DataDirError::Io {
            path: path.to_owned(),
            source,
        };
        create_directory(path).map_err(at)?;
        let lock = lock(path)?;
        damaged::go_on(path)?;
        let file = path.join(MANIFEST);
        let mut manifest = match fs::read(&file) {
            Ok(bytes) => Manifest::decode(&file, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_unless_blank(path)?;
                fresh(node, log_engine)
            }
            Err(source) => return Err(DataDirError::Io { path: file, source }),
        };
        if manifest.node != node {
            return Err(DataDirError::OtherNode {
                path: file,
                found: manifest.node,
                expected: node,
            });
        }
        if manifest.log_engine != log_engine {
            return Err(DataDirError::OtherLogEngine {
                path: file,
                found: manifest.log_engine,
                expected: log_engine,
            });
        }
        manifest.run = Run(manifest.run.0 + 1);
        let dir = Self {
            path: path.to_owned(),
            manifest: Mutex::new(manifest),
            _lock: lock,
        };
        dir.keep(&manifest)?;
        Ok(dir)
    }

    #[must_use]
    pub fn node(&self) -> NodeId {
        self.manifest.lock().node
    }

    /// The identity made when the directory was blank.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.manifest.lock().incarnation
    }

    /// The cluster this node is part of; `None` until it was formed or joined.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.manifest.lock().cluster
    }

    /// Remembers the cluster this node has become part of; synced when it returns. Repeatable.
    ///
    /// # Errors
    /// [`DataDirError::OtherCluster`] if the node is part of another one.
    pub fn set_cluster(&self, cluster: ClusterId) -> Result<(), DataDirError> {
        let mut manifest = self.manifest.lock();
        match manifest.cluster {
            Some(found) if found == cluster => Ok(()),
            Some(found) => Err(DataDirError::OtherCluster {
                path: self.path.join(MANIFEST),
                found,
                expected: cluster,
            }),
            None => {
                let changed = Manifest {
                    cluster: Some(cluster),
                    ..*manifest
                };
                self.keep(&changed)?;
                *manifest = changed;
                Ok(())
            }
        }
    }

    #[must_use]
    pub fn disk(&self) -> DiskId {
        self.manifest.lock().disk
    }

    /// Which start of the node's process this is; higher at each.
    #[must_use]
    pub fn run(&self) -> Run {
        self.manifest.lock().run
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log engine keeps its files.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where the state store keeps its files.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// The replicas of this node that are set aside.
    ///
    /// # Errors
    /// As [`SetAside::open`].
    pub fn set_aside(&self) -> Result<SetAside, DataDirError> {
        SetAside::of(&self.path)
    }

    /// What an earlier run found damaged that no single replica can be blamed for.
    ///
    /// # Errors
    /// What was kept of it cannot be read.
    pub fn damaged(&self) -> Result<Option<Damaged>, DataDirError> {
        damaged::found(&self.path)
    }

    /// Remembers such damage for the next start; durable when it returns. The first stays.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn note_damaged(&self, damaged: Damaged) -> Result<(), DataDirError> {
        damaged::note(&self.path, damaged)
    }

    /// Forgets it: the directory is used all the same.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn forget_damaged(&self) -> Result<(), DataDirError> {
        damaged::forget(&self.path)
    }

    /// When something was left behind here last, in milliseconds since the epoch; `None`: nothing is there.
    ///
    /// # Errors
    /// As [`damaged`](Self::damaged).
    pub fn left_behind_at_ms(&self) -> Result<Option<u64>, DataDirError> {
        damaged::left_behind_at_ms(&self.path)
    }

    /// Whether all of it can be moved at once: nothing in it is another file system.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn is_on_one_file_system(&self) -> Result<bool, DataDirError> {
        damaged::is_on_one_file_system(&self.path)
    }

    /// Moves all that is in the directory into `damaged`, instead of what is there, and begins it anew, as another incarnation of its node.
    /// Nobody may have anything of it open.
    ///
    /// # Errors
    /// [`DataDirError::Io`]: the next start goes on with it.
    pub fn begin_anew(self, damaged: Damaged) -> Result<Self, DataDirError> {
        damaged::leave_behind(&self.path, damaged)?;
        refuse_unless_blank(&self.path)?;
        let before = *self.manifest.lock();
        let mut manifest = fresh(before.node, before.log_engine);
        manifest.run = Run(1);
        self.keep(&manifest)?;
        *self.manifest.lock() = manifest;
        Ok(self)
    }

    fn keep(&self, manifest: &Manifest) -> Result<(), DataDirError> {
        let path = self.path.join(MANIFEST);
        replace(&path, manifest.encode().as_bytes())
            .map_err(|source| DataDirError::Io { path, source })
    }
}

/// Of a blank directory.
fn fresh(node: NodeId, log_engine: LogEngineKind) -> Manifest {
    let drawn = || Uuid::new_v4().as_u128();
    Manifest::new(node, Incarnation(drawn()), DiskId(drawn()), log_engine)
}

/// A directory that is only read; nobody else opens it while this is held.
pub(crate) struct Looked {
    pub(crate) manifest: Manifest,
    pub(crate) log_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// Holds the lock by being open; `None` in a copy without a lock file.
    pub(crate) _lock: Option<File>,
}

/// Reads whose directory it is and changes nothing, not even the process named in the lock.
pub(crate) fn look(dir: &Path) -> Result<Looked, DataDirError> {
    let path = dir.join(LOCK);
    let lock = match File::open(&path) {
        Ok(mut file) => {
            hold(&mut file, dir, &path)?;
            Some(file)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(DataDirError::Io { path, source }),
    };
    let path = dir.join(MANIFEST);
    let bytes = fs::read(&path).map_err(|source| DataDirError::Io {
        path: path.clone(),
        source,
    })?;
    Ok(Looked {
        manifest: Manifest::decode(&path, &bytes)?,
        log_dir: dir.join(LOG),
        state_dir: dir.join(STATE),
        _lock: lock,
    })
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join(LOCK);
    let at = |source| DataDirError::Io {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at)?;
    hold(&mut file, dir, &path)?;
    file.set_len(0).map_err(at)?;
    file.seek(SeekFrom::Start(0)).map_err(at)?;
    writeln!(file, "{}", std::process::id()).map_err(at)?;
    Ok(file)
}

/// Takes the lock, or says who has it.
fn hold(file: &mut File, dir: &Path, path: &Path) -> Result<(), DataDirError> {
    let at = |source| DataDirError::Io {
        path: path.to_owned(),
        source,
    };
    match flock(&*file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(at)?;
            Err(DataDirError::InUse {
                path: dir.to_owned(),
                pid: pid.trim().to_owned(),
            })
        }
        Err(error) => Err(at(error.into())),
    }
}

fn refuse_unless_blank(dir: &Path) -> Result<(), DataDirError> {
    let at = |source| DataDirError::Io {
        path: dir.to_owned(),
        source,
    };
    for item in fs::read_dir(dir).map_err(at)? {
        let name = item.map_err(at)?.file_name();
        if !BLANK_NAMES.iter().any(|blank| name == *blank) {
            let found = name.to_string_lossy().into_owned();
            return Err(DataDirError::NotBlank {
                path: dir.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    #[test]
    fn blank_directory_gets_an_identity_that_stays_and_a_run_that_rises() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/data");
        let dir = DataDir::open(&path, NODE).unwrap();
        let (incarnation, disk) = (dir.incarnation(), dir.disk());
        assert_eq!((dir.run(), dir.cluster(), dir.node()), (Run(1), None, NODE));
        dir.set_cluster(ClusterId(77)).unwrap();
        dir.set_cluster(ClusterId(77)).unwrap();
        assert!(matches!(
            dir.set_cluster(ClusterId(78)),
            Err(DataDirError::OtherCluster { .. })
        ));
        drop(dir);
        for run in 2..5 {
            let dir = DataDir::open(&path, NODE).unwrap();
            assert_eq!(
                (dir.incarnation(), dir.disk(), dir.run()),
                (incarnation, disk, Run(run))
            );
            assert_eq!(dir.cluster(), Some(ClusterId(77)));
        }
        let other = tempfile::tempdir().unwrap();
        assert_ne!(
            DataDir::open(other.path(), NODE).unwrap().incarnation(),
            incarnation
        );
    }

    #[test]
    fn second_holder_is_refused_with_the_first_ones_pid() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), NODE).unwrap();
        let refused = DataDir::open(root.path(), NODE).unwrap_err();
        assert!(
            matches!(&refused, DataDirError::InUse { pid, .. } if *pid == std::process::id().to_string())
        );
        drop(dir);
        DataDir::open(root.path(), NODE).unwrap();
    }

    #[test]
    fn directory_with_anything_but_no_manifest_is_refused() {
        let root = tempfile::tempdir().unwrap();
        drop(DataDir::open(root.path(), NODE).unwrap());
        fs::create_dir(root.path().join("log")).unwrap();
        fs::remove_file(root.path().join(MANIFEST)).unwrap();
        let refused = DataDir::open(root.path(), NODE).unwrap_err();
        assert!(
            matches!(&refused, DataDirError::NotBlank { found, .. } if found == "log"),
            "{refused}"
        );
        // A first start that was cut off left nothing to lose.
        fs::remove_dir(root.path().join("log")).unwrap();
        fs::write(root.path().join("MANIFEST.tmp"), "half").unwrap();
        DataDir::open(root.path(), NODE).unwrap();
    }

    #[test]
    fn foreign_damaged_and_newer_manifests_are_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        drop(DataDir::open(root.path(), NODE).unwrap());
        let refused = DataDir::open(root.path(), NodeId(2)).unwrap_err();
        assert!(matches!(
            refused,
            DataDirError::OtherNode {
                found: NODE,
                expected: NodeId(2),
                ..
            }
        ));
        let file = root.path().join(MANIFEST);
        let good = fs::read(&file).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1;
            fs::write(&file, bad).unwrap();
            let refused = DataDir::open(root.path(), NODE).unwrap_err();
            assert!(
                refused.to_string().contains("MANIFEST"),
                "byte {byte}: {refused}"
            );
        }
        for length in 0..good.len() {
            fs::write(&file, &good[..length]).unwrap();
            assert!(
                matches!(
                    DataDir::open(root.path(), NODE),
                    Err(DataDirError::Damaged { .. })
                ),
                "length {length}"
            );
        }
    }

    #[test]
    fn log_of_another_engine_is_refused_not_begun_anew() {
        let root = tempfile::tempdir().unwrap();
        drop(DataDir::open_with(root.path(), NODE, LogEngineKind::Rocks).unwrap());
        let refused = DataDir::open(root.path(), NODE).unwrap_err().to_string();
        assert!(
            refused.contains("'rocks'") && refused.contains("storage.log_engine"),
            "{refused}"
        );
        // A manifest from before there were two engines.
        let file = root.path().join(MANIFEST);
        let text = fs::read_to_string(&file).unwrap();
        let content = text.split("log_engine").next().unwrap();
        let sum = crate::files::checksum(&[content.as_bytes()]);
        fs::write(&file, format!("{content}crc32c = {sum:08x}\n")).unwrap();
        assert!(matches!(
            DataDir::open(root.path(), NODE),
            Err(DataDirError::OtherLogEngine { .. })
        ));
        DataDir::open_with(root.path(), NODE, LogEngineKind::Rocks).unwrap();
    }
}
