//! Where messages of a delayed exchange wait until they are due (features B11, ADR 0063): in a queue of its own, which passes them on to
//! the exchange then. Not here: scheduling (`warren-queue`), passing on (`shard`), who declares the queue (`gateway`).

use warren_types::{ExchangeId, ExchangeName, QueueName, Table, VhostId};

use crate::{
    arguments::DEAD_LETTER_EXCHANGE,
    command::{DeclareQueue, NewQueueName, TopologyCommand},
    exchange::{Exchange, ExchangeKind},
    queue::{Queue, QueueOwner},
    topology::Topology,
};

const PREFIX: &str = "amq.delayed-";
/// The owner of such a queue: nobody else may use it. The first letter keeps it apart from the names that clients give themselves.
const OWNER: &str = "\u{0}exchange ";

impl Exchange {
    /// The queue where its messages wait; `None`: it delays nothing.
    pub(crate) fn delay_queue(&self) -> Option<QueueName> {
        (self.kind == ExchangeKind::Delayed).then(|| {
            let name = self.new_delay_queue().name();
            name.expect("a prefix and letters are a name")
        })
    }

    fn new_delay_queue(&self) -> NewQueueName {
        NewQueueName::Generated {
            prefix: QueueName::try_from(PREFIX).ok(),
            token: u128::from(self.id.0),
        }
    }
}

impl Queue {
    /// The exchange whose messages wait in it until they are due; `None`: it is a queue as any other.
    #[must_use]
    pub fn delays_for(&self) -> Option<ExchangeId> {
        let Some(QueueOwner::Client(name)) = &self.owner else {
            return None;
        };
        let id = name.strip_prefix(OWNER)?.parse().ok()?;
        Some(ExchangeId(id))
    }
}

impl TopologyCommand {
    /// The delayed exchanges that it declares.
    #[must_use]
    pub fn delayed_exchanges(&self) -> Vec<(VhostId, ExchangeName)> {
        match self {
            Self::DeclareExchange(it) => {
                let delays = it.kind == ExchangeKind::Delayed;
                let delayed = delays.then(|| (it.vhost, it.name.clone()));
                delayed.into_iter().collect()
            }
            Self::Batch(batch) => {
                let commands = batch.commands.iter();
                commands.flat_map(Self::delayed_exchanges).collect()
            }
            Self::FormCluster(_)
            | Self::UpdateNode(_)
            | Self::DeclareQueue(_)
            | Self::DeleteExchange(_)
            | Self::DeleteQueue(_)
            | Self::Bind(_)
            | Self::Unbind(_)
            | Self::Tenancy(_)
            | Self::Placement(_)
            | Self::NoteConsumer(_)
            | Self::SetPolicy(_)
            | Self::DeletePolicy(_)
            | Self::FinaliseVersion(_) => Vec::new(),
        }
    }
}

impl Topology {
    /// What declares the queue where messages of a delayed exchange wait; `None`: it is there, or there is no such exchange.
    #[must_use]
    pub fn declare_delay_queue(&self, vhost: VhostId, exchange: &str) -> Option<TopologyCommand> {
        let exchange = self.exchange(vhost, exchange)?;
        let name = exchange.delay_queue()?;
        if self.queue(vhost, name.as_str()).is_some() {
            return None;
        }
        let arguments = Table::new()
            .with("x-message-ttl", 0_i64)
            .with(DEAD_LETTER_EXCHANGE, exchange.name.as_str());
        Some(TopologyCommand::DeclareQueue(DeclareQueue {
            vhost,
            name: exchange.new_delay_queue(),
            durable: true,
            auto_delete: false,
            exclusive: true,
            requester: Some(QueueOwner::Client(
                format!("{OWNER}{}", exchange.id.0).into(),
            )),
            arguments,
        }))
    }

    /// Queues of delayed exchanges that are gone: with what waits in them, as the exchange's other messages would have nowhere to go.
    pub fn delay_queues_without_exchange(&self) -> impl Iterator<Item = &Queue> {
        self.exclusive_queues().filter(|queue| {
            let exchange = queue.delays_for();
            exchange.is_some_and(|it| self.exchange_by_id(it).is_none())
        })
    }
}
