//! `DeletePolicy` (features B61): lets go at once of what it held. Not here: setting one (`set_policy`).

use crate::{
    command::DeletePolicy,
    reply::{Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(
    topology: &mut Topology,
    command: DeletePolicy,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    topology.space(command.vhost)?;
    let key = (command.vhost, command.kind, command.name);
    let existed = topology.policies.remove_mut(&key);
    if existed {
        topology.hold_for_all(command.vhost);
    }
    Ok(TopologyReply::PolicyDeleted { existed })
}
