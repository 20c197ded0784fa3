//! All audits of one node: opens and closes those of its replicas. Not here: what they do (`replica`, `leader`).

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warren_raft::{Group, Peers};
use warren_types::{Member, NodeId, ShardId};

use super::book::{AuditBook, AuditView};
use super::capture::Captured;
use super::leader::Comparer;
use super::replica::{Auditor, Fault, ReadRate};
use super::report::AuditDoors;

/// Replicas that were found wrong and are not dealt with yet; each waits with its own.
const FAULTS_MAX: usize = 64;

pub(crate) struct Audits {
    doors: AuditDoors,
    book: AuditBook,
    rate: ReadRate,
    faults: mpsc::Sender<Fault>,
    node: NodeId,
    peers: Peers,
    tasks: TaskTracker,
}

impl Audits {
    /// Also answers where replicas that are wrong are told of.
    pub(crate) fn new(
        node: NodeId,
        peers: Peers,
        tasks: TaskTracker,
    ) -> (Self, mpsc::Receiver<Fault>) {
        let (faults, found) = mpsc::channel(FAULTS_MAX);
        let audits = Self {
            doors: AuditDoors::default(),
            book: AuditBook::default(),
            rate: ReadRate::default(),
            faults,
            node,
            peers,
            tasks,
        };
        (audits, found)
    }

    /// Audits a replica until `stop`.
    pub(crate) fn open(
        &self,
        shard: ShardId,
        group: &Group,
        captured: mpsc::Receiver<Captured>,
        stop: &CancellationToken,
    ) {
        self.book.open(shard);
        let comparer = Comparer {
            shard,
            node: self.node,
            group: group.clone(),
            reports: self.doors.open(shard),
            count: 0,
            stop: stop.clone(),
        };
        self.tasks.spawn(comparer.run());
        let auditor = Auditor {
            shard,
            node: self.node,
            group: group.clone(),
            captured,
            doors: self.doors.clone(),
            peers: self.peers.clone(),
            book: self.book.clone(),
            rate: self.rate.clone(),
            faults: self.faults.clone(),
            stop: stop.clone(),
        };
        self.tasks.spawn(auditor.run());
    }

    pub(crate) fn close(&self, shard: ShardId) {
        self.doors.close(shard);
        self.book.close(shard);
    }

    /// Reports from other nodes come here.
    pub(crate) fn doors(&self) -> AuditDoors {
        self.doors.clone()
    }

    /// Audits that were carried out on this node since it started.
    pub(crate) fn count(&self) -> u64 {
        self.book.audits()
    }

    pub(crate) fn views(&self) -> Vec<AuditView> {
        self.book.views()
    }

    /// Who votes in a shard now.
    pub(crate) fn note_voters(&self, shard: ShardId, voters: &[Member]) {
        self.book.voters(shard, voters);
    }

    /// Tells of a replica that is wrong, if there is room for it now.
    pub(crate) fn tell(&self, fault: Fault) {
        let _again = self.faults.try_send(fault);
    }
}
