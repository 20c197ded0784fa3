//! The only places where exchanges, queues and bindings enter and leave the topology: each keeps all its indexes in step.
//! Not here: whether they may (one file per command). Reading a snapshot uses the same ones.

use std::sync::Arc;

use warren_types::{ExchangeId, QueueId, VhostId};

use crate::{
    binding::{Binding, BindingKey, Destination},
    exchange::Exchange,
    queue::Queue,
    route::{Hop, Target},
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
        let id = exchange.id;
        let alternate = exchange.alternate_argument();
        let space = self.space_mut(exchange.vhost);
        space.routes.add(&exchange, alternate);
        space
            .exchanges
            .insert_mut(exchange.name.clone(), Arc::clone(&exchange));
        self.exchanges.insert_mut(exchange.id, exchange);
        if !self.policies.is_empty() {
            self.hold_for_exchange(id);
        }
    }

    /// With its bindings in both directions, and the auto-delete exchanges that thereby lose their last outgoing one. A chain of
    /// those is followed here, not by calls into calls.
    pub(crate) fn remove_exchange(&mut self, id: ExchangeId) {
        let mut leaving = vec![id];
        while let Some(id) = leaving.pop() {
            let Some(exchange) = self.exchanges.get(&id).map(Arc::clone) else {
                continue;
            };
            let outgoing: Vec<BindingKey> = self.bindings_from(id).map(Binding::key).collect();
            for key in &outgoing {
                self.remove_binding(key);
            }
            let to = Destination::Exchange(id);
            let inbound: Vec<BindingKey> = self.bindings_into(to).map(Binding::key).collect();
            for key in &inbound {
                self.remove_binding(key);
                if self.is_finished(key.source) {
                    leaving.push(key.source);
                }
            }
            let space = self.space_mut(exchange.vhost);
            space.routes.remove(&exchange.name);
            space.exchanges.remove_mut(&exchange.name);
            self.exchanges.remove_mut(&id);
            self.in_force.forget_exchange(id);
        }
    }

    /// An auto-delete exchange that has no outgoing binding (any more).
    fn is_finished(&self, exchange: ExchangeId) -> bool {
        let goes = self
            .exchanges
            .get(&exchange)
            .is_some_and(|it| it.auto_delete);
        goes && self.bindings_from(exchange).next().is_none()
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
        if queue.is_exclusive() {
            self.exclusive.insert_mut(queue.id);
        }
        self.touch(queue.shard);
        let id = queue.id;
        self.queues.insert_mut(id, queue);
        if !self.policies.is_empty() {
            self.hold_for_queue(id);
        }
    }

    /// Changes what is kept of a queue beside its name, shard and owner. `false`: there is none.
    pub(crate) fn change_queue(&mut self, id: QueueId, change: impl FnOnce(&mut Queue)) -> bool {
        let Some(found) = self.queues.get(&id) else {
            return false;
        };
        let mut queue = Queue::clone(found);
        change(&mut queue);
        let queue = Arc::new(queue);
        let space = self.space_mut(queue.vhost);
        space
            .queues
            .insert_mut(queue.name.clone(), Arc::clone(&queue));
        self.touch(queue.shard);
        self.queues.insert_mut(id, queue);
        true
    }

    /// With the bindings that lead to it, and the auto-delete exchanges that thereby lose their last one.
    pub(crate) fn remove_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get(&id).map(Arc::clone) else {
            return;
        };
        let bindings: Vec<BindingKey> = self.bindings_to(id).map(Binding::key).collect();
        for key in &bindings {
            self.drop_binding(key);
        }
        self.queues.remove_mut(&id);
        self.exclusive.remove_mut(&id);
        self.in_force.forget_queue(id);
        self.touch(queue.shard);
        if let Some(shard) = self.shards.get_mut(&queue.shard) {
            shard.remove_mut(&id);
        }
        let space = self.space_mut(queue.vhost);
        space.routes.default.remove(&queue.name);
        space.queues.remove_mut(&queue.name);
    }

    /// `false`: it was there already.
    pub(crate) fn add_binding(&mut self, it: Binding) -> bool {
        let key = it.key();
        if self.bindings.contains_key(&key) {
            return false;
        }
        let (source, hop) = (self.source(it.source), self.hop(it.destination));
        let routes = &mut self.space_mut(source.vhost).routes;
        routes.bind(&source.name, &it, hop);
        self.inbound.insert_mut((it.destination, key.clone()));
        self.bindings.insert_mut(key, Arc::new(it));
        true
    }

    /// Removes a binding, and its exchange if that was its last one and it is to go with it.
    pub(crate) fn drop_binding(&mut self, key: &BindingKey) -> bool {
        let existed = self.remove_binding(key);
        if existed && self.is_finished(key.source) {
            self.remove_exchange(key.source);
        }
        existed
    }

    fn remove_binding(&mut self, key: &BindingKey) -> bool {
        let Some(binding) = self.bindings.get(key).map(Arc::clone) else {
            return false;
        };
        self.bindings.remove_mut(key);
        self.inbound.remove_mut(&(key.destination, key.clone()));
        let (source, hop) = (self.source(key.source), self.hop(key.destination));
        let routes = &mut self.space_mut(source.vhost).routes;
        routes.unbind(&source.name, &binding, &hop);
        true
    }

    fn source(&self, exchange: ExchangeId) -> Arc<Exchange> {
        let source = self.exchanges.get(&exchange).map(Arc::clone);
        source.expect("a binding comes from a declared exchange")
    }

    fn hop(&self, destination: Destination) -> Hop {
        match destination {
            Destination::Queue(queue) => {
                let found = self.queues.get(&queue);
                let shard = found.expect("a binding leads to a declared queue").shard;
                Hop::Queue(Target { queue, shard })
            }
            Destination::Exchange(exchange) => {
                let found = self.exchanges.get(&exchange);
                let found = found.expect("a binding leads to a declared exchange");
                Hop::Exchange(found.name.clone())
            }
        }
    }
}
