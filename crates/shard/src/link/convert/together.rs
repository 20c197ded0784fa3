//! Deliveries that end in one, as frames. Not here: a settle for itself (`up`).

use warren_codec::columns::{decode_settle_reason, encode_settle_reason};
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::together_part::End;
use warren_queue::dispatch::io::Token;
use warren_queue::entry::ReturnKind;
use warren_types::{QueueId, TopologyIndex};

use super::up::{decode_held, decode_part, encode_held, encode_part, part_bytes};
use super::{BadFrame, bad, said};
use crate::api::{ReturnWait, SettleAction, SettlePart};
use crate::link::frame::{Outputs, TogetherUp};

/// Roughly what it takes on the wire.
pub(super) fn bytes(it: &TogetherUp) -> usize {
    let items: usize = it.parts.iter().map(|it| it.items.len() * 8 + 32).sum();
    let outputs: usize = it.outputs.parts.iter().map(part_bytes).sum();
    items + outputs + said::bytes(it.said.as_deref()) + 32
}

pub(super) fn encode(it: TogetherUp) -> wire::TogetherUp {
    wire::TogetherUp {
        token: it.token.0,
        parts: it.parts.iter().map(encode_ends).collect(),
        outputs: it.outputs.parts.into_iter().map(encode_part).collect(),
        topology_index: it.outputs.topology.0,
        said: it.said.as_deref().map(said::encode),
    }
}

pub(super) fn decode(it: wire::TogetherUp) -> Result<TogetherUp, BadFrame> {
    let outputs = it.outputs.into_iter().map(decode_part);
    Ok(TogetherUp {
        token: Token(it.token),
        parts: it
            .parts
            .into_iter()
            .map(decode_ends)
            .collect::<Result<_, _>>()?,
        outputs: Outputs {
            topology: TopologyIndex(it.topology_index),
            parts: outputs.collect::<Result<_, _>>()?,
        },
        said: said::decode_some(it.said)?,
    })
}

fn encode_ends(it: &SettlePart) -> wire::TogetherPart {
    let end = match it.action {
        SettleAction::Settle(reason) => End::Reason(encode_settle_reason(reason)),
        SettleAction::Return { kind, wait } => End::GiveBack(wire::TogetherReturn {
            failed: matches!(kind, ReturnKind::Failed),
            delay_ms: match wait {
                ReturnWait::Ms(delay) => Some(delay),
                ReturnWait::Not | ReturnWait::Parked | ReturnWait::ByPolicy => None,
            },
            by_policy: wait == ReturnWait::ByPolicy,
            park: wait == ReturnWait::Parked,
        }),
    };
    wire::TogetherPart {
        queue: it.queue.0,
        items: Some(encode_held(&it.items)),
        end: Some(end),
    }
}

fn decode_ends(it: wire::TogetherPart) -> Result<SettlePart, BadFrame> {
    let action = match it.end {
        Some(End::Reason(reason)) => {
            SettleAction::Settle(decode_settle_reason(reason).map_err(bad)?)
        }
        Some(End::GiveBack(it)) => SettleAction::Return {
            kind: if it.failed {
                ReturnKind::Failed
            } else {
                ReturnKind::Untouched
            },
            wait: match (it.delay_ms, it.by_policy) {
                _ if it.park => ReturnWait::Parked,
                (Some(delay), _) => ReturnWait::Ms(delay),
                (None, true) => ReturnWait::ByPolicy,
                (None, false) => ReturnWait::Not,
            },
        },
        None => return Err(bad("an end of deliveries is missing or unknown")),
    };
    Ok(SettlePart {
        queue: QueueId(it.queue),
        items: decode_held(it.items)?,
        action,
    })
}
