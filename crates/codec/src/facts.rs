//! The facts columns of a block. Not here: the messages themselves (`message`).

use warren_proto::stored_v1 as pb;
use warren_types::{Facts, ShardTime};

use crate::error::{CodecError, malformed};

const WHAT: &str = "message facts";

pub(crate) fn encode(facts: &Facts) -> pb::MessageFacts {
    pb::MessageFacts {
        size: facts.size.clone(),
        body_size: facts.body_size.clone(),
        expiry_ms: times(&facts.expiry),
        due_ms: times(&facts.due),
        group_hash: facts.group_hash.clone(),
        fairness_hash: facts.fairness_hash.clone(),
        dedup_hash: facts.dedup_hash.clone(),
        fairness_weight: Vec::new(),
        dedup_body_hash: facts.dedup_body.clone(),
    }
}

/// Checks that the columns fit together and to a payload of that length.
pub(crate) fn decode(
    facts: Option<pb::MessageFacts>,
    payload_bytes: usize,
) -> Result<Facts, CodecError> {
    let facts = facts.ok_or_else(|| malformed(WHAT, "there are none"))?;
    let count = facts.size.len();
    let fits = |length: usize| length == 0 || length == count;
    if count == 0 || facts.body_size.len() != count {
        return Err(malformed(WHAT, "a column that must be there is not"));
    }
    let optional = [
        facts.expiry_ms.len(),
        facts.due_ms.len(),
        facts.group_hash.len(),
        facts.fairness_hash.len(),
        facts.dedup_hash.len(),
        facts.dedup_body_hash.len(),
    ];
    if !optional.into_iter().all(fits) {
        return Err(malformed(WHAT, "the columns differ in length"));
    }
    let total: u64 = facts.size.iter().map(|&it| u64::from(it)).sum();
    if total != payload_bytes as u64 {
        return Err(malformed(WHAT, "the sizes do not add up to the payload"));
    }
    Ok(Facts {
        size: facts.size,
        body_size: facts.body_size,
        expiry: optional_times(&facts.expiry_ms),
        due: optional_times(&facts.due_ms),
        group_hash: facts.group_hash,
        fairness_hash: facts.fairness_hash,
        dedup_hash: facts.dedup_hash,
        dedup_body: facts.dedup_body_hash,
    })
}

/// 0 = none: no shard's time is the epoch itself.
fn times(column: &[Option<ShardTime>]) -> Vec<u64> {
    let times = column.iter();
    times.map(|it| it.map_or(0, |it| it.0)).collect()
}

fn optional_times(column: &[u64]) -> Vec<Option<ShardTime>> {
    let times = column.iter();
    times
        .map(|&it| (it != 0).then_some(ShardTime(it)))
        .collect()
}
