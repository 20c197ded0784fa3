//! Hands leadership to another replica. Not here: who should lead where (`warren-topology`, `plan`).
//!
//! From the moment openraft is asked, the old leader takes no writes and sends no heartbeats, and it never leads again in
//! that term. So a target that is not caught up is refused before anything is changed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use thiserror::Error;
use tokio::time::Instant;
use warren_types::ReplicaId;

use super::handle::Group;
use super::shared::Shared;
use crate::convert;

/// How long a target may take to catch up. Commands that are proposed meanwhile make it harder: the caller holds them back.
const CATCH_UP_WITHIN: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why leadership stays, or is in doubt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TransferError {
    #[error("this replica does not lead")]
    NotLeader,
    #[error("no such voter: replica {0}")]
    NoSuchVoter(ReplicaId),
    #[error("no follower was caught up within {} ms, or commands still waited; nothing has changed", CATCH_UP_WITHIN.as_millis())]
    NotCaughtUp,
    #[error("no new leader was seen in time; this replica has stopped leading")]
    NotSeen,
    #[error("the replica is stopped")]
    Stopped,
}

impl Group {
    /// Makes another voter the leader: `to`, or the one that is best caught up. Stop acting as leader before this call.
    ///
    /// # Errors
    /// After [`TransferError::NotSeen`] this replica has stopped leading; after any other nothing has changed.
    pub async fn transfer_leader(&self, to: Option<ReplicaId>) -> Result<(), TransferError> {
        let shared = &self.shared;
        let before = *shared.leadership.borrow();
        if before.leader.map(|leader| leader.replica) != Some(shared.replica) {
            return Err(TransferError::NotLeader);
        }
        let raft = shared.raft().ok_or(TransferError::Stopped)?;
        let _paused = Pause::begin(shared);
        let target = self.caught_up(to).await?;
        shared.give_up(before.term);
        raft.trigger()
            .transfer_leader(target.0)
            .await
            .map_err(|_| TransferError::Stopped)?;

        let mut leadership = shared.leadership.subscribe();
        let replaced = leadership.wait_for(|now| now.is_after(&before) && now.leader.is_some());
        let within = shared.options.election_timeout.end * 2;
        match tokio::time::timeout(within, replaced).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::NotSeen),
        }
    }

    async fn caught_up(&self, to: Option<ReplicaId>) -> Result<ReplicaId, TransferError> {
        let shared = &self.shared;
        if let Some(to) = to {
            let is_voter = shared
                .metrics(|metrics| metrics.membership_config.voter_ids().any(|it| it == to.0))
                .ok_or(TransferError::Stopped)?;
            if !is_voter || to == shared.replica {
                return Err(TransferError::NoSuchVoter(to));
            }
        }
        let deadline = Instant::now() + CATCH_UP_WITHIN;
        loop {
            // Commands that were taken and are not applied yet would be lost with the term.
            let drained = shared.waiting.load(Ordering::Acquire) == 0;
            let found = match to {
                None => best_target(shared),
                Some(to) => is_caught_up(shared, to).then_some(to),
            };
            let found = found.filter(|_| drained);
            match found {
                Some(replica) => return Ok(replica),
                None if Instant::now() >= deadline => return Err(TransferError::NotCaughtUp),
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }
}

/// Proposals pause while it lives.
struct Pause<'a>(&'a Shared);

impl<'a> Pause<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.handing_over.store(true, Ordering::Release);
        Self(shared)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.handing_over.store(false, Ordering::Release);
    }
}

/// The voter other than this one that has all of the log and was heard last.
pub(super) fn best_target(shared: &Shared) -> Option<ReplicaId> {
    candidates(shared)
        .into_iter()
        .max_by_key(|(_, acked)| *acked)
        .map(|(replica, _)| replica)
}

fn is_caught_up(shared: &Shared, replica: ReplicaId) -> bool {
    candidates(shared)
        .iter()
        .any(|(candidate, _)| *candidate == replica)
}

fn candidates(shared: &Shared) -> Vec<(ReplicaId, Instant)> {
    let Some(raft) = shared.raft() else {
        return Vec::new();
    };
    let fresh_since = Instant::now().checked_sub(shared.options.heartbeat * 3);
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    if metrics.state != ServerState::Leader {
        return Vec::new();
    }
    let caught_up = |replica: u64| -> Option<(ReplicaId, Instant)> {
        let matched = metrics.replication.as_ref()?.get(&replica)?.as_ref()?;
        let acked = metrics.heartbeat.as_ref()?.get(&replica)?.as_ref()?;
        let acked = convert::instant(acked.into_inner());
        let all = Some(matched.index) >= metrics.last_log_index;
        let fresh = fresh_since.is_none_or(|since| acked >= since);
        (all && fresh).then_some((ReplicaId(replica), acked))
    };
    let others = metrics
        .membership_config
        .voter_ids()
        .filter(|it| *it != shared.replica.0);
    others.filter_map(caught_up).collect()
}
