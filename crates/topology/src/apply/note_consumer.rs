//! `NoteConsumer` (features B25): the fact that an auto-delete queue has had a consumer. Not here: when it goes (its shard's leader says).

use crate::{
    command::NoteConsumer,
    reply::{Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(
    topology: &mut Topology,
    command: NoteConsumer,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let existed = topology.change_queue(command.queue, |queue| queue.had_consumer = true);
    Ok(TopologyReply::ConsumerNoted { existed })
}
