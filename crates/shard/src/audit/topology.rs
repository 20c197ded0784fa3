//! Compares the topology's replicas while they work (ADR 0085): the leader asks every member for a digest of its copy and of its rows as of the
//! same log index, judges as for shards, and tells each what it found. Nothing is appended for it: the topology rests most of the time, so all
//! are soon at the same index. Not here: the judgement (`verdict`), what becomes of a node whose replica is wrong (`warren-server`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use warren_codec::{KNOWN_VERSIONS, encode_topology};
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::node_service_client::NodeServiceClient;
use warren_raft::{Group, Lane, Peers};
use warren_storage::{ReplicaState, RowsLife, StateError};
use warren_topology::Topology;
use warren_types::{Member, NodeId, ReplicaId, ShardId, Term, TopologyIndex};
use xxhash_rust::xxh3::Xxh3;

use super::book::{AuditBook, AuditView};
use super::report::{answered, comparison};
use super::verdict::{Answer, Report, Seen, Verdict, judge};
use crate::time::wall_clock_ms;
use crate::topology::handle::TopologyHandle;
use crate::topology::stored::{Stored, StoredRows};

/// So long after a comparison comes the next one,
const EVERY: Duration = Duration::from_secs(10);
/// or so many times as long as it took.
const REST_SHARE: u32 = 199;
/// A topology that changes meanwhile is looked at again so often, after so long.
const TRIES: u32 = 5;
const TRY_AFTER: Duration = Duration::from_millis(300);
/// How long a member waits for its copy to be as new as the leader's.
const REACH_WITHIN: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What the topology is called in a book; shards have greater numbers.
const BOOKED: ShardId = ShardId(0);

/// What is wrong with this node's replica of the topology.
#[derive(Clone, Debug)]
pub(crate) struct TopologyFault {
    /// In words.
    pub(crate) cause: Arc<str>,
    /// Milliseconds since the epoch.
    pub(crate) at_ms: u64,
}

/// One node's part in it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TopologyAudits {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    topology: TopologyHandle,
    peers: Peers,
    stored: Stored,
    book: AuditBook,
    /// What was said last, for the conclusions.
    looked: Mutex<Option<Looked>>,
    fault: Mutex<Option<TopologyFault>>,
}

/// What was seen of this node's replica.
#[derive(Clone)]
struct Looked {
    at: TopologyIndex,
    digest: u128,
    /// What cannot be read, in words.
    damage: Option<String>,
    state: ReplicaState,
    life: RowsLife,
    proven: bool,
}

impl TopologyAudits {
    pub(crate) fn new(me: NodeId, topology: TopologyHandle, peers: Peers, stored: Stored) -> Self {
        let book = AuditBook::default();
        book.open(BOOKED);
        let inner = Inner {
            me,
            topology,
            peers,
            stored,
            book,
            looked: Mutex::default(),
            fault: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What is wrong with this node's replica, if comparing or its machine found anything.
    pub(crate) fn fault(&self) -> Option<TopologyFault> {
        self.inner.fault.lock().clone()
    }

    pub(crate) fn view(&self) -> Option<AuditView> {
        self.inner.book.views().pop()
    }

    fn group(&self) -> &Group {
        self.inner.topology.group()
    }

    /// Compares while this node leads, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let comparing = async {
            let mut pause = EVERY;
            loop {
                sleep(pause).await;
                let begun = Instant::now();
                self.look_after().await;
                pause = EVERY.max(begun.elapsed() * REST_SHARE);
            }
        };
        // Nothing is half done that matters: it begins anew.
        stop.run_until_cancelled(comparing).await;
    }

    async fn look_after(&self) {
        let status = self.group().status();
        if !status.is_joint() {
            self.inner.book.voters(BOOKED, &status.voters);
        }
        if let Some(damage) = self.group().damage() {
            self.set_fault(damage);
        }
        let leads = self.group().lease_until().is_some();
        if leads && self.fault().is_some() {
            return self.give_way().await;
        }
        for _ in 0..TRIES {
            if !leads || self.compare(status.leadership.term).await {
                return;
            }
            sleep(TRY_AFTER).await;
        }
        debug!("the topology was not compared: it changes, or too few answer");
    }

    /// A replica that is wrong should not decide what others apply.
    async fn give_way(&self) {
        if let Err(error) = self.group().transfer_leader(None).await {
            warn!(%error, "the topology's leader is wrong, and no other replica leads yet");
        }
    }

    /// One comparison. False: too few were at the same index.
    async fn compare(&self, term: Term) -> bool {
        let status = self.group().status();
        if status.is_joint() {
            return false;
        }
        let at_least = self.inner.topology.current().index();
        let members = status.voters.iter().chain(&status.learners);
        let asked = members.map(|member| self.ask(*member, term, at_least));
        let reports: Vec<(Member, TopologyIndex, Report)> =
            join_all(asked).await.into_iter().flatten().collect();
        let own = reports.iter().find(|(it, _, _)| it.node == self.inner.me);
        let Some(at) = own.map(|(_, at, _)| *at) else {
            return false;
        };
        // What a replica that cannot read has is not of any index.
        let counts = |of: TopologyIndex, report: &Report| of == at || report.seen.is_unreadable();
        let by_replica: BTreeMap<ReplicaId, Report> = reports
            .iter()
            .filter(|(_, of, report)| counts(*of, report))
            .map(|(member, _, report)| (member.replica, report.clone()))
            .collect();
        let ids: BTreeSet<ReplicaId> = status.voters.iter().map(|it| it.replica).collect();
        let verdict = judge(&ids, &by_replica);
        if verdict == Verdict::Nothing || self.group().status().voters != status.voters {
            return false;
        }
        let told = reports.iter().filter(|(_, of, it)| counts(*of, it));
        let told = told.map(|(member, of, report)| {
            let answer = verdict.of(&report.seen);
            if answer == Answer::Wrong {
                error!(replica = %member.replica, node_id = %member.node, index = %of, "a replica has another topology than most");
            }
            self.tell(*member, term, *of, answer)
        });
        join_all(told).await;
        true
    }

    /// What a member has. `None`: it does not say, or has software that may store the same differently.
    async fn ask(
        &self,
        member: Member,
        term: Term,
        at_least: TopologyIndex,
    ) -> Option<(Member, TopologyIndex, Report)> {
        let response = self
            .call(member.node, term, at_least, wire::Comparison::Unspecified)
            .await?;
        if response.replica != member.replica.0 || response.version != KNOWN_VERSIONS.newest.0 {
            return None;
        }
        let at = TopologyIndex(response.topology_index);
        let seen = if response.unreadable {
            Seen::unreadable(member.replica)
        } else {
            Seen {
                end: None,
                rows: at.0,
                digest: u128::from_be_bytes(response.digest.as_ref().try_into().ok()?),
            }
        };
        let proven = response.proven;
        Some((member, at, Report { seen, proven }))
    }

    async fn tell(&self, member: Member, term: Term, at: TopologyIndex, answer: Answer) {
        // One that does not hear it is told the next time.
        let _heard = self.call(member.node, term, at, comparison(answer)).await;
    }

    async fn call(
        &self,
        node: NodeId,
        term: Term,
        at: TopologyIndex,
        found: wire::Comparison,
    ) -> Option<wire::CompareTopologyResponse> {
        let request = wire::CompareTopologyRequest {
            cluster_id: self.inner.topology.cluster_bytes(),
            term: term.0,
            topology_index: at.0,
            found: found.into(),
        };
        if node == self.inner.me {
            return Some(self.serve(request).await);
        }
        let channel = self.inner.peers.channel(node, Lane::Control)?;
        let mut client = NodeServiceClient::new(channel);
        match timeout(ANSWER_WITHIN, client.compare_topology(request)).await {
            Ok(Ok(response)) => Some(response.into_inner()),
            // Software of before does not know the question.
            Ok(Err(status)) => {
                debug!(node_id = %node, error = status.message(), "topology not compared");
                None
            }
            Err(_) => None,
        }
    }

    /// The leader asks, or tells.
    pub(crate) async fn serve(
        &self,
        request: wire::CompareTopologyRequest,
    ) -> wire::CompareTopologyResponse {
        let nothing = wire::CompareTopologyResponse::default();
        if self.group().leadership().borrow().term.0 != request.term {
            return nothing;
        }
        let at = TopologyIndex(request.topology_index);
        let found = request.found();
        if found != wire::Comparison::Unspecified {
            self.conclude(at, answered(found)).await;
            return nothing;
        }
        let Some(looked) = self.look(at).await else {
            return nothing;
        };
        let response = wire::CompareTopologyResponse {
            replica: self.group().replica().0,
            topology_index: looked.at.0,
            digest: Bytes::copy_from_slice(&looked.digest.to_be_bytes()),
            unreadable: looked.damage.is_some(),
            proven: looked.proven,
            version: KNOWN_VERSIONS.newest.0,
        };
        *self.inner.looked.lock() = Some(looked);
        response
    }

    /// `None`: it is not as new as that, or changes.
    async fn look(&self, at_least: TopologyIndex) -> Option<Looked> {
        let topology = self.inner.topology.clone();
        topology.wait_applied(at_least, REACH_WITHIN).await.ok()?;
        let state = self.inner.stored.get()?;
        let read = move || look(&topology, state);
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => {
                warn!(%error, "rows of the topology were not read");
                None
            }
            Err(error) => {
                warn!(%error, "the topology was not looked at");
                None
            }
        }
    }

    /// What came of what this node said of its replica last.
    async fn conclude(&self, at: TopologyIndex, answer: Answer) {
        let looked = self.inner.looked.lock().clone();
        let Some(looked) = looked.filter(|it| it.at == at) else {
            return;
        };
        match answer {
            Answer::NotCompared => {}
            Answer::Agrees => self.agrees(looked).await,
            Answer::Doubt => {
                let voters = self.group().status().voters;
                if self.inner.book.doubt(BOOKED, &voters) {
                    error!(index = %at, damage = looked.damage, "replicas of the topology differ or cannot be read, and it is not known which are right");
                }
            }
            Answer::Wrong => {
                let cause = looked.damage.unwrap_or_else(|| {
                    format!("its topology at index {at} is not that of most replicas")
                });
                self.set_fault(cause.into());
                // What is right is known: a doubt of before would keep others from going on without this node.
                self.inner.book.open(BOOKED);
                if self.group().lease_until().is_some() {
                    self.give_way().await;
                }
            }
        }
    }

    async fn agrees(&self, looked: Looked) {
        let fault = self.inner.fault.lock().take();
        if let Some(fault) = fault {
            info!(
                cause = &*fault.cause,
                "the topology's replica is right again"
            );
        }
        self.inner.book.clean(BOOKED);
        if !looked.proven {
            let (state, life) = (looked.state, looked.life);
            let proved = tokio::task::spawn_blocking(move || state.prove(life)).await;
            info!(
                ?proved,
                "topology that came by a snapshot is that of most replicas"
            );
        }
    }

    /// The first stays.
    fn set_fault(&self, cause: Arc<str>) {
        let mut fault = self.inner.fault.lock();
        if fault.is_none() {
            error!(
                cause = &*cause,
                "this node's replica of the topology is wrong"
            );
            let at_ms = wall_clock_ms();
            *fault = Some(TopologyFault { cause, at_ms });
        }
    }
}

/// Blocks on the disk. `None`: the copy has changed meanwhile.
fn look(topology: &TopologyHandle, state: ReplicaState) -> Result<Option<Looked>, StateError> {
    let copy = topology.current();
    let snapshot = state.snapshot()?;
    let mut looked = Looked {
        at: copy.index(),
        digest: 0,
        damage: None,
        life: snapshot.life(),
        proven: snapshot.is_proven(),
        state,
    };
    let unreadable = |cause: &dyn std::fmt::Display| format!("its rows cannot be read: {cause}");
    // Rows are written before the copy is shown, so these are as new as it, or newer.
    let made = match StoredRows::frozen(&snapshot) {
        Ok(rows) => rows.topology().map_err(|error| unreadable(&error)),
        Err(error @ StateError::Damaged(_)) => Err(unreadable(&error)),
        Err(error) => return Err(error),
    };
    match made {
        Ok(made) if made.index() > copy.index() || topology.current().index() > copy.index() => {
            return Ok(None);
        }
        Ok(made) => looked.digest = digest(&copy, made),
        Err(damage) => looked.damage = Some(damage),
    }
    Ok(Some(looked))
}

/// Of the copy that is used, and of what the rows make at the same index: on a replica that is right they are the same.
fn digest(copy: &Topology, mut made: Topology) -> u128 {
    made.advance(copy.index());
    let mut hasher = Xxh3::new();
    hasher.update(&encode_topology(copy));
    hasher.update(&encode_topology(&made));
    hasher.digest128()
}
