//! Policies as stored messages. Not here: other objects (`objects`).

use warren_proto::stored_v1 as pb;
use warren_topology::{ApplyTo, DeletePolicy, Policy, PolicyKind, SetPolicy};
use warren_types::{TopologyIndex, VhostId};

use super::objects;
use crate::error::{CodecError, malformed};

const WHAT: &str = "policy";

fn kind(kind: PolicyKind) -> pb::StoredPolicyKind {
    match kind {
        PolicyKind::User => pb::StoredPolicyKind::User,
        PolicyKind::Operator => pb::StoredPolicyKind::Operator,
    }
}

fn decode_kind(number: i32) -> Result<PolicyKind, CodecError> {
    match pb::StoredPolicyKind::try_from(number) {
        Ok(pb::StoredPolicyKind::User) => Ok(PolicyKind::User),
        Ok(pb::StoredPolicyKind::Operator) => Ok(PolicyKind::Operator),
        Ok(pb::StoredPolicyKind::Unspecified) | Err(_) => Err(CodecError::UnknownValue {
            what: "kind of policy",
            number: i64::from(number),
        }),
    }
}

pub(super) fn policy(it: &Policy) -> pb::StoredPolicy {
    pb::StoredPolicy {
        vhost: it.vhost.0,
        kind: kind(it.kind).into(),
        name: it.name.to_string(),
        pattern: it.pattern.to_string(),
        apply_to: it.apply_to.name().into(),
        priority: it.priority,
        definition: objects::table(&it.definition),
        changed_index: it.set_at.0,
    }
}

pub(super) fn decode_policy(it: pb::StoredPolicy) -> Result<Policy, CodecError> {
    let apply_to = ApplyTo::ALL
        .into_iter()
        .find(|known| known.name() == it.apply_to)
        .ok_or_else(|| malformed(WHAT, "what it applies to is not known to this node"))?;
    Ok(Policy {
        vhost: VhostId(it.vhost),
        kind: decode_kind(it.kind)?,
        name: it.name.into(),
        pattern: it.pattern.into(),
        apply_to,
        priority: it.priority,
        definition: objects::decode_table(&it.definition)?,
        set_at: TopologyIndex(it.changed_index),
    })
}

pub(super) fn set(it: &SetPolicy) -> pb::SetPolicy {
    let it = Policy {
        vhost: it.vhost,
        kind: it.kind,
        name: it.name.clone(),
        pattern: it.pattern.clone(),
        apply_to: it.apply_to,
        priority: it.priority,
        definition: it.definition.clone(),
        set_at: TopologyIndex(0),
    };
    pb::SetPolicy {
        policy: Some(policy(&it)),
    }
}

pub(super) fn decode_set(it: pb::SetPolicy) -> Result<SetPolicy, CodecError> {
    let it = it
        .policy
        .ok_or_else(|| malformed(WHAT, "a part is missing"))?;
    let it = decode_policy(it)?;
    Ok(SetPolicy {
        vhost: it.vhost,
        kind: it.kind,
        name: it.name,
        pattern: it.pattern,
        apply_to: it.apply_to,
        priority: it.priority,
        definition: it.definition,
    })
}

pub(super) fn delete(it: &DeletePolicy) -> pb::DeletePolicy {
    pb::DeletePolicy {
        vhost: it.vhost.0,
        kind: kind(it.kind).into(),
        name: it.name.to_string(),
    }
}

pub(super) fn decode_delete(it: pb::DeletePolicy) -> Result<DeletePolicy, CodecError> {
    Ok(DeletePolicy {
        vhost: VhostId(it.vhost),
        kind: decode_kind(it.kind)?,
        name: it.name.into(),
    })
}
