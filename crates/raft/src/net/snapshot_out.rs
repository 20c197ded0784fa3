//! Sends a replica's whole state to a follower whose log was purged away: a frozen view, streamed by the state store.
//! Not here: when a snapshot is needed (openraft).

use std::time::Duration;

use bytes::Bytes;
use openraft::errors::RPCError;
use openraft::raft::SnapshotResponse;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{error, info};
use warren_proto::internal_v1::install_snapshot_request::Part;
use warren_proto::internal_v1::raft_service_client::RaftServiceClient;
use warren_proto::internal_v1::{InstallSnapshotRequest, SnapshotHead, SnapshotSeal};
use warren_types::GroupId;

use super::MESSAGE_BYTES_MAX;
use super::client::{Network, unreachable};
use super::peers::Lane;
use crate::config::{TypeConfig, VoteOf};
use crate::convert::{self, ReplicaMeta};
use crate::machine::{SnapshotData, SnapshotOf};

const CHUNK_BYTES: usize = 1 << 20;
/// Chunks read ahead of the wire.
const CHUNKS_AHEAD: usize = 4;
/// A transfer never takes more of the disk and the wire than this.
const BYTES_PER_SECOND: u64 = 100 << 20;
/// A receiver that takes nothing for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, RPCError<TypeConfig>>;

pub(super) async fn send(
    network: &Network,
    vote: VoteOf,
    snapshot: SnapshotOf,
) -> Result<SnapshotResponse<TypeConfig>> {
    let SnapshotData::Frozen(frozen) = snapshot.snapshot else {
        return Err(unreachable("the snapshot has no rows"));
    };
    let permit = network.links.snapshots_out.acquire().await;
    let _permit = permit.map_err(|_| unreachable("node is stopping"))?;
    let channel = network.links.peers.channel(network.node, Lane::Bulk);
    let channel = channel.ok_or_else(|| unreachable("node has no address"))?;

    let meta = ReplicaMeta::from_snapshot_meta(&snapshot.meta);
    let checked_meta = meta.encode();
    let head = SnapshotHead {
        target: Some(network.target()),
        vote: Some(convert::vote_to_proto(&vote)),
        meta: Some(meta.to_proto()),
        meta_checksum: crc32c::crc32c(&checked_meta),
        checked_meta,
    };
    let (parts, queued) = mpsc::channel(CHUNKS_AHEAD);
    // There is room: the channel is new.
    let _ = parts.try_send(part(Part::Head(head)));
    let watched = parts.clone();
    let group = network.shared.group;
    let reader = tokio::task::spawn_blocking(move || read(group, &frozen, &parts));

    let started = Instant::now();
    let mut client = RaftServiceClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let sending = client.install_snapshot(ReceiverStream::new(queued));
    let sent = tokio::select! {
        biased; // an answer counts even if the wire stood still
        sent = sending => sent,
        () = stalled(&watched) => return Err(unreachable("snapshot does not move")),
    };
    network
        .links
        .peers
        .report(network.node, Lane::Bulk, sent.is_ok());
    let response = sent
        .map_err(|status| unreachable(status.message()))?
        .into_inner();
    // The stream has ended, and with it the reader.
    let bytes = reader.await.unwrap_or(0);
    let vote = convert::vote_from_proto(response.vote.as_ref())
        .map_err(|error| unreachable(&error.to_string()))?;
    info!(group = %network.shared.group, to = %network.node, bytes, elapsed = ?started.elapsed(), "snapshot sent");
    Ok(SnapshotResponse::new(vote))
}

fn part(part: Part) -> InstallSnapshotRequest {
    InstallSnapshotRequest { part: Some(part) }
}

/// Reads chunk after chunk into the channel, not faster than allowed. Ends early, without the seal, if the receiver is gone
/// or a row cannot be read: then nothing is installed.
fn read(
    group: GroupId,
    frozen: &std::sync::Arc<warren_storage::StateSnapshot>,
    parts: &mpsc::Sender<InstallSnapshotRequest>,
) -> u64 {
    let started = std::time::Instant::now();
    let (mut chunks, mut checksum, mut bytes) = (0, 0, 0_u64);
    let mut from = frozen.chunks(CHUNK_BYTES);
    for chunk in &mut from {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                error!(%group, %error, "rows cannot be read for a snapshot: it is not sent");
                return bytes;
            }
        };
        chunks += 1;
        checksum = crc32c::crc32c_append(checksum, &chunk);
        bytes += chunk.len() as u64;
        if parts.blocking_send(part(Part::Chunk(chunk))).is_err() {
            return bytes;
        }
        let earliest = Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND);
        std::thread::sleep(earliest.saturating_sub(started.elapsed()));
    }
    let digest = Bytes::copy_from_slice(&from.digest().to_be_bytes());
    let seal = SnapshotSeal {
        chunks,
        checksum,
        digest,
    };
    // The receiver may be gone.
    let _ = parts.blocking_send(part(Part::Seal(seal)));
    bytes
}

/// Ends when the queue has been full for `IDLE_MAX`. While the receiver installs, the queue is empty and its answer awaited.
async fn stalled(parts: &mpsc::Sender<InstallSnapshotRequest>) {
    let mut moved_at = Instant::now();
    loop {
        tokio::time::sleep(IDLE_MAX / 10).await;
        if parts.capacity() > 0 {
            moved_at = Instant::now();
        } else if moved_at.elapsed() >= IDLE_MAX {
            return;
        }
    }
}
