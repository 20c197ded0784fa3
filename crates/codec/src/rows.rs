//! A shard's rows as keys and values of the state tables. Not here: the tables themselves (`storage`), what rows mean (`queue::rows`).
//!
//! A value is four bytes of CRC-32C (little-endian) over key and message, then the row's message. So a damaged row is found, and one
//! under another's key.

mod key;
mod memory;
mod outgoing;
mod queue;
pub(crate) mod small;
mod states;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use warren_proto::stored_v1 as pb;
use warren_queue::rows::{BlockRow, Row, RowKey};
use warren_types::Position;

pub use key::{
    KeyRange, RowTable, block_holding_range, blocks_from, blocks_of, counts_rows, decode_key,
    encode_key, marks_from, origin_rows, outgoing_rows, producer_rows, queue_rows, rows_of_queue,
    table_of, timer_rows,
};

use crate::{
    error::{CodecError, malformed},
    facts,
};

pub(crate) const FORMAT: u32 = 1;
const CHECKSUM_BYTES: usize = size_of::<u32>();

/// The value kept under `key` (which [`encode_key`] made). A block's payload is copied once.
#[must_use]
pub fn encode_row(key: &[u8], row: &Row) -> Bytes {
    match row {
        Row::Shard(it) => seal(key, &small::shard(it)),
        Row::Origin(it) => seal(key, &small::origin(it)),
        Row::Queue(it) => seal(key, &queue::encode(it)),
        Row::Block(it) => seal(key, &block(it)),
        Row::Settled(it) => seal(key, &small::settled(it)),
        Row::Counts(it) => seal(key, &small::counts(it)),
        Row::Producer(it) => seal(key, &small::producer(it)),
        Row::Outgoing(it) => seal(key, &outgoing::encode(it)),
        Row::Marks(it) => seal(key, &states::marks(it)),
        Row::Timer => seal(key, &states::timer()),
        Row::Memory(it) => seal(key, &memory::row(it)),
        Row::MemoryOrder(it) => seal(key, &memory::order(it)),
    }
}

/// The row under `key`, checked. A block's payload is a slice of `value`.
///
/// # Errors
/// [`CodecError`]: the row is damaged, under another's key, or of a newer version.
pub fn decode_row(key: &[u8], value: &Bytes) -> Result<Row, CodecError> {
    Ok(match decode_key(key)? {
        RowKey::Shard => Row::Shard(small::decode_shard(open("shard row", key, value)?)?),
        RowKey::Origin(_) => Row::Origin(small::decode_origin(open("origin row", key, value)?)?),
        RowKey::Queue(queue) => Row::Queue(queue::decode(queue, open("queue row", key, value)?)?),
        RowKey::Block { first, .. } => {
            Row::Block(decode_block(first, open("block row", key, value)?)?)
        }
        RowKey::Settled { .. } => {
            Row::Settled(small::decode_settled(open("settled row", key, value)?)?)
        }
        RowKey::Counts { .. } => {
            Row::Counts(small::decode_counts(open("counts row", key, value)?)?)
        }
        RowKey::Producer { .. } => {
            Row::Producer(small::decode_producer(open("producer row", key, value)?)?)
        }
        RowKey::Outgoing { .. } => {
            Row::Outgoing(outgoing::decode(open("outgoing row", key, value)?)?)
        }
        RowKey::Marks { .. } => Row::Marks(states::decode_marks(open("marks row", key, value)?)?),
        RowKey::Timer { .. } => states::decode_timer(&open("timer row", key, value)?)?,
        RowKey::Memory { .. } => Row::Memory(memory::decode_row(&open("memory row", key, value)?)?),
        RowKey::MemoryOrder { .. } => Row::MemoryOrder(memory::decode_order(&open(
            "memory order row",
            key,
            value,
        )?)?),
    })
}

pub(crate) fn seal(key: &[u8], message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(CHECKSUM_BYTES + message.encoded_len());
    out.put_u32_le(0);
    message
        .encode(&mut out)
        .expect("the buffer has the length it asked for, and grows");
    let mut whole = out.split_to(CHECKSUM_BYTES);
    let checksum = checksum(key, &out);
    whole.clear();
    whole.put_u32_le(checksum);
    // The two halves are neighbours in one buffer: this joins them without copying.
    whole.unsplit(out);
    whole.freeze()
}

pub(crate) fn open<M: Message + Default>(
    what: &'static str,
    key: &[u8],
    value: &Bytes,
) -> Result<M, CodecError> {
    check(what, key, value)?;
    M::decode(value.slice(CHECKSUM_BYTES..)).map_err(CodecError::wire(what))
}

/// Whether the value under `key` matches its checksum; what it says is not looked at.
///
/// # Errors
/// [`CodecError`]: the row is damaged, or under another's key.
pub fn check_row(key: &[u8], value: &[u8]) -> Result<(), CodecError> {
    check("row", key, value)
}

fn check(what: &'static str, key: &[u8], value: &[u8]) -> Result<(), CodecError> {
    let Some((stored, message)) = value.split_first_chunk::<CHECKSUM_BYTES>() else {
        return Err(CodecError::Truncated {
            what,
            bytes: value.len(),
        });
    };
    let stored = u32::from_le_bytes(*stored);
    let computed = checksum(key, message);
    if stored == computed {
        return Ok(());
    }
    Err(CodecError::Checksum {
        what,
        stored,
        computed,
    })
}

fn checksum(key: &[u8], message: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), message)
}

pub(crate) fn check_format(what: &'static str, found: u32) -> Result<(), CodecError> {
    if found == FORMAT {
        return Ok(());
    }
    Err(CodecError::UnknownFormat {
        what,
        found,
        known: FORMAT,
    })
}

fn block(row: &BlockRow) -> pb::BlockRow {
    pb::BlockRow {
        format_version: FORMAT,
        first_position: row.first.0,
        facts: Some(facts::encode(&row.facts)),
        payload: row.payload.clone(),
        ..pb::BlockRow::default()
    }
}

fn decode_block(first: Position, row: pb::BlockRow) -> Result<BlockRow, CodecError> {
    const WHAT: &str = "block row";
    check_format(WHAT, row.format_version)?;
    if row.compression != 0 || row.key_id != 0 {
        return Err(CodecError::UnknownValue {
            what: "compression or key of a block",
            number: i64::from(row.compression),
        });
    }
    if row.first_position != first.0 {
        return Err(malformed(WHAT, "its position is not its key's"));
    }
    Ok(BlockRow {
        first,
        facts: Arc::new(facts::decode(row.facts, row.payload.len())?),
        payload: row.payload,
    })
}
