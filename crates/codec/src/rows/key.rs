//! Keys of rows: a kind, then big-endian numbers, so that the order of the bytes is the order of [`RowKey`]. Not here: values.

use bytes::{BufMut, Bytes, BytesMut};
use warren_queue::rows::{MemoryOf, RowKey};
use warren_types::{Incarnation, Position, Priority, ProducerId, QueueId, ShardId, ShardTime};

use super::memory;
use crate::error::{CodecError, malformed};

/// First byte of a key. Stored: never renumber or reuse.
mod kind {
    pub(super) const SHARD: u8 = 1;
    pub(super) const ORIGIN: u8 = 2;
    pub(super) const QUEUE: u8 = 3;
    pub(super) const BLOCK: u8 = 4;
    pub(super) const SETTLED: u8 = 5;
    pub(super) const COUNTS: u8 = 6;
    pub(super) const PRODUCER: u8 = 7;
    pub(super) const OUTGOING: u8 = 40;
    pub(super) const MARKS: u8 = 20;
    pub(super) const TIMER: u8 = 21;
    pub(super) const MEMORY: u8 = 23;
    pub(super) const MEMORY_ORDER: u8 = 24;
}

/// Which of the state's tables a row is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RowTable {
    /// Blocks: each key is written once and deleted once.
    Blocks,
    /// Everything else.
    Rows,
}

/// Keys from `from` (inclusive) to `to` (exclusive) of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    pub table: RowTable,
    pub from: Bytes,
    pub to: Bytes,
}

#[must_use]
pub fn table_of(key: &RowKey) -> RowTable {
    match key {
        RowKey::Block { .. } => RowTable::Blocks,
        RowKey::Shard
        | RowKey::Origin(_)
        | RowKey::Queue(_)
        | RowKey::Settled { .. }
        | RowKey::Counts { .. }
        | RowKey::Producer { .. }
        | RowKey::Outgoing { .. }
        | RowKey::Marks { .. }
        | RowKey::Timer { .. }
        | RowKey::Memory { .. }
        | RowKey::MemoryOrder { .. } => RowTable::Rows,
    }
}

#[must_use]
pub fn encode_key(key: &RowKey) -> Bytes {
    match key {
        RowKey::Shard => Bytes::from_static(&[kind::SHARD]),
        RowKey::Origin(Incarnation(it)) => {
            let mut out = start(kind::ORIGIN, size_of::<u128>());
            out.put_u128(*it);
            out.freeze()
        }
        RowKey::Queue(queue) => of_queue(kind::QUEUE, *queue, 0).freeze(),
        RowKey::Block {
            queue,
            priority,
            first,
        } => of_block(kind::BLOCK, *queue, *priority, *first),
        RowKey::Settled {
            queue,
            priority,
            first,
        } => of_block(kind::SETTLED, *queue, *priority, *first),
        RowKey::Counts {
            queue,
            priority,
            first,
        } => of_block(kind::COUNTS, *queue, *priority, *first),
        RowKey::Producer { queue, producer } => {
            let mut out = of_queue(kind::PRODUCER, *queue, producer.0.len());
            out.put_slice(&producer.0);
            out.freeze()
        }
        RowKey::Outgoing { shard, number } => {
            let mut out = start(kind::OUTGOING, size_of::<u32>() + size_of::<u64>());
            out.put_u32(shard.0);
            out.put_u64(*number);
            out.freeze()
        }
        RowKey::Marks {
            queue,
            priority,
            first,
        } => of_block(kind::MARKS, *queue, *priority, *first),
        RowKey::Timer {
            queue,
            at,
            priority,
            first,
        } => {
            let mut out = of_queue(kind::TIMER, *queue, 2 * size_of::<u64>() + 1);
            out.put_u64(at.0);
            out.put_u8(priority.level());
            out.put_u64(first.0);
            out.freeze()
        }
        RowKey::Memory { queue, of, key } => of_memory(kind::MEMORY, *queue, *of, *key),
        RowKey::MemoryOrder { queue, of, number } => {
            of_memory(kind::MEMORY_ORDER, *queue, *of, *number)
        }
    }
}

fn of_memory(kind: u8, queue: QueueId, of: MemoryOf, number: u64) -> Bytes {
    let mut out = of_queue(kind, queue, 1 + size_of::<u64>());
    out.put_u8(memory::kind_byte(of));
    out.put_u64(number);
    out.freeze()
}

fn start(kind: u8, more: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(1 + more);
    out.put_u8(kind);
    out
}

fn of_queue(kind: u8, queue: QueueId, more: usize) -> BytesMut {
    let mut out = start(kind, size_of::<u64>() + more);
    out.put_u64(queue.0);
    out
}

fn of_level(kind: u8, queue: QueueId, priority: Priority) -> BytesMut {
    let mut out = of_queue(kind, queue, 1 + size_of::<u64>());
    out.put_u8(priority.level());
    out
}

fn of_block(kind: u8, queue: QueueId, priority: Priority, first: Position) -> Bytes {
    let mut out = of_level(kind, queue, priority);
    out.put_u64(first.0);
    out.freeze()
}

/// # Errors
/// [`CodecError`] if the bytes are no key of a row.
pub fn decode_key(key: &[u8]) -> Result<RowKey, CodecError> {
    let what = || malformed("row key", "its length is not its kind's");
    let (kind, rest) = key.split_first().ok_or_else(what)?;
    match *kind {
        kind::SHARD if rest.is_empty() => Ok(RowKey::Shard),
        kind::SHARD => Err(what()),
        kind::ORIGIN => {
            let bytes = rest.try_into().map_err(|_| what())?;
            Ok(RowKey::Origin(Incarnation(u128::from_be_bytes(bytes))))
        }
        kind::QUEUE => {
            let bytes = rest.try_into().map_err(|_| what())?;
            Ok(RowKey::Queue(QueueId(u64::from_be_bytes(bytes))))
        }
        kind::BLOCK => {
            let (queue, priority, first) = block(rest)?;
            Ok(RowKey::Block {
                queue,
                priority,
                first,
            })
        }
        kind::SETTLED => {
            let (queue, priority, first) = block(rest)?;
            Ok(RowKey::Settled {
                queue,
                priority,
                first,
            })
        }
        kind::COUNTS => {
            let (queue, priority, first) = block(rest)?;
            Ok(RowKey::Counts {
                queue,
                priority,
                first,
            })
        }
        kind::PRODUCER => {
            let (queue, producer) = rest.split_first_chunk().ok_or_else(what)?;
            Ok(RowKey::Producer {
                queue: QueueId(u64::from_be_bytes(*queue)),
                producer: ProducerId(Bytes::copy_from_slice(producer)),
            })
        }
        kind::OUTGOING => outgoing(rest),
        kind::MARKS => {
            let (queue, priority, first) = block(rest)?;
            Ok(RowKey::Marks {
                queue,
                priority,
                first,
            })
        }
        kind::TIMER => timer(rest),
        kind::MEMORY => {
            let (queue, of, key) = memory(rest)?;
            Ok(RowKey::Memory { queue, of, key })
        }
        kind::MEMORY_ORDER => {
            let (queue, of, number) = memory(rest)?;
            Ok(RowKey::MemoryOrder { queue, of, number })
        }
        _ => Err(malformed("row key", "its kind is unknown")),
    }
}

fn timer(rest: &[u8]) -> Result<RowKey, CodecError> {
    let wrong = || malformed("row key", "its length is not its kind's");
    let (queue, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
    let (at, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
    let (priority, first) = level_and_first(rest)?;
    Ok(RowKey::Timer {
        queue: QueueId(u64::from_be_bytes(*queue)),
        at: ShardTime(u64::from_be_bytes(*at)),
        priority,
        first,
    })
}

fn outgoing(rest: &[u8]) -> Result<RowKey, CodecError> {
    let wrong = || malformed("row key", "its length is not its kind's");
    let (shard, number) = rest.split_first_chunk().ok_or_else(wrong)?;
    let number = number.try_into().map_err(|_| wrong())?;
    Ok(RowKey::Outgoing {
        shard: ShardId(u32::from_be_bytes(*shard)),
        number: u64::from_be_bytes(number),
    })
}

fn memory(rest: &[u8]) -> Result<(QueueId, MemoryOf, u64), CodecError> {
    let wrong = || malformed("row key", "its length is not its kind's");
    let (queue, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
    let (of, number) = rest.split_first().ok_or_else(wrong)?;
    let number = number.try_into().map_err(|_| wrong())?;
    Ok((
        QueueId(u64::from_be_bytes(*queue)),
        memory::decode_kind_byte(*of)?,
        u64::from_be_bytes(number),
    ))
}

fn block(rest: &[u8]) -> Result<(QueueId, Priority, Position), CodecError> {
    let wrong = || malformed("row key", "its length is not its kind's");
    let (queue, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
    let (priority, first) = level_and_first(rest)?;
    Ok((QueueId(u64::from_be_bytes(*queue)), priority, first))
}

fn level_and_first(rest: &[u8]) -> Result<(Priority, Position), CodecError> {
    let wrong = || malformed("row key", "its length is not its kind's");
    let (level, first) = rest.split_first().ok_or_else(wrong)?;
    let first = first.try_into().map_err(|_| wrong())?;
    if *level > Priority::MAX.level() {
        return Err(malformed("row key", "its priority is above 31"));
    }
    let first = Position(u64::from_be_bytes(first));
    Ok((Priority::clamped(*level), first))
}

/// All blocks of a queue's priority, in the order of their positions.
#[must_use]
pub fn blocks_of(queue: QueueId, priority: Priority) -> KeyRange {
    let prefix = of_level(kind::BLOCK, queue, priority).freeze();
    with_prefix(RowTable::Blocks, prefix)
}

/// The blocks of a queue's priority that begin at or after `from`.
#[must_use]
pub fn blocks_from(queue: QueueId, priority: Priority, from: Position) -> KeyRange {
    KeyRange {
        from: of_block(kind::BLOCK, queue, priority, from),
        ..blocks_of(queue, priority)
    }
}

/// The blocks of a queue's priority that begin at or before `position`: the last of them holds it, if any does.
#[must_use]
pub fn block_holding_range(queue: QueueId, priority: Priority, position: Position) -> KeyRange {
    let mut to = BytesMut::from(&of_block(kind::BLOCK, queue, priority, position)[..]);
    // The next key there can be.
    to.put_u8(0);
    KeyRange {
        to: to.freeze(),
        ..blocks_of(queue, priority)
    }
}

/// All rows that go with a queue, its blocks first; its own row (`RowKey::Queue`) is not among them.
#[must_use]
pub fn rows_of_queue(queue: QueueId) -> [KeyRange; 8] {
    [
        (RowTable::Blocks, kind::BLOCK),
        (RowTable::Rows, kind::SETTLED),
        (RowTable::Rows, kind::COUNTS),
        (RowTable::Rows, kind::PRODUCER),
        (RowTable::Rows, kind::MARKS),
        (RowTable::Rows, kind::TIMER),
        (RowTable::Rows, kind::MEMORY),
        (RowTable::Rows, kind::MEMORY_ORDER),
    ]
    .map(|(table, kind)| with_prefix(table, of_queue(kind, queue, 0).freeze()))
}

/// All queues' own rows.
#[must_use]
pub fn queue_rows() -> KeyRange {
    with_prefix(RowTable::Rows, Bytes::from_static(&[kind::QUEUE]))
}

/// A queue's timers, in the order of time.
#[must_use]
pub fn timer_rows(queue: QueueId) -> KeyRange {
    with_prefix(RowTable::Rows, of_queue(kind::TIMER, queue, 0).freeze())
}

/// The counts rows of all blocks of a queue.
#[must_use]
pub fn counts_rows(queue: QueueId) -> KeyRange {
    with_prefix(RowTable::Rows, of_queue(kind::COUNTS, queue, 0).freeze())
}

/// The rows of marks of the blocks of a queue's priority that begin at or after `from`.
#[must_use]
pub fn marks_from(queue: QueueId, priority: Priority, from: Position) -> KeyRange {
    KeyRange {
        from: of_block(kind::MARKS, queue, priority, from),
        ..with_prefix(
            RowTable::Rows,
            of_level(kind::MARKS, queue, priority).freeze(),
        )
    }
}

/// What a queue remembers of producers.
#[must_use]
pub fn producer_rows(queue: QueueId) -> KeyRange {
    with_prefix(RowTable::Rows, of_queue(kind::PRODUCER, queue, 0).freeze())
}

/// All origins' rows.
#[must_use]
pub fn origin_rows() -> KeyRange {
    with_prefix(RowTable::Rows, Bytes::from_static(&[kind::ORIGIN]))
}

/// Everything on its way to other shards.
#[must_use]
pub fn outgoing_rows() -> KeyRange {
    with_prefix(RowTable::Rows, Bytes::from_static(&[kind::OUTGOING]))
}

/// Every key that begins with `prefix`.
fn with_prefix(table: RowTable, prefix: Bytes) -> KeyRange {
    let mut to = BytesMut::from(&prefix[..]);
    // The first key after them: the prefix with its last byte raised, full bytes dropped.
    while let Some(last) = to.last_mut() {
        if let Some(raised) = last.checked_add(1) {
            *last = raised;
            break;
        }
        let shorter = to.len() - 1;
        to.truncate(shorter);
    }
    assert!(!to.is_empty(), "no kind of row is 255");
    KeyRange {
        table,
        from: prefix,
        to: to.freeze(),
    }
}
