//! A queue's own row. Not here: its blocks (`rows`), its definition (`topology`).

use std::collections::BTreeMap;

use warren_proto::stored_v1 as pb;
use warren_queue::rows::{Counters, LevelRow, QueueRow};
use warren_types::{Position, QueueId, QueueName, VhostId};

use super::{FORMAT, check_format, memory};
use crate::{
    entry::priority,
    error::{CodecError, malformed},
    ranges,
};

pub(super) fn encode(row: &QueueRow) -> pb::QueueRow {
    pb::QueueRow {
        format_version: FORMAT,
        vhost: row.vhost.0,
        name: row.name.as_str().into(),
        next_position: row.next.0,
        levels: row.levels.iter().map(level).collect(),
        live_body_bytes: row.counters.live_body_bytes,
        enqueued_total: row.counters.enqueued,
        settled_total: settled(&row.counters),
        queue: row.queue.0,
        fencing: row.fencing,
        scheduled: row.levels.iter().map(|it| it.scheduled).sum(),
        scheduled_body_bytes: row.counters.scheduled_body_bytes,
        duplicates_total: row.counters.duplicates,
        parked_body_bytes: row.counters.parked_body_bytes,
        memories: row
            .memories
            .iter()
            .map(|&(of, span)| memory::span(of, span))
            .collect(),
        #[cfg(feature = "next-version")]
        next_note: row.note,
        ..pb::QueueRow::default()
    }
}

pub(super) fn decode(queue: QueueId, row: pb::QueueRow) -> Result<QueueRow, CodecError> {
    const WHAT: &str = "queue row";
    check_format(WHAT, row.format_version)?;
    if row.queue != queue.0 {
        return Err(malformed(WHAT, "its queue is not its key's"));
    }
    let mut counters = Counters {
        enqueued: row.enqueued_total,
        live_body_bytes: row.live_body_bytes,
        scheduled_body_bytes: row.scheduled_body_bytes,
        parked_body_bytes: row.parked_body_bytes,
        duplicates: row.duplicates_total,
        ..Counters::default()
    };
    for (number, total) in row.settled_total {
        *counter(&mut counters, number)? = total;
    }
    Ok(QueueRow {
        queue,
        vhost: VhostId(row.vhost),
        name: QueueName::try_from(row.name.as_str())?,
        next: Position(row.next_position),
        levels: row
            .levels
            .into_iter()
            .map(decode_level)
            .collect::<Result<_, _>>()?,
        counters,
        fencing: row.fencing,
        memories: row
            .memories
            .iter()
            .map(memory::decode_span)
            .collect::<Result<_, _>>()?,
        #[cfg(feature = "next-version")]
        note: row.next_note,
    })
}

fn level(row: &LevelRow) -> pb::PriorityLevel {
    pb::PriorityLevel {
        priority: u32::from(row.priority.level()),
        head: row.head.0,
        live: row.live,
        handed_out: row.handed_out.0,
        released: ranges::encode(&row.released),
        scheduled: row.scheduled,
        parked: row.parked,
    }
}

fn decode_level(row: pb::PriorityLevel) -> Result<LevelRow, CodecError> {
    Ok(LevelRow {
        priority: priority(row.priority)?,
        head: Position(row.head),
        live: row.live,
        handed_out: Position(row.handed_out),
        released: ranges::decode(row.released)?,
        scheduled: row.scheduled,
        parked: row.parked,
    })
}

/// Zeros are left out.
fn settled(counters: &Counters) -> BTreeMap<u32, u64> {
    let totals = [
        (pb::SettleReason::Acked, counters.acked),
        (pb::SettleReason::Rejected, counters.rejected),
        (pb::SettleReason::Expired, counters.expired),
        (pb::SettleReason::Dropped, counters.dropped),
        (pb::SettleReason::DeadLettered, counters.dead_lettered),
        (pb::SettleReason::NoAck, counters.no_ack),
        (pb::SettleReason::Purged, counters.purged),
        (pb::SettleReason::Cancelled, counters.cancelled),
    ];
    let totals = totals.into_iter().filter(|(_, total)| *total != 0);
    totals
        .map(|(reason, total)| (i32::from(reason).unsigned_abs(), total))
        .collect()
}

fn counter(counters: &mut Counters, number: u32) -> Result<&mut u64, CodecError> {
    let unknown = || CodecError::UnknownValue {
        what: "settle reason",
        number: i64::from(number),
    };
    let reason = i32::try_from(number).map_err(|_| unknown())?;
    match pb::SettleReason::try_from(reason).map_err(|_| unknown())? {
        pb::SettleReason::Acked => Ok(&mut counters.acked),
        pb::SettleReason::Rejected => Ok(&mut counters.rejected),
        pb::SettleReason::Expired => Ok(&mut counters.expired),
        pb::SettleReason::Dropped => Ok(&mut counters.dropped),
        pb::SettleReason::DeadLettered => Ok(&mut counters.dead_lettered),
        pb::SettleReason::NoAck => Ok(&mut counters.no_ack),
        pb::SettleReason::Purged => Ok(&mut counters.purged),
        pb::SettleReason::Cancelled => Ok(&mut counters.cancelled),
        pb::SettleReason::Unspecified
        | pb::SettleReason::Moved
        | pb::SettleReason::DeliveryLimit
        | pb::SettleReason::Deleted => Err(unknown()),
    }
}

#[cfg(all(test, not(feature = "next-version")))]
mod tests {
    use super::*;

    #[test]
    fn field_of_a_later_version_is_overlooked() {
        let row = QueueRow {
            queue: QueueId(3),
            vhost: VhostId(1),
            name: QueueName::try_from("q").unwrap(),
            next: Position(9),
            levels: Vec::new(),
            counters: Counters::default(),
            fencing: 0,
            memories: Vec::new(),
        };
        let later = pb::QueueRow {
            next_note: 7,
            ..encode(&row)
        };
        assert_eq!(decode(row.queue, later), Ok(row));
    }
}
