//! `Batch`: several commands in one entry, so that ten thousand declares do not wait for ten thousand syncs. Not here: what they do.

use warren_types::TopologyIndex;

use crate::{
    command::{Batch, TopologyCommand},
    reply::{Refusal, TopologyReply},
    topology::Topology,
};

pub(in crate::apply) fn apply(
    topology: &mut Topology,
    at: TopologyIndex,
    batch: Batch,
) -> Result<TopologyReply, Refusal> {
    let alone = |it: &TopologyCommand| {
        matches!(
            it,
            TopologyCommand::Batch(_) | TopologyCommand::FormCluster(_)
        )
    };
    if batch.commands.len() > Batch::COMMANDS_MAX || batch.commands.iter().any(alone) {
        return Err(Refusal::BatchInvalid);
    }
    let commands = batch.commands.into_iter();
    let replies = commands.map(|command| topology.apply(at, command));
    Ok(TopologyReply::Batch(replies.collect()))
}
