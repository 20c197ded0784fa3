//! The log engine on RocksDB: one database, one writer thread and one sync for all groups of the disk.
//! Not here: applied state, which has a database of its own; Raft's rules.
//!
//! Purged entries go by range tombstone and compaction. Dropping whole files of a range would free their space sooner, but may
//! bring older versions of what the files covered back to light, and a file seldom holds one group only.

mod core;
mod format;
mod group;
mod queue;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::watch;
use warren_types::{GroupId, LogIndex, ReplicaId};

use self::core::Core;
use self::group::{Group, Handle};
use self::queue::Operation;
use self::writer::{Groups, RocksSink, Sink, Writer};
use super::acked::Acked;
use super::contract::{Done, GroupLog, LogEngine, LogError, LogSpace};
use super::disk::{Disk, RealDisk};
use super::options::{LogOptions, LogStats};
use crate::disk_space::free_bytes;
use crate::files::create_directory;

/// All groups' logs of one data disk in one RocksDB.
pub struct RocksLog {
    core: Arc<Core>,
    groups: Arc<Groups>,
    path: PathBuf,
    free_bytes_min: u64,
    /// Marks as found at open, for groups that were not opened since. Locked while a group is opened or removed.
    marks: Mutex<BTreeMap<GroupId, LogIndex>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl RocksLog {
    /// Opens or creates the engine in `dir`. Blocks on the disk.
    ///
    /// # Errors
    /// [`LogError::Failed`] with the path and the cause.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        Self::open_with(dir, &options, |database| Box::new(RocksSink(database)))
    }

    fn open_with(
        dir: &Path,
        options: &LogOptions,
        sink: impl FnOnce(Arc<rocksdb::DB>) -> Box<dyn Sink>,
    ) -> Result<Self, LogError> {
        let failed =
            |error: std::io::Error| LogError::Failed(format!("{}: {error}", dir.display()).into());
        create_directory(dir).map_err(failed)?;
        let database = Arc::new(recover::open_database(&dir.join("rocks"), options)?);
        let acked = Acked::open(&RealDisk, &dir.join("acked")).map_err(failed)?;
        let marks = acked.marks();
        let core = Arc::new(Core::new(database.clone(), options));
        let groups = Arc::new(Groups::default());
        let writer = Writer {
            core: core.clone(),
            groups: groups.clone(),
            sink: sink(database.clone()),
            database,
            acked,
        };
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || writer.run())
            .map_err(failed)?;
        Ok(Self {
            core,
            groups,
            path: dir.to_owned(),
            free_bytes_min: options.free_bytes_min,
            marks: Mutex::new(marks),
            writer: Mutex::new(Some(thread)),
        })
    }

    /// Bytes of records held in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.core.tail_bytes()
    }

    /// Queues an operation and waits for its answer.
    fn wait(&self, operation: impl FnOnce(Done) -> Operation) -> Result<(), LogError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let done: Done = Box::new(move |result| {
            // The receiver waits below until it has the answer.
            let _ = answer.send(result);
        });
        self.core.queue.push(operation(done));
        answered.recv().unwrap_or(Err(LogError::Closed))
    }

    fn recover(
        &self,
        group: GroupId,
        replica: ReplicaId,
        mark: LogIndex,
    ) -> Result<Group, LogError> {
        // What an earlier handle queued (its removal, too) must be on disk before it is read.
        self.wait(|done| Operation::Barrier { done })?;
        let found = recover::recover_group(&self.core.database()?, &self.path, group, mark)?;
        match found.replica {
            Some(found) if found != replica => {
                return Err(LogError::WrongReplica {
                    group,
                    found,
                    expected: replica,
                });
            }
            Some(_) => {}
            None => self.wait(|done| Operation::Create {
                group,
                replica,
                done,
            })?,
        }
        Ok(Group::new(group, replica, self.core.clone(), found.state))
    }
}

impl LogEngine for RocksLog {
    fn open_group(
        &self,
        group: GroupId,
        replica: ReplicaId,
    ) -> Result<Arc<dyn GroupLog>, LogError> {
        let mut marks = self.marks.lock();
        let open = self.groups.lock().get(&group).cloned();
        if let Some(open) = open {
            return if open.replica == replica {
                Ok(Arc::new(Handle(open)))
            } else {
                Err(LogError::WrongReplica {
                    group,
                    found: open.replica,
                    expected: replica,
                })
            };
        }
        let mark = marks.get(&group).copied().unwrap_or_default();
        let opened = Arc::new(self.recover(group, replica, mark)?);
        marks.remove(&group);
        self.groups.lock().insert(group, opened.clone());
        Ok(Arc::new(Handle(opened)))
    }

    fn remove_group(&self, group: GroupId, done: Done) {
        let mut marks = self.marks.lock();
        marks.remove(&group);
        if let Some(open) = self.groups.lock().remove(&group) {
            open.remove();
        }
        self.core.queue.push(Operation::Remove { group, done });
    }

    fn failed(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.core.failed()
    }

    fn stats(&self) -> LogStats {
        self.core.stats()
    }

    fn space(&self) -> std::io::Result<LogSpace> {
        let files = RealDisk.list(&self.path.join("rocks"))?;
        let free_bytes = free_bytes(&self.path)?;
        Ok(LogSpace {
            used_bytes: files.iter().map(|(_, bytes)| bytes).sum(),
            free_bytes,
            is_low: free_bytes < self.free_bytes_min,
        })
    }

    fn close(&self) {
        self.core.queue.close(LogError::Closed);
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            self.core.poison(&"log writer panicked".into());
        }
        self.core.release_database();
    }
}

impl Drop for RocksLog {
    fn drop(&mut self) {
        self.close();
    }
}
