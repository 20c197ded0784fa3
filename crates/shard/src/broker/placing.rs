//! Follows the topology: replicas and uplinks of shards are opened as it places them here, replicas that are placed here no more go,
//! addresses of nodes are taken from it. Not here: what should be where (`warren-topology`, `plan`), memberships (`members`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use warren_raft::{GroupSpec, OpenError};
use warren_storage::{LogError, StateError};
use warren_topology::{Placement, Topology};
use warren_types::{Generation, GroupId, Member, NodeId, ReplicaId, ShardId};

use super::{Broker, BrokerError};
use crate::audit::{Fault, captures};
use crate::leader::task::LeaderTask;
use crate::open::{initialise, open};
use crate::replica::machine::ShardMachineFactory;
use crate::replica::tap::Mailbox;
use crate::uplink::door::door;
use crate::uplink::task::Uplink;

/// What could not be done is tried again after this time.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What became of one placement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Placed {
    AsItIs,
    /// The copy of the topology may be too old to say, or something of the past has just been removed.
    Again,
}

impl Broker {
    pub(super) async fn follow_placement(&self, mut faults: mpsc::Receiver<Fault>) {
        let mut view = self.inner.topology.watch();
        let mut addresses = BTreeMap::new();
        // The copy holds all that this node had seen in its earlier runs: a replica it places here is one that never was, or is stored.
        let mut synced = false;
        loop {
            let topology = view.borrow_and_update().clone();
            // A copy that is still being made again from the log tells of directories and members of the past.
            if synced {
                self.follow_addresses(&topology, &mut addresses);
            }
            // Their doors first: opening replicas takes time, in which publishes would find none and be refused.
            let shards = topology.placements().filter_map(|it| it.group.shard());
            shards.for_each(|shard| self.open_uplink(shard));
            let mut done = true;
            for placement in topology.placements() {
                done &= self.place(&topology, placement, synced).await == Placed::AsItIs;
            }
            let known = synced;
            let again = async {
                if !known && self.inner.topology.fresh().await.is_ok() {
                    synced = true;
                } else if known && done {
                    std::future::pending().await
                } else {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            };
            tokio::select! {
                biased; // stopping comes first; what is left over before what is new, or that would never come
                () = self.inner.stop.cancelled() => return,
                Some(fault) = faults.recv() => self.put_aside(fault).await,
                () = again => {}
                changed = view.changed(), if known && done => if changed.is_err() { return },
            }
        }
    }

    /// A node's configured address holds until the topology tells of a change: what was stored before a restart may be older.
    fn follow_addresses(&self, topology: &Topology, known: &mut BTreeMap<NodeId, Box<str>>) {
        let peers = &self.inner.peers;
        for node in topology
            .nodes()
            .filter(|node| node.id != self.inner.me.node)
        {
            peers.set_incarnation(node.id, node.incarnation);
            let before = known.insert(node.id, node.addresses.node.clone());
            let changed = before.is_some_and(|before| before != node.addresses.node);
            if changed || !peers.nodes().contains(&node.id) {
                peers.set_address(node.id, node.addresses.node.to_string());
                peers.set_incarnation(node.id, node.incarnation);
            }
        }
        if topology.cluster().is_some() {
            let all = peers.nodes().into_iter();
            let gone = all.filter(|it| topology.node(*it).is_none());
            gone.for_each(|it| peers.remove(it));
        }
        known.retain(|it, _| topology.node(*it).is_some());
    }

    async fn place(&self, topology: &Topology, placement: &Placement, synced: bool) -> Placed {
        let Some(shard) = placement.group.shard() else {
            return Placed::AsItIs;
        };
        let me = self.inner.me;
        // Replicas of an earlier directory of this node are not this one's.
        let known = topology.node(me.node);
        let own = own_replica(topology, placement, me.node)
            .filter(|_| known.is_some_and(|it| it.incarnation == me.incarnation));
        let open = self.inner.groups.read().get(&placement.group).cloned();
        if let Some(open) = open.map(|group| group.replica()) {
            let is_own = own.is_some_and(|own| own.replica == open);
            if is_own || placement.former.iter().any(|it| it.replica == open) {
                return Placed::AsItIs;
            }
            self.remove_shard(shard, open).await;
        }
        let aside = |own: &Member| self.inner.aside.has(placement.group, own.replica);
        let Some(own) = own.filter(|own| !aside(own)) else {
            return Placed::AsItIs;
        };
        match self.open_shard(shard, own, placement, synced).await {
            Ok(()) => Placed::AsItIs,
            // One that is to go, and never came.
            Err(error) if is_blank(&error) && placement.on(me.node) != Some(own) => Placed::AsItIs,
            Err(error) if may_pass(&error, own.replica) => {
                debug!(shard_id = %shard, %error, synced, "replica not opened yet");
                if synced {
                    self.forget_earlier(&error, own.replica).await;
                }
                Placed::Again
            }
            Err(error) => {
                error!(shard_id = %shard, error = %error, "replica left out");
                if let Some(cause) = damage_of(&error).filter(|_| synced) {
                    self.put_aside_closed(placement.group, own.replica, cause)
                        .await;
                }
                Placed::AsItIs
            }
        }
    }

    async fn open_shard(
        &self,
        shard: ShardId,
        own: Member,
        placement: &Placement,
        synced: bool,
    ) -> Result<(), BrokerError> {
        let mailbox = Mailbox::default();
        let (captures, captured) = captures();
        let group = GroupId::from(shard);
        let spec = GroupSpec {
            group,
            replica: own.replica,
            machine: Box::new(ShardMachineFactory {
                shard,
                mailbox: mailbox.clone(),
                captures,
            }),
            // One that is to go has been here, or has never come; it is not made anew.
            may_be_blank: synced && placement.on(own.node) == Some(own),
        };
        let handle = open(&self.inner.raft, spec).await?;
        // As the cluster is formed the first member asks the others to begin; a group that has changed has begun.
        let first = placement.members.first();
        if placement.generation == Generation(1)
            && first.is_some_and(|first| first.node == self.inner.me.node)
        {
            initialise(&self.inner.raft, group, &placement.members).await?;
        }
        info!(shard_id = %shard, replica = %own.replica, "replica opened");
        let stop = self.inner.stop.child_token();
        self.inner.leader_stops.write().insert(shard, stop.clone());
        self.inner.audits.open(shard, &handle, captured, &stop);
        let task = LeaderTask {
            shard,
            me: self.inner.me,
            group: handle.clone(),
            peers: self.inner.peers.clone(),
            mailbox,
            inbox: self.inner.leaders.open(shard),
            topology: self.inner.topology.watch(),
            asks: self.inner.reaping.asks.clone(),
            uplinks: Arc::clone(&self.inner.uplinks),
            stop,
        };
        self.inner.tasks.spawn(task.run());
        self.inner.groups.write().insert(group, handle);
        self.tell_uplink(shard);
        Ok(())
    }

    /// The replica has left its group for good: it stops, and what is stored of it goes.
    async fn remove_shard(&self, shard: ShardId, replica: ReplicaId) {
        let group = GroupId::from(shard);
        info!(shard_id = %shard, %replica, "replica has left its group and is removed");
        self.leave_shard(shard);
        if let Err(error) = self.inner.raft.remove_group(group).await {
            warn!(shard_id = %shard, %error, "what is stored of the replica is still there");
        }
    }

    /// Ends what works with the replica here.
    pub(super) fn leave_shard(&self, shard: ShardId) {
        self.inner.groups.write().remove(&shard.into());
        self.tell_uplink(shard);
        let stop = self.inner.leader_stops.write().remove(&shard);
        stop.iter().for_each(CancellationToken::cancel);
        self.inner.leaders.close(shard);
        self.inner.audits.close(shard);
    }

    /// Removes what is stored of an earlier replica of the group, which has left it: ids only rise.
    async fn forget_earlier(&self, error: &BrokerError, expected: ReplicaId) {
        let Some((group, found)) = stored_instead(error).filter(|(_, found)| *found < expected)
        else {
            return;
        };
        info!(%group, replica = %found, "an earlier replica is removed");
        if let Err(error) = self.inner.raft.remove_group(group).await {
            warn!(%group, %error, "what is stored of an earlier replica is still there");
        }
    }

    /// Tells the uplink of a shard which replica of this node to listen to.
    pub(super) fn tell_uplink(&self, shard: ShardId) {
        let group = self.inner.groups.read().get(&shard.into()).cloned();
        let group = group.filter(warren_raft::Group::is_voter);
        let uplinks = self.inner.uplinks.read();
        let Some(uplink) = uplinks.get(&shard) else {
            return;
        };
        uplink.replica.send_if_modified(|known| {
            let of = |group: &Option<warren_raft::Group>| {
                group.as_ref().map(warren_raft::Group::replica)
            };
            let changed = of(known) != of(&group);
            if changed {
                known.clone_from(&group);
            }
            changed
        });
    }

    fn open_uplink(&self, shard: ShardId) {
        let mut uplinks = self.inner.uplinks.write();
        if uplinks.contains_key(&shard) {
            return;
        }
        let (door, doorway) = door();
        uplinks.insert(shard, door);
        drop(uplinks);
        let uplink = Uplink {
            shard,
            me: self.inner.me,
            doorway,
            inbox: self.inner.uplink_doors.open(shard),
            leaders: self.inner.leaders.clone(),
            streams: self.inner.streams.clone(),
            group: None,
            topology: self.inner.topology.watch(),
            surplus: self.inner.surplus.clone(),
            stop: self.inner.stop.clone(),
        };
        self.inner.tasks.spawn(uplink.run());
    }
}

/// The replica that is placed on a node; or one that is to go and may still vote, which its group needs until the others do without it.
fn own_replica(topology: &Topology, placement: &Placement, node: NodeId) -> Option<Member> {
    let former = || {
        let here = placement.former.iter().filter(|it| it.node == node);
        here.filter(|it| topology.is_kept(it))
            .max_by_key(|it| it.replica)
            .copied()
    };
    placement.on(node).or_else(former)
}

/// What is stored of a group is another replica's.
fn stored_instead(error: &BrokerError) -> Option<(GroupId, ReplicaId)> {
    let BrokerError::Open { group, source } = error else {
        return None;
    };
    match source {
        OpenError::Log {
            source: LogError::WrongReplica { found, .. },
            ..
        }
        | OpenError::State {
            source: StateError::WrongReplica { found, .. },
            ..
        } => Some((*group, *found)),
        OpenError::Log { .. }
        | OpenError::State { .. }
        | OpenError::OpenAlready(_)
        | OpenError::LogTooShort { .. }
        | OpenError::Damaged { .. }
        | OpenError::Blank { .. }
        | OpenError::Refused { .. }
        | OpenError::Stopped => None,
    }
}

/// What makes a replica useless for good: its log forgot or lost something, or its rows are not what was written.
fn damage_of(error: &BrokerError) -> Option<String> {
    let BrokerError::Open { source, .. } = error else {
        return None;
    };
    match source {
        OpenError::Log {
            source: LogError::Damaged { detail, .. },
            ..
        }
        | OpenError::Damaged { detail, .. } => Some(detail.to_string()),
        OpenError::Log { .. }
        | OpenError::State { .. }
        | OpenError::OpenAlready(_)
        | OpenError::LogTooShort { .. }
        | OpenError::Blank { .. }
        | OpenError::Refused { .. }
        | OpenError::Stopped => None,
    }
}

/// Whether a newer copy of the topology, or the end of an earlier replica, may change it.
fn may_pass(error: &BrokerError, expected: ReplicaId) -> bool {
    is_blank(error) || stored_instead(error).is_some_and(|(_, found)| found != expected)
}

/// Nothing is stored of the replica, and it may not be made here.
fn is_blank(error: &BrokerError) -> bool {
    matches!(
        error,
        BrokerError::Open {
            source: OpenError::Blank { .. },
            ..
        }
    )
}
