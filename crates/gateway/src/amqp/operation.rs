//! Operations that wait for the topology's leader or a queue's: each is one future, and its answer what the channel does then.
//! Not here: the state of channels (`steps`), the operations both fronts share (`operations`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use warren_amqp::method::{basic, exchange, queue};
use warren_amqp::{AmqpError, ChannelId, Method, ShortString};
use warren_shard::PurgeStates;
use warren_shard::api::{QueueStats, Target};
use warren_topology::{
    DeclareExchange, DeclareQueue, Declared, DeleteExchange, ExchangeKind, NewQueueName, Queue,
    Refusal, Topology, TopologyCommand, TopologyReply,
};
use warren_types::{ConsumerId, QueueId, QueueName, VhostId, VhostName};

use super::caller::Caller;
use super::error;
use super::names::{exchange_name, queue_name, queue_or_last};
use crate::auth::{LoginError, Who};
use crate::gateway::Gateway;
use crate::operations::{DeleteIf, OperationError, generated_name, target_of};

/// Names the server chooses begin with this argument's text instead of `amq.gen-` (features B26).
const NAME_PREFIX: &str = "x-name-prefix";
/// How long a queue's leader has to tell its counts.
const STATS_WITHIN: Duration = Duration::from_secs(5);

pub(super) type Operation = Pin<Box<dyn Future<Output = Finished> + Send>>;

/// An operation's answer, and which channel (by its opening) waits for it.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) channel: ChannelId,
    pub(super) slot: u32,
    pub(super) answer: Answer,
}

/// Who counts, and whether it had its message by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Getter {
    pub(super) consumer: ConsumerId,
    pub(super) has_message: bool,
}

#[derive(Debug)]
pub(super) enum Answer {
    /// `None`: the client asked for no answer.
    Reply(Option<Method>),
    Failed(AmqpError),
    Declared {
        queue: QueueName,
        /// It is this connection's alone.
        exclusive: Option<QueueId>,
        reply: Option<Method>,
    },
    /// The queue to consume from.
    Consume(Box<(basic::Consume, Queue)>),
    /// The queue to get from.
    Get(Box<(basic::Get, Queue)>),
    /// How many ready messages the queue of a get has; `None`: not known.
    Ready {
        by: Getter,
        ready: Option<u64>,
    },
    /// The topology was asked: try the step again.
    Again,
    /// Who the client is, or why it is not known.
    Login(Result<Who, LoginError>),
    /// Whether a new secret is right, and its user may stay.
    Secret(Result<(), AmqpError>),
    /// The vhost to open.
    Vhost(VhostId, VhostName),
    /// The exclusive queues are gone.
    Cleaned,
}

pub(super) fn failed(method: warren_amqp::MethodId) -> impl Fn(OperationError) -> AmqpError {
    move |error| error::operation(&error).for_method(method)
}

pub(super) fn reply(no_wait: bool, method: impl Into<Method>) -> Option<Method> {
    (!no_wait).then(|| method.into())
}

fn count(messages: u64) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}

pub(super) fn answer(result: Result<Answer, AmqpError>) -> Answer {
    result.unwrap_or_else(Answer::Failed)
}

impl Caller {
    pub(super) async fn change(
        &self,
        command: TopologyCommand,
    ) -> Result<TopologyReply, OperationError> {
        self.gateway.change(command, self.user.as_str()).await
    }

    async fn fresh(&self) -> Result<Arc<Topology>, OperationError> {
        self.gateway.fresh_topology().await
    }

    fn no_queue(&self, queue: QueueName) -> OperationError {
        OperationError::Refused(Refusal::NoSuchQueue {
            vhost: self.vhost_name.clone(),
            queue,
        })
    }

    fn locked(&self, queue: QueueName) -> OperationError {
        OperationError::Refused(Refusal::ResourceLocked {
            vhost: self.vhost_name.clone(),
            queue,
        })
    }

    /// Counts from the queue's leader.
    async fn stats(&self, queue: &QueueName, target: Target) -> Result<QueueStats, OperationError> {
        let ask = || self.gateway.broker().queue_stats(target);
        match timeout(STATS_WITHIN, self.gateway.ask(target.queue, ask)).await {
            Ok(Some(stats)) => Ok(stats),
            Ok(None) => Err(self.no_queue(queue.clone())),
            Err(_) => Err(OperationError::DepthUnknown {
                queue: queue.clone(),
            }),
        }
    }
}

/// Looks the vhost of connection.open up, and whether the user may use it (features C6): else 530.
pub(super) async fn find_vhost(gateway: Gateway, who: Who, name: ShortString) -> Answer {
    let known = |topology: &Topology| {
        let vhost = topology
            .vhost(&name)
            .ok_or_else(|| AmqpError::not_allowed(format_args!("vhost {} not found", &*name)))?;
        topology
            .authorise(who.asker(vhost.id), warren_topology::Operation::OpenVhost)
            .map_err(AmqpError::not_allowed)?;
        Ok((vhost.id, vhost.name.clone()))
    };
    let mut found = known(&gateway.topology());
    if found.is_err() {
        found = match gateway.fresh_topology().await {
            Ok(topology) => known(&topology),
            Err(error) => Err(error::operation(&error)),
        };
    }
    match found {
        Ok((vhost, name)) => Answer::Vhost(vhost, name),
        Err(error) => Answer::Failed(error.for_method(warren_amqp::method::connection::Open::ID)),
    }
}

/// Asks the topology's leader, so that a negative answer may be given.
pub(super) async fn refresh(caller: Arc<Caller>) -> Answer {
    match caller.fresh().await {
        Ok(_) => Answer::Again,
        Err(error) => Answer::Failed(failed(basic::Publish::ID)(error)),
    }
}

pub(super) async fn declare_queue(
    caller: Arc<Caller>,
    it: queue::Declare,
    last: Option<QueueName>,
) -> Answer {
    let declared = if it.passive {
        declare_passively(&caller, &it, last.as_ref()).await
    } else {
        declare(&caller, &it).await
    };
    let error = |error: AmqpError| error.for_method(queue::Declare::ID);
    answer(declared.map_err(error))
}

async fn declare(caller: &Caller, it: &queue::Declare) -> Result<Answer, AmqpError> {
    let name = if it.queue.is_empty() {
        let prefix = it.arguments.get_str(NAME_PREFIX);
        generated_name(prefix.map(queue_name).transpose()?)
    } else {
        NewQueueName::Named(queue_name(&it.queue)?)
    };
    let command = DeclareQueue {
        vhost: caller.vhost,
        name,
        durable: it.durable,
        auto_delete: it.auto_delete,
        exclusive: it.exclusive,
        arguments: it.arguments.clone(),
        requester: Some(caller.owner.clone()),
    };
    let failed = failed(queue::Declare::ID);
    let reply = caller
        .change(TopologyCommand::DeclareQueue(command))
        .await
        .map_err(|error| queue_limit(&it.queue, &error).unwrap_or_else(|| failed(error)))?;
    let TopologyReply::QueueDeclared {
        queue,
        shard,
        name,
        declared,
    } = reply
    else {
        return Err(failed(OperationError::UnexpectedReply));
    };
    let stats = match declared {
        Declared::Created => QueueStats::default(),
        Declared::Existed if it.no_wait => QueueStats::default(),
        Declared::Existed => caller
            .stats(&name, Target { queue, shard })
            .await
            .map_err(&failed)?,
    };
    Ok(Answer::Declared {
        reply: declare_ok(it.no_wait, &name, &stats),
        queue: name,
        exclusive: it.exclusive.then_some(queue),
    })
}

/// 406 with RabbitMQ's text for a vhost with as many queues as it may have.
fn queue_limit(queue: &str, error: &OperationError) -> Option<AmqpError> {
    let OperationError::Refused(Refusal::VhostLimitReached { vhost, limit, .. }) = error else {
        return None;
    };
    Some(AmqpError::precondition_failed(format_args!(
        "cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached"
    )))
}

async fn declare_passively(
    caller: &Caller,
    it: &queue::Declare,
    last: Option<&QueueName>,
) -> Result<Answer, AmqpError> {
    let failed = failed(queue::Declare::ID);
    let name = queue_or_last(&it.queue, last)?;
    let topology = caller.fresh().await.map_err(&failed)?;
    let queue = topology
        .queue(caller.vhost, name.as_str())
        .ok_or_else(|| failed(caller.no_queue(name.clone())))?;
    if !queue.is_open_to(Some(&caller.owner)) {
        return Err(failed(caller.locked(name)));
    }
    let stats = caller
        .stats(&name, target_of(queue))
        .await
        .map_err(&failed)?;
    Ok(Answer::Declared {
        reply: declare_ok(it.no_wait, &name, &stats),
        queue: name,
        exclusive: None,
    })
}

fn declare_ok(no_wait: bool, name: &QueueName, stats: &QueueStats) -> Option<Method> {
    let declare_ok = queue::DeclareOk {
        queue: ShortString::from(name),
        message_count: count(stats.ready),
        consumer_count: count(stats.consumers),
    };
    reply(no_wait, declare_ok)
}

pub(super) async fn delete_queue(
    caller: Arc<Caller>,
    it: queue::Delete,
    last: Option<QueueName>,
) -> Answer {
    let name = match queue_or_last(&it.queue, last.as_ref()) {
        Ok(name) => name,
        Err(error) => return Answer::Failed(error.for_method(queue::Delete::ID)),
    };
    let condition = DeleteIf {
        unused: it.if_unused,
        empty: it.if_empty,
    };
    let deleted = caller
        .gateway
        .delete_queue(
            &caller.vhost_name,
            &name,
            None,
            condition,
            Some(caller.owner.clone()),
            caller.user.as_str(),
        )
        .await;
    let deleted = deleted.map_err(failed(queue::Delete::ID));
    answer(deleted.map(|messages| {
        let message_count = count(messages);
        Answer::Reply(reply(it.no_wait, queue::DeleteOk { message_count }))
    }))
}

pub(super) async fn purge_queue(
    caller: Arc<Caller>,
    it: queue::Purge,
    last: Option<QueueName>,
) -> Answer {
    let failed = failed(queue::Purge::ID);
    let purged = async {
        let name = queue_or_last(&it.queue, last.as_ref())
            .map_err(|error| error.for_method(queue::Purge::ID))?;
        let queue = caller.find(&name).await.map_err(&failed)?;
        let states = PurgeStates::default();
        let purged = caller.gateway.purge_queue(&queue, states);
        purged.await.map_err(&failed)
    };
    answer(purged.await.map(|messages| {
        let message_count = count(messages);
        Answer::Reply(reply(it.no_wait, queue::PurgeOk { message_count }))
    }))
}

impl Caller {
    async fn find(&self, name: &QueueName) -> Result<Queue, OperationError> {
        self.gateway
            .find_queue(&self.vhost_name, name, Some(&self.owner))
            .await
    }
}

pub(super) async fn declare_exchange(caller: Arc<Caller>, it: exchange::Declare) -> Answer {
    let declared = if it.passive {
        find_exchange(&caller, &it).await
    } else {
        create_exchange(&caller, &it).await
    };
    let declared = declared.map_err(|error| error.for_method(exchange::Declare::ID));
    answer(declared.map(|()| Answer::Reply(reply(it.no_wait, exchange::DeclareOk {}))))
}

async fn find_exchange(caller: &Caller, it: &exchange::Declare) -> Result<(), AmqpError> {
    let name = exchange_name(&it.exchange)?;
    let topology = caller
        .fresh()
        .await
        .map_err(|error| error::operation(&error))?;
    match topology.exchange(caller.vhost, name.as_str()) {
        Some(_) => Ok(()),
        None => {
            let vhost = caller.vhost_name.clone();
            let refusal = Refusal::NoSuchExchange {
                vhost,
                exchange: name,
            };
            Err(error::operation(&OperationError::Refused(refusal)))
        }
    }
}

async fn create_exchange(caller: &Caller, it: &exchange::Declare) -> Result<(), AmqpError> {
    let command = DeclareExchange {
        vhost: caller.vhost,
        name: exchange_name(&it.exchange)?,
        kind: ExchangeKind::try_from(&*it.kind).map_err(AmqpError::precondition_failed)?,
        durable: it.durable,
        auto_delete: it.auto_delete,
        internal: it.internal,
        arguments: it.arguments.clone(),
    };
    let declared = caller
        .change(TopologyCommand::DeclareExchange(command))
        .await;
    declared.map(drop).map_err(|error| error::operation(&error))
}

pub(super) async fn delete_exchange(caller: Arc<Caller>, it: exchange::Delete) -> Answer {
    let name = match exchange_name(&it.exchange) {
        Ok(name) => name,
        Err(error) => return Answer::Failed(error.for_method(exchange::Delete::ID)),
    };
    let command = DeleteExchange {
        vhost: caller.vhost,
        name,
        if_unused: it.if_unused,
    };
    let deleted = caller
        .change(TopologyCommand::DeleteExchange(command))
        .await;
    let deleted = deleted.map_err(failed(exchange::Delete::ID));
    answer(deleted.map(|_| Answer::Reply(reply(it.no_wait, exchange::DeleteOk {}))))
}

pub(super) async fn find_to_consume(
    caller: Arc<Caller>,
    it: basic::Consume,
    last: Option<QueueName>,
) -> Answer {
    match find_or_last(&caller, &it.queue, last, basic::Consume::ID).await {
        Ok(queue) => Answer::Consume(Box::new((it, queue))),
        Err(error) => Answer::Failed(error),
    }
}

pub(super) async fn find_to_get(
    caller: Arc<Caller>,
    it: basic::Get,
    last: Option<QueueName>,
) -> Answer {
    match find_or_last(&caller, &it.queue, last, basic::Get::ID).await {
        Ok(queue) => Answer::Get(Box::new((it, queue))),
        Err(error) => Answer::Failed(error),
    }
}

async fn find_or_last(
    caller: &Caller,
    text: &str,
    last: Option<QueueName>,
    method: warren_amqp::MethodId,
) -> Result<Queue, AmqpError> {
    let name = queue_or_last(text, last.as_ref()).map_err(|error| error.for_method(method))?;
    caller.find(&name).await.map_err(failed(method))
}

/// Counts a queue's ready messages for a get, after a while.
pub(super) async fn count_ready(
    caller: Arc<Caller>,
    by: Getter,
    target: Target,
    after: Duration,
) -> Answer {
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
    let stats = caller.gateway.broker().queue_stats(target).await;
    // What waits for its group key is none that a get may have.
    let counted = |stats: QueueStats| {
        let held_back = if by.has_message { 0 } else { stats.held_back };
        stats.ready.saturating_sub(held_back)
    };
    let ready = stats.ok().flatten().map(counted);
    Answer::Ready { by, ready }
}
