//! Looks at messages of a queue in the order of their positions, whatever state they are in, without any effect. Not here: who holds what
//! (the dispatcher knows), pages for clients (`warren-gateway`).

use bytes::Bytes;
use warren_types::{Position, Priority, QueueId, ShardTime};

use super::Store;
use super::queue::Queue;
use crate::entry::ParkCause;
use crate::rows::{Rows, SaidAt};

/// A message that was looked at.
#[derive(Clone, Debug)]
pub struct PeekedMessage {
    pub position: Position,
    pub priority: Priority,
    pub state: PeekedState,
    pub delivery_count: u32,
    pub acquired_count: u32,
    pub expiry: Option<ShardTime>,
    /// Hash of its group key; 0 = none, or not told.
    pub group_hash: u64,
    /// What consumers said of it, oldest first.
    pub said: Vec<SaidAt>,
    /// The message's encoding: a slice of its block.
    pub message: Bytes,
}

/// As the store knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeekedState {
    /// Ready or in flight.
    Ready,
    Scheduled(ShardTime),
    Delayed(ShardTime),
    Parked(ParkCause),
}

/// Messages looked at for the first ready ones of a priority.
const LOOKED_AT_MAX: usize = 1_024;
/// Bytes of them, roughly.
const LOOKED_AT_BYTES_MAX: usize = 16 << 20;
/// Of those, so many are told of.
const CANDIDATES_MAX: usize = 16;

/// What fits into a page.
#[derive(Clone, Copy)]
struct Room {
    max: usize,
    /// If there is more than one message.
    bytes_max: usize,
}

/// Some of a queue's messages, ascending.
#[derive(Clone, Debug, Default)]
pub struct PeekedPage {
    pub messages: Vec<PeekedMessage>,
    /// Where to go on; `None` = the end.
    pub next: Option<Position>,
}

impl Store {
    /// What is live from `from` on: at most `max` messages, and `bytes_max` bytes if there is more than one. `None`: no such queue.
    /// `rows` shows all entries applied so far.
    #[must_use]
    pub fn peek(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        from: Position,
        max: usize,
        bytes_max: usize,
    ) -> Option<PeekedPage> {
        let queue = self.queues.get(&queue)?;
        let mut found = Vec::new();
        let live = queue.levels.iter().filter(|level| level.row.live > 0);
        for priority in live.map(|level| level.row.priority) {
            let room = Room { max, bytes_max };
            queue.peek_level(rows, priority, from, room, self.now(), &mut found);
        }
        found.sort_unstable_by_key(|it| it.position);
        let mut bytes = 0;
        let fitting = found.iter().take(max).take_while(|it| {
            let first = bytes == 0;
            bytes += it.message.len().max(1);
            first || bytes <= bytes_max
        });
        let fitting = fitting.count();
        let next = found.get(fitting).map(|it| it.position);
        found.truncate(fitting);
        Some(PeekedPage {
            messages: found,
            next,
        })
    }
}

impl Store {
    /// The first messages of each priority, from a position on, that are ready or in flight: some of each, ascending; none of those that
    /// stand behind very many that are not. `rows` shows all entries applied so far.
    #[must_use]
    pub fn first_ready(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        from: &[(Priority, Position)],
    ) -> Vec<PeekedMessage> {
        let Some(queue) = self.queues.get(&queue) else {
            return Vec::new();
        };
        let mut candidates = Vec::new();
        for &(priority, at) in from {
            let mut found = Vec::new();
            let room = Room {
                max: LOOKED_AT_MAX,
                bytes_max: LOOKED_AT_BYTES_MAX,
            };
            queue.peek_level(rows, priority, at, room, self.now(), &mut found);
            found.retain(|it| it.state == PeekedState::Ready);
            found.truncate(CANDIDATES_MAX);
            candidates.append(&mut found);
        }
        candidates
    }
}

impl Queue {
    /// One message more than fits, if there is: it says where to go on.
    fn peek_level(
        &self,
        rows: &dyn Rows,
        priority: Priority,
        from: Position,
        room: Room,
        now: ShardTime,
        found: &mut Vec<PeekedMessage>,
    ) {
        let first = found.len();
        let enough = first + room.max + 1;
        let mut bytes = 0;
        let mut at = from;
        while let Some((row, settled, counts, marks)) = self.block_rows(rows, priority, at) {
            let mut offset = 0;
            for (index, &size) in row.facts.size.iter().enumerate() {
                let position = row.first.plus(index as u64);
                let (start, end) = (offset, offset + size as usize);
                offset = end;
                let gone = settled.ranges.iter().any(|it| it.contains(position));
                if position < from || gone {
                    continue;
                }
                let is_over = bytes > room.bytes_max && found.len() > first + 1;
                if found.len() == enough || is_over {
                    return;
                }
                bytes += end - start;
                let parked = marks.parked.iter().find(|(at, _)| *at == position);
                let delayed = counts.delayed.iter().find(|(at, _)| *at == position);
                let due = row.facts.due.get(index).copied().flatten();
                let released = marks.released.iter().any(|it| it.contains(position));
                let state = match (parked, delayed, due.filter(|_| !released)) {
                    (Some((_, cause)), _, _) => PeekedState::Parked(*cause),
                    (None, Some((_, until)), _) if *until > now => PeekedState::Delayed(*until),
                    (None, _, Some(due)) => PeekedState::Scheduled(due),
                    (None, _, None) => PeekedState::Ready,
                };
                let times = counts.counts.iter().find(|(at, _, _)| *at == position);
                found.push(PeekedMessage {
                    position,
                    priority,
                    state,
                    delivery_count: times.map_or(0, |it| it.1),
                    acquired_count: times.map_or(0, |it| it.2),
                    expiry: row.facts.expiry.get(index).copied().flatten(),
                    group_hash: row.facts.group_hash.get(index).copied().unwrap_or(0),
                    said: counts.said_of(position),
                    message: row.payload.slice(start..end),
                });
            }
            at = row.first.plus(row.facts.count()).max(at.plus(1));
        }
    }
}
