//! Position ranges as columns of gaps and counts. Not here: what they are ranges of.

use warren_proto::stored_v1 as pb;
use warren_types::{Position, PositionRange};

use crate::error::{CodecError, malformed};

const WHAT: &str = "position ranges";

/// Any ranges round-trip; ascending ones are short.
///
/// # Panics
/// If a range is empty: there is no such range.
pub(crate) fn encode(ranges: &[PositionRange]) -> Option<pb::PositionRanges> {
    if ranges.is_empty() {
        return None;
    }
    let mut end = 0_u64;
    let mut columns = pb::PositionRanges::default();
    for range in ranges {
        assert!(range.count > 0, "a range of positions is never empty");
        columns.gap.push(range.first.0.wrapping_sub(end));
        columns.count.push(range.count);
        end = range.first.0.wrapping_add(range.count);
    }
    Some(columns)
}

pub(crate) fn decode(
    columns: Option<pb::PositionRanges>,
) -> Result<Vec<PositionRange>, CodecError> {
    let Some(columns) = columns else {
        return Ok(Vec::new());
    };
    if columns.gap.len() != columns.count.len() {
        return Err(malformed(WHAT, "the columns differ in length"));
    }
    let mut end = 0_u64;
    columns
        .gap
        .into_iter()
        .zip(columns.count)
        .map(|(gap, count)| {
            let first = end.wrapping_add(gap);
            end = first
                .checked_add(count)
                .filter(|_| count > 0)
                .ok_or_else(|| malformed(WHAT, "a range is empty or passes the end"))?;
            Ok(PositionRange {
                first: Position(first),
                count,
            })
        })
        .collect()
}
