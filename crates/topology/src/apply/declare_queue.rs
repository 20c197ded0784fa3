//! `DeclareQueue` (features B.2, C25): makes a queue and gives it an id and a shard, or compares with the one there is.
//! Not here: making it in its shard (the shard's leader does, from its own topology).

use warren_types::{QueueId, QueueName, ShardId, Table, VhostId};

use super::{QUEUES_MAX, is_reserved};
use crate::{
    arguments::{self, Comparison, PLACEMENT_GROUP},
    command::{Batch, DeclareQueue, NewQueueName, TopologyCommand},
    queue::{Queue, QueueType},
    reply::{Declared, ObjectKind, Refusal, TopologyReply},
    topology::{Space, Topology},
};

pub(super) fn apply(
    topology: &mut Topology,
    mut command: DeclareQueue,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let space = topology.space(command.vhost)?;
    let name = name(&command.name)?;
    let (owner, requester) = match (command.exclusive, command.requester.clone()) {
        (true, None) => return Err(Refusal::ExclusiveWithoutOwner),
        (true, Some(owner)) => (Some(owner.clone()), Some(owner)),
        (false, requester) => (None, requester),
    };
    let default = space.vhost.settings.default_queue_type.unwrap_or_default();
    let queue_type = arguments::queue_type(name.as_str(), &command.arguments, default)?;
    command.arguments = with_type(command.arguments, queue_type);

    if space.queues.contains_key(&name) {
        let current = space.queue(&name, requester.as_ref())?;
        equal(space, current, &command)?;
        let (queue, shard) = (current.id, current.shard);
        topology.renew(queue);
        return Ok(TopologyReply::QueueDeclared {
            queue,
            shard,
            name,
            declared: Declared::Existed,
        });
    }
    arguments::check_queue(name.as_str(), &command.arguments)?;
    room(topology)?;
    let limit = space.vhost.limits.queues;
    if let Some(limit) = limit.filter(|it| space.queues.size() >= *it as usize) {
        return Err(Refusal::VhostLimitReached {
            vhost: space.vhost.name.clone(),
            object: ObjectKind::Queue,
            limit: u64::from(limit),
        });
    }

    let of_group = shard_of_group(topology, command.vhost, &command.arguments);
    let shard = of_group.or_else(|| emptiest_shard(topology));
    let shard = shard.ok_or(Refusal::ClusterNotFormed)?;
    let queue = topology.next.queue;
    topology.next.queue.0 += 1;
    topology.add_queue(Queue {
        id: queue,
        vhost: command.vhost,
        name: name.clone(),
        shard,
        queue_type,
        durable: command.durable,
        auto_delete: command.auto_delete,
        owner,
        arguments: command.arguments,
        declared_at: topology.index,
        renewed_at: topology.index,
        had_consumer: false,
    });
    Ok(TopologyReply::QueueDeclared {
        queue,
        shard,
        name,
        declared: Declared::Created,
    })
}

/// Whether a declare asks for the queue that is there; the exclusive flag says whose it is, so it comes first.
fn equal(space: &Space, current: &Queue, command: &DeclareQueue) -> Result<(), Refusal> {
    if command.exclusive != current.is_exclusive() {
        return Err(Refusal::ResourceLocked {
            vhost: space.vhost.name.clone(),
            queue: current.name.clone(),
        });
    }
    let compare = Comparison::new(ObjectKind::Queue, current.name.as_str(), &space.vhost.name);
    compare.same("durable", command.durable, current.durable)?;
    compare.same("auto_delete", command.auto_delete, current.auto_delete)?;
    let known = if space.vhost.settings.relaxed_queue_type {
        arguments::QUEUE_BUT_TYPE
    } else {
        arguments::QUEUE
    };
    compare.arguments(known, &command.arguments, &current.arguments)
}

fn room(topology: &Topology) -> Result<(), Refusal> {
    if topology.queues.size() < QUEUES_MAX {
        return Ok(());
    }
    Err(Refusal::LimitReached {
        object: ObjectKind::Queue,
        limit: QUEUES_MAX as u64,
    })
}

impl TopologyCommand {
    /// What a node proposes for its clients: queues whose declare names no type, in a vhost that says none, get the node's (features
    /// B21). It is part of the command: replicas know no node's settings.
    #[must_use]
    pub fn with_default_queue_type(self, topology: &Topology, default: QueueType) -> Self {
        match self {
            Self::DeclareQueue(mut it) => {
                let vhost = topology.vhost_by_id(it.vhost);
                let says_none = vhost.is_some_and(|it| it.settings.default_queue_type.is_none());
                if says_none && it.arguments.get(arguments::QUEUE_TYPE).is_none() {
                    it.arguments = with_type(it.arguments, default);
                }
                Self::DeclareQueue(it)
            }
            Self::Batch(batch) => {
                let commands = batch.commands.into_iter();
                let commands = commands.map(|it| it.with_default_queue_type(topology, default));
                Self::Batch(Batch {
                    commands: commands.collect(),
                })
            }
            it @ (Self::FormCluster(_)
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
            | Self::FinaliseVersion(_)) => it,
        }
    }
}

impl Topology {
    /// A declare counts as a use of a queue that expires (features B28).
    fn renew(&mut self, queue: QueueId) {
        let found = self.queue_by_id(queue);
        if found.is_some_and(|it| self.queue_settings(it).expires_ms.is_some()) {
            let at = self.index;
            self.change_queue(queue, |it| it.renewed_at = at);
        }
    }
}

/// Where a queue of the same `x-placement-group` is already. Only declares that name a group pay for the search.
fn shard_of_group(topology: &Topology, vhost: VhostId, arguments: &Table) -> Option<ShardId> {
    let group = arguments.get_str(PLACEMENT_GROUP)?;
    let mut queues = topology.queues_after(vhost, None);
    let found = queues.find(|it| it.arguments.get_str(PLACEMENT_GROUP) == Some(group));
    found.map(|it| it.shard)
}

/// Fewest queues, then the lowest number.
fn emptiest_shard(topology: &Topology) -> Option<ShardId> {
    let shards = topology.shards.iter();
    shards
        .min_by_key(|(shard, queues)| (queues.size(), **shard))
        .map(|(shard, _)| *shard)
}

/// The default type is written down, so that a later declare that names it matches (features B21).
fn with_type(mut arguments: Table, queue_type: QueueType) -> Table {
    arguments
        .insert(arguments::QUEUE_TYPE, queue_type.name())
        .expect("the argument's name is short");
    arguments
}

impl NewQueueName {
    /// The name a queue gets, whoever chooses it.
    ///
    /// # Errors
    /// [`Refusal`] if no queue can be named so.
    pub fn name(&self) -> Result<QueueName, Refusal> {
        name(self)
    }
}

fn name(name: &NewQueueName) -> Result<QueueName, Refusal> {
    match name {
        NewQueueName::Named(name) if is_reserved(name.as_str()) => Err(Refusal::NameReserved {
            object: ObjectKind::Queue,
            name: name.as_str().into(),
        }),
        NewQueueName::Named(name) => Ok(name.clone()),
        NewQueueName::Generated { prefix, token } => {
            let prefix = prefix
                .as_ref()
                .map_or(NewQueueName::PREFIX, QueueName::as_str);
            if prefix.len() > NewQueueName::PREFIX_BYTES_MAX {
                return Err(Refusal::InvalidArgument {
                    object: ObjectKind::Queue,
                    name: prefix.into(),
                    argument: "x-name-prefix".into(),
                    reason: "it is longer than 64 bytes".into(),
                });
            }
            let name = format!("{prefix}{}", letters(*token));
            Ok(QueueName::try_from(name.as_str()).expect("prefix and letters are a valid name"))
        }
    }
}

/// The token in 22 letters and digits.
fn letters(mut token: u128) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..22)
        .filter_map(|_| {
            let digit = usize::try_from(token % 62).ok()?;
            token /= 62;
            LETTERS.get(digit).map(|&it| char::from(it))
        })
        .collect()
}
