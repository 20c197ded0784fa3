//! Dead-letter queues that are made with their queues: `x-dead-letter-queue` = `auto`, as argument or policy (features X6). They are queues
//! like others, and stay when their queue goes. Not here: what goes there (`settings` says where, the shard's leader moves it).

use warren_types::{QueueName, Table, VhostId};

use crate::{
    arguments::{self, DEAD_LETTER_QUEUE, PLACEMENT_GROUP, QUEUE_TYPE},
    command::{Batch, DeclareQueue, NewQueueName, TopologyCommand},
    queue::Queue,
    reply::{ObjectKind, Refusal},
    topology::Topology,
};

/// What the name of a queue gets.
const SUFFIX: &str = ".dlq";
/// How names begin that the broker chooses: nobody could declare one with the suffix.
const RESERVED: &str = "amq.";
/// What it has of its queue: where it is, and how many copies.
const SHARED: [&str; 4] = [
    QUEUE_TYPE,
    PLACEMENT_GROUP,
    "x-quorum-initial-group-size",
    "x-quorum-target-group-size",
];

/// The name of a queue's own dead-letter queue. `None`: it is one itself, its name is the broker's (`amq.`), or too long.
#[must_use]
pub fn dead_letter_queue_of(queue: &str) -> Option<QueueName> {
    if queue.ends_with(SUFFIX) || queue.starts_with(RESERVED) {
        return None;
    }
    QueueName::try_from(format!("{queue}{SUFFIX}").as_str()).ok()
}

impl TopologyCommand {
    /// The queues that it declares.
    #[must_use]
    pub fn declared_queues(&self) -> Vec<&DeclareQueue> {
        match self {
            Self::DeclareQueue(it) => vec![it],
            Self::Batch(Batch { commands }) => {
                commands.iter().flat_map(Self::declared_queues).collect()
            }
            Self::FormCluster(_)
            | Self::UpdateNode(_)
            | Self::DeclareExchange(_)
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
    /// What declares the dead-letter queue of a queue that is about to be declared. `None`: it wants none of its own, or has it.
    ///
    /// # Errors
    /// Its name is too long, or belongs to a queue that cannot take its dead letters.
    pub fn declare_dead_letter_queue(
        &self,
        declare: &DeclareQueue,
    ) -> Result<Option<TopologyCommand>, Refusal> {
        let name = declare.name.name()?;
        let (Some(space), false) = (
            self.vhosts.get(&declare.vhost),
            name.as_str().ends_with(SUFFIX),
        ) else {
            return Ok(None);
        };
        // A queue that is there is as it is, whatever this declare says of it: that is judged when it is applied.
        let there = self.queue(declare.vhost, name.as_str());
        let (wanted, durable, arguments) = match there {
            Some(there) => (self.effective_queue(there), there.durable, &there.arguments),
            None => {
                let default = space.vhost.settings.default_queue_type.unwrap_or_default();
                let of = arguments::queue_type(name.as_str(), &declare.arguments, default)?;
                arguments::check_queue(name.as_str(), &declare.arguments)?;
                arguments::check_dead_letter_queue(name.as_str(), &declare.arguments)?;
                let wanted = self.effective_declared(declare, &name, of);
                (wanted, declare.durable, &declare.arguments)
            }
        };
        let has = |key: &str| wanted.iter().any(|it| &*it.key == key);
        if !has("dead-letter-queue") || has("dead-letter-exchange") {
            return Ok(None);
        }
        let Some(dead) = dead_letter_queue_of(name.as_str()) else {
            if there.is_some() || arguments.get(DEAD_LETTER_QUEUE).is_none() {
                return Ok(None); // a policy may hold for any name
            }
            let reason =
                format!("the queue's name begins with {RESERVED} or leaves no room for {SUFFIX}");
            return Err(Refusal::InvalidArgument {
                object: ObjectKind::Queue,
                name: name.as_str().into(),
                argument: DEAD_LETTER_QUEUE.into(),
                reason: reason.into(),
            });
        };
        if let Some(there) = self.queue(declare.vhost, dead.as_str()) {
            self.may_take_dead_letters((declare.vhost, durable), there)?;
            return Ok(None);
        }
        let shared = arguments.iter().filter(|(name, _)| SHARED.contains(name));
        let mut arguments = Table::new();
        for (name, value) in shared {
            arguments
                .insert(name, value.clone())
                .expect("the names of known arguments are short");
        }
        Ok(Some(TopologyCommand::DeclareQueue(DeclareQueue {
            vhost: declare.vhost,
            name: NewQueueName::Named(dead),
            durable,
            auto_delete: false,
            exclusive: false,
            arguments,
            requester: None,
        })))
    }

    /// A queue of that name that somebody else declared will do if it lives as long.
    fn may_take_dead_letters(
        &self,
        (vhost, durable): (VhostId, bool),
        there: &Queue,
    ) -> Result<(), Refusal> {
        let differs = |argument: &str, received: bool, current: bool| {
            if received == current {
                return Ok(());
            }
            Err(Refusal::InequivalentArgument {
                object: ObjectKind::Queue,
                name: there.name.as_str().into(),
                vhost: self.vhost_name(vhost),
                argument: argument.into(),
                received: format!("'{received}'").into(),
                current: format!("'{current}'").into(),
            })
        };
        differs("exclusive", false, there.is_exclusive())?;
        differs("auto_delete", false, there.auto_delete)?;
        differs("durable", durable, there.durable)
    }

    fn vhost_name(&self, vhost: VhostId) -> warren_types::VhostName {
        let found = self.vhosts.get(&vhost);
        found
            .expect("a declare's vhost was found before")
            .vhost
            .name
            .clone()
    }
}
