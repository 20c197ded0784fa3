//! A topology as plain lists, for snapshots. Not here: their bytes (`codec`).

use std::sync::Arc;

use thiserror::Error;
use warren_types::{ExchangeId, GroupId, QueueId, ReplicaId, ShardId, TopologyIndex, VhostId};

use crate::{
    binding::{Binding, Destination},
    cluster::{Cluster, Node},
    exchange::{self, Exchange},
    in_force::Kept,
    maps::OrdSet,
    parameter::Parameter,
    permission::{Permission, TopicPermission},
    placement::Placement,
    policy::Policy,
    queue::Queue,
    tenants::Tenants,
    topology::{Next, Space, Topology},
    user::User,
    vhost::Vhost,
};

/// Everything a topology is made from. Lists are in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyParts {
    pub index: TopologyIndex,
    pub cluster: Option<Cluster>,
    pub nodes: Vec<Node>,
    pub placements: Vec<Placement>,
    pub vhosts: Vec<Vhost>,
    pub exchanges: Vec<Exchange>,
    pub queues: Vec<Queue>,
    pub bindings: Vec<Binding>,
    pub users: Vec<User>,
    pub permissions: Vec<Permission>,
    pub topic_permissions: Vec<TopicPermission>,
    pub parameters: Vec<Parameter>,
    pub next_vhost: VhostId,
    pub policies: Vec<Policy>,
    /// The lowest ids never given out.
    pub next_exchange: ExchangeId,
    pub next_queue: QueueId,
    pub next_replica: ReplicaId,
}

/// Why lists are not a topology. A snapshot that says so is damaged: the replica stops.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartsError {
    #[error(
        "exchange {exchange} is of a kind this version does not know, or is there twice, or has no vhost"
    )]
    Exchange { exchange: ExchangeId },
    #[error("queue {queue} is there twice, or has no vhost or no shard")]
    Queue { queue: QueueId },
    #[error("a binding of exchange {exchange} has no source or no destination, or is there twice")]
    Binding { exchange: ExchangeId },
    #[error("vhost {vhost} is there twice")]
    Vhost { vhost: VhostId },
    #[error("a user, permission or parameter is there twice, or has no user or no vhost")]
    Tenant,
    #[error("group {group} is there twice")]
    Placement { group: GroupId },
    #[error("policy '{name}' is there twice, or has no vhost")]
    Policy { name: Box<str> },
    #[error("an id is not below the next one to be given")]
    Counters,
}

impl Topology {
    #[must_use]
    pub fn to_parts(&self) -> TopologyParts {
        TopologyParts {
            index: self.index,
            cluster: self.cluster().cloned(),
            nodes: self.nodes().cloned().collect(),
            placements: self.placements().cloned().collect(),
            vhosts: self.vhosts().cloned().collect(),
            exchanges: self
                .exchanges
                .values()
                .map(|it| Exchange::clone(it))
                .collect(),
            queues: self.queues().cloned().collect(),
            bindings: self
                .bindings
                .values()
                .map(|it| Binding::clone(it))
                .collect(),
            users: self.users_after(None).cloned().collect(),
            permissions: self.permissions().cloned().collect(),
            topic_permissions: self.topic_permissions().cloned().collect(),
            parameters: self.parameters().cloned().collect(),
            next_vhost: self.next.vhost,
            policies: self.policies.values().map(|it| it.policy.clone()).collect(),
            next_exchange: self.next.exchange,
            next_queue: self.next.queue,
            next_replica: self.next.replica,
        }
    }

    /// # Errors
    /// [`PartsError`] if the lists do not fit together.
    pub fn from_parts(parts: TopologyParts) -> Result<Self, PartsError> {
        let mut topology = Self::bare();
        topology.index = parts.index;
        topology.cluster = parts.cluster.map(Arc::new);
        topology.nodes = Arc::new(parts.nodes.into_iter().map(|it| (it.id, it)).collect());
        topology.next = Next {
            vhost: parts.next_vhost,
            exchange: parts.next_exchange,
            queue: parts.next_queue,
            replica: parts.next_replica,
        };
        for it in parts.placements {
            topology.read_placement(it)?;
        }
        for it in parts.vhosts {
            let named = topology.vhost(it.name.as_str()).is_some();
            if named || topology.vhosts.contains_key(&it.id) {
                return Err(PartsError::Vhost { vhost: it.id });
            }
            if it.id >= topology.next.vhost {
                return Err(PartsError::Counters);
            }
            topology.vhosts.insert_mut(it.id, Space::new(it));
        }
        for it in parts.policies {
            topology.read_policy(it)?;
        }
        for it in parts.exchanges {
            topology.read_exchange(it)?;
        }
        for it in parts.queues {
            topology.read_queue(it)?;
        }
        topology.read_bindings(parts.bindings)?;
        topology.read_tenants(
            parts.users,
            parts.permissions,
            parts.topic_permissions,
            parts.parameters,
        )?;
        Ok(topology)
    }

    fn read_tenants(
        &mut self,
        users: Vec<User>,
        permissions: Vec<Permission>,
        topic_permissions: Vec<TopicPermission>,
        parameters: Vec<Parameter>,
    ) -> Result<(), PartsError> {
        let mut read = Tenants::new();
        read.access_at = self.index;
        for it in users {
            read.users.insert_mut(it.name.clone(), Arc::new(it));
        }
        let vhosts = &self.vhosts;
        for it in permissions {
            if !read.users.contains_key(&it.user) || !vhosts.contains_key(&it.vhost) {
                return Err(PartsError::Tenant);
            }
            let key = (it.user.clone(), it.vhost);
            read.permissions.insert_mut(key, Arc::new(it));
        }
        for it in topic_permissions {
            if !read.users.contains_key(&it.user) || !vhosts.contains_key(&it.vhost) {
                return Err(PartsError::Tenant);
            }
            let key = (it.user.clone(), it.vhost, it.exchange.clone());
            read.topic_permissions.insert_mut(key, Arc::new(it));
        }
        for it in parameters {
            if it.key.vhost.is_some_and(|it| !vhosts.contains_key(&it)) {
                return Err(PartsError::Tenant);
            }
            read.parameters.insert_mut(it.key.clone(), Arc::new(it));
        }
        self.tenants = read;
        Ok(())
    }

    fn read_placement(&mut self, it: Placement) -> Result<(), PartsError> {
        let group = it.group;
        let next = self.next.replica;
        if it.replicas().chain(&it.former).any(|it| it.replica >= next) {
            return Err(PartsError::Counters);
        }
        if let Some(shard) = group.shard() {
            self.shards.insert_mut(shard, OrdSet::new_sync());
            // What was deleted since an older copy does not show.
            self.touch(shard);
        }
        match Arc::make_mut(&mut self.placements).insert(group, it) {
            None => Ok(()),
            Some(_) => Err(PartsError::Placement { group }),
        }
    }

    fn read_policy(&mut self, policy: Policy) -> Result<(), PartsError> {
        let name = policy.name.clone();
        let key = (policy.vhost, policy.kind, name.clone());
        let has_space = self.vhosts.contains_key(&policy.vhost);
        if !has_space || self.policies.contains_key(&key) {
            return Err(PartsError::Policy { name });
        }
        let pattern = policy.compiled();
        self.in_force.changed_at = self.index;
        self.policies
            .insert_mut(key, Arc::new(Kept { policy, pattern }));
        Ok(())
    }

    fn read_exchange(&mut self, it: Exchange) -> Result<(), PartsError> {
        let exchange = it.id;
        if exchange >= self.next.exchange {
            return Err(PartsError::Counters);
        }
        let space = self.vhosts.get(&it.vhost);
        let free = space.is_some_and(|space| !space.exchanges.contains_key(&it.name))
            && !self.exchanges.contains_key(&exchange);
        if !free || exchange::routes_as(it.kind, &it.arguments).is_none() {
            return Err(PartsError::Exchange { exchange });
        }
        self.add_exchange(it);
        Ok(())
    }

    fn read_queue(&mut self, it: Queue) -> Result<(), PartsError> {
        let queue = it.id;
        if queue >= self.next.queue {
            return Err(PartsError::Counters);
        }
        let space = self.vhosts.get(&it.vhost);
        let free = space.is_some_and(|space| !space.queues.contains_key(&it.name))
            && !self.queues.contains_key(&queue);
        let shard: ShardId = it.shard;
        if !free || !self.shards.contains_key(&shard) {
            return Err(PartsError::Queue { queue });
        }
        self.add_queue(it);
        Ok(())
    }

    fn read_bindings(&mut self, bindings: Vec<Binding>) -> Result<(), PartsError> {
        for it in bindings {
            let exchange = it.source;
            let source = self.exchanges.get(&exchange).map(Arc::clone);
            let to = match it.destination {
                Destination::Queue(queue) => self.queues.get(&queue).map(|it| it.vhost),
                Destination::Exchange(to) => {
                    let named = self.exchanges.get(&to).filter(|to| !to.name.is_default());
                    named.map(|it| it.vhost)
                }
            };
            let fits = source.is_some_and(|source| {
                !source.name.is_default() && to == Some(source.vhost) && self.add_binding(it)
            });
            if !fits {
                return Err(PartsError::Binding { exchange });
            }
        }
        Ok(())
    }
}

/// Equal if everything it was made from is; the tables for lookup follow from that.
impl PartialEq for Topology {
    fn eq(&self, other: &Self) -> bool {
        self.to_parts() == other.to_parts()
    }
}

impl Eq for Topology {}
