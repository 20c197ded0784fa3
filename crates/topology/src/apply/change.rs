//! The only places where exchanges, queues and bindings enter and leave the topology: each keeps all its indexes in step.
//! Not here: whether they may (one file per command). Reading a snapshot uses the same ones.

use std::sync::Arc;

use warren_types::{ExchangeId, ExchangeName, QueueId, VhostId};

use crate::{
    binding::{Binding, BindingKey, Destination},
    exchange::Exchange,
    queue::Queue,
    route::Target,
    topology::{Space, Topology},
};

impl Topology {
    fn space_mut(&mut self, vhost: VhostId) -> &mut Space {
        self.vhosts
            .get_mut(&vhost)
            .expect("the caller has found the vhost")
    }

    pub(crate) fn add_exchange(&mut self, exchange: Exchange) {
        let exchange = Arc::new(exchange);
        let space = self.space_mut(exchange.vhost);
        space.routes.add(&exchange);
        space
            .exchanges
            .insert_mut(exchange.name.clone(), Arc::clone(&exchange));
        self.exchanges.insert_mut(exchange.id, exchange);
    }

    /// With its bindings.
    pub(crate) fn remove_exchange(&mut self, vhost: VhostId, name: &ExchangeName, id: ExchangeId) {
        let bindings: Vec<BindingKey> = self.bindings_from(id).map(Binding::key).collect();
        for key in &bindings {
            self.remove_binding(vhost, name, key);
        }
        let space = self.space_mut(vhost);
        space.routes.remove(name);
        space.exchanges.remove_mut(name);
        self.exchanges.remove_mut(&id);
    }

    pub(crate) fn add_queue(&mut self, queue: Queue) {
        let queue = Arc::new(queue);
        let space = self.space_mut(queue.vhost);
        space.routes.default.add(
            queue.name.clone(),
            Target {
                queue: queue.id,
                shard: queue.shard,
            },
        );
        space
            .queues
            .insert_mut(queue.name.clone(), Arc::clone(&queue));
        self.shards
            .get_mut(&queue.shard)
            .expect("a queue is placed in a known shard")
            .insert_mut(queue.id);
        self.queues.insert_mut(queue.id, queue);
    }

    /// With the bindings that lead to it, and the auto-delete exchanges that thereby lose their last one.
    pub(crate) fn remove_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get(&id).map(Arc::clone) else {
            return;
        };
        let bindings: Vec<BindingKey> = self.bindings_to(id).map(Binding::key).collect();
        for key in &bindings {
            self.drop_binding(queue.vhost, key);
        }
        self.queues.remove_mut(&id);
        if let Some(shard) = self.shards.get_mut(&queue.shard) {
            shard.remove_mut(&id);
        }
        let space = self.space_mut(queue.vhost);
        space.routes.default.remove(&queue.name);
        space.queues.remove_mut(&queue.name);
    }

    /// `false`: it was there already.
    pub(crate) fn add_binding(&mut self, vhost: VhostId, from: &ExchangeName, it: Binding) -> bool {
        let key = it.key();
        if self.bindings.contains_key(&key) {
            return false;
        }
        let target = self.target(it.destination);
        self.space_mut(vhost)
            .routes
            .bind(from, it.routing_key.as_str(), target);
        self.inbound.insert_mut((it.destination, key.clone()));
        self.bindings.insert_mut(key, Arc::new(it));
        true
    }

    /// Removes a binding, and its exchange if that was its last one and it is to go with it.
    pub(crate) fn drop_binding(&mut self, vhost: VhostId, key: &BindingKey) -> bool {
        let Some(source) = self.exchanges.get(&key.source).map(Arc::clone) else {
            return false;
        };
        let existed = self.remove_binding(vhost, &source.name, key);
        if existed && source.auto_delete && self.bindings_from(source.id).next().is_none() {
            self.remove_exchange(vhost, &source.name, source.id);
        }
        existed
    }

    fn remove_binding(&mut self, vhost: VhostId, from: &ExchangeName, key: &BindingKey) -> bool {
        if !self.bindings.remove_mut(key) {
            return false;
        }
        self.inbound.remove_mut(&(key.destination, key.clone()));
        let target = self.target(key.destination);
        self.space_mut(vhost)
            .routes
            .unbind(from, key.routing_key.as_str(), target);
        true
    }

    fn target(&self, destination: Destination) -> Target {
        let Destination::Queue(queue) = destination;
        let shard = self
            .queues
            .get(&queue)
            .expect("a binding leads to a declared queue")
            .shard;
        Target { queue, shard }
    }
}
