//! Follows the topology: replicas and uplinks of shards are opened as it places them here, addresses of nodes are taken from it.
//! Not here: what should be where (`warren-topology`, `plan`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{error, info};
use warren_raft::GroupSpec;
use warren_topology::{Placement, Topology};
use warren_types::{GroupId, Member, NodeId, ShardId};

use super::{Broker, BrokerError};
use crate::leader::task::LeaderTask;
use crate::open::{initialise, open};
use crate::replica::machine::ShardMachineFactory;
use crate::replica::tap::Mailbox;
use crate::uplink::door::door;
use crate::uplink::task::Uplink;

impl Broker {
    pub(super) async fn follow_placement(&self) {
        let mut view = self.inner.topology.watch();
        let mut addresses = BTreeMap::new();
        loop {
            let topology = view.borrow_and_update().clone();
            self.follow_addresses(&topology, &mut addresses);
            for placement in topology.placements() {
                self.place(placement).await;
            }
            tokio::select! {
                biased; // stopping comes first
                () = self.inner.stop.cancelled() => return,
                changed = view.changed() => if changed.is_err() { return },
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
    }

    async fn place(&self, placement: &Placement) {
        let Some(shard) = placement.group.shard() else {
            return;
        };
        let own = placement
            .members
            .iter()
            .find(|member| member.node == self.inner.me.node);
        let open = self.inner.groups.read().contains_key(&placement.group);
        if let Some(own) = own
            && !open
            && let Err(error) = self.open_shard(shard, own, &placement.members).await
        {
            error!(shard_id = %shard, error = %error, "replica left out");
        }
        self.open_uplink(shard);
    }

    async fn open_shard(
        &self,
        shard: ShardId,
        own: &Member,
        members: &[Member],
    ) -> Result<(), BrokerError> {
        let mailbox = Mailbox::default();
        let group = GroupId::from(shard);
        let spec = GroupSpec {
            group,
            replica: own.replica,
            machine: Box::new(ShardMachineFactory {
                shard,
                mailbox: mailbox.clone(),
            }),
        };
        let handle = open(&self.inner.raft, spec).await?;
        // The first member is the preferred leader: it asks the others to begin.
        if members
            .first()
            .is_some_and(|first| first.node == self.inner.me.node)
        {
            initialise(&self.inner.raft, group, members).await?;
        }
        info!(shard_id = %shard, replica = %own.replica, "replica opened");
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
            stop: self.inner.stop.clone(),
        };
        self.inner.tasks.spawn(task.run());
        self.inner.groups.write().insert(group, handle);
        Ok(())
    }

    fn open_uplink(&self, shard: ShardId) {
        let mut uplinks = self.inner.uplinks.write();
        if uplinks.contains_key(&shard) {
            return;
        }
        let (door, doorway) = door();
        uplinks.insert(shard, door);
        drop(uplinks);
        let group = self.inner.groups.read().get(&shard.into()).cloned();
        let uplink = Uplink {
            shard,
            me: self.inner.me,
            doorway,
            inbox: self.inner.uplink_doors.open(shard),
            leaders: self.inner.leaders.clone(),
            streams: self.inner.streams.clone(),
            group,
            topology: self.inner.topology.watch(),
            stop: self.inner.stop.clone(),
        };
        self.inner.tasks.spawn(uplink.run());
    }
}
