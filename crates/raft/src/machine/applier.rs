//! The threads on which machines live: chunks of committed entries go in, one batch of rows per chunk comes out.
//!
//! RocksDB may stall; it is met on these threads only, never on the runtime. Not here: when a chunk may be applied (`adapter`).

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;
use warren_storage::{Installer, ReplicaState, RowBatch, StateError};
use warren_types::{GroupId, LogId};

use super::contract::{Changes, Committed, Damaged, Machine, MachineError, MachineFactory};
use super::waker::{MachineWaker, WakeQueue};

/// Jobs that wait for one thread; senders wait when it is full.
const JOBS_MAX: usize = 256;

/// Why a job was not done. Final for the replica until it is opened again.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    #[error("state store refused")]
    State(#[from] StateError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// What it said tells, for one, which version an unknown command needs.
    #[error("state machine of group {group} panicked: {said}")]
    Panicked { group: GroupId, said: String },
    #[error("rows of group {group} are damaged: {detail}")]
    Damaged { group: GroupId, detail: Arc<str> },
    #[error("state machine of group {0} is not open")]
    NotOpen(GroupId),
    #[error("apply thread has ended")]
    Ended,
}

type Reply = oneshot::Sender<Result<(), ApplyError>>;

/// What a replica brings to its apply thread.
pub(crate) struct OpenSlot {
    pub group: GroupId,
    pub factory: Arc<dyn MachineFactory>,
    pub state: ReplicaState,
    pub applied: Option<LogId>,
    /// Told after each chunk, when the machine has published its effects.
    pub progress: watch::Sender<Option<LogId>>,
    /// Told when the machine finds that the replica's rows are not what was written.
    pub damage: watch::Sender<Option<Arc<str>>>,
}

pub(super) enum Job {
    Open {
        slot: Box<OpenSlot>,
        reply: Reply,
    },
    Apply {
        group: GroupId,
        entries: Vec<Committed>,
        applied: LogId,
        meta: Bytes,
        reply: Reply,
    },
    Install {
        group: GroupId,
        installer: Box<Installer>,
        applied: LogId,
        meta: Bytes,
        reply: Reply,
    },
    /// Writes what the machines of the thread keep to themselves.
    WriteOut {
        reply: Reply,
    },
    Close {
        group: GroupId,
        reply: Reply,
    },
    Wake,
}

/// A handle on one apply thread.
#[derive(Clone)]
pub(crate) struct Applier {
    jobs: mpsc::Sender<Job>,
}

impl Applier {
    async fn ask(&self, job: impl FnOnce(Reply) -> Job) -> Result<(), ApplyError> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send(job(reply))
            .await
            .map_err(|_| ApplyError::Ended)?;
        answer.await.map_err(|_| ApplyError::Ended)?
    }

    pub(crate) async fn open(&self, slot: OpenSlot) -> Result<(), ApplyError> {
        self.ask(|reply| Job::Open {
            slot: Box::new(slot),
            reply,
        })
        .await
    }

    pub(super) async fn apply(
        &self,
        group: GroupId,
        entries: Vec<Committed>,
        applied: LogId,
        meta: Bytes,
    ) -> Result<(), ApplyError> {
        self.ask(|reply| Job::Apply {
            group,
            entries,
            applied,
            meta,
            reply,
        })
        .await
    }

    pub(super) async fn install(
        &self,
        group: GroupId,
        installer: Box<Installer>,
        applied: LogId,
        meta: Bytes,
    ) -> Result<(), ApplyError> {
        self.ask(|reply| Job::Install {
            group,
            installer,
            applied,
            meta,
            reply,
        })
        .await
    }

    /// Drops the machine; nothing happens if it is not there.
    pub(crate) async fn close(&self, group: GroupId) {
        // It has ended already: nothing is left to drop.
        let _ = self.ask(|reply| Job::Close { group, reply }).await;
    }
}

/// All apply threads of the node. A group stays on one.
pub(crate) struct Appliers {
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    handles: Mutex<Vec<Applier>>,
    /// Bytes of commands applied by all of them, ever; the compactor compares.
    bytes_applied: Arc<AtomicU64>,
}

impl Appliers {
    pub(crate) fn start(count: usize) -> Self {
        let bytes_applied = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        let mut handles = Vec::new();
        for number in 0..count.max(1) {
            let (jobs, queue) = mpsc::channel(JOBS_MAX);
            let wakes = WakeQueue::new(jobs.downgrade());
            let worker = Worker {
                slots: BTreeMap::new(),
                wakes,
                bytes_applied: bytes_applied.clone(),
            };
            let thread = thread::Builder::new()
                .name(format!("warren-apply-{number}"))
                .spawn(move || worker.run(queue))
                .expect("a thread can be started while the node starts");
            threads.push(thread);
            handles.push(Applier { jobs });
        }
        Self {
            threads: Mutex::new(threads),
            handles: Mutex::new(handles),
            bytes_applied,
        }
    }

    /// The thread of a group; `None` after `stop`.
    pub(crate) fn of(&self, group: GroupId) -> Option<Applier> {
        let handles = self.handles.lock();
        let at = (group.0 as usize).checked_rem(handles.len())?;
        handles.get(at).cloned()
    }

    /// Lets all machines write what they keep to themselves.
    pub(crate) async fn write_out(&self) {
        let handles = self.handles.lock().clone();
        for applier in handles {
            // What could not be written is reported to its replica with its next chunk; a thread that ended has nothing.
            let _ = applier.ask(|reply| Job::WriteOut { reply }).await;
        }
    }

    pub(crate) fn bytes_applied(&self) -> u64 {
        self.bytes_applied.load(Ordering::Relaxed)
    }

    /// Lets the threads end after what is queued. Blocks until they have: no replica may hold a handle any more.
    pub(crate) fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        let handles = std::mem::take(&mut *self.handles.lock());
        drop(handles);
        for thread in threads {
            if thread.join().is_err() {
                error!("apply thread panicked outside a machine");
            }
        }
    }
}

struct Slot {
    machine: Box<dyn Machine>,
    state: ReplicaState,
    /// With what the changes go that the machine keeps to itself.
    unwritten: Option<Bytes>,
    waker: MachineWaker,
    progress: watch::Sender<Option<LogId>>,
    damage: watch::Sender<Option<Arc<str>>>,
}

struct Worker {
    slots: BTreeMap<GroupId, Slot>,
    wakes: WakeQueue,
    bytes_applied: Arc<AtomicU64>,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            self.perform(job);
            while let Some(group) = self.wakes.pop() {
                self.poll(group);
            }
        }
    }

    fn perform(&mut self, job: Job) {
        match job {
            Job::Open { slot, reply } => answer(reply, self.open(*slot)),
            Job::Apply {
                group,
                entries,
                applied,
                meta,
                reply,
            } => {
                let result = self.guarded(group, |slot| slot.apply(&entries, applied, meta));
                let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
                self.bytes_applied
                    .fetch_add(bytes as u64, Ordering::Relaxed);
                answer(reply, result);
            }
            Job::Install {
                group,
                installer,
                applied,
                meta,
                reply,
            } => {
                let result = self.guarded(group, |slot| slot.install(*installer, applied, meta));
                answer(reply, result);
            }
            Job::WriteOut { reply } => {
                self.write_out();
                answer(reply, Ok(()));
            }
            Job::Close { group, reply } => {
                // What is not written is applied again when the replica is opened, which only takes longer.
                let _ = self.guarded(group, Slot::write_out);
                self.slots.remove(&group);
                answer(reply, Ok(()));
            }
            Job::Wake => {}
        }
    }

    fn open(&mut self, open: OpenSlot) -> Result<(), ApplyError> {
        let OpenSlot {
            group,
            factory,
            state,
            applied,
            progress,
            damage,
        } = open;
        self.slots.remove(&group);
        let waker = self.wakes.waker(group);
        let made = catch_unwind(AssertUnwindSafe(|| {
            factory.open(state.clone(), waker.clone(), applied)
        }));
        let machine = made.map_err(|payload| unwound(group, payload, &damage))??;
        progress.send_replace(applied);
        self.slots.insert(
            group,
            Slot {
                machine,
                state,
                unwritten: None,
                waker,
                progress,
                damage,
            },
        );
        Ok(())
    }

    fn write_out(&mut self) {
        let groups: Vec<GroupId> = self.slots.keys().copied().collect();
        for group in groups {
            if let Err(error) = self.guarded(group, Slot::write_out) {
                error!(%group, %error, "applied changes could not be written");
            }
        }
    }

    /// Runs a job on a machine. One that panicked is dropped: what it holds in memory cannot be trusted any more.
    fn guarded(
        &mut self,
        group: GroupId,
        job: impl FnOnce(&mut Slot) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let slot = self
            .slots
            .get_mut(&group)
            .ok_or(ApplyError::NotOpen(group))?;
        let result = catch_unwind(AssertUnwindSafe(|| job(slot)));
        match result {
            Ok(done) => done,
            Err(payload) => {
                let error = unwound(group, payload, &slot.damage);
                self.slots.remove(&group);
                Err(error)
            }
        }
    }

    fn poll(&mut self, group: GroupId) {
        if !self.slots.contains_key(&group) {
            return;
        }
        let polled = self.guarded(group, |slot| {
            slot.waker.begin();
            slot.machine.poll();
            Ok(())
        });
        if let Err(error) = polled {
            // The next chunk of the group finds no machine and so reports to its replica.
            error!(%group, %error, "state machine failed while polled");
        }
    }
}

impl Slot {
    fn apply(
        &mut self,
        entries: &[Committed],
        applied: LogId,
        meta: Bytes,
    ) -> Result<(), ApplyError> {
        let mut rows = RowBatch::default();
        match self.machine.apply(entries, &mut rows) {
            Changes::Given => {
                self.unwritten = None;
                self.state.write(rows, meta)?;
            }
            Changes::Kept => self.unwritten = Some(meta),
        }
        self.machine.applied(applied);
        self.progress.send_replace(Some(applied));
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), ApplyError> {
        let Some(meta) = self.unwritten.take() else {
            return Ok(());
        };
        let mut rows = RowBatch::default();
        self.machine.give(&mut rows);
        Ok(self.state.write(rows, meta)?)
    }

    fn install(
        &mut self,
        installer: Installer,
        applied: LogId,
        meta: Bytes,
    ) -> Result<(), ApplyError> {
        installer.finish(meta)?;
        self.unwritten = None;
        self.machine.restored(self.state.clone(), applied);
        self.progress.send_replace(Some(applied));
        Ok(())
    }
}

/// Why a machine unwound; damage is told to its replica.
fn unwound(
    group: GroupId,
    payload: Box<dyn Any + Send>,
    damage: &watch::Sender<Option<Arc<str>>>,
) -> ApplyError {
    let damaged = match payload.downcast::<Damaged>() {
        Ok(damaged) => damaged,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let said = text.unwrap_or("nothing was said").to_owned();
            return ApplyError::Panicked { group, said };
        }
    };
    let detail: Arc<str> = damaged.0.into();
    damage.send_replace(Some(detail.clone()));
    ApplyError::Damaged { group, detail }
}

fn answer(reply: Reply, result: Result<(), ApplyError>) {
    // Nobody waits any more if the replica was stopped meanwhile.
    let _ = reply.send(result);
}
