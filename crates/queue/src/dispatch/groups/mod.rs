//! Message groups (features X7, X7a, X7b): which messages may be handed out now, and to whom, where keys are kept in order.
//! Not here: what is in flight of a key (`keys`), handing out (`serve`), a key's hash (the message was stored with it).
//!
//! Of each key the oldest message that is ready is its *head*. A head is free if nothing of its key is in flight; else it is for the
//! consumer that holds all that is. Heads compete by their priority, then by age; a message without a key is a head by itself. Where
//! keys are strict, a key has no head while one of its messages that failed is in flight, or while an older one waits for its time.
//!
//! Two keys with the same hash are one to dispatch: they are kept in order with each other, which costs time and breaks nothing.
//! Known are only keys with something in flight, in wait for its time or passed over by the cursor; how many of the last there may be
//! is bounded (`Options::group_window`).

mod serve;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use warren_types::{MessageGroups, Position, Priority};

pub(super) use self::serve::hand_out;

use super::back::Moved;
use super::consumer::Holder;
use super::in_flight::InFlight;
use super::queue::Queue;

/// The message of a key that is next, or a message without a key. The least goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Head {
    priority: Reverse<Priority>,
    position: Position,
    group: u64,
}

/// What waits of one key.
#[derive(Debug, Default)]
struct Key {
    /// Ascending.
    ready: VecDeque<(Position, Priority)>,
    /// Returned until later.
    delayed: BTreeSet<Position>,
    /// Where its head stands: with the free ones (`None`), or with those for one consumer.
    listed: Option<(Head, Option<Holder>)>,
}

#[derive(Debug)]
pub(super) struct Groups {
    mode: MessageGroups,
    keys: BTreeMap<u64, Key>,
    free: BTreeSet<Head>,
    /// By consumer; never empty sets.
    held: BTreeMap<Holder, BTreeSet<Head>>,
    /// For whom there may be something among `held`, since that was last looked at.
    woken: BTreeSet<Holder>,
    touched: Vec<u64>,
    /// All before were met by the cursors, or are not due.
    not_met: Position,
    /// Came back, or have come due, at or after that: older ones of their keys may not be known yet.
    ahead: BTreeSet<(Position, Priority, u64)>,
}

/// What is in force for the queue, from now on.
pub(super) fn set(queue: &mut Queue) {
    let wanted = queue.settings.message_groups;
    if queue.groups.as_ref().map(|it| it.mode) == wanted {
        return;
    }
    for level in &mut queue.levels {
        level.set_grouped(wanted.is_some());
    }
    queue.in_flight.keep_keys(wanted.is_some());
    queue.groups = wanted.map(|mode| Box::new(Groups::new(mode)));
    let Some(groups) = &mut queue.groups else {
        return;
    };
    for (&position, delayed) in &queue.delayed {
        groups.delayed(delayed.back.group, position);
    }
    groups.woken.extend(&queue.attached);
}

/// Takes in what changed since. True: the cursors have come to messages that waited for them.
fn catch_up(queue: &mut Queue) -> bool {
    let Some(groups) = &mut queue.groups else {
        return false;
    };
    let not_met = queue.levels.iter().filter(|it| it.cursor < it.tail);
    let not_met = not_met.map(|it| it.cursor).min();
    // A cursor that began anew has met them before.
    groups.not_met = groups.not_met.max(not_met.unwrap_or(queue.next));
    for level in &mut queue.levels {
        let priority = level.priority;
        for moved in level.back.moved() {
            groups.moved(priority, moved);
        }
    }
    let joined = groups.join_met();
    groups.touched.append(&mut queue.in_flight.take_touched());
    for group in std::mem::take(&mut groups.touched) {
        groups.list_anew(group, &queue.in_flight);
    }
    joined
}

/// Of the ready messages: how many are known to wait for their keys. All of them do if nothing more can be looked at.
pub(super) fn held_back(queue: &Queue, window: usize) -> u64 {
    let Some(groups) = &queue.groups else {
        return 0;
    };
    let levels = || queue.levels.iter();
    let passed: usize = levels().map(|it| it.back.passed()).sum();
    let free = groups.free();
    if free == 0 && passed >= window {
        return queue.ready();
    }
    let known: usize = levels().map(|it| it.back.len()).sum();
    known.saturating_sub(free) as u64
}

impl Groups {
    fn new(mode: MessageGroups) -> Self {
        Self {
            mode,
            keys: BTreeMap::new(),
            free: BTreeSet::new(),
            held: BTreeMap::new(),
            woken: BTreeSet::new(),
            touched: Vec::new(),
            not_met: Position(0),
            ahead: BTreeSet::new(),
        }
    }

    /// The consumer stands in line.
    pub(super) fn wake(&mut self, holder: Holder) {
        self.woken.insert(holder);
    }

    /// A message waits for its time.
    pub(super) fn delayed(&mut self, group: u64, position: Position) {
        if group != 0 {
            self.keys.entry(group).or_default().delayed.insert(position);
            self.touched.push(group);
        }
    }

    /// It waits no more.
    pub(super) fn undelayed(&mut self, group: u64, position: Position) {
        if let Some(key) = self.keys.get_mut(&group) {
            key.delayed.remove(&position);
            self.touched.push(group);
        }
    }

    /// Messages that are known here and that anybody may have.
    fn free(&self) -> usize {
        let heads = self.free.iter();
        let of_key = |head: &Head| self.keys.get(&head.group).map_or(1, |it| it.ready.len());
        heads.map(of_key).sum()
    }

    fn join_met(&mut self) -> bool {
        let mut joined = false;
        while let Some(&(position, priority, group)) = self.ahead.first() {
            if position >= self.not_met {
                break;
            }
            self.ahead.pop_first();
            self.join(position, priority, group);
            joined = true;
        }
        joined
    }

    fn join(&mut self, position: Position, priority: Priority, group: u64) {
        let ready = &mut self.keys.entry(group).or_default().ready;
        let at = ready.partition_point(|(it, _)| *it < position);
        ready.insert(at, (position, priority));
        self.touched.push(group);
    }

    fn moved(&mut self, priority: Priority, moved: Moved) {
        match moved {
            Moved::Came(position, 0) => {
                self.free.insert(head(position, priority, 0));
            }
            Moved::Went(position, 0) => {
                self.free.remove(&head(position, priority, 0));
            }
            Moved::Came(position, group) if position >= self.not_met => {
                self.ahead.insert((position, priority, group));
            }
            Moved::Came(position, group) => self.join(position, priority, group),
            Moved::Went(position, group) => {
                if self.ahead.remove(&(position, priority, group)) {
                    return;
                }
                if let Some(key) = self.keys.get_mut(&group) {
                    let found = key.ready.binary_search_by_key(&position, |(it, _)| *it);
                    if let Ok(at) = found {
                        key.ready.remove(at);
                    }
                }
                self.touched.push(group);
            }
        }
    }

    /// Puts the key's head where it belongs now.
    fn list_anew(&mut self, group: u64, in_flight: &InFlight) {
        let Some(key) = self.keys.get_mut(&group) else {
            return;
        };
        let wanted = key.place(self.mode, group, in_flight);
        if key.listed != wanted {
            let listed = std::mem::replace(&mut key.listed, wanted);
            if let Some((head, holder)) = listed {
                self.unlist(head, holder);
            }
            match wanted {
                Some((head, Some(holder))) => {
                    self.held.entry(holder).or_default().insert(head);
                    self.woken.insert(holder);
                }
                Some((head, None)) => {
                    self.free.insert(head);
                }
                None => {}
            }
        }
        let key = self.keys.get(&group);
        if key.is_some_and(|it| it.ready.is_empty() && it.delayed.is_empty()) {
            self.keys.remove(&group);
        }
    }

    fn unlist(&mut self, head: Head, holder: Option<Holder>) {
        let Some(holder) = holder else {
            self.free.remove(&head);
            return;
        };
        if let Some(heads) = self.held.get_mut(&holder) {
            heads.remove(&head);
            if heads.is_empty() {
                self.held.remove(&holder);
            }
        }
    }

    /// The best that this consumer may have.
    fn best_for(&self, holder: Holder) -> Option<Head> {
        let held = self.held.get(&holder).and_then(BTreeSet::first);
        held.into_iter().chain(self.free.first()).min().copied()
    }
}

impl Key {
    /// Its head, and for whom it is; `None`: it must wait.
    fn place(
        &self,
        mode: MessageGroups,
        group: u64,
        in_flight: &InFlight,
    ) -> Option<(Head, Option<Holder>)> {
        let &(position, priority) = self.ready.front()?;
        let flights = in_flight.of_key(group);
        let waits = match mode {
            MessageGroups::Strict => {
                self.delayed.first().is_some_and(|&it| it < position)
                    || flights.is_some_and(|it| it.has_failed())
            }
            MessageGroups::StepAside => false,
        };
        if waits {
            return None;
        }
        let head = head(position, priority, group);
        match flights {
            None => Some((head, None)),
            Some(it) => it.holder().map(|holder| (head, Some(holder))),
        }
    }
}

fn head(position: Position, priority: Priority, group: u64) -> Head {
    Head {
        priority: Reverse(priority),
        position,
        group,
    }
}
