//! Asks an apply thread to poll a machine between two chunks. Not here: the thread (`applier`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use warren_types::GroupId;

use super::applier::Job;

/// Wakes one group's machine; cheap to clone, cheap to call again before it was polled.
#[derive(Clone)]
pub struct MachineWaker {
    group: GroupId,
    /// Set from the call until the poll begins: at most one place in the queue per machine.
    waiting: Arc<AtomicBool>,
    queue: WakeQueue,
}

impl MachineWaker {
    /// The machine's `poll` will begin after this call, soon.
    pub fn wake(&self) {
        if self.waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        self.queue.push(self.group);
    }

    /// Called right before `poll`: what is asked for from here on needs another one.
    pub(super) fn begin(&self) {
        self.waiting.store(false, Ordering::Release);
    }
}

/// Machines that wait to be polled by one apply thread. Bounded by their number.
#[derive(Clone)]
pub(super) struct WakeQueue {
    groups: Arc<Mutex<VecDeque<GroupId>>>,
    /// Weak, so that the thread ends when its handles are gone, whoever keeps a waker.
    jobs: mpsc::WeakSender<Job>,
}

impl WakeQueue {
    pub(super) fn new(jobs: mpsc::WeakSender<Job>) -> Self {
        Self {
            groups: Arc::default(),
            jobs,
        }
    }

    pub(super) fn waker(&self, group: GroupId) -> MachineWaker {
        MachineWaker {
            group,
            waiting: Arc::default(),
            queue: self.clone(),
        }
    }

    fn push(&self, group: GroupId) {
        self.groups.lock().push_back(group);
        // If there is no room the thread is not asleep: it looks here after every job.
        if let Some(jobs) = self.jobs.upgrade() {
            let _ = jobs.try_send(Job::Wake);
        }
    }

    pub(super) fn pop(&self) -> Option<GroupId> {
        self.groups.lock().pop_front()
    }
}
