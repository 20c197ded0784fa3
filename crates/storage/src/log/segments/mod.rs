//! The log engine on segments: preallocated files that all groups of a disk write one behind the other, used again when nothing in
//! them lives. Not here: applied state; Raft's rules.
//!
//! | file | what |
//! |---|---|
//! | `format` | the bytes, byte for byte |
//! | `handle`, `group`, `queue` | a call changes what is visible at once and queues the change |
//! | `writer`, `batch`, `files` | one thread writes what is queued as one batch with one sync |
//! | `index`, `read` | where records are, and reading them back |
//! | `relog` | empties old segments that little lives in |
//! | `scan`, `replay`, `recover` | reading everything at start |
//! | `sealed`, `scrub` | reading slowly what is on the disk, as long as the node runs |
//! | `verify` | reading everything of a node that does not run |

mod batch;
mod core;
mod files;
mod format;
mod group;
mod handle;
mod index;
mod queue;
mod read;
mod recover;
mod relog;
mod replay;
mod scan;
mod scrub;
mod sealed;
mod segment;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;
use warren_types::{GroupId, LogIndex, ReplicaId};

use self::batch::Batch;
use self::core::Core;
use self::group::Group;
use self::handle::Handle;
use self::queue::{Change, Operation};
use self::recover::Refused;
use self::relog::Relog;
use self::replay::Replayed;
use self::scrub::Scrubber;
use self::sealed::SealedSegments;
use self::writer::{Groups, Writer};
use super::acked::Acked;
use super::contract::{Done, GroupLog, GroupLogState, LogEngine, LogError, LogSpace};
use super::disk::{Disk, RealDisk};
use super::options::{LogOptions, LogStats, ScrubView};

pub use self::verify::DumpedGroup;
pub(crate) use self::verify::{dump, verify};

/// Marks of votes are kept beside those of entries, under a number that no group has.
const VOTE_MARK: u32 = 1 << 31;

fn vote_mark(group: GroupId) -> GroupId {
    GroupId(group.0 | VOTE_MARK)
}

/// All groups' logs of one data disk, in segments.
pub struct SegmentLog {
    core: Arc<Core>,
    groups: Arc<Groups>,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    free_bytes_min: u64,
    /// What is not settled yet of what was found at open. Locked while a group is opened or removed.
    found: Mutex<Found>,
    writer: Mutex<Option<JoinHandle<()>>>,
    sealed: Arc<SealedSegments>,
    scrubber: Mutex<Option<Scrubber>>,
}

/// Of groups that were not opened since.
struct Found {
    marks: Marks,
    damaged: BTreeMap<GroupId, String>,
}

/// Highest acknowledged indexes, and terms of votes.
struct Marks(BTreeMap<GroupId, LogIndex>);

impl Marks {
    fn of(&self, group: GroupId) -> LogIndex {
        self.0.get(&group).copied().unwrap_or_default()
    }

    fn forget(&mut self, group: GroupId) {
        self.0.remove(&group);
        self.0.remove(&vote_mark(group));
    }
}

/// What a group's log forgot of what was acknowledged, if it did.
fn compare(group: GroupId, state: &GroupLogState, marks: &Marks) -> Option<String> {
    let (last, acknowledged) = (group::index_of(state.last), marks.of(group));
    if last < acknowledged {
        return Some(format!(
            "it ends at {last}, but entries up to {acknowledged} were acknowledged"
        ));
    }
    let (term, voted) = (
        state.vote.map_or(0, |vote| vote.term.0),
        marks.of(vote_mark(group)).0,
    );
    (term < voted)
        .then(|| format!("its vote is of term {term}, but one of term {voted} was acknowledged"))
}

impl SegmentLog {
    /// Opens or creates the engine in `dir`. Blocks on the disk: it reads all that is there.
    ///
    /// # Errors
    /// [`LogError::Failed`] with the path and the cause; [`LogError::Corrupt`] with file and offset.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        Self::open_on(Arc::new(RealDisk), dir, options)
    }

    fn open_on(disk: Arc<dyn Disk>, dir: &Path, mut options: LogOptions) -> Result<Self, LogError> {
        let failed =
            |error: std::io::Error| LogError::Failed(format!("{}: {error}", dir.display()).into());
        options.segment_bytes = format::aligned(options.segment_bytes.max(2 * format::HEAD_BYTES));
        disk.create_directory(dir).map_err(failed)?;
        let acked = Acked::open(&*disk, &dir.join("acked")).map_err(failed)?;
        let recovered = recover::recover(disk.clone(), dir, &options);
        let recovered = recovered.map_err(|refused| match refused {
            Refused::Damaged(cause) => LogError::Corrupt(cause.into()),
            Refused::Failed(cause) => LogError::Failed(cause.into()),
        })?;
        let core = Arc::new(Core::new(&options));
        let mut damaged = BTreeMap::new();
        let mut written = BTreeMap::new();
        for (id, replayed) in recovered.replay.groups {
            if let Some(missing) = replayed.first_missing() {
                damaged.insert(id, format!("{}: entry {missing} is missing", dir.display()));
            }
            let group = Group::new(id, replayed.replica, core.clone(), replayed);
            written.insert(id, Arc::new(group));
        }
        let groups: Arc<Groups> = Arc::new(Mutex::new(written.clone()));
        let used = recovered.files.used_bytes();
        core.counters.bytes_used.store(used, Ordering::Relaxed);
        let marks = Marks(acked.marks());
        let sealed = recovered.files.sealed.clone();
        let scrubber = Scrubber::start(&core, &groups, &recovered.files, &options);
        let scrubber = Mutex::new(scrubber.map_err(failed)?);
        let writer = Writer {
            core: core.clone(),
            groups: groups.clone(),
            written,
            files: recovered.files,
            acked,
            batch: Batch::default(),
            relog: Relog::new(options.log_bytes_max),
            acked_at: Instant::now(),
            acked_synced_at: Instant::now(),
            full_at: None,
        };
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || writer.run())
            .map_err(failed)?;
        Ok(Self {
            core,
            groups,
            dir: dir.to_owned(),
            disk,
            free_bytes_min: options.free_bytes_min,
            found: Mutex::new(Found { marks, damaged }),
            writer: Mutex::new(Some(thread)),
            sealed,
            scrubber,
        })
    }

    /// Bytes of records held in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.core.tail_bytes()
    }

    /// Compares a group with what was acknowledged, so that a log which forgot something is never used again.
    fn check(&self, found: &Found, group: GroupId) -> Result<(), LogError> {
        let damaged = |detail: String| LogError::Damaged {
            group,
            detail: detail.into(),
        };
        if let Some(detail) = found.damaged.get(&group) {
            return Err(damaged(detail.clone()));
        }
        let state = self.groups.lock().get(&group).map(|it| it.known().visible);
        match compare(group, &state.unwrap_or_default(), &found.marks) {
            None => Ok(()),
            Some(detail) => Err(damaged(format!("{}: {detail}", self.dir.display()))),
        }
    }

    /// Makes a group's log, empty.
    fn create(&self, id: GroupId, replica: ReplicaId) -> Result<Arc<Group>, LogError> {
        self.core.check_open()?;
        let group = Group::new(id, replica, self.core.clone(), Replayed::default());
        let group = Arc::new(group);
        self.groups.lock().insert(id, group.clone());
        let (answer, answered) = mpsc::sync_channel(1);
        let done: Done = Box::new(move |result| {
            // The receiver waits below until it has the answer.
            let _ = answer.send(result);
        });
        self.core.queue.push(Operation {
            group: group.clone(),
            change: Change::Create,
            done: Some(done),
        });
        match answered.recv().unwrap_or(Err(LogError::Closed)) {
            Ok(()) => Ok(group),
            Err(error) => {
                self.groups.lock().remove(&id);
                Err(error)
            }
        }
    }
}

impl LogEngine for SegmentLog {
    fn open_group(
        &self,
        group: GroupId,
        replica: ReplicaId,
    ) -> Result<Arc<dyn GroupLog>, LogError> {
        let mut found = self.found.lock();
        self.core.check_open()?;
        let open = self.groups.lock().get(&group).cloned();
        // Whose it is comes first: of another's nothing is used, whole or not.
        if let Some(open) = open.as_ref().filter(|it| it.replica != replica) {
            return Err(LogError::WrongReplica {
                group,
                found: open.replica,
                expected: replica,
            });
        }
        self.check(&found, group)?;
        let open = match open {
            Some(open) => open,
            None => self.create(group, replica)?,
        };
        found.marks.forget(group);
        Ok(Arc::new(Handle(open)))
    }

    fn remove_group(&self, id: GroupId, done: Done) {
        let mut found = self.found.lock();
        found.marks.forget(id);
        found.damaged.remove(&id);
        let open = self.groups.lock().remove(&id);
        // Of one that is not there the marks may be.
        let group = open.unwrap_or_else(|| {
            let group = Group::new(id, ReplicaId(0), self.core.clone(), Replayed::default());
            Arc::new(group)
        });
        group.remove();
        self.core.queue.push(Operation {
            group,
            change: Change::Remove,
            done: Some(done),
        });
    }

    fn failed(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.core.failed()
    }

    fn stats(&self) -> LogStats {
        self.core.stats()
    }

    fn scrub(&self) -> ScrubView {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.core.counters;
        ScrubView {
            bytes_read: read(&counters.bytes_scrubbed),
            segments_read: read(&counters.segments_scrubbed),
            damage_found: read(&counters.damage_found),
            damaged: self.sealed.damaged(),
        }
    }

    fn space(&self) -> std::io::Result<LogSpace> {
        let free_bytes = self.disk.free_bytes(&self.dir)?;
        let counters = &self.core.counters;
        Ok(LogSpace {
            used_bytes: counters.bytes_used.load(Ordering::Relaxed),
            free_bytes,
            is_low: free_bytes < self.free_bytes_min || counters.full.load(Ordering::Relaxed),
        })
    }

    fn close(&self) {
        drop(self.scrubber.lock().take());
        self.core.queue.close(LogError::Closed);
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            self.core.poison(&"log writer panicked".into());
        }
        self.core.close();
    }
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.close();
    }
}
