//! What dispatch says, as scripts write it. Not here: running them (`script`).

use std::fmt::Write as _;

use warren_queue::dispatch::io::{ConsumerKey, HandedOut};
use warren_queue::entry::Command;
use warren_types::PositionRange;

pub(crate) fn key(key: ConsumerKey) -> String {
    format!("{}.{}", key.node, key.consumer)
}

pub(crate) fn delivery(it: &HandedOut) -> String {
    let mut text = format!("{}@{}.{}", it.position, it.attempt.term, it.attempt.number);
    if it.redelivered {
        text.push_str(",redelivered");
    }
    if (it.delivery_count, it.acquired_count) != (0, 0) {
        write!(text, ",counts={}/{}", it.delivery_count, it.acquired_count).unwrap();
    }
    text
}

pub(crate) fn proposal(command: &Command) -> String {
    match command {
        Command::Settle(it) => format!("Settle({:?}, {})", it.reason, spans(&it.ranges)),
        Command::Return(it) => match it.not_before {
            Some(until) => format!(
                "Return({:?}, {}, not before {until})",
                it.kind,
                spans(&it.ranges)
            ),
            None => format!("Return({:?}, {})", it.kind, spans(&it.ranges)),
        },
        Command::HandOut(it) => match it.up_to {
            Some(up_to) => format!("HandOut(priority={}, up_to={up_to})", it.priority.level()),
            None => format!("HandOut(positions={})", spans(&it.positions)),
        },
        Command::Purge(it) => format!("Purge(below={}, except={})", it.below, spans(&it.except)),
        Command::Activate(it) => format!("Activate(fencing={})", it.fencing),
        Command::Release(it) => {
            let hand_out = if it.hand_out { ", hand out" } else { "" };
            format!("Release({}{hand_out})", spans(&it.ranges))
        }
        Command::Park(it) => format!("Park({:?}, {:?}, {})", it.cause, it.kind, spans(&it.ranges)),
        Command::Remark(it) => format!(
            "Remark({:?}, {:?}, {})",
            it.said.outcome,
            it.said.reason,
            spans(&it.ranges)
        ),
        Command::Rearm(it) => {
            let blocks = it.blocks.iter().map(|(_, first)| first.to_string());
            format!("Rearm([{}])", blocks.collect::<Vec<_>>().join(" "))
        }
        Command::Enqueue(_)
        | Command::EnqueueTogether(_)
        | Command::AckWithOutputs(_)
        | Command::SettleTogether(_)
        | Command::MoveOut(_)
        | Command::Arrived(_)
        | Command::Cancel(_)
        | Command::DropParked(_)
        | Command::CreateQueue(_)
        | Command::DeleteQueue(_) => panic!("dispatch does not propose {command:?}"),
    }
}

pub(crate) fn spans(ranges: &[PositionRange]) -> String {
    let one = |it: &PositionRange| match it.count {
        1 => it.first.to_string(),
        _ => format!("{}-{}", it.first, it.end().0 - 1),
    };
    format!("[{}]", ranges.iter().map(one).collect::<Vec<_>>().join(" "))
}
