//! openraft's state machine interface over a machine on its apply thread. Not here: the thread (`applier`), sending and
//! receiving snapshots (`snapshot`).
//!
//! I1: a chunk goes to the machine only when this node's own log has it on disk; openraft itself does not wait for that.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{
    ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot,
};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;
use warren_storage::{Durable, Installer, ReplicaState, StateSnapshot};
use warren_types::{GroupId, LogId};

use super::applier::Applier;
use super::contract::Committed;
use crate::config::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, TypeConfig};
use crate::convert::{self, ReplicaMeta};

/// A chunk closes when it holds this many bytes of commands, or entries.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_ENTRIES: usize = 1024;

pub(crate) type SnapshotOf = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// What stands for a snapshot inside openraft; rows never pass through it.
pub(crate) enum SnapshotData {
    /// Metadata only: what `build_snapshot` answers. The rows are in the store already.
    Virtual,
    /// A frozen view to be sent to a follower.
    Frozen(Arc<StateSnapshot>),
    /// Rows received and written beside the replica's own, to be switched to.
    Received(Box<Installer>),
}

/// One replica's state machine as openraft sees it.
pub(crate) struct StateMachine {
    group: GroupId,
    state: ReplicaState,
    applier: Applier,
    durable: watch::Receiver<Durable>,
    meta: ReplicaMeta,
}

impl StateMachine {
    /// The machine must have been opened on `applier` with the applied id of `state`'s meta.
    pub(crate) fn new(
        group: GroupId,
        state: ReplicaState,
        applier: Applier,
        durable: watch::Receiver<Durable>,
        meta: ReplicaMeta,
    ) -> Self {
        Self {
            group,
            state,
            applier,
            durable,
            meta,
        }
    }

    /// Waits until this node's log has everything up to `id` on disk.
    async fn wait_durable(&mut self, id: LogId) -> Result<(), io::Error> {
        let reached = |durable: &Durable| durable.poisoned || durable.last >= Some(id);
        let durable = self
            .durable
            .wait_for(reached)
            .await
            .map_err(|_| io::Error::other("log is closed"))?;
        // Log ids are compared, not indexes: an entry that was replaced does not count.
        if durable.last >= Some(id) {
            Ok(())
        } else {
            Err(io::Error::other("log engine failed"))
        }
    }

    async fn apply_chunk(&mut self, chunk: &mut Chunk) -> Result<(), io::Error> {
        let Some(applied) = chunk.last.take() else {
            return Ok(());
        };
        self.wait_durable(applied).await?;
        let entries = std::mem::take(&mut chunk.entries);
        chunk.bytes = 0;
        self.meta.applied = Some(convert::log_id_to_raft(applied));
        if let Some(membership) = chunk.membership.take() {
            self.meta.membership = membership;
        }
        let meta = self.meta.encode();
        self.applier
            .apply(self.group, entries, applied, meta)
            .await
            .map_err(io::Error::other)?;
        for responder in chunk.responders.drain(..) {
            responder.send(());
        }
        Ok(())
    }
}

/// Entries gathered for one batch.
#[derive(Default)]
struct Chunk {
    entries: Vec<Committed>,
    responders: Vec<ApplyResponder<TypeConfig>>,
    last: Option<LogId>,
    membership: Option<StoredMembershipOf>,
    bytes: usize,
    count: usize,
}

impl Chunk {
    fn push(&mut self, entry: EntryOf, responder: Option<ApplyResponder<TypeConfig>>) {
        let id = convert::log_id_from_raft(&entry.log_id());
        self.last = Some(id);
        self.count += 1;
        match entry.payload {
            EntryPayload::Normal(command) => {
                self.bytes += command.encoded_len();
                self.entries.push(Committed {
                    id,
                    payload: command.payload(),
                });
            }
            EntryPayload::Membership(membership) => {
                self.membership = Some(StoredMembershipOf::new(Some(entry.log_id), membership));
            }
            EntryPayload::Blank => {}
        }
        self.responders.extend(responder);
    }

    fn is_full(&self) -> bool {
        self.bytes >= CHUNK_BYTES || self.entries.len() >= CHUNK_ENTRIES
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf>, StoredMembershipOf), io::Error> {
        Ok((self.meta.applied, self.meta.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunk = Chunk::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            chunk.push(entry, responder);
            if chunk.is_full() {
                self.apply_chunk(&mut chunk).await?;
            }
        }
        self.apply_chunk(&mut chunk).await
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        // Nothing flushed yet: there is nothing a purge could rely on, so the build is put off.
        if !force && self.state.durable_meta().is_none() {
            return None;
        }
        Some(SnapshotBuilder {
            state: self.state.clone(),
        })
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            state: self.state.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let installer = match snapshot {
            SnapshotData::Received(installer) => installer,
            SnapshotData::Frozen(frozen) => copy_rows(self.state.clone(), frozen).await?,
            SnapshotData::Virtual => {
                return Err(io::Error::other(
                    "a snapshot without rows cannot be installed",
                ));
            }
        };
        let replica_meta = ReplicaMeta::from_snapshot_meta(meta);
        let applied = meta.last_log_id.as_ref().map(convert::log_id_from_raft);
        let applied = applied.ok_or_else(|| io::Error::other("snapshot of nothing"))?;
        self.applier
            .install(self.group, installer, applied, replica_meta.encode())
            .await
            .map_err(io::Error::other)?;
        self.meta = replica_meta;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        let frozen = self.state.snapshot().map_err(io::Error::other)?;
        let Some(meta) = frozen.meta() else {
            return Ok(None);
        };
        let meta = ReplicaMeta::decode(meta).map_err(io::Error::other)?;
        if meta.applied.is_none() {
            return Ok(None);
        }
        let snapshot = SnapshotData::Frozen(Arc::new(frozen));
        Ok(Some(Snapshot {
            meta: meta.snapshot_meta(),
            snapshot,
        }))
    }
}

/// Copies a frozen view into another replica's store, off the runtime.
async fn copy_rows(
    state: ReplicaState,
    frozen: Arc<StateSnapshot>,
) -> Result<Box<Installer>, io::Error> {
    let copied = tokio::task::spawn_blocking(move || {
        let mut installer = state.installer()?;
        for chunk in frozen.chunks(CHUNK_BYTES) {
            installer.chunk(&chunk?)?;
        }
        Ok::<_, warren_storage::StateError>(Box::new(installer))
    });
    copied
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)
}

/// Answers with the metadata of the applied state that is on disk. Copies nothing: the store itself is the snapshot.
pub(crate) struct SnapshotBuilder {
    state: ReplicaState,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, io::Error> {
        let meta = match self.state.durable_meta() {
            Some(bytes) => ReplicaMeta::decode(&bytes).map_err(io::Error::other)?,
            None => ReplicaMeta::default(),
        };
        Ok(Snapshot {
            meta: meta.snapshot_meta(),
            snapshot: SnapshotData::Virtual,
        })
    }
}
