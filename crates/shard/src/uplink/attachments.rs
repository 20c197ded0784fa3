//! The consumers of this node's sessions on one shard: what they hold and which settles are unanswered, so that all of it can be
//! attached again. Not here: the settles (`unanswered`), who gets a message (`warren-queue`'s dispatch), the link (`task`).

mod loan;
mod unanswered;

use std::collections::{BTreeMap, HashMap};

use tracing::error;
use warren_codec::{CodecError, StoredMessageView};
use warren_queue::dispatch::io::{
    AttachResult, ConsumerOptions, Credit, HandedOut, Held, HeldState, Token,
};
use warren_queue::entry::ReturnKind;
use warren_types::{Attempt, ConsumerId, NodeId, Position, QueueId, TopologyIndex};

use crate::api::{ConsumerSpec, Delivery, Forgotten, SessionEvent};
use crate::link::frame::{AttachUp, Up};
use crate::link::outbox::Outbox;
use loan::Loan;
use unanswered::{Together, Unanswered};

struct Consumer {
    inbox: Outbox<SessionEvent>,
    queue: QueueId,
    options: ConsumerOptions,
    unspent: Loan,
    held: BTreeMap<Position, HeldHere>,
    /// Its session has cancelled it; it stays until what it holds is settled.
    cancelled: bool,
    /// The session has been told that it is attached.
    told: bool,
    /// What the last report named as held, in its order: the answer is about these, whatever was settled meanwhile.
    reported: Vec<Held>,
}

#[derive(Clone, Copy)]
struct HeldHere {
    attempt: Attempt,
    bytes: u64,
}

/// All consumers and unanswered settles of this node on one shard.
#[derive(Default)]
pub(crate) struct Attachments {
    consumers: BTreeMap<ConsumerId, Consumer>,
    /// Who holds a position, for settles that come by receipt.
    holder: HashMap<(QueueId, Position), ConsumerId>,
    unanswered: BTreeMap<Token, Unanswered>,
    together: BTreeMap<Token, Together>,
}

impl Attachments {
    pub(crate) fn attach(
        &mut self,
        consumer: ConsumerId,
        spec: &ConsumerSpec,
        held: Vec<(Held, u64)>,
        inbox: Outbox<SessionEvent>,
        topology: TopologyIndex,
    ) -> Up {
        let queue = spec.target.queue;
        let reported: Vec<Held> = held.iter().map(|(held, _)| *held).collect();
        for item in &reported {
            self.holder.insert((queue, item.position), consumer);
        }
        let here = |(held, bytes): (Held, u64)| {
            let attempt = held.attempt;
            (held.position, HeldHere { attempt, bytes })
        };
        self.consumers.insert(
            consumer,
            Consumer {
                inbox,
                queue: spec.target.queue,
                options: spec.options,
                unspent: Loan::new(spec.credit),
                held: held.into_iter().map(here).collect(),
                cancelled: false,
                told: false,
                reported: reported.clone(),
            },
        );
        Up::Attach(AttachUp {
            consumer,
            queue: spec.target.queue,
            options: spec.options,
            credit: spec.credit,
            held: reported,
            topology,
        })
    }

    pub(crate) fn credit(&mut self, consumer: ConsumerId, add: Credit) -> Option<Up> {
        let known = self.consumers.get_mut(&consumer)?;
        let add = known.unspent.add(add);
        Some(Up::Credit { consumer, add })
    }

    /// A cancelled consumer (`None`) stays for what it holds; otherwise all of it returns.
    pub(crate) fn detach(
        &mut self,
        consumer: ConsumerId,
        returns: Option<ReturnKind>,
    ) -> Option<Up> {
        let known = self.consumers.get_mut(&consumer)?;
        known.cancelled = true;
        if returns.is_some() || known.held.is_empty() {
            self.forget_consumer(consumer);
        }
        Some(Up::Detach { consumer, returns })
    }

    fn release_settled(&mut self, queue: QueueId, items: &[Held], asker: &Outbox<SessionEvent>) {
        for item in items {
            self.tell_holder(queue, *item, asker);
            self.release(queue, item.position, Some(item.attempt));
        }
    }

    /// A delivery settled by receipt through another session: its holder forgets it.
    fn tell_holder(&self, queue: QueueId, item: Held, asker: &Outbox<SessionEvent>) {
        let Some(&consumer) = self.holder.get(&(queue, item.position)) else {
            return;
        };
        let Some(known) = self.consumers.get(&consumer) else {
            return;
        };
        let same = known
            .held
            .get(&item.position)
            .is_some_and(|held| held.attempt == item.attempt);
        if same && !known.inbox.same(asker) {
            known.inbox.push(SessionEvent::Forget {
                consumer,
                queue,
                position: item.position,
                why: Forgotten::Settled,
            });
        }
    }

    /// A position is held no more; its credit is back with the leader if the consumer's settles refill it. Gives that credit;
    /// `None`: it was not held, or under another attempt.
    fn release(
        &mut self,
        queue: QueueId,
        position: Position,
        attempt: Option<Attempt>,
    ) -> Option<Credit> {
        let id = *self.holder.get(&(queue, position))?;
        let consumer = self.consumers.get_mut(&id)?;
        let held = consumer.held.get(&position).copied()?;
        if attempt.is_some_and(|attempt| attempt != held.attempt) {
            return None;
        }
        consumer.held.remove(&position);
        let refill = consumer.options.refill;
        let back = consumer.unspent.refilled(refill, held.bytes);
        let over = consumer.cancelled && consumer.held.is_empty();
        self.holder.remove(&(queue, position));
        if over {
            self.consumers.remove(&id);
        }
        Some(back)
    }

    fn forget_consumer(&mut self, consumer: ConsumerId) {
        if let Some(known) = self.consumers.remove(&consumer) {
            for position in known.held.into_keys() {
                self.holder.remove(&(known.queue, position));
            }
        }
    }

    /// Everything a new link must know: consumers with what they hold, then unanswered settles.
    pub(crate) fn report(&mut self, topology: TopologyIndex) -> Vec<Up> {
        let mut frames = Vec::with_capacity(
            self.consumers.len() + self.unanswered.len() + self.together.len() + 1,
        );
        for (&consumer, known) in &mut self.consumers {
            known.reported = known
                .held
                .iter()
                .map(|(&position, held)| Held {
                    position,
                    attempt: held.attempt,
                })
                .collect();
            frames.push(Up::Attach(AttachUp {
                consumer,
                queue: known.queue,
                options: known.options,
                credit: if known.cancelled {
                    Credit::default()
                } else {
                    known.unspent.report()
                },
                held: known.reported.clone(),
                topology,
            }));
            if known.cancelled {
                frames.push(Up::Detach {
                    consumer,
                    returns: None,
                });
            }
        }
        self.report_unanswered(&mut frames);
        frames.push(Up::Reported);
        frames
    }

    /// The answer to an attach. What is lost gives its credit back, here and with the leader: the frame that says so.
    pub(crate) fn attached(&mut self, consumer: ConsumerId, result: AttachResult) -> Option<Up> {
        let known = self.consumers.get_mut(&consumer)?;
        match &result {
            AttachResult::Ok { held } => {
                let reported = std::mem::take(&mut known.reported);
                let lost: Vec<(Held, Forgotten)> = reported
                    .into_iter()
                    .zip(held)
                    .filter_map(|(held, state)| match state {
                        HeldState::StillYours => None,
                        HeldState::Settled => Some((held, Forgotten::Settled)),
                        HeldState::Lost => Some((held, Forgotten::Lost)),
                    })
                    .collect();
                if !known.told {
                    known.told = true;
                    known
                        .inbox
                        .push(SessionEvent::Attached { consumer, result });
                }
                self.lose(consumer, &lost)
            }
            AttachResult::QueueGone | AttachResult::Exclusive => {
                if known.told {
                    known.inbox.push(SessionEvent::Cancelled { consumer });
                } else {
                    known
                        .inbox
                        .push(SessionEvent::Attached { consumer, result });
                }
                self.forget_consumer(consumer);
                None
            }
        }
    }

    /// Deliveries that a consumer no longer holds: its session forgets them, and their credit is lent anew if settles refill it
    /// (a session that keeps the books itself lends it by itself). What was settled since the report has given its credit back.
    fn lose(&mut self, consumer: ConsumerId, lost: &[(Held, Forgotten)]) -> Option<Up> {
        let mut add = Credit::default();
        for (item, why) in lost {
            let known = self.consumers.get(&consumer)?;
            let (queue, inbox) = (known.queue, known.inbox.clone());
            let Some(back) = self.release(queue, item.position, Some(item.attempt)) else {
                continue;
            };
            inbox.push(SessionEvent::Forget {
                consumer,
                queue,
                position: item.position,
                why: *why,
            });
            add.messages += back.messages;
            add.bytes = add.bytes.saturating_add(back.bytes);
        }
        let known = self.consumers.get(&consumer)?;
        let refills = !known.cancelled && add.messages > 0;
        refills.then_some(Up::Credit { consumer, add })
    }

    /// Takes deliveries for a consumer and passes them to its session. False: nobody here wants them.
    pub(crate) fn deliver(
        &mut self,
        consumer: ConsumerId,
        queue: QueueId,
        fencing: u64,
        deliveries: Vec<HandedOut>,
    ) -> bool {
        let Some(known) = self.consumers.get_mut(&consumer) else {
            return false;
        };
        let mut out = Vec::with_capacity(deliveries.len());
        for handed in deliveries {
            let delivery = match open(queue, fencing, handed) {
                Ok(delivery) => delivery,
                // Never passed on; it stays with this consumer until the consumer ends.
                Err(error) => {
                    error!(queue = %queue, %error, "delivery cannot be opened");
                    continue;
                }
            };
            let bytes = delivery.message.body.len() as u64;
            known.unspent.used(bytes);
            known.held.insert(
                delivery.position,
                HeldHere {
                    attempt: delivery.attempt,
                    bytes,
                },
            );
            self.holder.insert((queue, delivery.position), consumer);
            out.push(delivery);
        }
        known.inbox.push(SessionEvent::Deliveries {
            consumer,
            deliveries: out,
        });
        true
    }

    pub(crate) fn recalled(&mut self, consumer: ConsumerId, credit: Credit) {
        if let Some(known) = self.consumers.get_mut(&consumer) {
            let credit = known.unspent.recalled(credit);
            known
                .inbox
                .push(SessionEvent::Recalled { consumer, credit });
        }
    }

    pub(crate) fn waiting(&self, consumer: ConsumerId) {
        if let Some(known) = self.consumers.get(&consumer) {
            known.inbox.push(SessionEvent::Waiting { consumer });
        }
    }

    pub(crate) fn cancelled(&mut self, consumer: ConsumerId) {
        if let Some(known) = self.consumers.get(&consumer) {
            known.inbox.push(SessionEvent::Cancelled { consumer });
            self.forget_consumer(consumer);
        }
    }

    /// The leader says that a delivery is not this consumer's any more. It has given the credit back in its own books.
    pub(crate) fn forget(&mut self, consumer: ConsumerId, queue: QueueId, position: Position) {
        if let Some(known) = self.consumers.get(&consumer) {
            known.inbox.push(SessionEvent::Forget {
                consumer,
                queue,
                position,
                why: Forgotten::Settled,
            });
        }
        if self.holder.get(&(queue, position)) == Some(&consumer) {
            self.release(queue, position, None);
        }
    }

    /// Tells every consumer's session who leads now.
    pub(crate) fn leader_moved(&self, node: NodeId) {
        for (&consumer, known) in &self.consumers {
            known
                .inbox
                .push(SessionEvent::LeaderMoved { consumer, node });
        }
    }
}

fn open(queue: QueueId, fencing: u64, handed: HandedOut) -> Result<Delivery, CodecError> {
    Ok(Delivery {
        queue,
        position: handed.position,
        attempt: handed.attempt,
        redelivered: handed.redelivered,
        delivery_count: handed.delivery_count,
        acquired_count: handed.acquired_count,
        fencing,
        message: StoredMessageView::open(&handed.message)?,
    })
}

#[cfg(test)]
mod tests;
