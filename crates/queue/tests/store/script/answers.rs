//! Answers to the questions of scripts. Not here: which question it is (`script`).

use warren_types::{Position, QueueId, ShardTime};

use super::Line;
use crate::machine::Machine;
use crate::show;

pub(super) fn stats(machine: &Machine, queue: QueueId) -> String {
    let Some(stats) = machine.store.queue_stats(queue) else {
        return "no such queue\n".to_owned();
    };
    let it = stats.counters;
    let (name, live, next) = (stats.name, stats.live, stats.next);
    let settled = format!(
        "acked={} rejected={} expired={} dropped={} dead_lettered={} no_ack={} purged={}{}",
        it.acked,
        it.rejected,
        it.expired,
        it.dropped,
        it.dead_lettered,
        it.no_ack,
        it.purged,
        if it.cancelled == 0 {
            String::new()
        } else {
            format!(" cancelled={}", it.cancelled)
        }
    );
    format!(
        "{name}: live={live} next={next} enqueued={} body_bytes={}\n{settled}\n",
        it.enqueued, it.live_body_bytes
    )
}

pub(super) fn opening(machine: &Machine, queue: QueueId) -> String {
    let Some(opening) = machine.store.opening(&machine.rows, queue) else {
        return "no such queue\n".to_owned();
    };
    let levels = opening.levels.iter().map(|it| {
        let mut states = String::new();
        if it.scheduled + it.parked > 0 {
            states = format!(" scheduled={} parked={}", it.scheduled, it.parked);
        }
        format!(
            "priority={} head={} live={} handed_out={} released={}{states}\n",
            it.priority.level(),
            it.head,
            it.live,
            it.handed_out,
            show::ranges(&it.released)
        )
    });
    let mut text = format!("next={}\n", opening.next) + &levels.collect::<String>();
    for it in &opening.delayed {
        let (position, until) = (it.position, it.until);
        let (delivered, acquired) = (it.delivery_count, it.acquired_count);
        text += &format!("delayed {position} until {until} counts={delivered}/{acquired}\n");
    }
    if let Some(first) = opening.first_timer {
        text += &format!("first timer {first}\n");
    }
    text
}

pub(super) fn due(machine: &mut Machine, line: &Line<'_>) -> String {
    let up_to = ShardTime(line.number("up_to").unwrap());
    let blocks = line.number("blocks").unwrap_or(16) as usize;
    let due = machine
        .store
        .due(&machine.rows, line.queue(), up_to, blocks);
    let mut text = String::new();
    for it in &due.blocks {
        let expired: Vec<Position> = it.expired.iter().map(|(at, _)| *at).collect();
        let release = &it.release;
        text += &format!(
            "block {} release={release:?} expired={expired:?}\n",
            it.first
        );
    }
    text + &format!("next={:?}\n", due.next)
}

pub(super) fn peek(machine: &Machine, line: &Line<'_>) -> String {
    let from = Position(line.number("from").unwrap_or(0));
    let max = line.number("max").unwrap_or(100) as usize;
    let bytes = line.number("bytes").unwrap_or(u64::MAX >> 1) as usize;
    let store = &machine.store;
    let Some(page) = store.peek(&machine.rows, line.queue(), from, max, bytes) else {
        return "no queue\n".to_owned();
    };
    let mut text = String::new();
    for it in &page.messages {
        let (position, level, state) = (it.position, it.priority.level(), it.state);
        let counts = (it.delivery_count, it.acquired_count);
        text += &format!(
            "{position} priority={level} {state:?} counts={counts:?} {:?}\n",
            it.message
        );
        for said in &it.said {
            let (outcome, reason) = (said.said.outcome, &said.said.reason);
            text += &format!("    at {} {outcome:?}: {reason}\n", said.at);
        }
    }
    text + &format!("next={:?}\n", page.next)
}

pub(super) fn load(machine: &Machine, line: &Line<'_>) -> String {
    let from = Position(line.number("from").unwrap());
    let loaded = machine
        .store
        .load(&machine.rows, line.queue(), line.priority(), from);
    match loaded.block {
        None => "no block\n".to_owned(),
        Some(it) => {
            let (first, last) = (
                it.block.first,
                it.block.first.0 + u64::from(it.block.count) - 1,
            );
            format!(
                "block {first}-{last} settled={} counts={:?}{}\n",
                show::ranges(&it.settled),
                it.counts,
                if it.released.is_empty() {
                    String::new()
                } else {
                    format!(" released={}", show::ranges(&it.released))
                }
            )
        }
    }
}
