//! Publishes that wait for their number: each session's in order, the sessions in turn. One that publishes without end delays the others by
//! its turns, not by all that it has waiting. What a session was refused for want of a leader comes again before what it had sent later
//! (`order`). Not here: a bound of its own. Admission bounds what sessions hand over (`gateway`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::encode::{Group, Publish};
use super::pending::Told;
use crate::api::{PublishOutcome, SessionEvent};
use crate::link::frame::Storing;
use crate::link::outbox::Outbox;
use crate::order::Awaited;

/// Bytes of one session's messages in its turn; one larger message goes alone.
const TURN_BYTES: usize = 64 << 10;
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// What a message counts beside its body.
const OVERHEAD_BYTES: usize = 64;

#[derive(Default)]
pub(super) struct Waiting {
    /// By session; none is empty.
    rows: HashMap<usize, VecDeque<Publish>>,
    /// Whose turn it is, and after whom: each session with a row, once.
    turns: VecDeque<usize>,
    /// No deadline of what waits is before this one.
    earliest: Option<Instant>,
    /// By session, what it was refused a moment ago.
    refused: HashMap<usize, Refused>,
    /// When refusals are looked through next.
    forget_at: Option<Instant>,
}

struct Refused {
    /// Keeps its address its own.
    _inbox: Outbox<SessionEvent>,
    awaited: Awaited,
    outcome: PublishOutcome,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// What one session hands over in one piece.
    pub(super) fn push(&mut self, publishes: Vec<Publish>) {
        let Some(session) = publishes.first().map(|it| it.inbox.address()) else {
            return;
        };
        debug_assert!(publishes.iter().all(|it| it.inbox.address() == session));
        let publishes = self.in_order(session, publishes);
        if publishes.is_empty() {
            return;
        }
        let row = self.rows.entry(session).or_default();
        if row.is_empty() {
            self.turns.push_back(session);
        }
        let deadlines = publishes.iter().filter_map(|it| it.deadline);
        self.earliest = deadlines.chain(self.earliest).min();
        row.extend(publishes);
    }

    /// Without those before which others of their session are awaited: they are refused like these. What is stored together is refused
    /// together.
    fn in_order(&mut self, session: usize, publishes: Vec<Publish>) -> Vec<Publish> {
        let now = Instant::now();
        let Some(refused) = self.refused.get_mut(&session) else {
            return publishes;
        };
        if refused.awaited.is_empty(now) {
            self.refused.remove(&session);
            return publishes;
        }
        let (mut told, mut passed) = (Told::default(), Vec::with_capacity(publishes.len()));
        let mut rest = publishes.into_iter();
        while let Some(first) = rest.next() {
            let following = match first.group {
                Group::Alone => 0,
                Group::Together { following } => following,
            };
            let mut group = vec![first];
            group.extend(rest.by_ref().take(following));
            let numbers = group.iter().filter_map(|it| it.item.producer.as_ref());
            let numbers: Vec<u64> = numbers.map(|it| it.sequence).collect();
            if refused.awaited.may_pass(&numbers, now) {
                passed.extend(group);
                continue;
            }
            for publish in group {
                told.add(publish.waiter(), refused.outcome);
            }
        }
        told.deliver();
        passed
    }

    /// Whether sessions are known that were refused something: they are to be forgotten in time.
    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Forgets refusals that are too old to count. All of them are looked at only now and then: there may be many.
    pub(super) fn forget_refused(&mut self, now: Instant) {
        if self.refused.is_empty() || self.forget_at.is_some_and(|at| now < at) {
            return;
        }
        self.refused.retain(|_, it| !it.awaited.is_empty(now));
        self.forget_at = Some(now + FORGET_EVERY);
    }

    /// Takes the next batch, up to so many bytes; one larger message goes alone, as does what is stored together.
    pub(super) fn next_batch(&mut self, bytes_max: usize) -> (Vec<Publish>, Storing) {
        let (mut bytes, mut next) = (0, Vec::new());
        while bytes < bytes_max
            && let Some(session) = self.turns.pop_front()
            && let Some(row) = self.rows.get_mut(&session)
        {
            if let Some(Group::Together { following }) = row.front().map(|it| it.group) {
                if !next.is_empty() {
                    self.turns.push_front(session);
                    break;
                }
                let count = row.len().min(following.saturating_add(1));
                let together = row.drain(..count).collect();
                self.end_turn(session);
                return (together, Storing::Together);
            }
            let until = bytes_max.min(bytes + TURN_BYTES);
            while bytes < until
                && let Some(publish) = row.pop_front_if(|it| it.group == Group::Alone)
            {
                bytes += publish.item.message.body.len() + OVERHEAD_BYTES;
                next.push(publish);
            }
            self.end_turn(session);
        }
        (next, Storing::Each)
    }

    fn end_turn(&mut self, session: usize) {
        if self.rows.get(&session).is_some_and(VecDeque::is_empty) {
            self.rows.remove(&session);
        } else {
            self.turns.push_back(session);
        }
    }

    pub(super) fn refuse_all(&mut self, outcome: PublishOutcome) {
        let (mut told, now) = (Told::default(), Instant::now());
        for session in self.turns.drain(..) {
            for publish in self.rows.remove(&session).unwrap_or_default() {
                told.add(publish.waiter(), outcome);
                if let Some(producer) = &publish.item.producer {
                    let refused = self.refused.entry(session).or_insert_with(|| Refused {
                        _inbox: publish.inbox.clone(),
                        awaited: Awaited::default(),
                        outcome,
                    });
                    refused.awaited.refused(producer.sequence, now);
                }
            }
        }
        told.deliver();
    }

    /// What waits longer than its client does is not begun any more. All that waits is looked at only when a deadline has passed: there may
    /// be hundreds of thousands.
    pub(super) fn refuse_overdue(&mut self, now: Instant, outcome: PublishOutcome) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        self.earliest = None;
        let mut told = Told::default();
        for session in &self.turns {
            let Some(row) = self.rows.get_mut(session) else {
                continue;
            };
            row.retain(|publish| {
                let is_overdue = publish.deadline.is_some_and(|deadline| deadline <= now);
                if is_overdue {
                    told.add(publish.waiter(), outcome);
                } else {
                    self.earliest = self.earliest.into_iter().chain(publish.deadline).min();
                }
                !is_overdue
            });
        }
        self.rows.retain(|_, row| !row.is_empty());
        self.turns.retain(|it| self.rows.contains_key(it));
        told.deliver();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use warren_types::{
        ExchangeName, Message, Priority, ProducerId, Properties, QueueId, RoutingKey,
    };

    use super::*;
    use crate::api::{ProducerTag, PublishItem, RequestToken, Unavailable};

    fn publish(inbox: &Outbox<SessionEvent>, number: u64, bytes: usize, group: Group) -> Publish {
        let message = Message {
            exchange: ExchangeName::try_from("").unwrap(),
            routing_key: RoutingKey::try_from("q").unwrap(),
            properties: Properties::default(),
            body: Bytes::from(vec![0; bytes]),
            priority: Priority::DEFAULT,
            ttl_ms: None,
            delay_ms: None,
            group_hash: 0,
            fairness_hash: 0,
            dedup_hash: 0,
            user: None,
            trace: Bytes::new(),
            died: false,
        };
        Publish {
            item: PublishItem {
                token: RequestToken(number),
                queue: QueueId(1),
                message,
                producer: None,
            },
            inbox: inbox.clone(),
            deadline: None,
            group,
        }
    }

    fn alone(
        inbox: &Outbox<SessionEvent>,
        numbers: std::ops::Range<u64>,
        bytes: usize,
    ) -> Vec<Publish> {
        numbers
            .map(|it| publish(inbox, it, bytes, Group::Alone))
            .collect()
    }

    fn numbers(batch: &[Publish], of: &Outbox<SessionEvent>) -> Vec<u64> {
        let own = batch.iter().filter(|it| it.inbox.same(of));
        own.map(|it| it.item.token.0).collect()
    }

    #[test]
    fn session_that_hands_over_little_does_not_wait_for_one_that_hands_over_much() {
        let (large, small) = (Outbox::default(), Outbox::default());
        let mut waiting = Waiting::default();
        waiting.push(alone(&large, 0..1_000, 16 << 10));
        let (first, _) = waiting.next_batch(1 << 20);
        waiting.push(alone(&small, 0..3, 10));
        let (second, storing) = waiting.next_batch(1 << 20);
        assert_eq!(storing, Storing::Each);
        assert_eq!(numbers(&second, &small), [0, 1, 2]);
        let mut large_ones = numbers(&first, &large);
        large_ones.extend(numbers(&second, &large));
        while !waiting.is_empty() {
            let (next, _) = waiting.next_batch(1 << 20);
            assert!(!next.is_empty() && next.len() <= 65, "{}", next.len());
            large_ones.extend(numbers(&next, &large));
        }
        assert_eq!(large_ones, (0..1_000).collect::<Vec<u64>>());
    }

    #[test]
    fn sessions_that_hand_over_much_share_a_batch() {
        let sessions: Vec<Outbox<SessionEvent>> = (0..4).map(|_| Outbox::default()).collect();
        let mut waiting = Waiting::default();
        for inbox in &sessions {
            waiting.push(alone(inbox, 0..200, 16 << 10));
        }
        let (batch, _) = waiting.next_batch(1 << 20);
        let shares = sessions.iter().map(|it| numbers(&batch, it).len());
        assert_eq!(shares.collect::<Vec<_>>(), [16; 4]);
    }

    #[test]
    fn what_is_stored_together_goes_alone_and_in_its_place() {
        let (one, other) = (Outbox::default(), Outbox::default());
        let mut waiting = Waiting::default();
        waiting.push(alone(&one, 0..2, 10));
        let together = |number, following| publish(&one, number, 10, Group::Together { following });
        waiting.push(vec![together(2, 1), together(3, 0)]);
        waiting.push(alone(&one, 4..5, 10));
        waiting.push(alone(&other, 0..1, 10));
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let (batch, storing) = waiting.next_batch(1 << 20);
            let own = numbers(&batch, &one);
            let is_together = own.iter().any(|it| [2, 3].contains(it));
            assert_eq!(storing == Storing::Together, is_together, "{own:?}");
            assert!(!is_together || own == [2, 3]);
            order.extend(own);
        }
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }

    fn numbered(inbox: &Outbox<SessionEvent>, numbers: std::ops::Range<u64>) -> Vec<Publish> {
        let mut publishes = alone(inbox, numbers, 10);
        for publish in &mut publishes {
            publish.item.producer = Some(ProducerTag {
                producer: ProducerId(Bytes::from_static(b"p")),
                epoch: 0,
                sequence: publish.item.token.0,
            });
        }
        publishes
    }

    fn told(inbox: &Outbox<SessionEvent>) -> Vec<u64> {
        let mut told = Vec::new();
        for event in inbox.take_now() {
            if let SessionEvent::Published(outcomes) = event {
                told.extend(outcomes.into_iter().map(|(token, _)| token.0));
            }
        }
        told
    }

    /// Found by `tests/cluster/tests/long.rs`: a leader came back just after what had waited for it was refused, and what the client had
    /// sent before it knew that overtook what it sent again.
    #[test]
    fn what_was_on_its_way_when_others_were_refused_does_not_overtake_them() {
        let (one, other) = (Outbox::default(), Outbox::default());
        let mut waiting = Waiting::default();
        waiting.push(numbered(&one, 2..5));
        waiting.refuse_all(PublishOutcome::NotStarted(Unavailable::NoQuorum));
        assert_eq!(told(&one), [2, 3, 4]);
        waiting.push(numbered(&one, 5..6));
        waiting.push(numbered(&other, 5..6));
        assert_eq!(told(&one), [5]);
        waiting.push(numbered(&one, 2..7));
        assert!(told(&one).is_empty());
        let (batch, _) = waiting.next_batch(1 << 20);
        assert_eq!(numbers(&batch, &one), [2, 3, 4, 5, 6]);
        assert_eq!(numbers(&batch, &other), [5]);
        waiting.push(alone(&one, 7..8, 10));
        assert!(!waiting.has_refused() && !waiting.is_empty());
    }

    #[test]
    fn what_is_stored_together_is_refused_together() {
        let inbox = Outbox::default();
        let mut waiting = Waiting::default();
        waiting.push(numbered(&inbox, 2..4));
        waiting.refuse_all(PublishOutcome::NotStarted(Unavailable::NoQuorum));
        assert_eq!(told(&inbox), [2, 3]);
        let publishes = || {
            let mut publishes = numbered(&inbox, 4..8);
            for (at, publish) in publishes.iter_mut().take(3).enumerate() {
                publish.group = Group::Together { following: 2 - at };
            }
            // One of three has no number.
            publishes[0].item.producer = None;
            publishes
        };
        waiting.push(publishes());
        assert_eq!(told(&inbox), [4, 5, 6, 7]);
        assert!(waiting.is_empty());
        waiting.push(numbered(&inbox, 2..4));
        waiting.push(publishes());
        assert!(told(&inbox).is_empty());
        let sizes = [
            (2, Storing::Each),
            (3, Storing::Together),
            (1, Storing::Each),
        ];
        for (size, storing) in sizes {
            let (batch, how) = waiting.next_batch(1 << 20);
            assert_eq!((batch.len(), how), (size, storing));
        }
    }

    #[test]
    fn refusals_are_forgotten_in_time_whoever_publishes() {
        let inbox: Outbox<SessionEvent> = Outbox::default();
        let mut waiting = Waiting::default();
        waiting.push(numbered(&inbox, 2..4));
        waiting.refuse_all(PublishOutcome::NotStarted(Unavailable::NoQuorum));
        let now = Instant::now();
        waiting.forget_refused(now);
        assert!(waiting.has_refused());
        waiting.forget_refused(now + Duration::from_secs(6));
        assert!(!waiting.has_refused());
    }

    #[test]
    fn refused_publishes_are_told_and_leave_nothing() {
        let inbox: Outbox<SessionEvent> = Outbox::default();
        let mut waiting = Waiting::default();
        let mut publishes = alone(&inbox, 0..3, 10);
        let now = Instant::now();
        publishes[1].deadline = Some(now);
        let later = now + Duration::from_secs(1);
        publishes[2].deadline = Some(later);
        waiting.push(publishes);
        let overdue = PublishOutcome::NotStarted(Unavailable::DeadlinePassed);
        waiting.refuse_overdue(now, overdue);
        assert_eq!(waiting.earliest, Some(later));
        waiting.refuse_overdue(later, overdue);
        assert_eq!(waiting.earliest, None);
        assert!(!waiting.is_empty());
        waiting.refuse_all(PublishOutcome::NotStarted(Unavailable::NoQuorum));
        assert!(waiting.is_empty() && waiting.rows.is_empty());
        assert_eq!(told(&inbox), [1, 2, 0]);
    }
}
