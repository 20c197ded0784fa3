//! What the dispatcher says, checked as it says it: the laws. Not here: what happens to it (`world`).

use warren_queue::dispatch::io::{
    Action, AttachResult, ConsumerKey, Credit, HandedOut, HeldState, Input, SettleResult,
};
use warren_types::QueueId;

use crate::sessions::{Link, body_size};
use crate::world::{BODY_MAX, SINGLE, World};

impl World {
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::Deliver {
                consumer,
                queue,
                fencing,
                deliveries,
            } => {
                self.is_the_active_one(consumer, queue, fencing);
                assert!(self.started && self.lease, "delivered without the right to");
                for delivery in deliveries {
                    self.receive(consumer, queue, &delivery);
                }
            }
            Action::Propose(command) => self.pipeline.push_back(command),
            together @ Action::ProposeTogether { .. } => self.propose_together(together),
            Action::ProposeOutputs { .. } => unreachable!("no session here asks for it"),
            Action::Load {
                queue,
                priority,
                from,
            } => {
                let busy = self
                    .loads
                    .iter()
                    .any(|it| (it.0, it.1) == (queue, priority));
                assert!(!busy, "two loads at a time");
                let now = self.random.one_in(2);
                let read = now.then(|| self.store.load(&self.rows, queue, priority, from));
                self.loads.push_back((queue, priority, from, read));
            }
            Action::Attached { consumer, result } => self.attached(consumer, result),
            Action::SettleResults { token, results, .. } => {
                if self.ended_together(token, &results) {
                    return;
                }
                let Some(asked) = self.asked.remove(&token.0) else {
                    return; // Asked anew since.
                };
                assert_eq!(results.len(), asked.items.len());
                for (held, result) in asked.items.iter().zip(results) {
                    let gone = matches!(result, SettleResult::Done | SettleResult::AlreadySettled);
                    if asked.back.is_none() && gone {
                        self.done.insert((asked.queue, held.position));
                    }
                    assert_ne!(result, SettleResult::QueueGone);
                }
            }
            Action::Forget {
                consumer, position, ..
            } => {
                if let Some(session) = self.sessions.get_mut(&consumer) {
                    session.held.remove(&position);
                }
            }
            Action::Purged { .. } => {}
            Action::LookDue { queue, up_to } => {
                assert!(!self.looks.iter().any(|it| it.0 == queue), "two looks");
                let now = self.random.one_in(2);
                let read = now.then(|| self.store.due(&self.rows, queue, up_to, 2));
                self.looks.push_back((queue, up_to, read));
            }
            Action::Recalled { .. } | Action::Waiting { .. } | Action::Cancelled { .. } => {
                panic!("not asked for: {action:?}")
            }
        }
    }

    /// One at a time, under a number that rises with each takeover, and nobody else holds anything.
    fn is_the_active_one(&mut self, consumer: ConsumerKey, queue: QueueId, fencing: u64) {
        if queue != SINGLE {
            return assert_eq!(fencing, 0);
        }
        let (last, of) = self.activation;
        if of == Some(consumer) {
            assert!(fencing >= last, "a lower fencing number");
        } else {
            assert!(fencing > last, "a takeover under an old fencing number");
        }
        self.activation = (fencing, Some(consumer));
        for other in self.sessions.values() {
            let holds = other.key != consumer
                && other.queue == queue
                && other.link == Link::Attached
                && !other.held.is_empty();
            assert!(
                !holds,
                "{consumer:?} is served, {:?} holds {:?}",
                other.key, other.held
            );
        }
    }

    fn attached(&mut self, consumer: ConsumerKey, result: AttachResult) {
        let Some(session) = self.sessions.get_mut(&consumer) else {
            return;
        };
        let AttachResult::Ok { held } = result else {
            panic!("{result:?}");
        };
        assert_eq!(session.link, Link::Attaching);
        assert_eq!(held.len(), session.claimed.len());
        session.link = Link::Attached;
        let mut free = Credit::default();
        for (position, state) in session.claimed.iter().zip(held) {
            if state != HeldState::StillYours
                && let Some((_, bytes)) = session.held.remove(position)
            {
                free.messages += 1;
                free.bytes += bytes;
            }
        }
        // What is not its any more takes up no credit: nobody else would give it back.
        if free.messages > 0 {
            let add = free;
            self.later.push_back(Input::Credit { consumer, add });
        }
    }

    fn receive(&mut self, consumer: ConsumerKey, queue: QueueId, it: &HandedOut) {
        let spot = (queue, it.position);
        self.delivered += 1;
        let (priority, message) = self.stored[&spot].clone();
        assert_eq!(message, it.message, "another message's bytes");
        assert!(!self.done.contains(&spot), "{spot:?} was settled");
        let (due, expiry) = self.times[&spot];
        assert!(due.is_none_or(|it| it.0 <= self.now), "{spot:?} is not due");
        assert!(
            expiry.is_none_or(|it| it.0 > self.now) || self.newborn.contains(&spot),
            "{spot:?} has expired"
        );
        let first = self.seen.insert(spot);
        assert!(
            first || it.redelivered,
            "{spot:?} was seen, and is not flagged"
        );
        for other in self.sessions.values() {
            let holds = other.link == Link::Attached
                && other.queue == queue
                && other.held.contains_key(&it.position);
            assert!(!holds, "{spot:?} to {consumer:?} is with {:?}", other.key);
        }
        self.keeps_its_key(consumer, queue, it);
        // A session that has ended may be unknown here, its consumer never.
        let session = self
            .sessions
            .get_mut(&consumer)
            .expect("a consumer that ended gets nothing");
        assert_eq!(session.link, Link::Attached, "{consumer:?} is not attached");
        // An overdraft is forgotten when a session attaches anew: its credit is never below nothing.
        let overdraft = BODY_MAX;
        // What ends with others may give its credit back a moment before the answer.
        let (promised, promised_bytes) = session.promised();
        assert!(
            session.held_bytes() < session.bytes + promised_bytes + overdraft,
            "byte credit"
        );
        session
            .held
            .insert(it.position, (it.attempt, body_size(&message)));
        assert!(
            session.held.len() as u64 <= session.prefetch + promised,
            "message credit"
        );
        // Where keys are kept in order a message may be passed over.
        if !it.redelivered && due.is_none() && self.mode.is_none() {
            let last = session.last_first_delivery.insert(priority, it.position);
            assert!(last < Some(it.position), "first deliveries out of order");
        }
    }
}
