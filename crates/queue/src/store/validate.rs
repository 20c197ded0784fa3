//! Whether an entry makes sense in itself, asked before it is proposed: `apply` survives anything, but a nonsensical entry is
//! a defect of the proposer. Not here: whether it makes sense for the state (`apply` answers that).

use std::collections::BTreeSet;

use thiserror::Error;
use warren_types::{Facts, Position, PositionRange, QueueId};

use crate::entry::{Command, Ending, Enqueue, OriginPart, SettleTogether, ShardEntry};

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EntryError {
    #[error("command {command}: column {column} has {has} entries for {count} messages")]
    Column {
        command: usize,
        column: &'static str,
        has: usize,
        count: usize,
    },
    #[error("command {command}: the sizes add up to {sizes} bytes, the payload has {payload}")]
    Payload {
        command: usize,
        sizes: u64,
        payload: usize,
    },
    #[error("command {command}: a block without messages")]
    NoMessages { command: usize },
    #[error("command {command}: ranges are empty, overlap, descend or run over the last position")]
    Ranges { command: usize },
    #[error(
        "command {command}: producers number a message twice, out of order or outside the block"
    )]
    Producers { command: usize },
    #[error(
        "command {command}: what ends together is not what is named, each once, or is too much"
    )]
    Together { command: usize },
    #[error("batch {batch}: a part lies outside a block or overlaps another")]
    Parts { batch: usize },
}

impl ShardEntry {
    /// Checks an entry before it is proposed.
    ///
    /// # Errors
    /// The first thing found that no proposer should write.
    pub fn validate(&self) -> Result<(), EntryError> {
        for (number, command) in self.commands.iter().enumerate() {
            match command {
                Command::Enqueue(it) => enqueue(number, it)?,
                Command::EnqueueTogether(it) => {
                    if it.blocks.is_empty() {
                        return Err(EntryError::NoMessages { command: number });
                    }
                    it.blocks.iter().try_for_each(|it| enqueue(number, it))?;
                }
                Command::AckWithOutputs(it) => {
                    if it.blocks.is_empty() {
                        return Err(EntryError::NoMessages { command: number });
                    }
                    it.blocks.iter().try_for_each(|it| enqueue(number, it))?;
                }
                Command::SettleTogether(it) => together(number, it)?,
                Command::Settle(it) => ranges(number, &it.ranges)?,
                Command::MoveOut(it) => ranges(number, &it.ranges)?,
                Command::Arrived(it) => ranges(number, &it.refused)?,
                Command::Return(it) => ranges(number, &it.ranges)?,
                Command::HandOut(it) => {
                    ranges(number, &it.except)?;
                    ranges(number, &it.positions)?;
                }
                Command::Release(it) => ranges(number, &it.ranges)?,
                Command::Purge(it) => ranges(number, &it.except)?,
                Command::Park(it) => ranges(number, &it.ranges)?,
                Command::Cancel(it) => ranges(number, &it.ranges)?,
                Command::Remark(it) => ranges(number, &it.ranges)?,
                Command::CreateQueue(_)
                | Command::DeleteQueue(_)
                | Command::Activate(_)
                | Command::DropParked(_)
                | Command::Rearm(_) => {}
                #[cfg(feature = "next-version")]
                Command::Note(_) => {}
            }
        }
        self.validate_parts()
    }

    fn validate_parts(&self) -> Result<(), EntryError> {
        let mut parts: Vec<(OriginPart, usize)> = Vec::new();
        for (batch, origin) in self.origins.iter().enumerate() {
            parts.extend(origin.parts.iter().map(|part| (*part, batch)));
        }
        parts.sort_unstable_by_key(|(part, _)| (part.command, part.first));
        let mut before: Option<OriginPart> = None;
        for (part, batch) in parts {
            let inside = match self.commands.get(part.command as usize) {
                Some(Command::Enqueue(it)) => end(part) <= it.facts.count(),
                Some(Command::EnqueueTogether(it)) => {
                    let counts = it.blocks.iter().map(|it| it.facts.count());
                    end(part) <= counts.sum()
                }
                Some(
                    Command::Settle(_)
                    | Command::AckWithOutputs(_)
                    | Command::Return(_)
                    | Command::HandOut(_)
                    | Command::Release(_)
                    | Command::CreateQueue(_)
                    | Command::DeleteQueue(_)
                    | Command::Purge(_)
                    | Command::Activate(_)
                    | Command::MoveOut(_)
                    | Command::Arrived(_)
                    | Command::Park(_)
                    | Command::DropParked(_)
                    | Command::Rearm(_)
                    | Command::Cancel(_)
                    | Command::Remark(_)
                    | Command::SettleTogether(_),
                )
                | None => false,
                #[cfg(feature = "next-version")]
                Some(Command::Note(_)) => false,
            };
            let apart = before
                .is_none_or(|it| it.command != part.command || end(it) <= u64::from(part.first));
            if !inside || !apart {
                return Err(EntryError::Parts { batch });
            }
            before = Some(part);
        }
        Ok(())
    }
}

fn end(part: OriginPart) -> u64 {
    u64::from(part.first) + u64::from(part.count)
}

fn enqueue(command: usize, it: &Enqueue) -> Result<(), EntryError> {
    let count = it.facts.size.len();
    if count == 0 {
        return Err(EntryError::NoMessages { command });
    }
    for (column, has, optional) in columns(&it.facts) {
        if has != count && !(optional && has == 0) {
            return Err(EntryError::Column {
                command,
                column,
                has,
                count,
            });
        }
    }
    let sizes = it.facts.size.iter().map(|&bytes| u64::from(bytes)).sum();
    if sizes != it.payload.len() as u64 {
        return Err(EntryError::Payload {
            command,
            sizes,
            payload: it.payload.len(),
        });
    }
    let mut numbered = BTreeSet::new();
    for span in &it.producers {
        let ascending = span
            .sequences
            .windows(2)
            .all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        let fits = span
            .sequences
            .iter()
            .all(|&(index, _)| (index as usize) < count && numbered.insert(index));
        if !ascending || !fits {
            return Err(EntryError::Producers { command });
        }
    }
    Ok(())
}

/// Each delivery ends once, and nothing else does.
fn together(command: usize, it: &SettleTogether) -> Result<(), EntryError> {
    it.blocks.iter().try_for_each(|it| enqueue(command, it))?;
    let wrong = EntryError::Together { command };
    let named: BTreeSet<(QueueId, Position)> = it
        .deliveries
        .iter()
        .map(|it| (it.queue, it.position))
        .collect();
    let is_each_once = named.len() == it.deliveries.len() && !named.is_empty();
    if !is_each_once || named.len() > SettleTogether::DELIVERIES_MAX {
        return Err(wrong);
    }
    let mut ended = 0;
    for ending in &it.endings {
        let (queue, of_it, ends) = match ending {
            Ending::Remark(it) => (it.queue, &it.ranges, 0),
            Ending::Settle(it) => (it.queue, &it.ranges, 1),
            Ending::Return(it) => (it.queue, &it.ranges, 1),
            Ending::Park(it) => (it.queue, &it.ranges, 1),
            // Without a target it would end nothing.
            Ending::MoveOut(it) if it.targets.is_empty() => return Err(wrong),
            Ending::MoveOut(it) => (it.queue, &it.ranges, 1),
        };
        ranges(command, of_it)?;
        let mut positions = of_it.iter().flat_map(|it| it.positions());
        // Stops at the first that is not named: ranges may be long.
        if !positions.all(|at| named.contains(&(queue, at))) {
            return Err(wrong);
        }
        ended += ends * of_it.iter().map(|it| it.count).sum::<u64>();
    }
    if ended == named.len() as u64 {
        Ok(())
    } else {
        Err(wrong)
    }
}

/// `(name, entries, may be empty)`.
fn columns(facts: &Facts) -> [(&'static str, usize, bool); 7] {
    [
        ("body_size", facts.body_size.len(), false),
        ("expiry", facts.expiry.len(), true),
        ("due", facts.due.len(), true),
        ("group_hash", facts.group_hash.len(), true),
        ("fairness_hash", facts.fairness_hash.len(), true),
        ("dedup_hash", facts.dedup_hash.len(), true),
        ("dedup_body", facts.dedup_body.len(), true),
    ]
}

fn ranges(command: usize, ranges: &[PositionRange]) -> Result<(), EntryError> {
    let whole = |it: &PositionRange| it.count > 0 && it.first.0.checked_add(it.count).is_some();
    let apart = ranges
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a.end() <= b.first));
    if apart && ranges.iter().all(whole) {
        Ok(())
    } else {
        Err(EntryError::Ranges { command })
    }
}
