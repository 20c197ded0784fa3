//! Which message waits for which answers: one per target queue. A message with one target takes a slot and allocates nothing.
//! Pure. Not here: routing and handing over (`publish`), what clients are told (`grpc`, `amqp`).

use warren_shard::api::{PublishOutcome, RequestToken};
use warren_types::{NotStored, QueueId};

use super::outcome::{Outcome, Place, Refused};

/// Chosen by the front; comes back once with the outcome.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PublishId(pub(crate) u64);

/// A message on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tracked {
    pub(crate) id: PublishId,
    /// As admitted.
    pub(crate) bytes: u64,
    /// Its number within its producer; 0 = none.
    pub(crate) sequence: u64,
}

/// A message of which all answers are there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resolved {
    pub(crate) tracked: Tracked,
    pub(crate) outcome: Outcome,
    /// These refused it for now, if that is what its publisher is told.
    pub(crate) for_now: Vec<QueueId>,
}

#[derive(Debug)]
enum Slot {
    Free,
    One { tracked: Tracked, queue: QueueId },
    Many(Box<Many>),
}

#[derive(Debug)]
struct Many {
    tracked: Tracked,
    queues: Vec<QueueId>,
    left: usize,
    stored: u32,
    places: Vec<Place>,
    duplicates: u32,
    /// The first refusal; one by a queue goes before one that says nothing of it.
    refused: Option<Refused>,
    /// These refused it for now.
    for_now: Vec<QueueId>,
}

/// The messages on their way. Bounded by what the session admits.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// A token is a slot and the number of the target.
const TARGET_BITS: u32 = 32;

impl Tracker {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A message for one queue.
    pub(crate) fn one(&mut self, tracked: Tracked, queue: QueueId) -> RequestToken {
        RequestToken(u64::from(self.put(Slot::One { tracked, queue })) << TARGET_BITS)
    }

    /// A message for several queues: their tokens, in order.
    pub(crate) fn many(
        &mut self,
        tracked: Tracked,
        queues: Vec<QueueId>,
    ) -> impl Iterator<Item = RequestToken> + use<> {
        let count = queues.len();
        let many = Many {
            tracked,
            queues,
            left: count,
            stored: 0,
            places: Vec::new(),
            duplicates: 0,
            refused: None,
            for_now: Vec::new(),
        };
        let slot = u64::from(self.put(Slot::Many(Box::new(many)))) << TARGET_BITS;
        (0_u64..)
            .take(count)
            .map(move |target| RequestToken(slot | target))
    }

    fn put(&mut self, slot: Slot) -> u32 {
        if let Some(free) = self.free.pop() {
            *self.slot(free).expect("a free slot exists") = slot;
            return free;
        }
        self.slots.push(slot);
        u32::try_from(self.slots.len() - 1).expect("admission bounds what is on its way")
    }

    fn slot(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(slot).ok()?)
    }

    /// One answer. Gives the message back when it was the last; `None` also for a token nobody waits for.
    pub(crate) fn resolve(
        &mut self,
        token: RequestToken,
        outcome: PublishOutcome,
    ) -> Option<Resolved> {
        let number = u32::try_from(token.0 >> TARGET_BITS).ok()?;
        let target = usize::try_from(token.0 & u64::from(u32::MAX)).ok()?;
        let slot = self.slot(number)?;
        let resolved = match slot {
            Slot::Free => return None,
            Slot::One { tracked, queue } => {
                let outcome = single(*queue, outcome);
                let for_now = outcome.is_for_now().then_some(*queue);
                Resolved {
                    tracked: *tracked,
                    outcome,
                    for_now: for_now.into_iter().collect(),
                }
            }
            Slot::Many(many) => {
                let queue = *many.queues.get(target)?;
                many.answer(queue, outcome);
                if many.left > 0 {
                    return None;
                }
                Resolved {
                    tracked: many.tracked,
                    outcome: many.outcome(),
                    for_now: std::mem::take(&mut many.for_now),
                }
            }
        };
        *slot = Slot::Free;
        self.free.push(number);
        Some(resolved)
    }

    /// Forgets everything: the messages whose outcome nobody will learn here.
    pub(crate) fn give_up(&mut self) -> Vec<PublishId> {
        self.free.clear();
        let slots = std::mem::take(&mut self.slots).into_iter();
        let waiting = slots.filter_map(|slot| match slot {
            Slot::Free => None,
            Slot::One { tracked, .. } => Some(tracked.id),
            Slot::Many(many) => Some(many.tracked.id),
        });
        waiting.collect()
    }
}

fn single(queue: QueueId, outcome: PublishOutcome) -> Outcome {
    match outcome {
        PublishOutcome::Stored => Outcome::Committed { queues: 1 },
        PublishOutcome::Scheduled(position) => Outcome::Scheduled {
            queues: 1,
            places: vec![Place { queue, position }],
        },
        PublishOutcome::NotStored(NotStored::Duplicate) => Outcome::Duplicate,
        PublishOutcome::NotStored(NotStored::QueueGone) => Outcome::Unrouted,
        PublishOutcome::NotStored(why) => Outcome::Refused(Refused::NotStored { queue, why }),
        PublishOutcome::NotStarted(why) => Outcome::Refused(Refused::Unavailable(why)),
        PublishOutcome::Unknown => Outcome::Refused(Refused::Unknown),
    }
}

impl Many {
    fn answer(&mut self, queue: QueueId, outcome: PublishOutcome) {
        self.left = self.left.saturating_sub(1);
        match single(queue, outcome) {
            Outcome::Committed { .. } => self.stored += 1,
            Outcome::Scheduled { places, .. } => {
                self.stored += 1;
                self.places.extend(places);
            }
            Outcome::Duplicate => self.duplicates += 1,
            Outcome::Unrouted => {}
            Outcome::Refused(refused) => {
                if refused.is_for_now() {
                    self.for_now.push(queue);
                }
                let says_more = matches!(refused, Refused::NotStored { .. })
                    && !matches!(self.refused, Some(Refused::NotStored { .. }));
                if self.refused.is_none() || says_more {
                    self.refused = Some(refused);
                }
            }
        }
    }

    fn outcome(&mut self) -> Outcome {
        match (self.refused.take(), self.stored, self.duplicates) {
            (Some(refused), _, _) => {
                if matches!(refused, Refused::NotStored { .. }) {
                    self.for_now.clear();
                }
                Outcome::Refused(refused)
            }
            (None, 0, 0) => Outcome::Unrouted,
            (None, 0, _) => Outcome::Duplicate,
            // A queue that had it before has it all the same.
            (None, stored, duplicates) if self.places.is_empty() => Outcome::Committed {
                queues: stored + duplicates,
            },
            (None, stored, duplicates) => Outcome::Scheduled {
                queues: stored + duplicates,
                places: std::mem::take(&mut self.places),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_shard::api::Unavailable;
    use warren_types::Position;

    use super::*;

    const STORED: PublishOutcome = PublishOutcome::Stored;
    const DUPLICATE: PublishOutcome = PublishOutcome::NotStored(NotStored::Duplicate);
    const GONE: PublishOutcome = PublishOutcome::NotStored(NotStored::QueueGone);
    const FULL: PublishOutcome = PublishOutcome::NotStored(NotStored::QueueFull);

    const NO_QUORUM: PublishOutcome = PublishOutcome::NotStarted(Unavailable::NoQuorum);

    fn tracked(id: u64, bytes: u64) -> Tracked {
        Tracked {
            id: PublishId(id),
            bytes,
            sequence: 0,
        }
    }

    fn of_many(outcomes: &[PublishOutcome]) -> Outcome {
        resolved_of_many(outcomes).outcome
    }

    fn resolved_of_many(outcomes: &[PublishOutcome]) -> Resolved {
        let mut tracker = Tracker::default();
        let queues: Vec<QueueId> = (1..=outcomes.len() as u64).map(QueueId).collect();
        let tokens: Vec<RequestToken> = tracker.many(tracked(7, 10), queues).collect();
        let mut last = None;
        for (token, outcome) in tokens.into_iter().zip(outcomes) {
            assert_eq!(last, None, "answered before all targets did");
            last = tracker.resolve(token, *outcome);
        }
        assert!(tracker.is_empty());
        let resolved = last.unwrap();
        assert_eq!(resolved.tracked, tracked(7, 10));
        resolved
    }

    #[test]
    fn one_target_answers_at_once_and_frees_its_slot() {
        let mut tracker = Tracker::default();
        let first = tracker.one(tracked(1, 5), QueueId(3));
        let second = tracker.one(tracked(2, 6), QueueId(3));
        assert_eq!(tracker.len(), 2);
        let resolved = tracker.resolve(second, STORED).unwrap();
        assert_eq!(
            resolved,
            Resolved {
                tracked: tracked(2, 6),
                outcome: Outcome::Committed { queues: 1 },
                for_now: vec![],
            }
        );
        assert_eq!(tracker.resolve(second, STORED), None);
        assert_eq!(tracker.one(tracked(3, 0), QueueId(3)), second);
        let resolved = tracker.resolve(first, FULL).unwrap();
        let why = NotStored::QueueFull;
        assert_eq!(
            resolved.outcome,
            Outcome::Refused(Refused::NotStored {
                queue: QueueId(3),
                why
            })
        );
    }

    #[test]
    fn several_targets_are_committed_when_the_last_is() {
        assert_eq!(
            of_many(&[STORED, STORED, STORED]),
            Outcome::Committed { queues: 3 }
        );
        assert_eq!(
            of_many(&[STORED, DUPLICATE]),
            Outcome::Committed { queues: 2 }
        );
        assert_eq!(of_many(&[DUPLICATE, DUPLICATE]), Outcome::Duplicate);
    }

    #[test]
    fn scheduled_message_says_where_it_waits() {
        let at = |position| PublishOutcome::Scheduled(Position(position));
        let place = |queue, position| Place {
            queue: QueueId(queue),
            position: Position(position),
        };
        assert_eq!(
            of_many(&[at(7), DUPLICATE, at(9)]),
            Outcome::Scheduled {
                queues: 3,
                places: vec![place(1, 7), place(3, 9)]
            }
        );
        let mut tracker = Tracker::default();
        let token = tracker.one(tracked(1, 5), QueueId(3));
        assert_eq!(
            tracker.resolve(token, at(4)).unwrap().outcome,
            Outcome::Scheduled {
                queues: 1,
                places: vec![place(3, 4)]
            }
        );
    }

    #[test]
    fn target_that_is_gone_counts_as_unroutable() {
        assert_eq!(of_many(&[STORED, GONE]), Outcome::Committed { queues: 1 });
        assert_eq!(of_many(&[GONE, GONE]), Outcome::Unrouted);
        let mut tracker = Tracker::default();
        let token = tracker.one(tracked(1, 5), QueueId(3));
        assert_eq!(
            tracker.resolve(token, GONE).unwrap().outcome,
            Outcome::Unrouted
        );
    }

    #[test]
    fn refusal_by_one_of_several_names_the_queue() {
        let refused = Refused::NotStored {
            queue: QueueId(2),
            why: NotStored::QueueFull,
        };
        assert_eq!(
            of_many(&[STORED, FULL, GONE]),
            Outcome::Refused(refused.clone())
        );
        let not_started = NO_QUORUM;
        assert_eq!(of_many(&[not_started, FULL]), Outcome::Refused(refused));
        assert_eq!(
            of_many(&[STORED, not_started, PublishOutcome::Unknown]),
            Outcome::Refused(Refused::Unavailable(Unavailable::NoQuorum))
        );
    }

    #[test]
    fn queues_that_refused_for_now_are_named_if_it_is_to_come_again() {
        let for_now = |outcomes: &[PublishOutcome]| {
            let queues = resolved_of_many(outcomes).for_now.into_iter();
            queues.map(|it| it.0).collect::<Vec<_>>()
        };
        assert_eq!(for_now(&[STORED, NO_QUORUM, NO_QUORUM]), [2, 3]);
        let unknown = PublishOutcome::Unknown;
        assert_eq!(for_now(&[unknown, NO_QUORUM, DUPLICATE]), [2]);
        assert_eq!(for_now(&[NO_QUORUM, FULL]), [0; 0]);
        assert_eq!(for_now(&[STORED, GONE]), [0; 0]);
        let mut tracker = Tracker::default();
        let token = tracker.one(tracked(1, 5), QueueId(3));
        let resolved = tracker.resolve(token, NO_QUORUM).unwrap();
        assert_eq!(resolved.for_now, [QueueId(3)]);
    }

    #[test]
    fn given_up_messages_are_named_once() {
        let mut tracker = Tracker::default();
        let token = tracker.one(tracked(1, 5), QueueId(3));
        let _many: Vec<RequestToken> = tracker
            .many(tracked(2, 5), vec![QueueId(1), QueueId(2)])
            .collect();
        assert_eq!(tracker.give_up(), vec![PublishId(1), PublishId(2)]);
        assert_eq!(tracker.resolve(token, STORED), None);
        assert!(tracker.is_empty());
    }

    #[test]
    fn token_of_nobody_is_ignored() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.resolve(RequestToken(99), STORED), None);
        let tokens: Vec<RequestToken> = tracker
            .many(tracked(2, 5), vec![QueueId(1), QueueId(2)])
            .collect();
        assert_eq!(tracker.resolve(RequestToken(tokens[1].0 + 1), STORED), None);
    }
}
