//! What the scrub reads: the segments that are written no more, and what is synced of the one that is being written. How each ends, when
//! it was read as a whole last, what is wrong with it. Not here: reading them (`scrub`), their files (`files`).

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

/// A segment that was found damaged while it is written is closed with the next batch; its rest is read soon after that.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// As many as there are files, so the list is as bounded as the log.
#[derive(Default)]
pub(super) struct SealedSegments {
    known: Mutex<Known>,
    /// The newest segment that was found damaged; 0 = none.
    damaged_upto: AtomicU64,
}

#[derive(Default)]
struct Known {
    /// Oldest first.
    sealed: VecDeque<Readable>,
    /// The one that is written: how far it is synced.
    active: Option<Readable>,
}

struct Readable {
    /// Does not keep it: who keeps a segment keeps its file from being used again.
    segment: Weak<Segment>,
    sequence: u64,
    end: u64,
    next: Chain,
    /// `None`: it is to be read at once.
    read_at: Option<Instant>,
    damage: Option<(Damage, Vec<GroupId>)>,
}

impl Readable {
    fn new(segment: &Arc<Segment>, end: u64, next: Chain) -> Self {
        Self {
            segment: Arc::downgrade(segment),
            sequence: segment.sequence,
            end,
            next,
            read_at: Some(Instant::now()),
            damage: None,
        }
    }

    fn due_in(&self, every: Duration) -> Duration {
        let rested = self.read_at.map(|at| at.elapsed());
        rested.map_or(Duration::ZERO, |rested| every.saturating_sub(rested))
    }
}

/// A segment to be read, and what it has to be like.
pub(super) struct Reading {
    pub(super) segment: Arc<Segment>,
    /// What its first batch follows, if that is known.
    pub(super) follows: Option<Expected>,
    /// Where its last batch ends, or the last that is synced,
    pub(super) end: u64,
    /// and what follows it.
    pub(super) next: Expected,
    pub(super) extent: Extent,
}

/// How much of a file is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// Behind its last batch nothing may stand that was meant as one.
    Whole,
    /// What stands behind the end is being written, and nobody's concern.
    Synced,
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
    /// A segment that was read at a start, and is written no more, ends here.
    pub(super) fn add(&self, segment: &Arc<Segment>, end: u64, next: Chain) {
        let readable = Readable::new(segment, end, next);
        self.known.lock().sealed.push_back(readable);
    }

    /// The active segment is synced up to here. If another one was it before, that one is written no more.
    pub(super) fn grew(&self, segment: &Arc<Segment>, end: u64, next: Chain) {
        let mut known = self.known.lock();
        if let Some(active) = &mut known.active
            && active.sequence == segment.sequence
        {
            (active.end, active.next) = (end, next);
            return;
        }
        let begun = Readable::new(segment, end, next);
        if let Some(mut ended) = known.active.replace(begun) {
            if ended.damage.is_some() {
                ended.read_at = None; // what was written since belongs to those that need it, too
            }
            known.sealed.push_back(ended);
        }
    }

    /// Whether a segment that is written should be closed: it is damaged, and only one that is closed can be emptied.
    pub(super) fn is_to_be_closed(&self, segment: &Segment) -> bool {
        self.damaged_upto() >= segment.sequence
    }

    /// Takes a segment off the list that nobody but its owner holds: nobody can get hold of it any more.
    pub(super) fn release(&self, segment: &Arc<Segment>) -> bool {
        let mut known = self.known.lock();
        if Arc::strong_count(segment) > 1 {
            return false;
        }
        let sequence = segment.sequence;
        known.sealed.retain(|it| it.sequence != sequence);
        true
    }

    /// The segment that was read longest ago, if that is so long ago. It stays while it is held.
    pub(super) fn next(&self, every: Duration) -> Next {
        let known = self.known.lock();
        let mut before: Option<&Readable> = None;
        let mut oldest: Option<(&Readable, Option<&Readable>, Extent)> = None;
        let sealed = known.sealed.iter().map(|it| (it, Extent::Whole));
        let active = known.active.iter().map(|it| (it, Extent::Synced));
        for (it, extent) in sealed.chain(active) {
            let follows = before.filter(|before| before.sequence + 1 == it.sequence);
            if oldest.is_none_or(|(known, _, _)| it.read_at < known.read_at) {
                oldest = Some((it, follows, extent));
            }
            before = Some(it);
        }
        let closes = known.active.iter().any(|it| it.damage.is_some());
        let longest = if closes { CLOSED_WITHIN } else { every };
        let Some((readable, follows, extent)) = oldest else {
            return Next::Wait(longest);
        };
        let due_in = readable.due_in(every);
        if !due_in.is_zero() {
            return Next::Wait(due_in.min(longest));
        }
        match readable.segment.upgrade() {
            Some(segment) => Next::Read(Reading {
                segment,
                follows: follows.map(|it| expected(it.next)),
                end: readable.end,
                next: expected(readable.next),
                extent,
            }),
            // The engine ends.
            None => Next::Wait(every),
        }
    }

    /// A segment was read. True: something is wrong with it, and was not known to be.
    pub(super) fn note(&self, sequence: u64, damage: Option<(Damage, Vec<GroupId>)>) -> bool {
        let known = &mut *self.known.lock();
        let mut all = known.sealed.iter_mut().chain(&mut known.active);
        let Some(readable) = all.find(|it| it.sequence == sequence) else {
            return false;
        };
        readable.read_at = Some(Instant::now());
        let is_new = damage.is_some() && readable.damage.is_none();
        if damage.is_some() {
            self.damaged_upto.fetch_max(sequence, Ordering::Relaxed);
        }
        readable.damage = damage;
        is_new
    }

    /// Whether only the scrub keeps it from being used again: it is the oldest, and nothing in it lives.
    pub(super) fn could_go(&self, segment: &Segment) -> bool {
        let known = self.known.lock();
        let first = known.sealed.front().map(|it| it.sequence);
        first == Some(segment.sequence) && segment.live_bytes() == 0
    }

    /// Segments up to this one are to be emptied: a start would refuse the damaged one.
    pub(super) fn damaged_upto(&self) -> u64 {
        self.damaged_upto.load(Ordering::Relaxed)
    }

    /// What is known to be wrong, of segments that are there still.
    pub(super) fn damaged(&self) -> Vec<LogDamage> {
        let known = self.known.lock();
        let all = known.sealed.iter().chain(&known.active);
        let damaged = all.filter_map(|it| it.damage.clone());
        let told = damaged.map(|(damage, groups)| LogDamage {
            path: damage.path,
            offset: damage.offset,
            detail: damage.detail,
            groups,
        });
        told.collect()
    }
}
