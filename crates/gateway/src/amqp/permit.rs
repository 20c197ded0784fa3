//! What the methods of a channel need of its user: one exhaustive function from methods to the table of rights (features E4).
//! Not here: the table (`warren_topology::Operation`), publishing (`steps`), doing it (`operation`).

use warren_amqp::method::{exchange, queue};
use warren_amqp::{AmqpError, Request};
use warren_topology::{Operation, Topology, dead_letter_queue_of};
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
const DEAD_LETTER_QUEUE: &str = "x-dead-letter-queue";

/// # Errors
/// 403 for what the user may not do, as this copy of the topology says; what is wrong with the method itself is told by the operation.
pub(super) fn check(
    caller: &Caller,
    topology: &Topology,
    request: &Request,
    last: Option<&QueueName>,
) -> Result<(), AmqpError> {
    let asking = Asking {
        caller,
        topology,
        last,
    };
    match request {
        Request::ExchangeDeclare(it) => asking.declare_exchange(it),
        Request::ExchangeDelete(it) => match asking.exchange(&it.exchange) {
            Ok(name) => asking.may(Operation::DeleteExchange { exchange: &name }),
            Err(_) => Ok(()),
        },
        Request::ExchangeBind(it) => {
            asking.bind_exchange(&it.source, &it.destination, &it.routing_key)
        }
        Request::ExchangeUnbind(it) => {
            asking.bind_exchange(&it.source, &it.destination, &it.routing_key)
        }
        // An address of direct replies is no queue: it is the client's own.
        Request::QueueDeclare(it) if is_reply_name(&it.queue) => Ok(()),
        Request::Consume(it) if *it.queue == *DIRECT_REPLY_TO => Ok(()),
        Request::QueueDeclare(it) => asking.declare_queue(it),
        Request::QueueDelete(it) => {
            asking.may_with(&it.queue, |queue| Operation::DeleteQueue { queue })
        }
        Request::QueuePurge(it) => {
            asking.may_with(&it.queue, |queue| Operation::PurgeQueue { queue })
        }
        Request::QueueBind(it) => asking.bind_queue(&it.exchange, &it.queue, &it.routing_key),
        Request::QueueUnbind(it) => asking.bind_queue(&it.exchange, &it.queue, &it.routing_key),
        Request::Consume(it) => asking.may_with(&it.queue, |queue| Operation::Consume { queue }),
        Request::Get(it) => asking.may_with(&it.queue, |queue| Operation::Consume { queue }),
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

/// Who asks, and by what copy. Names are taken as the operation takes them: another spelling of one must not have other rights.
struct Asking<'a> {
    caller: &'a Caller,
    topology: &'a Topology,
    /// What the empty name of a queue stands for.
    last: Option<&'a QueueName>,
}

impl Asking<'_> {
    fn may(&self, operation: Operation<'_>) -> Result<(), AmqpError> {
        let asker = self.caller.who.asker(self.caller.vhost);
        let authorised = self.topology.authorise(asker, operation);
        authorised.map_err(|denied| error::denied(&denied))
    }

    fn queue(&self, text: &str) -> Result<String, AmqpError> {
        queue_or_last(text, self.last).map(|it| it.to_string())
    }

    fn exchange(&self, text: &str) -> Result<String, AmqpError> {
        exchange_name(text).map(|it| it.to_string())
    }

    fn may_with(
        &self,
        queue: &str,
        operation: impl FnOnce(&str) -> Operation<'_>,
    ) -> Result<(), AmqpError> {
        match self.queue(queue) {
            Ok(name) => self.may(operation(&name)),
            Err(_) => Ok(()),
        }
    }

    fn declare_exchange(&self, it: &exchange::Declare) -> Result<(), AmqpError> {
        let Ok(name) = self.exchange(&it.exchange) else {
            return Ok(());
        };
        self.may(if it.passive {
            Operation::ViewExchange { exchange: &name }
        } else {
            Operation::DeclareExchange {
                exchange: &name,
                alternate: it.arguments.get_str(ALTERNATE),
            }
        })
    }

    fn declare_queue(&self, it: &queue::Declare) -> Result<(), AmqpError> {
        if it.passive {
            return self.may_with(&it.queue, |queue| Operation::ViewQueue { queue });
        }
        let name = if it.queue.is_empty() {
            chosen_name(it.arguments.get_str("x-name-prefix"))
        } else {
            self.queue(&it.queue).unwrap_or_default()
        };
        self.may(Operation::DeclareQueue {
            queue: &name,
            dead_letter_exchange: it.arguments.get_str(DEAD_LETTER),
        })?;
        let own = it.arguments.get(DEAD_LETTER_QUEUE);
        match own.and_then(|_| dead_letter_queue_of(&name)) {
            // It is made with the queue, which is read for it.
            Some(dead) => {
                self.may(Operation::Consume { queue: &name })?;
                self.may(Operation::DeclareQueue {
                    queue: dead.as_str(),
                    dead_letter_exchange: None,
                })
            }
            None => Ok(()),
        }
    }

    fn bind_exchange(&self, source: &str, destination: &str, key: &str) -> Result<(), AmqpError> {
        let (Ok(source), Ok(destination)) = (self.exchange(source), self.exchange(destination))
        else {
            return Ok(());
        };
        self.may(Operation::BindExchange {
            source: &source,
            destination: &destination,
            routing_key: key,
        })
    }

    fn bind_queue(&self, source: &str, named: &str, key: &str) -> Result<(), AmqpError> {
        let (Ok(source), Ok(queue), Ok(_)) =
            (self.exchange(source), self.queue(named), routing_key(key))
        else {
            return Ok(());
        };
        // No queue and no key named: the key is the queue's name.
        let implied = named.is_empty() && key.is_empty();
        self.may(Operation::BindQueue {
            source: &source,
            queue: &queue,
            routing_key: if implied { &queue } else { key },
        })
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
