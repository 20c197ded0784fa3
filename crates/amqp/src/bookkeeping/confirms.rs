//! Publisher confirms of one channel: numbers publishes, takes their outcomes in any order, says them in few frames.
//! Not here: when a publish is stored. Bounded by the publishes the session lets in unconfirmed.

use std::collections::VecDeque;

use super::DeliveryTag;

/// What became of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    Ack,
    Nack,
}

/// One basic.ack or basic.nack to send.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Confirm {
    pub outcome: Outcome,
    pub tag: DeliveryTag,
    /// Covers all publishes up to `tag` that are not confirmed yet.
    pub multiple: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    /// To be said at the next flush.
    Known(Outcome),
    /// Said on its own, while an older one was waiting.
    Said,
}

/// Confirms of one channel, from confirm.select on.
#[derive(Clone, Debug)]
pub struct ConfirmTracker {
    /// The tag of `states`' front; everything below is said.
    first: u64,
    states: VecDeque<State>,
    /// Tags whose outcome came since the last flush.
    fresh: Vec<u64>,
    /// Not said yet.
    unconfirmed: usize,
}

impl Default for ConfirmTracker {
    fn default() -> Self {
        Self {
            first: 1,
            states: VecDeque::new(),
            fresh: Vec::new(),
            unconfirmed: 0,
        }
    }
}

impl ConfirmTracker {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Numbers the next publish: 1, 2, 3 and so on.
    pub fn publish(&mut self) -> DeliveryTag {
        let tag = self.first + self.states.len() as u64;
        self.states.push_back(State::Waiting);
        self.unconfirmed += 1;
        DeliveryTag(tag)
    }

    /// Publishes without an outcome, or with one not yet said.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    /// Takes a publish's outcome. The first counts; another for the same tag, or one for a tag never given, is `false`.
    pub fn resolve(&mut self, tag: DeliveryTag, outcome: Outcome) -> bool {
        let index = tag
            .0
            .checked_sub(self.first)
            .and_then(|it| usize::try_from(it).ok());
        let Some(state) = index.and_then(|it| self.states.get_mut(it)) else {
            return false;
        };
        if *state != State::Waiting {
            return false;
        }
        *state = State::Known(outcome);
        self.fresh.push(tag.0);
        true
    }

    /// Says all outcomes that are known, in few frames: what lies below the oldest waiting publish with `multiple`, what
    /// lies above it one by one. Order among the frames matters; their order to other publishes' frames does not.
    pub fn flush(&mut self, mut say: impl FnMut(Confirm)) {
        if self.fresh.is_empty() {
            return;
        }
        // All that is known is said now, and it came since the last flush.
        self.unconfirmed -= self.fresh.len();
        let done = self
            .states
            .iter()
            .take_while(|it| **it != State::Waiting)
            .count();
        let first = self.first;
        let below = self
            .states
            .drain(..done)
            .zip(first..)
            .filter_map(|(state, tag)| match state {
                State::Known(outcome) => Some((tag, outcome)),
                State::Waiting | State::Said => None,
            });
        say_in_order(&below.collect::<Vec<_>>(), &mut say);
        self.first += done as u64;

        self.fresh.sort_unstable();
        for tag in self.fresh.drain(..) {
            let index = tag
                .checked_sub(self.first)
                .and_then(|it| usize::try_from(it).ok());
            let Some(state) = index.and_then(|it| self.states.get_mut(it)) else {
                continue;
            };
            if let State::Known(outcome) = *state {
                *state = State::Said;
                say(Confirm {
                    outcome,
                    tag: DeliveryTag(tag),
                    multiple: false,
                });
            }
        }
    }
}

/// Says outcomes below which nothing waits. Either each run of equal outcomes in one frame, or all of the rarer outcome
/// one by one and then one frame for the rest: whichever is less.
fn say_in_order(known: &[(u64, Outcome)], say: &mut impl FnMut(Confirm)) {
    let confirm = |(tag, outcome), multiple| Confirm {
        outcome,
        tag: DeliveryTag(tag),
        multiple,
    };
    let runs = known.chunk_by(|a, b| a.1 == b.1);
    let acks = known
        .iter()
        .filter(|(_, outcome)| *outcome == Outcome::Ack)
        .count();
    let nacks = known.len() - acks;
    let (rare, rare_count) = if acks < nacks {
        (Outcome::Ack, acks)
    } else {
        (Outcome::Nack, nacks)
    };
    if rare_count + 1 < runs.clone().count() {
        let (rarer, rest): (Vec<_>, Vec<_>) =
            known.iter().partition(|(_, outcome)| *outcome == rare);
        rarer.into_iter().for_each(|it| say(confirm(it, false)));
        if let Some(last) = rest.last() {
            say(confirm(*last, rest.len() > 1));
        }
        return;
    }
    for run in runs {
        if let Some(last) = run.last() {
            say(confirm(*last, run.len() > 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn flushed(tracker: &mut ConfirmTracker) -> Vec<(Outcome, u64, bool)> {
        let mut said = Vec::new();
        tracker.flush(|it| said.push((it.outcome, it.tag.0, it.multiple)));
        said
    }

    fn tracker(publishes: u64) -> ConfirmTracker {
        let mut tracker = ConfirmTracker::new();
        for tag in 1..=publishes {
            assert_eq!(tracker.publish(), DeliveryTag(tag));
        }
        tracker
    }

    #[test]
    fn outcomes_in_order_become_one_frame() {
        let mut it = tracker(5);
        for tag in [3, 1, 2] {
            assert!(it.resolve(DeliveryTag(tag), Outcome::Ack));
        }
        assert_eq!(flushed(&mut it), [(Outcome::Ack, 3, true)]);
        assert_eq!(flushed(&mut it), []);
        assert_eq!(it.unconfirmed(), 2);
    }

    #[test]
    fn outcome_above_a_waiting_publish_is_said_alone_and_not_again() {
        let mut it = tracker(4);
        it.resolve(DeliveryTag(2), Outcome::Ack);
        it.resolve(DeliveryTag(4), Outcome::Nack);
        assert_eq!(
            flushed(&mut it),
            [(Outcome::Ack, 2, false), (Outcome::Nack, 4, false)]
        );
        it.resolve(DeliveryTag(1), Outcome::Ack);
        it.resolve(DeliveryTag(3), Outcome::Ack);
        assert_eq!(flushed(&mut it), [(Outcome::Ack, 3, true)]);
        assert_eq!(it.unconfirmed(), 0);
    }

    #[test]
    fn rare_nacks_are_said_first_and_the_rest_in_one_frame() {
        let mut it = tracker(7);
        for tag in 1..=7 {
            let outcome = if tag == 2 || tag == 5 {
                Outcome::Nack
            } else {
                Outcome::Ack
            };
            it.resolve(DeliveryTag(tag), outcome);
        }
        let want = [
            (Outcome::Nack, 2, false),
            (Outcome::Nack, 5, false),
            (Outcome::Ack, 7, true),
        ];
        assert_eq!(flushed(&mut it), want);
    }

    #[test]
    fn two_runs_become_two_frames() {
        let mut it = tracker(6);
        for tag in 1..=6 {
            it.resolve(
                DeliveryTag(tag),
                if tag <= 3 {
                    Outcome::Nack
                } else {
                    Outcome::Ack
                },
            );
        }
        assert_eq!(
            flushed(&mut it),
            [(Outcome::Nack, 3, true), (Outcome::Ack, 6, true)]
        );
    }

    #[test]
    fn second_outcome_and_unknown_tag_are_refused() {
        let mut it = tracker(1);
        assert!(!it.resolve(DeliveryTag(0), Outcome::Ack));
        assert!(!it.resolve(DeliveryTag(2), Outcome::Ack));
        assert!(it.resolve(DeliveryTag(1), Outcome::Nack));
        assert!(!it.resolve(DeliveryTag(1), Outcome::Ack));
        assert_eq!(flushed(&mut it), [(Outcome::Nack, 1, false)]);
        assert!(!it.resolve(DeliveryTag(1), Outcome::Ack));
    }

    proptest! {
        /// A client that follows the standard ends up with exactly the outcomes that were put in.
        #[test]
        fn client_learns_every_outcome_once(
            order in (1u64..40).prop_flat_map(|n| Just((1..=n).collect::<Vec<_>>()).prop_shuffle()),
            nacks in vec(0u8..4, 40), flushes in vec(any::<bool>(), 40),
        ) {
            let mut it = tracker(order.len() as u64);
            let mut open: BTreeMap<u64, Outcome> = BTreeMap::new();
            for tag in &order {
                let rare = nacks[usize::try_from(*tag).unwrap() % nacks.len()] == 0;
                open.insert(*tag, if rare { Outcome::Nack } else { Outcome::Ack });
            }
            let truth = open.clone();
            for (step, tag) in order.iter().enumerate() {
                it.resolve(DeliveryTag(*tag), truth[tag]);
                if flushes[step % flushes.len()] || step + 1 == order.len() {
                    for (outcome, tag, multiple) in flushed(&mut it) {
                        let covered: Vec<u64> = if multiple {
                            open.range(..=tag).map(|(tag, _)| *tag).collect()
                        } else {
                            vec![tag]
                        };
                        for tag in covered {
                            prop_assert_eq!(open.remove(&tag), Some(outcome));
                        }
                    }
                }
            }
            prop_assert!(open.is_empty());
            prop_assert_eq!(it.unconfirmed(), 0);
        }
    }
}
