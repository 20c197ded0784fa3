//! Messages of one priority that are ready and behind its cursor: they came back, have come due, or were passed over since their
//! key was not free. Not here: their bytes (`level`), who gets them (`hand_out`, `groups`).

use std::collections::BTreeMap;
use std::ops::Range;

use warren_types::{Attempt, Position, ShardTime, Term};

use super::hot::{NEVER, Stored};

/// A message that is ready, and that the cursor does not find.
#[derive(Clone, Copy, Debug)]
pub(super) struct Back {
    pub(super) body_bytes: u32,
    pub(super) delivery_count: u32,
    pub(super) acquired_count: u32,
    /// Under which it was last handed out, or claimed.
    pub(super) attempt: Attempt,
    /// It was handed out before; not so what has just come due.
    pub(super) redelivered: bool,
    /// The cursor met it and went on, since its key was not free.
    pub(super) passed: bool,
    pub(super) expiry: ShardTime,
    /// Hash of its group key; 0 = none.
    pub(super) group: u64,
}

impl Back {
    /// Put back although nobody was seen to have it: flagged all the same.
    pub(super) fn never_seen(stored: &Stored) -> Self {
        Self {
            redelivered: true,
            passed: false,
            ..Self::passed_over(stored, true)
        }
    }

    /// The cursor has met it.
    pub(super) fn passed_over(stored: &Stored, redelivered: bool) -> Self {
        Self {
            body_bytes: stored.body_bytes,
            delivery_count: stored.delivery_count,
            acquired_count: stored.acquired_count,
            attempt: Attempt::default(),
            redelivered,
            passed: true,
            expiry: stored.expiry,
            group: stored.group,
        }
    }

    /// It has come due, and the cursor is past it or its block was read before.
    pub(super) fn due(group: u64) -> Self {
        Self {
            body_bytes: 0,
            delivery_count: 0,
            acquired_count: 0,
            attempt: Attempt {
                term: Term(0),
                number: 0,
            },
            redelivered: false,
            passed: false,
            expiry: NEVER,
            group,
        }
    }
}

/// What happened to the set since it was last asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moved {
    Came(Position, u64),
    Went(Position, u64),
}

#[derive(Debug, Default)]
pub(super) struct Backs {
    all: BTreeMap<Position, Back>,
    passed: usize,
    /// Kept where somebody keeps account of keys; emptied in each step.
    moved: Option<Vec<Moved>>,
}

impl Backs {
    /// From now on every change is told, and what is there as if it came now; or no more.
    pub(super) fn tell(&mut self, wanted: bool) {
        let all = self.all.iter();
        self.moved = wanted.then(|| all.map(|(&at, it)| Moved::Came(at, it.group)).collect());
    }

    pub(super) fn moved(&mut self) -> impl Iterator<Item = Moved> + '_ {
        self.moved.iter_mut().flat_map(|it| it.drain(..))
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Of all: those that the cursor passed over.
    pub(super) fn passed(&self) -> usize {
        self.passed
    }

    pub(super) fn first(&self) -> Option<Position> {
        self.all.first_key_value().map(|(&at, _)| at)
    }

    pub(super) fn first_in(&self, range: Range<Position>) -> Option<Position> {
        if range.is_empty() {
            return None;
        }
        self.all.range(range).next().map(|(&at, _)| at)
    }

    pub(super) fn contains(&self, position: Position) -> bool {
        self.all.contains_key(&position)
    }

    pub(super) fn get(&self, position: Position) -> Option<&Back> {
        self.all.get(&position)
    }

    pub(super) fn insert(&mut self, position: Position, back: Back) {
        let old = self.all.insert(position, back);
        self.went(position, old);
        self.passed += usize::from(back.passed);
        if let Some(moved) = &mut self.moved {
            moved.push(Moved::Came(position, back.group));
        }
    }

    pub(super) fn remove(&mut self, position: Position) -> Option<Back> {
        let old = self.all.remove(&position);
        self.went(position, old);
        old
    }

    /// Those of a range are gone.
    pub(super) fn remove_range(&mut self, range: Range<Position>) {
        while let Some(at) = self.first_in(range.clone()) {
            self.remove(at);
        }
    }

    fn went(&mut self, position: Position, old: Option<Back>) {
        let Some(old) = old else {
            return;
        };
        self.passed -= usize::from(old.passed);
        if let Some(moved) = &mut self.moved {
            moved.push(Moved::Went(position, old.group));
        }
    }
}
