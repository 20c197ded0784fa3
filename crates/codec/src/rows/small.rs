//! The values of the small rows: shard, origins, settlements, counts, producers. Not here: queues (`queue`), blocks (`rows`).

use warren_proto::stored_v1 as pb;
use warren_queue::rows::{CountsRow, OriginRow, ProducerRow, SaidAt, SettledRow, ShardRow};
use warren_types::{BatchSequence, NotStored, Position, Run, ShardId, ShardTime, TopologyIndex};

use super::{FORMAT, check_format};
use crate::{
    error::{CodecError, malformed},
    ranges, said,
};

pub(super) fn shard(row: &ShardRow) -> pb::ShardRow {
    pb::ShardRow {
        format_version: FORMAT,
        last_time_ms: row.now.0,
        topology_index: row.topology.0,
        next_move_number: row
            .moved_out
            .iter()
            .map(|(shard, number)| (shard.0, *number))
            .collect(),
        ..pb::ShardRow::default()
    }
}

pub(super) fn decode_shard(row: pb::ShardRow) -> Result<ShardRow, CodecError> {
    check_format("shard row", row.format_version)?;
    Ok(ShardRow {
        now: ShardTime(row.last_time_ms),
        topology: TopologyIndex(row.topology_index),
        moved_out: row
            .next_move_number
            .into_iter()
            .map(|(shard, number)| (ShardId(shard), number))
            .collect(),
    })
}

pub(super) fn origin(row: &OriginRow) -> pb::OriginRow {
    let results = row.exceptions.iter().flat_map(|(sequence, exceptions)| {
        exceptions
            .iter()
            .map(|(index, reason)| pb::NotStoredResult {
                sequence: sequence.0,
                index: *index,
                reason: not_stored(*reason).into(),
            })
    });
    pb::OriginRow {
        format_version: FORMAT,
        node: 0,
        run: row.run.0,
        last_sequence: row.last.0,
        results: results.collect(),
        remembered_from: row.remembered_from.0,
        places: row
            .places
            .iter()
            .map(|(sequence, first)| pb::BatchPlaces {
                sequence: sequence.0,
                first: first.iter().map(|it| it.0).collect(),
            })
            .collect(),
    }
}

pub(super) fn decode_origin(row: pb::OriginRow) -> Result<OriginRow, CodecError> {
    check_format("origin row", row.format_version)?;
    let mut exceptions: Vec<(BatchSequence, Vec<(u32, NotStored)>)> = Vec::new();
    for result in row.results {
        let sequence = BatchSequence(result.sequence);
        let exception = (result.index, decode_not_stored(result.reason)?);
        match exceptions.last_mut() {
            Some((last, of_batch)) if *last == sequence => of_batch.push(exception),
            _ => exceptions.push((sequence, vec![exception])),
        }
    }
    Ok(OriginRow {
        run: Run(row.run),
        last: BatchSequence(row.last_sequence),
        exceptions,
        remembered_from: BatchSequence(row.remembered_from),
        places: row
            .places
            .into_iter()
            .map(|it| {
                let first = it.first.into_iter().map(Position).collect();
                (BatchSequence(it.sequence), first)
            })
            .collect(),
    })
}

pub(crate) fn not_stored(reason: NotStored) -> pb::NotStoredReason {
    match reason {
        NotStored::QueueGone => pb::NotStoredReason::QueueGone,
        NotStored::Duplicate => pb::NotStoredReason::Duplicate,
        NotStored::SequenceTooOld => pb::NotStoredReason::SequenceTooOld,
        NotStored::ProducerFenced => pb::NotStoredReason::ProducerFenced,
        NotStored::QueueFull => pb::NotStoredReason::QueueFull,
        NotStored::DedupConflict => pb::NotStoredReason::DedupConflict,
        NotStored::BatchRefused => pb::NotStoredReason::BatchRefused,
        NotStored::BatchAborted => pb::NotStoredReason::BatchAborted,
    }
}

pub(crate) fn decode_not_stored(number: i32) -> Result<NotStored, CodecError> {
    let unknown = || CodecError::UnknownValue {
        what: "reason not to store",
        number: i64::from(number),
    };
    match pb::NotStoredReason::try_from(number).map_err(|_| unknown())? {
        pb::NotStoredReason::QueueGone => Ok(NotStored::QueueGone),
        pb::NotStoredReason::Duplicate => Ok(NotStored::Duplicate),
        pb::NotStoredReason::SequenceTooOld => Ok(NotStored::SequenceTooOld),
        pb::NotStoredReason::ProducerFenced => Ok(NotStored::ProducerFenced),
        pb::NotStoredReason::QueueFull => Ok(NotStored::QueueFull),
        pb::NotStoredReason::DedupConflict => Ok(NotStored::DedupConflict),
        pb::NotStoredReason::BatchRefused => Ok(NotStored::BatchRefused),
        pb::NotStoredReason::BatchAborted => Ok(NotStored::BatchAborted),
        pb::NotStoredReason::Unspecified => Err(unknown()),
    }
}

pub(super) fn settled(row: &SettledRow) -> pb::SettledRow {
    let count: u64 = row.ranges.iter().map(|it| it.count).sum();
    pb::SettledRow {
        format_version: FORMAT,
        count: u32::try_from(count).expect("a block has fewer than 2^32 messages"),
        bitmap: bytes::Bytes::new(),
        ranges: ranges::encode(&row.ranges),
    }
}

pub(super) fn decode_settled(row: pb::SettledRow) -> Result<SettledRow, CodecError> {
    check_format("settled row", row.format_version)?;
    if !row.bitmap.is_empty() {
        return Err(malformed("settled row", "bitmaps are not written yet"));
    }
    Ok(SettledRow {
        ranges: ranges::decode(row.ranges)?,
    })
}

pub(super) fn counts(row: &CountsRow) -> pb::DeliveryCountRow {
    let mut out = pb::DeliveryCountRow {
        format_version: FORMAT,
        ..pb::DeliveryCountRow::default()
    };
    let mut before = 0_u64;
    for (position, delivered, acquired) in &row.counts {
        out.position_delta.push(position.0.wrapping_sub(before));
        out.delivery_count.push(*delivered);
        out.acquired_count.push(*acquired);
        before = position.0;
    }
    if !row.delayed.is_empty() {
        let until = |at: &Position| {
            let delayed = row.delayed.iter().find(|(position, _)| position == at);
            delayed.map_or(0, |(_, until)| until.0)
        };
        out.not_before_ms = row.counts.iter().map(|(at, _, _)| until(at)).collect();
    }
    for (position, of_it) in &row.said {
        out.said.extend(of_it.iter().map(|it| pb::SaidOfMessage {
            position: position.0,
            at_ms: it.at.0,
            said: Some(said::encode(&it.said)),
        }));
    }
    out
}

pub(super) fn decode_counts(row: pb::DeliveryCountRow) -> Result<CountsRow, CodecError> {
    const WHAT: &str = "counts row";
    check_format(WHAT, row.format_version)?;
    let count = row.position_delta.len();
    let delays = row.not_before_ms.len();
    if row.delivery_count.len() != count
        || row.acquired_count.len() != count
        || (delays != 0 && delays != count)
    {
        return Err(malformed(WHAT, "the columns differ in length"));
    }
    let mut position = 0_u64;
    let columns = row
        .position_delta
        .iter()
        .zip(&row.delivery_count)
        .zip(&row.acquired_count);
    let counts = columns.map(|((delta, delivered), acquired)| {
        position = position.wrapping_add(*delta);
        (Position(position), *delivered, *acquired)
    });
    let counts: Vec<(Position, u32, u32)> = counts.collect();
    let delayed = counts.iter().zip(row.not_before_ms);
    let delayed = delayed.filter(|(_, until)| *until != 0);
    let delayed = delayed.map(|(&(at, _, _), until)| (at, ShardTime(until)));
    let mut words: Vec<(Position, Vec<SaidAt>)> = Vec::new();
    for it in row.said {
        let (position, at) = (Position(it.position), ShardTime(it.at_ms));
        let it = SaidAt {
            at,
            said: said::decode(it.said)?,
        };
        match words.last_mut() {
            Some((last, of_it)) if *last == position => of_it.push(it),
            _ => words.push((position, vec![it])),
        }
    }
    Ok(CountsRow {
        delayed: delayed.collect(),
        counts,
        said: words,
    })
}

pub(super) fn producer(row: &ProducerRow) -> pb::ProducerRow {
    pb::ProducerRow {
        format_version: FORMAT,
        epoch: row.epoch,
        last_sequence: row.last,
        window: row.window.clone(),
        last_seen_ms: row.seen.0,
    }
}

pub(super) fn decode_producer(row: pb::ProducerRow) -> Result<ProducerRow, CodecError> {
    check_format("producer row", row.format_version)?;
    Ok(ProducerRow {
        epoch: row.epoch,
        last: row.last_sequence,
        window: row.window,
        seen: ShardTime(row.last_seen_ms),
    })
}
