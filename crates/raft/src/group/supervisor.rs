//! Keeps one replica alive: publishes its leadership, notices when its core has failed, and opens it again from what is
//! stored, three times at most. Not here: how it is opened (`open`).

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tracing::{error, info, warn};
use warren_storage::{GroupLog, ReplicaState};
use warren_types::Leadership;

use super::handle::{Group, ReplicaHealth};
use super::open::{GroupSpec, OpenError, Parts, Stored, build, open_stores};
use super::proposer;
use super::shared::{RaftOf, Shared};
use crate::tasks::Tasks;

/// How often in a row a replica is opened again.
const ATTEMPTS_MAX: u32 = 3;
/// A replica that has worked for so long starts counting anew.
const STABLE_AFTER: Duration = Duration::from_secs(600);
/// A replica whose log is damaged is opened again as often as it takes, with such pauses.
const DAMAGED_PAUSE: Duration = Duration::from_secs(5);
const BACK_OFF: Duration = Duration::from_millis(200);
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A replica with its tasks.
pub(crate) struct Replica {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Tasks,
    pub(crate) state: ReplicaState,
    pub(crate) log: Arc<dyn GroupLog>,
    /// Held while a snapshot is received.
    pub(crate) receiving: Semaphore,
    parts: Arc<Parts>,
}

impl Replica {
    /// Opens the replica. It takes part in its group when this returns.
    pub(crate) async fn open(
        parts: Arc<Parts>,
        tasks: Tasks,
        spec: GroupSpec,
    ) -> Result<Self, OpenError> {
        let (proposals, queue) = mpsc::channel(parts.options.proposals_max.max(1));
        let shared = Arc::new(Shared::new(
            spec.group,
            spec.replica,
            parts.options.clone(),
            proposals,
        ));
        let stores = {
            let parts = parts.clone();
            tokio::task::spawn_blocking(move || open_stores(&parts, spec))
        };
        let stored = stores.await.map_err(|_| OpenError::Stopped)??;
        // It was just made: nothing is there yet.
        let _new = shared.log.set(stored.log.clone());
        let raft = build(&parts, &shared, &stored).await?;
        shared.set_raft(Some(raft.clone()));

        let (state, log) = (stored.state.clone(), stored.log.clone());
        tasks.spawn("proposer", proposer::run(shared.clone(), queue));
        tasks.spawn(
            "supervisor",
            supervise(parts.clone(), shared.clone(), stored, raft),
        );
        Ok(Self {
            shared,
            tasks,
            state,
            log,
            receiving: Semaphore::new(1),
            parts,
        })
    }

    pub(crate) fn handle(&self) -> Group {
        Group {
            shared: self.shared.clone(),
        }
    }

    /// Stops taking part. What is stored stays.
    pub(crate) async fn stop(&self) {
        let raft = self.shared.raft();
        self.shared.set_raft(None);
        publish(&self.shared, ReplicaHealth::Stopped);
        if let Some(raft) = raft {
            shut_down(&self.shared, &raft).await;
        }
        self.tasks.stop(STOP_WITHIN).await;
        if let Some(applier) = self.parts.appliers.of(self.shared.group) {
            applier.close(self.shared.group).await;
        }
    }
}

async fn supervise(parts: Arc<Parts>, shared: Arc<Shared>, stored: Stored, first: RaftOf) {
    let mut raft = first;
    let mut attempts = 0;
    loop {
        let since = Instant::now();
        raft.run();
        follow(&shared, &raft).await;
        if *shared.health.lock() == ReplicaHealth::Stopped {
            return;
        }
        let mut cause = raft
            .metrics()
            .borrow_watched()
            .running_state
            .clone()
            .map_or_else(|fatal| fatal.to_string(), |()| "core has ended".to_owned());
        if since.elapsed() > STABLE_AFTER {
            attempts = 0;
        }
        if let Some(damage) = &*shared.damage.borrow() {
            // The same rows would be read again.
            (attempts, cause) = (ATTEMPTS_MAX, damage.to_string());
        }
        shared.set_raft(None);
        loop {
            let log_only = shared.damage.borrow().is_none() && shared.log_damage().is_some();
            if attempts == ATTEMPTS_MAX && log_only {
                // Its log is damaged where somebody reads it. It may be needed to vote until it is replaced.
                attempts -= 1;
                tokio::time::sleep(DAMAGED_PAUSE).await;
            }
            if attempts == ATTEMPTS_MAX {
                error!(group = %shared.group, replica = %shared.replica, cause, "replica failed and stays down");
                publish(&shared, ReplicaHealth::Failed { cause });
                return;
            }
            attempts += 1;
            warn!(group = %shared.group, replica = %shared.replica, cause, attempts, "replica failed, opening it again");
            publish(
                &shared,
                ReplicaHealth::Rebuilding {
                    attempt: attempts,
                    cause: cause.clone(),
                },
            );
            shut_down(&shared, &raft).await;
            tokio::time::sleep(BACK_OFF * 2_u32.pow(attempts)).await;
            match build(&parts, &shared, &stored).await {
                Ok(built) => {
                    raft = built;
                    break;
                }
                Err(error) => cause = error.to_string(),
            }
        }
        shared.set_raft(Some(raft.clone()));
        publish(&shared, ReplicaHealth::Running);
        info!(group = %shared.group, replica = %shared.replica, "replica is open again");
    }
}

/// Publishes the leadership until the core has ended.
async fn follow(shared: &Shared, raft: &RaftOf) {
    let mut server = raft.server_metrics();
    loop {
        let seen = shared.observe();
        shared.leadership.send_if_modified(|now| {
            let changed = *now != seen;
            *now = seen;
            changed
        });
        if server.changed().await.is_err() {
            return;
        }
    }
}

fn publish(shared: &Shared, health: ReplicaHealth) {
    if health != ReplicaHealth::Running {
        let term = shared.leadership.borrow().term;
        shared
            .leadership
            .send_replace(Leadership { term, leader: None });
    }
    *shared.health.lock() = health;
}

async fn shut_down(shared: &Shared, raft: &RaftOf) {
    let ended = tokio::time::timeout(STOP_WITHIN, raft.shutdown()).await;
    if !matches!(ended, Ok(Ok(()))) {
        warn!(group = %shared.group, ?ended, "core did not shut down cleanly");
    }
}
