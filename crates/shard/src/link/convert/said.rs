//! The bytes of what consumers say of deliveries. Not here: the frames it goes in (`up`, `peek`).

use std::sync::Arc;

use warren_codec::columns::{decode_outcome, encode_outcome};
use warren_proto::internal_v1 as wire;
use warren_queue::entry::Said;
use warren_queue::rows::SaidAt;
use warren_types::ShardTime;

use super::{BadFrame, bad};

/// Roughly what it takes on the wire.
pub(super) fn bytes(it: Option<&Said>) -> usize {
    it.map_or(0, |it| {
        it.reason.len() + it.detail.len() + it.consumer.len()
    })
}

pub(super) fn encode(it: &Said) -> wire::Said {
    wire::Said {
        outcome: encode_outcome(it.outcome),
        reason: it.reason.clone(),
        detail: it.detail.clone(),
        consumer: it.consumer.clone(),
    }
}

pub(super) fn encode_at(it: &SaidAt) -> wire::SaidAt {
    wire::SaidAt {
        at: it.at.0,
        said: Some(encode(&it.said)),
    }
}

/// Cut to what is kept, whatever the other node allows. `None`: nothing is said.
pub(super) fn decode_some(it: Option<wire::Said>) -> Result<Option<Arc<Said>>, BadFrame> {
    let Some(it) = it else { return Ok(None) };
    let outcome = decode_outcome(it.outcome).map_err(bad)?;
    let said = Said::new(outcome, &it.reason, &it.detail, &it.consumer);
    Ok(said.map(Arc::new))
}

pub(super) fn decode_at(it: wire::SaidAt) -> Result<SaidAt, BadFrame> {
    let at = ShardTime(it.at);
    let said = decode_some(it.said)?.ok_or_else(|| bad("nothing was said"))?;
    let said = Arc::unwrap_or_clone(said);
    Ok(SaidAt { at, said })
}
