//! openraft's own storage tests, on each log engine and the state machine.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "suite_test/any_start.rs"]
mod any_start;
#[path = "../tests/cluster/common/mem_log.rs"]
mod mem_log;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use tempfile::TempDir;
use tokio::sync::watch;
use warren_storage::{
    Durable, LogEngine, LogOptions, ReplicaState, RocksLog, RowBatch, SegmentLog, StateOptions,
    StateStore,
};
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Term};

use crate::config::{LogIdOf, SnapshotMetaOf, StoredMembershipOf, TypeConfig};
use crate::convert::ReplicaMeta;
use crate::log::LogStore;
use crate::machine::{
    Appliers, Changes, Committed, Machine, MachineError, MachineFactory, MachineWaker, OpenSlot,
    SnapshotData, SnapshotOf, StateMachine,
};
use any_start::AnyStart;
use mem_log::MemLog;

const GROUP: GroupId = GroupId(1);

struct Idle;

impl Machine for Idle {
    fn apply(&mut self, _: &[Committed], _: &mut RowBatch) -> Changes {
        Changes::Given
    }
    fn applied(&mut self, _: LogId) {}
    fn give(&mut self, _: &mut RowBatch) {}
    fn restored(&mut self, _: ReplicaState, _: LogId) {}
    fn poll(&mut self) {}
}

impl MachineFactory for Idle {
    fn open(
        &self,
        _: ReplicaState,
        _: MachineWaker,
        _: Option<LogId>,
    ) -> Result<Box<dyn Machine>, MachineError> {
        Ok(Box::new(Self))
    }
}

/// Flushes before a build: in a node the compactor does, outside openraft.
struct Flushing {
    machine: StateMachine,
    store: StateStore,
}

struct FlushingBuilder<B> {
    builder: B,
    store: StateStore,
}

type Builder = <StateMachine as RaftStateMachine<TypeConfig>>::SnapshotBuilder;

impl RaftSnapshotBuilder<TypeConfig> for FlushingBuilder<Builder> {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, io::Error> {
        self.store.flush().map_err(io::Error::other)?;
        self.builder.build_snapshot().await
    }
}

impl RaftStateMachine<TypeConfig> for Flushing {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = FlushingBuilder<Builder>;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf>, StoredMembershipOf), io::Error> {
        self.machine.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        self.machine.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let builder = self.machine.get_snapshot_builder().await;
        FlushingBuilder {
            builder,
            store: self.store.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        self.machine.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        self.machine.get_current_snapshot().await
    }
}

/// `RUST_LOG=openraft=info` tells which case is at work.
fn trace() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // The other test may have set it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}

struct Stores(fn(&TempDir) -> Arc<dyn LogEngine>);

struct Guard {
    _engine: Arc<dyn LogEngine>,
    _appliers: Appliers,
    _everything_durable: watch::Sender<Durable>,
    _dir: TempDir,
}

impl StoreBuilder<TypeConfig, LogStore, Flushing, Guard> for Stores {
    async fn build(&self) -> Result<(Guard, LogStore, Flushing), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let engine = self.0(&dir);
        let log = engine.open_group(GROUP, ReplicaId(1)).unwrap();
        let log = LogStore::new(AnyStart::over(log));
        let store = StateStore::open(&dir.path().join("state"), StateOptions::default()).unwrap();
        let state = store.replica(GROUP, ReplicaId(1)).unwrap();
        let appliers = Appliers::start(1);
        let applier = appliers.of(GROUP).unwrap();
        let slot = OpenSlot {
            damage: tokio::sync::watch::Sender::new(None),
            group: GROUP,
            factory: Arc::new(Idle),
            state: state.clone(),
            applied: None,
            progress: watch::Sender::new(None),
        };
        applier.open(slot).await.unwrap();
        // The suite applies entries that it has not logged.
        let end = LogId {
            term: Term(u64::MAX),
            leader: ReplicaId(0),
            index: LogIndex(u64::MAX),
        };
        let everything = watch::Sender::new(Durable {
            last: Some(end),
            poisoned: false,
        });
        let durable = everything.subscribe();
        let machine = StateMachine::new(GROUP, state, applier, durable, ReplicaMeta::default());
        let guard = Guard {
            _engine: engine,
            _appliers: appliers,
            _everything_durable: everything,
            _dir: dir,
        };
        Ok((guard, log, Flushing { machine, store }))
    }
}

#[tokio::test]
async fn storage_in_memory_passes_openrafts_suite() {
    trace();
    Suite::test_all(Stores(|_| Arc::new(MemLog::new(Duration::ZERO))))
        .await
        .unwrap();
}

#[tokio::test]
async fn storage_on_rocksdb_passes_openrafts_suite() {
    trace();
    Suite::test_all(Stores(|dir| {
        Arc::new(RocksLog::open(&dir.path().join("log"), LogOptions::default()).unwrap())
    }))
    .await
    .unwrap();
}

#[tokio::test]
async fn storage_on_segments_passes_openrafts_suite() {
    trace();
    Suite::test_all(Stores(|dir| {
        let options = LogOptions {
            segment_bytes: 64 << 10,
            ..LogOptions::default()
        };
        Arc::new(SegmentLog::open(&dir.path().join("log"), options).unwrap())
    }))
    .await
    .unwrap();
}
