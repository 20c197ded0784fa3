//! `DeleteQueue` (features B29, B30): a missing one is a success. Not here: its messages (its shard's leader follows).

use crate::{
    command::DeleteQueue,
    reply::{Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(
    topology: &mut Topology,
    command: DeleteQueue,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let space = topology.space(command.vhost)?;
    let wanted = |id| command.only.is_none_or(|only| only == id);
    if !space
        .queues
        .get(&command.name)
        .is_some_and(|queue| wanted(queue.id))
    {
        return Ok(TopologyReply::QueueDeleted { queue: None });
    }
    let queue = space.queue(&command.name, command.requester.as_ref())?;
    let deleted = (queue.id, queue.shard);
    topology.remove_queue(deleted.0);
    Ok(TopologyReply::QueueDeleted {
        queue: Some(deleted),
    })
}
