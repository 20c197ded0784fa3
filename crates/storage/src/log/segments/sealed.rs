//! The segments that are written no more, for the scrub: which there are, how each ends, when it was read as a whole last, what is wrong
//! with it. Not here: reading them (`scrub`), their files (`files`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use warren_types::GroupId;

use super::batch::Chain;
use super::scan::{Damage, Expected};
use super::segment::Segment;
use crate::log::options::LogDamage;

/// As many as there are files, so the list is as bounded as the log.
#[derive(Default)]
pub(super) struct SealedSegments {
    list: Mutex<VecDeque<Sealed>>,
    /// The newest segment that was found damaged; 0 = none.
    damaged_upto: AtomicU64,
}

struct Sealed {
    /// Does not keep it: who keeps a segment keeps its file from being used again.
    segment: Weak<Segment>,
    sequence: u64,
    end: u64,
    next: Chain,
    read_at: Instant,
    damage: Option<(Damage, Vec<GroupId>)>,
}

/// A segment to be read, and what it has to be like.
pub(super) struct Reading {
    pub(super) segment: Arc<Segment>,
    /// What its first batch follows, if that is known.
    pub(super) follows: Option<Expected>,
    /// Where its last batch ends,
    pub(super) end: u64,
    /// and what follows it.
    pub(super) next: Expected,
}

/// What the scrub is to do.
pub(super) enum Next {
    Read(Reading),
    Wait(Duration),
}

fn expected(chain: Chain) -> Expected {
    Expected {
        sequence: chain.sequence,
        crc: chain.previous_crc,
    }
}

impl SealedSegments {
    /// A segment that was just written or read ends here.
    pub(super) fn add(&self, segment: &Arc<Segment>, end: u64, next: Chain) {
        self.list.lock().push_back(Sealed {
            segment: Arc::downgrade(segment),
            sequence: segment.sequence,
            end,
            next,
            read_at: Instant::now(),
            damage: None,
        });
    }

    /// Takes a segment off the list that nobody but its owner holds: nobody can get hold of it any more.
    pub(super) fn release(&self, segment: &Arc<Segment>) -> bool {
        let mut list = self.list.lock();
        if Arc::strong_count(segment) > 1 {
            return false;
        }
        list.retain(|it| it.sequence != segment.sequence);
        true
    }

    /// The segment that was read longest ago, if that is so long ago. It stays while it is held.
    pub(super) fn next(&self, every: Duration) -> Next {
        let list = self.list.lock();
        let mut before: Option<&Sealed> = None;
        let mut oldest: Option<(&Sealed, Option<&Sealed>)> = None;
        for it in &*list {
            let follows = before.filter(|before| before.sequence + 1 == it.sequence);
            if oldest.is_none_or(|(known, _)| it.read_at < known.read_at) {
                oldest = Some((it, follows));
            }
            before = Some(it);
        }
        let Some((sealed, follows)) = oldest else {
            return Next::Wait(every); // one that comes now is not due earlier
        };
        let rested = sealed.read_at.elapsed();
        if rested < every {
            return Next::Wait(every - rested);
        }
        match sealed.segment.upgrade() {
            Some(segment) => Next::Read(Reading {
                segment,
                follows: follows.map(|it| expected(it.next)),
                end: sealed.end,
                next: expected(sealed.next),
            }),
            // The engine ends.
            None => Next::Wait(every),
        }
    }

    /// A segment was read. True: something is wrong with it, and was not known to be.
    pub(super) fn note(&self, sequence: u64, damage: Option<(Damage, Vec<GroupId>)>) -> bool {
        let mut list = self.list.lock();
        let Some(sealed) = list.iter_mut().find(|it| it.sequence == sequence) else {
            return false;
        };
        sealed.read_at = Instant::now();
        let is_new = damage.is_some() && sealed.damage.is_none();
        if damage.is_some() {
            self.damaged_upto.fetch_max(sequence, Ordering::Relaxed);
        }
        sealed.damage = damage;
        is_new
    }

    /// Whether only the scrub keeps it from being used again: it is the oldest, and nothing in it lives.
    pub(super) fn could_go(&self, segment: &Segment) -> bool {
        let list = self.list.lock();
        let first = list.front().map(|it| it.sequence);
        first == Some(segment.sequence) && segment.live_bytes() == 0
    }

    /// Segments up to this one are to be emptied: a start would refuse the damaged one.
    pub(super) fn damaged_upto(&self) -> u64 {
        self.damaged_upto.load(Ordering::Relaxed)
    }

    /// What is known to be wrong, of segments that are there still.
    pub(super) fn damaged(&self) -> Vec<LogDamage> {
        let list = self.list.lock();
        let damaged = list.iter().filter_map(|it| it.damage.clone());
        let told = damaged.map(|(damage, groups)| LogDamage {
            path: damage.path,
            offset: damage.offset,
            detail: damage.detail,
            groups,
        });
        told.collect()
    }
}
