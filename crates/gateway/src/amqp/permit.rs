//! What the methods of a channel need of its user: one exhaustive function from methods to the table of rights (features E4).
//! Not here: the table (`warren_topology::Operation`), publishing (`steps`), doing it (`operation`).

use warren_amqp::{AmqpError, Request};
use warren_topology::{Operation, Topology};
use warren_types::QueueName;

use super::caller::Caller;
use super::error;
use super::names::{exchange_name, queue_name, queue_or_last, routing_key};
use super::reply::is_reply_name;
use crate::replies::DIRECT_REPLY_TO;

/// Stands for the letters of a name that the server chooses.
const CHOSEN: &str = "amq.gen-AAAAAAAAAAAAAAAAAAAAAA";
const ALTERNATE: &str = "alternate-exchange";
const DEAD_LETTER: &str = "x-dead-letter-exchange";

/// # Errors
/// 403 for what the user may not do, as this copy of the topology says; what is wrong with the method itself is told by the operation.
pub(super) fn check(
    caller: &Caller,
    topology: &Topology,
    request: &Request,
    last: Option<&QueueName>,
) -> Result<(), AmqpError> {
    // Names as the operation takes them: another spelling of one must not have other rights.
    let queue = |text: &str| queue_or_last(text, last).map(|it| it.to_string());
    let exchange = |text: &str| exchange_name(text).map(|it| it.to_string());
    let may = |operation: Operation<'_>| {
        let asker = caller.who.asker(caller.vhost);
        topology
            .authorise(asker, operation)
            .map_err(|denied| error::denied(&denied))
    };
    match request {
        Request::ExchangeDeclare(it) => {
            let Ok(name) = exchange(&it.exchange) else {
                return Ok(());
            };
            may(if it.passive {
                Operation::ViewExchange { exchange: &name }
            } else {
                Operation::DeclareExchange {
                    exchange: &name,
                    alternate: it.arguments.get_str(ALTERNATE),
                }
            })
        }
        Request::ExchangeDelete(it) => match exchange(&it.exchange) {
            Ok(name) => may(Operation::DeleteExchange { exchange: &name }),
            Err(_) => Ok(()),
        },
        Request::ExchangeBind(it) => {
            bind_exchange(&it.source, &it.destination, &it.routing_key, may)
        }
        Request::ExchangeUnbind(it) => {
            bind_exchange(&it.source, &it.destination, &it.routing_key, may)
        }
        // An address of direct replies is no queue: it is the client's own.
        Request::QueueDeclare(it) if is_reply_name(&it.queue) => Ok(()),
        Request::Consume(it) if *it.queue == *DIRECT_REPLY_TO => Ok(()),
        Request::QueueDeclare(it) if it.passive => match queue(&it.queue) {
            Ok(name) => may(Operation::ViewQueue { queue: &name }),
            Err(_) => Ok(()),
        },
        Request::QueueDeclare(it) => {
            let name = if it.queue.is_empty() {
                chosen_name(it.arguments.get_str("x-name-prefix"))
            } else {
                queue(&it.queue).unwrap_or_default()
            };
            may(Operation::DeclareQueue {
                queue: &name,
                dead_letter_exchange: it.arguments.get_str(DEAD_LETTER),
            })
        }
        Request::QueueDelete(it) => match queue(&it.queue) {
            Ok(name) => may(Operation::DeleteQueue { queue: &name }),
            Err(_) => Ok(()),
        },
        Request::QueuePurge(it) => match queue(&it.queue) {
            Ok(name) => may(Operation::PurgeQueue { queue: &name }),
            Err(_) => Ok(()),
        },
        Request::QueueBind(it) => bind_queue(
            (&it.exchange, &it.queue, &it.routing_key),
            queue(&it.queue),
            may,
        ),
        Request::QueueUnbind(it) => bind_queue(
            (&it.exchange, &it.queue, &it.routing_key),
            queue(&it.queue),
            may,
        ),
        Request::Consume(it) => match queue(&it.queue) {
            Ok(name) => may(Operation::Consume { queue: &name }),
            Err(_) => Ok(()),
        },
        Request::Get(it) => match queue(&it.queue) {
            Ok(name) => may(Operation::Consume { queue: &name }),
            Err(_) => Ok(()),
        },
        // Of what the channel has by right already.
        Request::Qos(_)
        | Request::Cancel(_)
        | Request::Ack(_)
        | Request::Nack(_)
        | Request::Reject(_)
        | Request::Recover { .. }
        | Request::ConfirmSelect(_)
        | Request::TxSelect
        | Request::TxCommit
        | Request::TxRollback => Ok(()),
    }
}

fn chosen_name(prefix: Option<&str>) -> String {
    let usual = warren_topology::NewQueueName::PREFIX;
    let letters = CHOSEN.strip_prefix(usual).unwrap_or(CHOSEN);
    let prefix = prefix.and_then(|it| queue_name(it).ok());
    format!(
        "{}{letters}",
        prefix.as_ref().map_or(usual, QueueName::as_str)
    )
}

fn bind_exchange(
    source: &str,
    destination: &str,
    key: &str,
    may: impl FnOnce(Operation<'_>) -> Result<(), AmqpError>,
) -> Result<(), AmqpError> {
    let (Ok(source), Ok(destination)) = (exchange_name(source), exchange_name(destination)) else {
        return Ok(());
    };
    may(Operation::BindExchange {
        source: source.as_str(),
        destination: destination.as_str(),
        routing_key: key,
    })
}

fn bind_queue(
    (source, named, key): (&str, &str, &str),
    queue: Result<String, AmqpError>,
    may: impl FnOnce(Operation<'_>) -> Result<(), AmqpError>,
) -> Result<(), AmqpError> {
    let (Ok(source), Ok(queue), Ok(_)) = (exchange_name(source), queue, routing_key(key)) else {
        return Ok(());
    };
    // No queue and no key named: the key is the queue's name.
    let implied = named.is_empty() && key.is_empty();
    may(Operation::BindQueue {
        source: source.as_str(),
        queue: &queue,
        routing_key: if implied { &queue } else { key },
    })
}
