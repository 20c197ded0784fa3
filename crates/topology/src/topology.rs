//! The topology as one value, and what can be asked of it. Not here: changes (`apply`), routing tables (`route`).
//!
//! A clone is cheap (the maps are persistent): after each applied chunk it is published as an `Arc<Topology>`.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use warren_types::{
    ExchangeId, ExchangeName, GroupId, Member, NodeId, QueueId, QueueName, ReplicaId, ShardId,
    Table, TopologyIndex, VhostId, VhostName,
};

use crate::{
    binding::{Binding, BindingKey, Destination},
    cluster::{Cluster, Node},
    exchange::{Exchange, PREDECLARED},
    in_force::{InForce, Policies},
    maps::{OrdMap, OrdSet},
    placement::Placement,
    queue::Queue,
    route::{Published, RouteError, Routes, Targets},
    tenants::Tenants,
    vhost::Vhost,
};

/// Everything the cluster agrees on about itself.
#[derive(Clone, Debug)]
pub struct Topology {
    pub(crate) index: TopologyIndex,
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Few and rarely changed: copied as a whole.
    pub(crate) nodes: Arc<BTreeMap<NodeId, Node>>,
    /// Few and rarely changed: copied as a whole.
    pub(crate) placements: Arc<BTreeMap<GroupId, Placement>>,
    pub(crate) vhosts: OrdMap<VhostId, Space>,
    pub(crate) exchanges: OrdMap<ExchangeId, Arc<Exchange>>,
    pub(crate) queues: OrdMap<QueueId, Arc<Queue>>,
    /// Those of `queues` that have an owner.
    pub(crate) exclusive: OrdSet<QueueId>,
    /// An entry per shard, also while it is empty.
    pub(crate) shards: OrdMap<ShardId, OrdSet<QueueId>>,
    /// When the queues of a shard, or what is in force for them, last changed; a shard that is not named: never.
    pub(crate) touched: OrdMap<ShardId, TopologyIndex>,
    pub(crate) bindings: OrdMap<BindingKey, Arc<Binding>>,
    /// The same bindings by where they lead.
    pub(crate) inbound: OrdSet<(Destination, BindingKey)>,
    pub(crate) tenants: Tenants,
    pub(crate) policies: Policies,
    /// Follows from the policies and the names.
    pub(crate) in_force: InForce,
    pub(crate) next: Next,
}

/// The lowest numbers never given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Next {
    pub(crate) vhost: VhostId,
    pub(crate) exchange: ExchangeId,
    pub(crate) queue: QueueId,
    pub(crate) replica: ReplicaId,
}

/// A vhost with what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    pub(crate) vhost: Arc<Vhost>,
    pub(crate) exchanges: OrdMap<ExchangeName, Arc<Exchange>>,
    pub(crate) queues: OrdMap<QueueName, Arc<Queue>>,
    pub(crate) routes: Routes,
}

impl Space {
    pub(crate) fn new(vhost: Vhost) -> Self {
        Self {
            vhost: Arc::new(vhost),
            exchanges: OrdMap::new_sync(),
            queues: OrdMap::new_sync(),
            routes: Routes::new(),
        }
    }

    /// Those that were declared.
    pub(crate) fn own_exchanges(&self) -> usize {
        self.exchanges.size().saturating_sub(PREDECLARED.len())
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

impl Topology {
    /// Before the first command: vhost `/` with its predeclared exchanges, and no cluster.
    #[must_use]
    pub fn new() -> Self {
        let mut topology = Self::bare();
        let root = VhostName::try_from("/").expect("it is a valid name");
        topology.add_vhost(Vhost::new(Vhost::ROOT, root, TopologyIndex(0)));
        topology
    }

    /// Makes a vhost with its predeclared exchanges (features B2).
    pub(crate) fn add_vhost(&mut self, vhost: Vhost) {
        let (id, created_at) = (vhost.id, vhost.created_at);
        self.vhosts.insert_mut(id, Space::new(vhost));
        for (name, kind) in PREDECLARED {
            self.add_exchange(Exchange {
                id: self.next.exchange,
                vhost: id,
                name: ExchangeName::try_from(name).expect("it is a valid name"),
                kind,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: Table::new(),
                declared_at: created_at,
            });
            self.next.exchange.0 += 1;
        }
    }

    /// Nothing at all, not even vhosts: what a snapshot is read into.
    pub(crate) fn bare() -> Self {
        Self {
            index: TopologyIndex(0),
            cluster: None,
            nodes: Arc::default(),
            placements: Arc::default(),
            vhosts: OrdMap::new_sync(),
            exchanges: OrdMap::new_sync(),
            queues: OrdMap::new_sync(),
            exclusive: OrdSet::new_sync(),
            shards: OrdMap::new_sync(),
            touched: OrdMap::new_sync(),
            bindings: OrdMap::new_sync(),
            inbound: OrdSet::new_sync(),
            tenants: Tenants::new(),
            policies: Policies::new_sync(),
            in_force: InForce::new(),
            next: Next {
                vhost: VhostId(Vhost::ROOT.0 + 1),
                exchange: ExchangeId(1),
                queue: QueueId(1),
                replica: ReplicaId(1),
            },
        }
    }

    /// The index of the last entry of the topology's log that is in it.
    #[must_use]
    pub fn index(&self) -> TopologyIndex {
        self.index
    }

    /// Notes an entry of the log that is no command (a leader's blank one, a membership).
    pub fn advance(&mut self, to: TopologyIndex) {
        debug_assert!(self.index <= to, "the topology's log is applied in order");
        self.index = self.index.max(to);
    }

    /// `None`: not formed yet.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// By number.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&Node> {
        self.nodes.get(&node)
    }

    #[must_use]
    pub fn placement(&self, group: GroupId) -> Option<&Placement> {
        self.placements.get(&group)
    }

    /// By group; the topology's own first.
    pub fn placements(&self) -> impl ExactSizeIterator<Item = &Placement> + Clone {
        self.placements.values()
    }

    /// Whether a shard's replica was given to its node since that has the data directory it has now: only then may something be stored of it.
    #[must_use]
    pub fn is_kept(&self, member: &Member) -> bool {
        // Every directory is given a replica of the topology first, and ids only rise.
        let own = self.placement(GroupId::TOPOLOGY);
        let first = own.and_then(|it| it.on(member.node));
        first.is_some_and(|first| first.replica < member.replica)
    }

    /// Copies that a shard is to have; fewer if there are fewer nodes.
    #[must_use]
    pub fn wanted_copies(&self, placement: &Placement) -> u32 {
        let factor = self.cluster().map_or(0, |it| it.replication_factor);
        placement.copies.count(factor)
    }

    /// By number.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.shards.keys().copied()
    }

    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<&Vhost> {
        let spaces = self.vhosts.values();
        let mut vhosts = spaces.map(|space| &*space.vhost);
        vhosts.find(|vhost| vhost.name.as_str() == name)
    }

    #[must_use]
    pub fn vhost_by_id(&self, vhost: VhostId) -> Option<&Vhost> {
        Some(&*self.vhosts.get(&vhost)?.vhost)
    }

    pub fn vhosts(&self) -> impl Iterator<Item = &Vhost> {
        self.vhosts.values().map(|space| &*space.vhost)
    }

    /// The index at which the queues of a shard, or what is in force for them, last changed, or a later one.
    #[must_use]
    pub fn shard_changed_at(&self, shard: ShardId) -> TopologyIndex {
        self.touched
            .get(&shard)
            .copied()
            .unwrap_or(TopologyIndex(0))
    }

    pub(crate) fn touch(&mut self, shard: ShardId) {
        self.touched.insert_mut(shard, self.index);
    }

    #[must_use]
    pub fn exchange(&self, vhost: VhostId, name: &str) -> Option<&Exchange> {
        Some(&**self.vhosts.get(&vhost)?.exchanges.get(name)?)
    }

    #[must_use]
    pub fn exchange_by_id(&self, exchange: ExchangeId) -> Option<&Exchange> {
        Some(&**self.exchanges.get(&exchange)?)
    }

    #[must_use]
    pub fn queue(&self, vhost: VhostId, name: &str) -> Option<&Queue> {
        Some(&**self.vhosts.get(&vhost)?.queues.get(name)?)
    }

    #[must_use]
    pub fn queue_by_id(&self, queue: QueueId) -> Option<&Queue> {
        Some(&**self.queues.get(&queue)?)
    }

    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queues.size()
    }

    /// Exchanges of a vhost, without those that every vhost has.
    #[must_use]
    pub fn own_exchange_count(&self, vhost: VhostId) -> usize {
        self.vhosts.get(&vhost).map_or(0, |it| it.own_exchanges())
    }

    /// Every queue of every vhost, by id.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values().map(|it| &**it)
    }

    /// The queues that have an owner, by id.
    pub fn exclusive_queues(&self) -> impl Iterator<Item = &Queue> {
        let ids = self.exclusive.iter();
        ids.filter_map(|&id| self.queue_by_id(id))
    }

    /// The queues placed in a shard, by id.
    pub fn queues_of(&self, shard: ShardId) -> impl Iterator<Item = &Queue> {
        let ids = self.shards.get(&shard).into_iter().flat_map(OrdSet::iter);
        ids.filter_map(|&id| self.queue_by_id(id))
    }

    /// A page of a vhost's exchanges: in the order of their names, those after `after`. Take as many as the page holds.
    pub fn exchanges_after<'a>(
        &'a self,
        vhost: VhostId,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Exchange> + 'a {
        let space = self.vhosts.get(&vhost).into_iter();
        space
            .flat_map(move |it| {
                it.exchanges
                    .range::<str, _>((from(after), Bound::Unbounded))
            })
            .map(|(_, it)| &**it)
    }

    /// A page of a vhost's queues: in the order of their names, those after `after`. Take as many as the page holds.
    pub fn queues_after<'a>(
        &'a self,
        vhost: VhostId,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Queue> + 'a {
        let space = self.vhosts.get(&vhost).into_iter();
        space
            .flat_map(move |it| it.queues.range::<str, _>((from(after), Bound::Unbounded)))
            .map(|(_, it)| &**it)
    }

    /// An exchange's outgoing bindings, by routing key. The default exchange's are implied and not listed.
    pub fn bindings_from(&self, source: ExchangeId) -> impl Iterator<Item = &Binding> {
        let all = self.bindings.range(BindingKey::first_of(source)..);
        all.take_while(move |(key, _)| key.source == source)
            .map(|(_, it)| &**it)
    }

    /// The bindings that lead to a queue. The default exchange's is implied and not listed.
    pub fn bindings_to(&self, queue: QueueId) -> impl Iterator<Item = &Binding> {
        self.bindings_into(Destination::Queue(queue))
    }

    /// The bindings that lead to a queue or exchange.
    pub fn bindings_into(&self, to: Destination) -> impl Iterator<Item = &Binding> {
        let all = self
            .inbound
            .range((to, BindingKey::first_of(ExchangeId(0)))..);
        all.take_while(move |(it, _)| *it == to)
            .filter_map(|(_, key)| Some(&**self.bindings.get(key)?))
    }

    /// The queues that a message goes to, each once, into `out` (which is emptied first; reuse it, then nothing is allocated).
    /// No queue at all is not an error: the message is unroutable.
    ///
    /// # Errors
    /// [`RouteError`] if there is nothing to publish to.
    pub fn route(
        &self,
        vhost: VhostId,
        message: &Published<'_>,
        out: &mut Targets,
    ) -> Result<(), RouteError> {
        out.clear();
        let space = self
            .vhosts
            .get(&vhost)
            .ok_or(RouteError::NoSuchVhost { vhost })?;
        space.routes.route(message, out)
    }
}

fn from(after: Option<&str>) -> Bound<&str> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}
