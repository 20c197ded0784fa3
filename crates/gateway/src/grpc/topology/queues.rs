//! Queues: declare, get, list, delete. Not here: their rules (`warren-topology`), their contents (`contents`).

use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::value::{table_from_client, table_to_client};
use warren_shard::api::StatsDepth;
use warren_topology::{
    DeclareQueue, NewQueueName, Queue, QueueOwner, Refusal, Topology, TopologyCommand,
    TopologyReply,
};
use warren_types::{GroupId, QueueId, QueueName, VhostName};

use super::exchanges::check_etag;
use super::pages::Page;
use super::{NO_USER, TopologyAdmin, check_validate_only};
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::grpc::error::{bad_argument, of_operation, of_refusal};
use crate::grpc::open::{DURABILITY, leader_hint, owner, queue_name, vhost_name};
use crate::grpc::permit::may_view_queue;
use crate::operations::{DeleteIf, OperationError, find_vhost, generated_name};

impl TopologyAdmin {
    pub(super) async fn create_queue_here(
        &self,
        request: admin_v1::CreateQueueRequest,
    ) -> Result<admin_v1::CreateQueueResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let wanted = request.queue.unwrap_or_default();
        let vhost = vhost_name(&wanted.vhost)?;
        if request.passive {
            let name = queue_name(&wanted.name)?;
            let topology = self
                .gateway
                .fresh_topology()
                .await
                .map_err(|error| of_operation(&error))?;
            let queue = find(&topology, &vhost, &name)?;
            if !queue.is_open_to(owner(&wanted.owner).as_ref()) {
                return Err(of_refusal(&Refusal::ResourceLocked { vhost, queue: name }));
            }
            let queue = to_client(&self.gateway, &topology, queue, &vhost);
            return Ok(admin_v1::CreateQueueResponse { queue: Some(queue) });
        }
        let space =
            find_vhost(&self.gateway.topology(), &vhost).map_err(|error| of_operation(&error))?;
        let mut arguments = table_from_client(wanted.arguments.unwrap_or_default())
            .map_err(|error| bad_argument("queue.arguments", error.to_string()))?;
        if wanted.exclusive && arguments.get(EXPIRES).is_none() {
            let kept = arguments.insert(EXPIRES, CLIENT_QUEUE_KEPT_MS);
            kept.map_err(|error| bad_argument("queue.arguments", error.to_string()))?;
        }
        let command = DeclareQueue {
            vhost: space,
            name: new_name(&wanted.name, &request.request_id)?,
            durable: wanted.durable,
            auto_delete: wanted.auto_delete,
            exclusive: wanted.exclusive,
            arguments,
            requester: owner(&wanted.owner),
        };
        let reply = self
            .gateway
            .change(TopologyCommand::DeclareQueue(command), NO_USER)
            .await;
        let TopologyReply::QueueDeclared { queue, .. } =
            reply.map_err(|error| of_operation(&error))?
        else {
            return Err(of_operation(&OperationError::UnexpectedReply));
        };
        let topology = self.gateway.topology();
        let queue = topology
            .queue_by_id(queue)
            .map(|it| to_client(&self.gateway, &topology, it, &vhost));
        // Deleted again before it could be told.
        let queue = queue.ok_or_else(|| bad_argument("queue", "was deleted at once"))?;
        Ok(admin_v1::CreateQueueResponse { queue: Some(queue) })
    }

    pub(super) async fn get_queue_here(
        &self,
        request: admin_v1::GetQueueRequest,
    ) -> Result<admin_v1::GetQueueResponse, ApiError> {
        let (vhost, name) = (vhost_name(&request.vhost)?, queue_name(&request.name)?);
        let topology = self
            .gateway
            .fresh_topology()
            .await
            .map_err(|error| of_operation(&error))?;
        let queue = to_client(
            &self.gateway,
            &topology,
            find(&topology, &vhost, &name)?,
            &vhost,
        );
        Ok(admin_v1::GetQueueResponse { queue: Some(queue) })
    }

    pub(super) async fn list_queues_here(
        &self,
        who: &Who,
        request: admin_v1::ListQueuesRequest,
    ) -> Result<admin_v1::ListQueuesResponse, ApiError> {
        let vhost = vhost_name(&request.vhost)?;
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self
            .gateway
            .fresh_topology()
            .await
            .map_err(|error| of_operation(&error))?;
        let space = find_vhost(&topology, &vhost).map_err(|error| of_operation(&error))?;
        let prefix = request.name_prefix.as_str();
        let all = topology.queues_after(space, page.after());
        let all = all
            .skip_while(|queue| queue.name.as_str() < prefix)
            .take_while(|queue| queue.name.as_str().starts_with(prefix))
            .filter(|queue| may_view_queue(&topology, who, space, queue.name.as_str()));
        let (found, next_page_token) = page.take(all, |queue| queue.name.to_string());
        let stats = if request.with_stats {
            self.known_stats(&vhost, &found, StatsDepth::Counts).await
        } else {
            Vec::new()
        };
        let queues = found
            .into_iter()
            .map(|it| to_client(&self.gateway, &topology, it, &vhost))
            .collect();
        Ok(admin_v1::ListQueuesResponse {
            queues,
            next_page_token,
            stats,
        })
    }

    pub(super) async fn delete_queue_here(
        &self,
        request: admin_v1::DeleteQueueRequest,
    ) -> Result<admin_v1::DeleteQueueResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let (vhost, name) = (vhost_name(&request.vhost)?, queue_name(&request.name)?);
        let only = if request.etag.is_empty() {
            None
        } else {
            Some(self.checked_etag(&vhost, &name, &request.etag).await?)
        };
        let condition = DeleteIf {
            unused: request.if_unused,
            empty: request.if_empty,
        };
        let requester = owner(&request.client_id);
        let deleted = self
            .gateway
            .delete_queue(&vhost, &name, only, condition, requester, NO_USER)
            .await;
        let messages = deleted.map_err(|error| of_operation(&error))?;
        Ok(admin_v1::DeleteQueueResponse { messages })
    }

    async fn checked_etag(
        &self,
        vhost: &VhostName,
        name: &QueueName,
        wanted: &str,
    ) -> Result<QueueId, ApiError> {
        let topology = self
            .gateway
            .fresh_topology()
            .await
            .map_err(|error| of_operation(&error))?;
        let queue = find(&topology, vhost, name)?;
        check_etag(wanted, Some(&etag(queue)))?;
        Ok(queue.id)
    }
}

const EXPIRES: &str = "x-expires";
/// A queue of one client has no connection to end with: it ends when the client has not consumed from it for so long (features A32).
const CLIENT_QUEUE_KEPT_MS: i64 = 60_000;

/// A repeated request makes the same name again, if it can be told from others.
fn new_name(name: &str, request_id: &str) -> Result<NewQueueName, ApiError> {
    if !name.is_empty() {
        return Ok(NewQueueName::Named(queue_name(name)?));
    }
    if request_id.is_empty() {
        return Ok(generated_name(None));
    }
    let hash = |seed: u64| {
        request_id
            .bytes()
            .fold(seed, |hash, byte| warren_types::mix(hash ^ u64::from(byte)))
    };
    let token = u128::from(hash(1)) << 64 | u128::from(hash(2));
    Ok(NewQueueName::Generated {
        prefix: None,
        token,
    })
}

pub(super) fn find<'a>(
    topology: &'a Topology,
    vhost: &VhostName,
    name: &QueueName,
) -> Result<&'a Queue, ApiError> {
    let space = find_vhost(topology, vhost).map_err(|error| of_operation(&error))?;
    let missing = || {
        of_refusal(&Refusal::NoSuchQueue {
            vhost: vhost.clone(),
            queue: name.clone(),
        })
    };
    topology.queue(space, name.as_str()).ok_or_else(missing)
}

/// Queues cannot be changed, so the id is what tells one from another.
fn etag(queue: &Queue) -> String {
    format!("q{}-{}", queue.id, queue.declared_at)
}

fn to_client(
    gateway: &Gateway,
    topology: &Topology,
    queue: &Queue,
    vhost: &VhostName,
) -> admin_v1::Queue {
    let placement = topology.placement(GroupId::from(queue.shard));
    let (policy, operator) = topology.queue_policies(queue.id);
    let replicas = placement.map(|it| {
        it.members
            .iter()
            .map(|member| member.node.to_string())
            .collect()
    });
    let owner = match &queue.owner {
        Some(QueueOwner::Client(client)) => client.to_string(),
        Some(QueueOwner::Connection {
            node,
            run,
            connection,
        }) => format!("connection {node}-{run}-{connection}"),
        None => String::new(),
    };
    admin_v1::Queue {
        vhost: vhost.to_string(),
        name: queue.name.to_string(),
        durable: queue.durable,
        auto_delete: queue.auto_delete,
        exclusive: queue.is_exclusive(),
        arguments: if queue.arguments.is_empty() {
            None
        } else {
            table_to_client(&queue.arguments)
        },
        owner,
        etag: etag(queue),
        queue_id: queue.id.0,
        shard: u64::from(queue.shard.0),
        leader: leader_hint(gateway, queue.shard),
        replicas: replicas.unwrap_or_default(),
        durability: DURABILITY.to_owned(),
        policy: policy.unwrap_or_default().to_owned(),
        operator_policy: operator.unwrap_or_default().to_owned(),
        ..admin_v1::Queue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_name_is_the_same_for_the_same_request() {
        assert_eq!(new_name("", "r-1").unwrap(), new_name("", "r-1").unwrap());
        assert_ne!(new_name("", "r-1").unwrap(), new_name("", "r-2").unwrap());
        assert_ne!(new_name("", "").unwrap(), new_name("", "").unwrap());
    }

    #[test]
    fn name_that_is_too_long_is_refused() {
        assert!(new_name(&"q".repeat(256), "").is_err());
        let named = NewQueueName::Named(QueueName::try_from("orders").unwrap());
        assert_eq!(new_name("orders", "r").unwrap(), named);
    }
}
