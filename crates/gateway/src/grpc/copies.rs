//! `AddReplica`, `RemoveReplica` and `SetCopies`: which shard is meant, and what the answer says. Not here: what can be asked (`warren-topology`,
//! `plan`), the service (`cluster`).

use warren_proto::cluster_v1;
use warren_proto::convert::error::ApiError;
use warren_topology::plan::CopiesWish;
use warren_topology::{PlacementCommand, Topology, TopologyCommand, TopologyReply};
use warren_types::GroupId;

use super::error::{bad_argument, of_copies, of_operation, of_refusal};
use super::open::{queue_name, vhost_name};
use crate::gateway::Gateway;

/// What a request asks.
pub(super) struct Asked<'a> {
    /// By number, or by a queue in it.
    pub(super) shard: u64,
    pub(super) vhost: &'a str,
    pub(super) queue: &'a str,
    pub(super) wish: CopiesWish,
    /// Only say what would be done.
    pub(super) dry_run: bool,
}

/// Has it done, or says what would be done.
///
/// # Errors
/// Nothing was changed, or the outcome is unknown: the error says which.
pub(super) async fn change(
    gateway: &Gateway,
    asked: &Asked<'_>,
) -> Result<cluster_v1::CopiesChange, ApiError> {
    let group = group_of(gateway, asked).await?;
    if asked.dry_run {
        return preview(gateway, group, asked.wish).await;
    }
    let changed = gateway.broker().change_copies(group, asked.wish).await;
    let changed = changed.map_err(|error| of_copies(&error))?;
    Ok(told(&gateway.topology(), group, changed))
}

async fn preview(
    gateway: &Gateway,
    group: GroupId,
    wish: CopiesWish,
) -> Result<cluster_v1::CopiesChange, ApiError> {
    let planned = gateway.broker().plan_copies(group, wish).await;
    let (topology, change) = planned.map_err(|error| of_copies(&error))?;
    let Some(change) = change else {
        return Ok(told(&topology, group, false));
    };
    let mut then = Topology::clone(&topology);
    let command = TopologyCommand::Placement(PlacementCommand::SetCopies(change));
    if let TopologyReply::Refused(refusal) = then.apply(topology.index(), command) {
        return Err(of_refusal(&refusal));
    }
    Ok(told(&then, group, true))
}

async fn group_of(gateway: &Gateway, asked: &Asked<'_>) -> Result<GroupId, ApiError> {
    if asked.queue.is_empty() {
        let group = u32::try_from(asked.shard).map(GroupId);
        return group.map_err(|_| bad_argument("shard", "there is no such shard"));
    }
    if asked.shard != 0 {
        return Err(bad_argument("queue", "name a shard or a queue, not both"));
    }
    let (vhost, queue) = (vhost_name(asked.vhost)?, queue_name(asked.queue)?);
    let found = gateway.find_any_queue(&vhost, &queue).await;
    let found = found.map_err(|error| of_operation(&error))?;
    Ok(GroupId::from(found.shard))
}

fn told(topology: &Topology, group: GroupId, changed: bool) -> cluster_v1::CopiesChange {
    let placement = topology.placement(group);
    let queues = group.shard().map(|it| topology.queues_of(it).count());
    cluster_v1::CopiesChange {
        shard: u64::from(group.0),
        changed,
        wanted_copies: placement.map_or(0, |it| topology.wanted_copies(it)),
        node_ids: placement
            .iter()
            .flat_map(|it| &it.members)
            .map(|it| it.node.0)
            .collect(),
        queues: queues.map_or(0, |it| u64::try_from(it).unwrap_or(u64::MAX)),
    }
}
