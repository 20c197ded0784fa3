//! `SetPolicy` (features B61, B63, B64): takes hold at once of what it matches. Not here: whether it means
//! something (`SetPolicy::check`, before it is proposed), what its settings do.

use std::sync::Arc;

use crate::{
    command::SetPolicy,
    in_force::Kept,
    policy::{POLICIES_MAX, Policy},
    reply::{Declared, ObjectKind, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(topology: &mut Topology, command: SetPolicy) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    topology.space(command.vhost)?;
    if !command.is_bounded() {
        // Whoever proposes checks first: the reason is found there.
        command.check()?;
    }
    let policy = Policy {
        vhost: command.vhost,
        kind: command.kind,
        name: command.name,
        pattern: command.pattern,
        apply_to: command.apply_to,
        priority: command.priority,
        definition: command.definition,
        set_at: topology.index,
    };
    let pattern = policy.compiled();
    let key = (policy.vhost, policy.kind, policy.name.clone());
    let declared = if topology.policies.contains_key(&key) {
        Declared::Existed
    } else {
        if topology.policies_of(policy.vhost, policy.kind).count() >= POLICIES_MAX {
            return Err(Refusal::LimitReached {
                object: ObjectKind::Policy,
                limit: POLICIES_MAX as u64,
            });
        }
        Declared::Created
    };
    let vhost = policy.vhost;
    topology
        .policies
        .insert_mut(key, Arc::new(Kept { policy, pattern }));
    topology.hold_for_all(vhost);
    Ok(TopologyReply::PolicySet(declared))
}
