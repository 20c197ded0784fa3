//! Receives a replica's whole state beside its rows, and hands it to openraft when it is complete and checked.
//!
//! Nothing of openraft's waits while it comes in. It is handed over only when local apply has reached local commit: openraft
//! trims its log ids when it takes a snapshot, and panics if an apply that is still queued looks for a trimmed one (issue
//! 2116). Not here: writing rows (`storage`), the switch (`machine::applier`).

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::Snapshot;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::info;
use warren_proto::internal_v1::install_snapshot_request::Part;
use warren_proto::internal_v1::{InstallSnapshotRequest, SnapshotHead, SnapshotSeal};
use warren_storage::{Installer, ReplicaState, StateError};

use super::links::Links;
use super::service::{bad, core};
use crate::config::VoteOf;
use crate::convert::{self, ReplicaMeta};
use crate::group::{RaftOf, Replica};
use crate::machine::SnapshotData;

/// Chunks that wait to be written.
const CHUNKS_AHEAD: usize = 4;
/// A sender that sends nothing for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long local apply may take to reach local commit.
const APPLY_WITHIN: Duration = Duration::from_secs(30);

/// The first part of a transfer.
pub(super) async fn head(
    parts: &mut Streaming<InstallSnapshotRequest>,
) -> Result<SnapshotHead, Status> {
    match next(parts).await? {
        Some(Part::Head(head)) => Ok(head),
        Some(Part::Chunk(_) | Part::Seal(_)) | None => {
            Err(Status::invalid_argument("a snapshot begins with its head"))
        }
    }
}

async fn next(parts: &mut Streaming<InstallSnapshotRequest>) -> Result<Option<Part>, Status> {
    let part = tokio::time::timeout(IDLE_MAX, parts.message()).await;
    let part = part.map_err(|_| Status::deadline_exceeded("snapshot does not move"))??;
    Ok(part.and_then(|it| it.part))
}

/// Takes the rest and installs it. Returns the replica's vote.
pub(super) async fn receive(
    links: &Links,
    replica: &Replica,
    head: SnapshotHead,
    parts: Streaming<InstallSnapshotRequest>,
) -> Result<VoteOf, Status> {
    let busy = || Status::resource_exhausted("too many snapshots are being received");
    let _on_node = links.snapshots_in.try_acquire().map_err(|_| busy())?;
    let _on_replica = replica.receiving.try_acquire().map_err(|_| busy())?;
    let vote = convert::vote_from_proto(head.vote.as_ref()).map_err(bad)?;
    let meta = head
        .meta
        .ok_or_else(|| Status::invalid_argument("meta is missing"))?;
    let meta = ReplicaMeta::from_proto(&meta).map_err(bad)?;

    let raft = core(replica)?;
    let ours = raft.metrics().borrow_watched().vote;
    if ours > vote {
        // A leader of the past: it learns so without sending the rest.
        return Ok(ours);
    }
    let started = Instant::now();
    let installer = write(replica.state.clone(), parts).await?;
    wait_applied(&raft).await?;
    let snapshot = Snapshot {
        meta: meta.snapshot_meta(),
        snapshot: SnapshotData::Received(Box::new(installer)),
    };
    let response = raft.install_full_snapshot(vote, snapshot).await;
    let response = response.map_err(|error| Status::unavailable(error.to_string()))?;
    info!(group = %replica.shared.group, elapsed = ?started.elapsed(), "snapshot received");
    Ok(response.vote)
}

/// Writes chunks beside the replica's rows as they come, on a thread of its own.
async fn write(
    state: ReplicaState,
    mut parts: Streaming<InstallSnapshotRequest>,
) -> Result<Installer, Status> {
    let (chunks, mut queued) = mpsc::channel::<bytes::Bytes>(CHUNKS_AHEAD);
    let writer = tokio::task::spawn_blocking(move || {
        let mut installer = state.installer()?;
        while let Some(chunk) = queued.blocking_recv() {
            installer.chunk(&chunk)?;
        }
        Ok::<_, StateError>(installer)
    });
    let (mut count, mut checksum) = (0, 0);
    let seal = loop {
        match next(&mut parts).await? {
            Some(Part::Chunk(chunk)) => {
                count += 1;
                checksum = crc32c::crc32c_append(checksum, &chunk);
                if chunks.send(chunk).await.is_err() {
                    break None;
                }
            }
            Some(Part::Seal(seal)) => break Some(seal),
            Some(Part::Head(_)) => return Err(Status::invalid_argument("a second head")),
            None => return Err(Status::data_loss("snapshot ended before its seal")),
        }
    };
    drop(chunks);
    let written = writer
        .await
        .map_err(|_| Status::internal("snapshot writer panicked"))?;
    let installer = written.map_err(|error| Status::data_loss(error.to_string()))?;
    if seal
        != Some(SnapshotSeal {
            chunks: count,
            checksum,
        })
    {
        return Err(Status::data_loss("snapshot does not match its seal"));
    }
    Ok(installer)
}

async fn wait_applied(raft: &RaftOf) -> Result<(), Status> {
    let mut metrics = raft.metrics();
    let deadline = Instant::now() + APPLY_WITHIN;
    loop {
        {
            let now = metrics.borrow_watched();
            if now.last_applied >= now.local_committed {
                return Ok(());
            }
        }
        match tokio::time::timeout_at(deadline, metrics.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Status::unavailable("replica is stopping")),
            Err(_) => return Err(Status::unavailable("replica does not get on applying")),
        }
    }
}
