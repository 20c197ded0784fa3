//! `SetPolicy` (features B61, B63, B64): takes hold at once of what it matches. Not here: what its settings do.

use std::sync::Arc;

use crate::{
    command::SetPolicy,
    in_force::Kept,
    policy::{POLICIES_MAX, Policy, PolicyFault},
    reply::{Declared, ObjectKind, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(topology: &mut Topology, command: SetPolicy) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    topology.space(command.vhost)?;
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
    let pattern = policy.check().map_err(|fault| invalid(&policy, &fault))?;
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

fn invalid(policy: &Policy, fault: &PolicyFault) -> Refusal {
    let argument: &str = match fault {
        PolicyFault::Text { what } => what.trim_start_matches("the "),
        PolicyFault::Pattern { .. } => "pattern",
        PolicyFault::Definition { key, .. } => key,
    };
    Refusal::InvalidArgument {
        object: ObjectKind::Policy,
        name: policy.name.chars().take(64).collect::<String>().into(),
        argument: argument.into(),
        reason: fault.to_string().into(),
    }
}
