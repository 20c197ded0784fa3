//! What a node's replication can be tuned with, and how that becomes openraft's configuration. Not here: addresses (`net`).

use std::ops::Range;
use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};
use warren_types::{ClusterId, GroupId, NodeId};

/// How the groups of one node replicate. The defaults suit up to about 250 replicas on a node.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    pub node: NodeId,
    pub cluster: ClusterId,
    /// How often an idle leader asserts itself.
    pub heartbeat: Duration,
    /// The upper end is also the leader's lease: a majority stall longer than this refuses writes until it ends.
    pub election_timeout: Range<Duration>,
    /// Threads that apply commands; a group stays on one.
    pub apply_threads: usize,
    /// Commands accepted by `propose` and not yet applied, per group.
    pub proposals_max: usize,
    pub proposal_bytes_max: usize,
    pub streams: StreamOptions,
    pub compaction: CompactionOptions,
    /// Snapshots received, and snapshots sent, at one time.
    pub snapshots_max: usize,
    /// Elect a new leader at once when the leader's process is seen to be gone, instead of waiting for its lease to end.
    pub early_election: bool,
}

/// Bounds of the streams that carry entries to another node.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Streams per node; a group stays on one.
    pub per_peer: usize,
    /// Requests of one group on their way to one follower.
    pub requests_in_flight: usize,
    /// Bytes of entries of one group on their way to one follower.
    pub bytes_in_flight: usize,
    /// An answer that takes longer fails the stream; items larger than a frame are given more.
    pub answer_within: Duration,
    /// Heartbeats that come within this time go in one frame.
    pub heartbeat_window: Duration,
    /// A node sends a beat to each other node at least this often.
    pub beat: Duration,
    /// A follower is told what is committed once in so long, at most (not of the topology: nodes wait for it). It applies
    /// later by that much, and several entries at a time; nobody waits for that. Zero: it is told at once.
    pub commit_waits: Duration,
}

/// When applied entries are made durable and removed from the log.
#[derive(Clone, Debug)]
pub struct CompactionOptions {
    /// After this time, if anything was applied.
    pub every: Duration,
    /// After this many bytes of commands applied by all groups.
    pub applied_bytes: u64,
    /// Entries kept behind the applied one, for followers that lag,
    pub keep_entries: u64,
    /// but no more bytes of them than this.
    pub keep_bytes: u64,
    /// A leader keeps what a follower still needs if that follower was heard within this time...
    pub follower_seen_within: Duration,
    /// ...unless it needs more than this many entries, or bytes: then it will be sent a snapshot.
    pub keep_entries_max: u64,
    pub keep_bytes_max: u64,
}

impl RaftOptions {
    #[must_use]
    pub fn new(node: NodeId, cluster: ClusterId) -> Self {
        Self {
            node,
            cluster,
            heartbeat: Duration::from_millis(200),
            election_timeout: Duration::from_millis(600)..Duration::from_millis(1000),
            apply_threads: 1,
            proposals_max: 4096,
            proposal_bytes_max: 64 << 20,
            streams: StreamOptions::default(),
            compaction: CompactionOptions::default(),
            snapshots_max: 2,
            early_election: true,
        }
    }

    /// How long a majority's acknowledgement lets a leader act, from when the acknowledged heartbeat was *sent*.
    pub(crate) fn lease(&self) -> Duration {
        self.election_timeout.end
    }

    pub(crate) fn openraft(&self, group: GroupId) -> Result<Config, ConfigError> {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let lease = ms(self.election_timeout.end);
        Config {
            cluster_name: format!("{}/{group}", self.cluster),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(self.election_timeout.start),
            election_timeout_max: lease,
            // A follower that acknowledged entries lately needs no heartbeat.
            heartbeat_min_interval: Some(ms(self.heartbeat)),
            // A leader that lost its majority probes for a higher term: openraft issue 2080.
            quorum_loss_probe_interval: Some(lease.saturating_mul(3)),
            enable_pre_vote: Some(true),
            // The state machine is not durable per apply, so a leader that restarts must be elected again.
            enable_leader_restore: Some(false),
            allow_log_reversion: Some(false),
            // The real bound is bytes, in `limited_get_log_entries`.
            max_payload_entries: 1024,
            max_append_entries: Some(4096),
            api_batch_capacity: 1024,
            api_batch_linger_ms: 0,
            api_channel_size: Some(2048),
            // The compactor alone builds snapshots and purges.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            purge_batch_size: 1,
            replication_lag_threshold: 1000,
            install_snapshot_timeout: 120_000,
            snapshot_max_chunk_size: 1 << 20,
            backoff: "50ms 100ms 200ms 400ms 800ms ...1s".into(),
            ..Config::default()
        }
        .validate()
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            per_peer: 2,
            requests_in_flight: 32,
            bytes_in_flight: 8 << 20,
            answer_within: Duration::from_secs(2),
            heartbeat_window: Duration::from_millis(40),
            beat: Duration::from_millis(150),
            commit_waits: Duration::from_millis(10),
        }
    }
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(30),
            applied_bytes: 256 << 20,
            keep_entries: 50_000,
            keep_bytes: 64 << 20,
            follower_seen_within: Duration::from_secs(300),
            keep_entries_max: 500_000,
            keep_bytes_max: 1 << 30,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_default_are_accepted_by_openraft() {
        let options = RaftOptions::new(NodeId(1), ClusterId(7));
        assert!(options.openraft(GroupId(3)).is_ok());
    }
}
