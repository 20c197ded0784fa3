//! Receives a replica's whole state beside its rows, and hands it to openraft when it is complete and checked.
//!
//! Nothing of openraft's waits while it comes in. It is handed over only when local apply has reached local commit: openraft
//! trims its log ids when it takes a snapshot, and panics if an apply that is still queued looks for a trimmed one (issue
//! 2116). Not here: writing rows (`storage`), the switch (`machine::applier`).

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::Snapshot;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::{info, warn};
use warren_proto::internal_v1::install_snapshot_request::Part;
use warren_proto::internal_v1::{InstallSnapshotRequest, SnapshotHead};
use warren_storage::{Installer, ReplicaState, StateError};
use warren_types::GroupId;

use super::links::Links;
use super::service::{bad, core};
use crate::config::VoteOf;
use crate::convert::{self, DecodeError, ReplicaMeta};
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
    let group = replica.shared.group;
    let refused = |detail: String| refuse(links, group, detail);
    let meta = match meta_of(&head) {
        Ok(meta) => meta.map_err(bad)?,
        Err(detail) => return Err(refused(detail)),
    };

    let raft = core(replica)?;
    let ours = raft.metrics().borrow_watched().vote;
    if ours > vote {
        // A leader of the past: it learns so without sending the rest.
        return Ok(ours);
    }
    let started = Instant::now();
    let installer = match write(replica.state.clone(), parts).await {
        Ok(installer) => installer,
        Err(Failed::Differs(detail)) => return Err(refused(detail)),
        Err(Failed::Other(status)) => return Err(status),
    };
    wait_applied(&raft).await?;
    let snapshot = Snapshot {
        meta: meta.snapshot_meta(),
        snapshot: SnapshotData::Received(Box::new(installer)),
    };
    let response = raft.install_full_snapshot(vote, snapshot).await;
    let response = response.map_err(|error| Status::unavailable(error.to_string()))?;
    info!(%group, elapsed = ?started.elapsed(), "snapshot received");
    Ok(response.vote)
}

/// Why a transfer came to nothing.
enum Failed {
    /// What came is not what was sent: in words.
    Differs(String),
    Other(Status),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::Other(status)
    }
}

impl From<StateError> for Failed {
    fn from(error: StateError) -> Self {
        if let StateError::BadChunk { .. } = &error {
            return Self::Differs(error.to_string());
        }
        Self::Other(Status::data_loss(error.to_string()))
    }
}

/// Nothing of it is used; openraft has it sent again.
fn refuse(links: &Links, group: GroupId, detail: String) -> Status {
    links.snapshots_refused.fetch_add(1, Ordering::Relaxed);
    warn!(%group, detail, "snapshot refused: what came is not what was sent; it is to be sent again");
    Status::data_loss(detail)
}

/// The meta whose checksum matches; software that sends none is believed. The outer error: it does not match.
fn meta_of(head: &SnapshotHead) -> Result<Result<ReplicaMeta, DecodeError>, String> {
    if head.checked_meta.is_empty() {
        let meta = head.meta.as_ref().ok_or(DecodeError::Missing("meta"));
        return Ok(meta.and_then(ReplicaMeta::from_proto));
    }
    if crc32c::crc32c(&head.checked_meta) != head.meta_checksum {
        return Err("the snapshot's meta does not match its checksum".to_owned());
    }
    Ok(ReplicaMeta::decode(&head.checked_meta))
}

/// Writes chunks beside the replica's rows as they come, on a thread of its own.
async fn write(
    state: ReplicaState,
    mut parts: Streaming<InstallSnapshotRequest>,
) -> Result<Installer, Failed> {
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
                    break None; // the writer says why
                }
            }
            Some(Part::Seal(seal)) => break Some(seal),
            Some(Part::Head(_)) => return Err(Status::invalid_argument("a second head").into()),
            None => return Err(Status::data_loss("snapshot ended before its seal").into()),
        }
    };
    drop(chunks);
    let written = writer
        .await
        .map_err(|_| Status::internal("snapshot writer panicked"))?;
    let installer = written?;
    let seal = seal.unwrap_or_default();
    if (seal.chunks, seal.checksum) != (count, checksum) {
        let detail = "the snapshot's chunks do not match its seal";
        return Err(Failed::Differs(detail.to_owned()));
    }
    if !seal.digest.is_empty() && *seal.digest != installer.digest().to_be_bytes() {
        let detail = "the snapshot's rows do not match the digest of those that were read";
        return Err(Failed::Differs(detail.to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> (SnapshotHead, ReplicaMeta) {
        let meta = ReplicaMeta {
            applied: Some(convert::log_id_to_raft(warren_types::LogId {
                term: warren_types::Term(3),
                leader: warren_types::ReplicaId(2),
                index: warren_types::LogIndex(7),
            })),
            ..ReplicaMeta::default()
        };
        let checked_meta = meta.encode();
        let head = SnapshotHead {
            meta: Some(meta.to_proto()),
            meta_checksum: crc32c::crc32c(&checked_meta),
            checked_meta,
            ..SnapshotHead::default()
        };
        (head, meta)
    }

    #[test]
    fn meta_that_does_not_match_its_checksum_is_refused() {
        let (head, meta) = head();
        assert_eq!(meta_of(&head).unwrap().unwrap(), meta);
        for at in 0..head.checked_meta.len() {
            let mut bytes = head.checked_meta.to_vec();
            bytes[at] ^= 1;
            let mut flipped = head.clone();
            flipped.checked_meta = bytes.into();
            assert!(meta_of(&flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn head_of_software_without_checksums_is_taken() {
        let (mut head, meta) = head();
        (head.checked_meta, head.meta_checksum) = (bytes::Bytes::new(), 0);
        assert_eq!(meta_of(&head).unwrap().unwrap(), meta);
        head.meta = None;
        assert!(meta_of(&head).unwrap().is_err());
    }
}
