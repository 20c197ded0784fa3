//! Values as scripts show them: short, one line. Not here: reading scripts (`script`).

use warren_queue::outcome::{BatchOutcome, BatchVerdict, Effect, Left, Reply};
use warren_queue::rows::RowKey;
use warren_types::{NotStored, Position, PositionRange};

pub(crate) fn ranges(ranges: &[PositionRange]) -> String {
    let shown: Vec<String> = ranges
        .iter()
        .map(|it| match it.count {
            1 => it.first.to_string(),
            _ => format!("{}-{}", it.first, it.end().0 - 1),
        })
        .collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(",")
    }
}

pub(crate) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Enqueued { first, count } => format!("Enqueued first={first} count={count}"),
        Reply::Settled { count } => format!("Settled count={count}"),
        Reply::Returned { count } => format!("Returned count={count}"),
        Reply::Marked => "Marked".to_owned(),
        Reply::Released { count } => format!("Released count={count}"),
        Reply::Created => "Created".to_owned(),
        Reply::Deleted { messages } => format!("Deleted messages={messages}"),
        Reply::Purged { count } => format!("Purged count={count}"),
        Reply::Activated { fencing } => format!("Activated fencing={fencing}"),
        Reply::MovedOut { count } => format!("MovedOut count={count}"),
        Reply::Arrived => "Arrived".to_owned(),
        Reply::Parked { count } => format!("Parked count={count}"),
        Reply::Rearmed => "Rearmed".to_owned(),
        Reply::SettledTogether { is_done } => format!("SettledTogether is_done={is_done}"),
        Reply::AckedWithOutputs { is_done } => format!("AckedWithOutputs is_done={is_done}"),
        Reply::EnqueuedTogether { count } => format!("EnqueuedTogether count={count}"),
        Reply::Cancelled { count } => format!("Cancelled count={count}"),
        Reply::Remarked { count } => format!("Remarked count={count}"),
        Reply::QueueGone => "QueueGone".to_owned(),
    }
}

pub(crate) fn batch(outcome: &BatchOutcome) -> String {
    let BatchOutcome {
        incarnation,
        run,
        sequence,
        verdict,
    } = outcome;
    format!(
        "node={:x} run={run} sequence={sequence}: {}",
        incarnation.0,
        self::verdict(verdict)
    )
}

pub(crate) fn verdict(verdict: &BatchVerdict) -> String {
    match verdict {
        BatchVerdict::Taken { exceptions, places } => {
            format!(
                "Taken{}{}",
                self::exceptions(exceptions),
                self::places(places)
            )
        }
        BatchVerdict::Duplicate { exceptions, places } => {
            format!(
                "Duplicate{}{}",
                self::exceptions(exceptions),
                self::places(places)
            )
        }
        BatchVerdict::DuplicateForgotten => "DuplicateForgotten".to_owned(),
        BatchVerdict::Gap { last } => format!("Gap last={last}"),
        BatchVerdict::OldRun { current } => format!("OldRun current={current}"),
    }
}

fn exceptions(list: &[(u32, NotStored)]) -> String {
    list.iter()
        .map(|(index, why)| format!(" {index}:{why:?}"))
        .collect()
}

fn places(list: &[Position]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
    format!(" places={}", shown.join(","))
}

/// `None` for the shard's time, which every entry tells.
pub(crate) fn effect(effect: &Effect) -> Option<String> {
    let shown = match effect {
        Effect::QueueCreated { queue } => format!("QueueCreated({queue})"),
        Effect::QueueDeleted { queue } => format!("QueueDeleted({queue})"),
        Effect::Added(it) => {
            let absent = if it.absent.is_empty() {
                String::new()
            } else {
                format!(" absent={}", ranges(&it.absent))
            };
            let (block, level) = (it.block, it.block.priority.level());
            let (last, bytes) = (block.first.0 + u64::from(block.count) - 1, it.payload.len());
            format!(
                "Added({} priority={level} {}-{last} bytes={bytes}{absent})",
                it.queue, block.first
            )
        }
        Effect::Settled {
            queue,
            ranges,
            reason,
            left,
        } => format!(
            "Settled({queue} {} {reason:?}{})",
            self::ranges(ranges),
            states(left)
        ),
        Effect::Returned {
            queue,
            ranges,
            counts,
            kind,
            not_before,
        } => {
            let later = not_before.map_or(String::new(), |time| format!(" not_before={time}"));
            format!(
                "Returned({queue} {} {kind:?} counts={counts:?}{later})",
                self::ranges(ranges)
            )
        }
        Effect::Raised {
            queue,
            priority,
            mark,
        } => format!("Raised({queue} priority={} mark={mark})", priority.level()),
        Effect::Taken {
            queue,
            priority,
            ranges,
        } => {
            format!(
                "Taken({queue} priority={} {})",
                priority.level(),
                self::ranges(ranges)
            )
        }
        Effect::Outgoing { .. } | Effect::NotMoved { .. } => effect_of_moves(effect),
        Effect::Activated { .. }
        | Effect::Released(_)
        | Effect::Parked { .. }
        | Effect::OutputsRefused(_)
        | Effect::TogetherRefused(_)
        | Effect::TogetherDone { .. }
        | Effect::Rearmed { .. }
        | Effect::Cancelled(_)
        | Effect::Purged { .. } => effect_of_states(effect),
        Effect::Time { .. } => return None,
    };
    Some(shown)
}

fn effect_of_moves(effect: &Effect) -> String {
    match effect {
        Effect::Outgoing { shard, number, row } => {
            let to: Vec<String> = row.queues.iter().map(ToString::to_string).collect();
            format!(
                "Outgoing({} {:?} {} to shard={shard} number={number} queues={})",
                row.queue,
                row.reason,
                self::ranges(&row.ranges),
                to.join(",")
            )
        }
        Effect::NotMoved {
            queue,
            ranges,
            reason,
        } => {
            format!("NotMoved({queue} {reason:?} {})", self::ranges(ranges))
        }
        _ => unreachable!("of moves"),
    }
}

fn effect_of_states(effect: &Effect) -> String {
    match effect {
        Effect::Activated { queue, fencing } => format!("Activated({queue} fencing={fencing})"),
        Effect::Released(it) => format!("Released({} {})", it.queue, self::ranges(&it.ranges)),
        Effect::Parked {
            queue,
            ranges,
            cause,
            ..
        } => {
            format!("Parked({queue} {} {cause:?})", self::ranges(ranges))
        }
        Effect::Rearmed { queue } => format!("Rearmed({queue})"),
        Effect::OutputsRefused(it) => {
            let (queue, position, index, why) = (it.queue, it.position, it.index, it.why);
            format!("OutputsRefused({queue} {position}: output {index} {why:?})")
        }
        Effect::TogetherDone { first } => {
            format!("TogetherDone({} {})", first.queue, first.position)
        }
        Effect::TogetherRefused(it) => {
            let each = it.deliveries.iter();
            let each = each.map(|it| format!("{} {}", it.queue, it.position));
            let each: Vec<_> = each.collect();
            format!("TogetherRefused({}: {:?})", each.join(", "), it.why)
        }
        Effect::Cancelled(it) => format!(
            "Cancelled({} {} before={} unknown={}{})",
            it.queue,
            ranges(&it.ranges),
            ranges(&it.before),
            ranges(&it.unknown),
            states(&it.left)
        ),
        Effect::Purged {
            queue,
            ranges,
            left,
        } => {
            format!("Purged({queue} {}{})", self::ranges(ranges), states(left))
        }
        _ => unreachable!("shown elsewhere"),
    }
}

fn states(left: &Left) -> String {
    let mut text = String::new();
    for (name, tally) in [("scheduled", left.scheduled), ("parked", left.parked)] {
        if tally.messages > 0 {
            text += &format!(" {name}={}", tally.messages);
        }
    }
    text
}

pub(crate) fn key(key: &RowKey) -> String {
    match key {
        RowKey::Marks {
            queue,
            priority,
            first,
        } => format!("Marks({queue} {} {first})", priority.level()),
        RowKey::Timer {
            queue,
            at,
            priority,
            first,
        } => format!("Timer({queue} {at} {} {first})", priority.level()),
        RowKey::Memory { queue, of, key } => format!("Memory({queue} {of:?} {key})"),
        RowKey::MemoryOrder { queue, of, number } => {
            format!("MemoryOrder({queue} {of:?} {number})")
        }
        RowKey::Shard => "Shard".to_owned(),
        RowKey::Origin(incarnation) => format!("Origin({:x})", incarnation.0),
        RowKey::Queue(queue) => format!("Queue({queue})"),
        RowKey::Block {
            queue,
            priority,
            first,
        } => format!("Block({queue} {} {first})", priority.level()),
        RowKey::Settled {
            queue,
            priority,
            first,
        } => format!("Settled({queue} {} {first})", priority.level()),
        RowKey::Counts {
            queue,
            priority,
            first,
        } => format!("Counts({queue} {} {first})", priority.level()),
        RowKey::Outgoing { shard, number } => format!("Outgoing({shard} {number})"),
        RowKey::Producer { queue, producer } => {
            format!("Producer({queue} {})", String::from_utf8_lossy(&producer.0))
        }
    }
}
