//! Rows of what a queue remembers for a while. Not here: what it is and when it is forgotten (`queue::store`).

use warren_proto::stored_v1 as pb;
use warren_queue::rows::{MemoryOf, MemoryOrderRow, MemoryRow, MemorySpan};
use warren_types::ShardTime;

use super::{FORMAT, check_format};
use crate::error::CodecError;

fn kind(of: MemoryOf) -> pb::MemoryKind {
    match of {
        MemoryOf::Cancels => pb::MemoryKind::Cancels,
        MemoryOf::Dedup => pb::MemoryKind::Dedup,
        MemoryOf::Outputs => pb::MemoryKind::Outputs,
    }
}

fn decode_kind(number: i32) -> Result<MemoryOf, CodecError> {
    match pb::MemoryKind::try_from(number) {
        Ok(pb::MemoryKind::Cancels) => Ok(MemoryOf::Cancels),
        Ok(pb::MemoryKind::Dedup) => Ok(MemoryOf::Dedup),
        Ok(pb::MemoryKind::Outputs) => Ok(MemoryOf::Outputs),
        Ok(pb::MemoryKind::Unspecified) | Err(_) => Err(CodecError::UnknownValue {
            what: "kind of memory",
            number: i64::from(number),
        }),
    }
}

/// The byte of a key.
pub(super) fn kind_byte(of: MemoryOf) -> u8 {
    u8::try_from(i32::from(kind(of))).expect("kinds are small numbers")
}

pub(super) fn decode_kind_byte(byte: u8) -> Result<MemoryOf, CodecError> {
    decode_kind(i32::from(byte))
}

pub(super) fn span(of: MemoryOf, span: MemorySpan) -> pb::MemorySpan {
    pb::MemorySpan {
        kind: kind(of).into(),
        first: span.first,
        next: span.next,
    }
}

pub(super) fn decode_span(it: &pb::MemorySpan) -> Result<(MemoryOf, MemorySpan), CodecError> {
    let (first, next) = (it.first, it.next);
    Ok((decode_kind(it.kind)?, MemorySpan { first, next }))
}

pub(super) fn row(row: &MemoryRow) -> pb::MemoryRow {
    pb::MemoryRow {
        format_version: FORMAT,
        number: row.number,
        at_ms: row.at.0,
        check: row.check,
    }
}

pub(super) fn decode_row(row: &pb::MemoryRow) -> Result<MemoryRow, CodecError> {
    check_format("memory row", row.format_version)?;
    Ok(MemoryRow {
        number: row.number,
        at: ShardTime(row.at_ms),
        check: row.check,
    })
}

pub(super) fn order(row: &MemoryOrderRow) -> pb::MemoryOrderRow {
    pb::MemoryOrderRow {
        format_version: FORMAT,
        key: row.key,
        at_ms: row.at.0,
    }
}

pub(super) fn decode_order(row: &pb::MemoryOrderRow) -> Result<MemoryOrderRow, CodecError> {
    check_format("memory order row", row.format_version)?;
    Ok(MemoryOrderRow {
        key: row.key,
        at: ShardTime(row.at_ms),
    })
}
