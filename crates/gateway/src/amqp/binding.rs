//! Bindings of queues and exchanges (queue.bind, queue.unbind, exchange.bind, exchange.unbind; features C24, C26).
//! Not here: other operations (`operation`), what a binding routes (`warren-topology`).

use std::sync::Arc;

use warren_amqp::method::{exchange, queue};
use warren_amqp::{AmqpError, Method, MethodId};
use warren_topology::{Bind, BindTo, TopologyCommand, Unbind};
use warren_types::{QueueName, RoutingKey, Table};

use super::caller::Caller;
use super::names::{exchange_name, queue_or_last, routing_key};
use super::operation::{Answer, answer, failed, reply};

/// No queue and no key named: the key is the queue's name.
fn binding_key(named_queue: &str, key: &str, queue: &QueueName) -> Result<RoutingKey, AmqpError> {
    let implied = named_queue.is_empty() && key.is_empty();
    routing_key(if implied { queue.as_str() } else { key })
}

impl Caller {
    fn bind(
        &self,
        source: &str,
        to: BindTo,
        routing_key: RoutingKey,
        arguments: Table,
    ) -> Result<TopologyCommand, AmqpError> {
        Ok(TopologyCommand::Bind(Bind {
            vhost: self.vhost,
            source: exchange_name(source)?,
            to,
            routing_key,
            arguments,
            requester: Some(self.owner.clone()),
        }))
    }

    fn unbind(
        &self,
        source: &str,
        to: BindTo,
        routing_key: RoutingKey,
        arguments: Table,
    ) -> Result<TopologyCommand, AmqpError> {
        Ok(TopologyCommand::Unbind(Unbind {
            vhost: self.vhost,
            source: exchange_name(source)?,
            to,
            routing_key,
            arguments,
            requester: Some(self.owner.clone()),
        }))
    }

    async fn do_it(
        &self,
        method: MethodId,
        command: Result<TopologyCommand, AmqpError>,
        reply: Option<Method>,
    ) -> Answer {
        let command = match command {
            Ok(command) => command,
            Err(error) => return Answer::Failed(error.for_method(method)),
        };
        let changed = self.change(command).await.map_err(failed(method));
        answer(changed.map(|_| Answer::Reply(reply)))
    }
}

pub(super) async fn bind_queue(
    caller: Arc<Caller>,
    it: queue::Bind,
    last: Option<QueueName>,
) -> Answer {
    let command = queue_or_last(&it.queue, last.as_ref()).and_then(|queue| {
        let key = binding_key(&it.queue, &it.routing_key, &queue)?;
        caller.bind(&it.exchange, BindTo::Queue(queue), key, it.arguments)
    });
    let ok = reply(it.no_wait, queue::BindOk {});
    caller.do_it(queue::Bind::ID, command, ok).await
}

pub(super) async fn unbind_queue(
    caller: Arc<Caller>,
    it: queue::Unbind,
    last: Option<QueueName>,
) -> Answer {
    let command = queue_or_last(&it.queue, last.as_ref()).and_then(|queue| {
        let key = binding_key(&it.queue, &it.routing_key, &queue)?;
        caller.unbind(&it.exchange, BindTo::Queue(queue), key, it.arguments)
    });
    let ok = reply(false, queue::UnbindOk {});
    caller.do_it(queue::Unbind::ID, command, ok).await
}

pub(super) async fn bind_exchange(caller: Arc<Caller>, it: exchange::Bind) -> Answer {
    let command = exchange_name(&it.destination).and_then(|to| {
        let key = routing_key(&it.routing_key)?;
        caller.bind(&it.source, BindTo::Exchange(to), key, it.arguments)
    });
    let ok = reply(it.no_wait, exchange::BindOk {});
    caller.do_it(exchange::Bind::ID, command, ok).await
}

pub(super) async fn unbind_exchange(caller: Arc<Caller>, it: exchange::Unbind) -> Answer {
    let command = exchange_name(&it.destination).and_then(|to| {
        let key = routing_key(&it.routing_key)?;
        caller.unbind(&it.source, BindTo::Exchange(to), key, it.arguments)
    });
    let ok = reply(it.no_wait, exchange::UnbindOk {});
    caller.do_it(exchange::Unbind::ID, command, ok).await
}
