//! Changes of the topology and questions to a queue's leader, the same for both fronts. Not here: their wire forms (`grpc`, `amqp`).

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use warren_shard::api::{QueueStats, RequestToken, SessionEvent, StatsDepth, Target, Unavailable};
use warren_shard::{PurgeStates, TopologyError};
use warren_topology::{
    DeclareQueue, DeleteQueue, Denied, NewQueueName, Queue, QueueOwner, Refusal, Topology,
    TopologyCommand, TopologyReply,
};
use warren_types::{ExchangeName, QueueId, QueueName, ShardId, VhostId, VhostName};

use crate::gateway::Gateway;

/// How long a queue's leader has to answer a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Between two times that the same is asked.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The broker itself changes something.
const NOBODY: &str = "";

/// Why an operation failed. Each front has one function from this to its codes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum OperationError {
    #[error("{0}")]
    Refused(Refusal),
    /// AMQP 0-9-1: 403.
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error("{0}")]
    Topology(#[from] TopologyError),
    #[error("queue '{queue}': {cause}")]
    Unavailable {
        queue: QueueName,
        cause: Unavailable,
    },
    /// What a queue holds is not known: its leader cannot be asked.
    #[error("the depth of queue '{queue}' is not known")]
    DepthUnknown { queue: QueueName },
    /// AMQP 0-9-1: 406.
    #[error("queue '{queue}' in vhost '{vhost}' in use")]
    QueueInUse { vhost: VhostName, queue: QueueName },
    /// AMQP 0-9-1: 406.
    #[error("queue '{queue}' in vhost '{vhost}' not empty")]
    QueueNotEmpty { vhost: VhostName, queue: QueueName },
    /// A fault of ours: the reply is one of another command.
    #[error("the topology answered something else than was asked")]
    UnexpectedReply,
}

/// Conditions of a deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteIf {
    pub(crate) unused: bool,
    pub(crate) empty: bool,
}

impl Gateway {
    /// Changes the topology; answered when it is committed and felt everywhere.
    ///
    /// # Errors
    /// [`OperationError`]; a refusal changed nothing.
    pub(crate) async fn change(
        &self,
        command: TopologyCommand,
        user: &str,
    ) -> Result<TopologyReply, OperationError> {
        let ceilings = self.options().ceilings;
        let within = ceilings.check(&self.topology(), &command);
        within.map_err(OperationError::Refused)?;
        let default = self.options().default_queue_type;
        let command = command.with_default_queue_type(&self.topology(), default);
        let delayed = command.delayed_exchanges();
        if let TopologyCommand::DeclareQueue(declare) = &command {
            // First, so that no dead letter comes too early. What names no vhost is refused below.
            self.make_dead_letter_queue(declare, user).await?;
        }
        let reply = self.propose(command, user).await?;
        for (vhost, exchange) in delayed {
            self.declare_delay_queue(vhost, &exchange).await?;
        }
        Ok(reply)
    }

    /// The dead-letter queue that a queue wants of its own, unless it is there.
    ///
    /// # Errors
    /// As [`Gateway::change`].
    pub(crate) async fn make_dead_letter_queue(
        &self,
        queue: &DeclareQueue,
        user: &str,
    ) -> Result<(), OperationError> {
        let dead = self.topology().declare_dead_letter_queue(queue);
        match dead.map_err(OperationError::Refused)? {
            Some(dead) => self.propose(dead, user).await.map(drop),
            None => Ok(()),
        }
    }

    async fn propose(
        &self,
        command: TopologyCommand,
        user: &str,
    ) -> Result<TopologyReply, OperationError> {
        let reply = self.broker().topology().propose(command, user).await?;
        if let TopologyReply::Refused(refusal) = reply {
            return Err(OperationError::Refused(refusal));
        }
        Ok(reply)
    }

    /// Where messages of a delayed exchange wait; without it they would be routed when they are published.
    async fn declare_delay_queue(
        &self,
        vhost: VhostId,
        exchange: &ExchangeName,
    ) -> Result<(), OperationError> {
        let declare = self
            .topology()
            .declare_delay_queue(vhost, exchange.as_str());
        let Some(declare) = declare else {
            return Ok(()); // it is there, or the exchange was refused
        };
        let reply = self.broker().topology().propose(declare, NOBODY).await?;
        if let TopologyReply::Refused(refusal) = reply {
            return Err(OperationError::Refused(refusal));
        }
        Ok(())
    }

    /// The topology as it is now, for answers that may be negative.
    ///
    /// # Errors
    /// [`OperationError::Topology`] if no leader could confirm it.
    pub(crate) async fn fresh_topology(&self) -> Result<Arc<Topology>, OperationError> {
        Ok(self.broker().topology().fresh().await?)
    }

    /// A queue by name: from this node's copy if it is there, else as it is now.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if there is none; locked if it is another's.
    pub(crate) async fn find_queue(
        &self,
        vhost: &VhostName,
        name: &QueueName,
        requester: Option<&QueueOwner>,
    ) -> Result<Queue, OperationError> {
        let queue = self.find_any_queue(vhost, name).await?;
        if !queue.is_open_to(requester) {
            let refusal = Refusal::ResourceLocked {
                vhost: vhost.clone(),
                queue: name.clone(),
            };
            return Err(OperationError::Refused(refusal));
        }
        Ok(queue)
    }

    /// The same, whoever owns it: for looking at its figures.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if there is none.
    pub(crate) async fn find_any_queue(
        &self,
        vhost: &VhostName,
        name: &QueueName,
    ) -> Result<Queue, OperationError> {
        let mut topology = self.topology();
        let known = topology
            .vhost(vhost.as_str())
            .is_some_and(|it| topology.queue(it.id, name.as_str()).is_some());
        if !known {
            topology = self.fresh_topology().await?;
        }
        let space = find_vhost(&topology, vhost)?;
        let queue = topology.queue(space, name.as_str()).cloned();
        queue.ok_or_else(|| {
            OperationError::Refused(Refusal::NoSuchQueue {
                vhost: vhost.clone(),
                queue: name.clone(),
            })
        })
    }

    /// Deletes a queue; a missing one is a success. Gives the messages that were in it, as far as known.
    ///
    /// # Errors
    /// In use or not empty, where that was a condition; whatever the topology refuses.
    pub(crate) async fn delete_queue(
        &self,
        vhost: &VhostName,
        name: &QueueName,
        only: Option<QueueId>,
        condition: DeleteIf,
        requester: Option<QueueOwner>,
        user: &str,
    ) -> Result<u64, OperationError> {
        let topology = self.fresh_topology().await?;
        let space = find_vhost(&topology, vhost)?;
        let Some(queue) = topology.queue(space, name.as_str()) else {
            return Ok(0);
        };
        let stats = if condition == DeleteIf::default() {
            let asked = self.broker().queue_stats(target_of(queue)).await;
            asked.ok().flatten()
        } else {
            let stats = self.queue_stats(queue, StatsDepth::Counts).await?;
            let (vhost, queue) = (vhost.clone(), name.clone());
            if condition.unused && stats.consumers > 0 {
                return Err(OperationError::QueueInUse { vhost, queue });
            }
            if condition.empty && stats.ready + stats.unacked > 0 {
                return Err(OperationError::QueueNotEmpty { vhost, queue });
            }
            Some(stats)
        };
        let command = DeleteQueue {
            vhost: space,
            name: name.clone(),
            only,
            requester,
        };
        self.change(TopologyCommand::DeleteQueue(command), user)
            .await?;
        Ok(stats.map_or(0, |it| it.ready + it.unacked))
    }

    /// Removes a queue's ready messages; gives how many.
    ///
    /// # Errors
    /// [`OperationError::Unavailable`]; whether it was done is then not known.
    pub(crate) async fn purge_queue(
        &self,
        queue: &Queue,
        states: PurgeStates,
    ) -> Result<u64, OperationError> {
        let unavailable = |cause| OperationError::Unavailable {
            queue: queue.name.clone(),
            cause,
        };
        let session = self.broker().session();
        let token = RequestToken(1);
        session
            .purge(target_of(queue), token, states)
            .await
            .map_err(unavailable)?;
        let answered = async {
            while let Some(events) = session.events().await {
                for event in events {
                    if let SessionEvent::Purged {
                        token: answered,
                        result,
                    } = event
                        && answered == token
                    {
                        return result;
                    }
                }
            }
            Err(Unavailable::Draining)
        };
        let result = timeout(ANSWER_WITHIN, answered)
            .await
            .unwrap_or(Err(Unavailable::NoQuorum));
        result.map_err(unavailable)
    }

    /// A queue's counts from its leader.
    ///
    /// # Errors
    /// [`OperationError::DepthUnknown`]: never taken for zero.
    pub(crate) async fn queue_stats(
        &self,
        queue: &Queue,
        depth: StatsDepth,
    ) -> Result<QueueStats, OperationError> {
        let ask = || self.broker().queue_stats_in(target_of(queue), depth);
        let known = timeout(ANSWER_WITHIN, self.ask(queue.id, ask)).await;
        known
            .ok()
            .flatten()
            .ok_or_else(|| OperationError::DepthUnknown {
                queue: queue.name.clone(),
            })
    }

    /// Asks a queue's leader until it answers, for as long as the caller waits: a node that has just started is not linked to every
    /// leader yet, and a leader may hear of a new queue a moment after its declaration was answered. `None`: there is no such queue.
    pub(crate) async fn ask<T, Asked>(
        &self,
        queue: QueueId,
        question: impl Fn() -> Asked,
    ) -> Option<T>
    where
        Asked: Future<Output = Result<Option<T>, Unavailable>>,
    {
        loop {
            if let Ok(Some(answer)) = question().await {
                return Some(answer);
            }
            // It may have been deleted meanwhile.
            self.topology().queue_by_id(queue)?;
            sleep(ASK_AGAIN).await;
        }
    }
}

/// Where a queue's messages are.
pub(crate) fn target_of(queue: &Queue) -> Target {
    target(queue.id, queue.shard)
}

pub(crate) fn target(queue: QueueId, shard: ShardId) -> Target {
    Target { queue, shard }
}

/// A vhost's id.
///
/// # Errors
/// [`OperationError::Refused`] if there is none of that name.
pub(crate) fn find_vhost(topology: &Topology, name: &VhostName) -> Result<VhostId, OperationError> {
    let missing = || {
        OperationError::Refused(Refusal::NoVhostNamed {
            vhost: name.clone(),
        })
    };
    topology
        .vhost(name.as_str())
        .map(|it| it.id)
        .ok_or_else(missing)
}

/// A name for the server to choose; `None` = the usual prefix.
pub(crate) fn generated_name(prefix: Option<QueueName>) -> NewQueueName {
    NewQueueName::Generated {
        prefix,
        token: rand::rng().random(),
    }
}
