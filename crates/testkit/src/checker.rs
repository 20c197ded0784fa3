//! The total-queue checker: from a recorded history to what the broker did wrong. Fed at once or bit by bit; what was lost is known after
//! a full drain only. Not here: recording, and conservation inside the broker. Its own tests plant every kind of fault.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{ConsumerId, Delivered, Event, MessageId, PublishOutcome};

#[cfg(test)]
mod tests;

/// Where among a publisher's delivered messages the lost ones stood. A hole in the middle proves that later messages
/// overtook a confirmed one; a missing end points at what was in flight at a fault.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Holes {
    /// Before the first that was delivered.
    pub prefix: usize,
    /// Between two that were delivered.
    pub middle: usize,
    /// After the last that was delivered, or where none was.
    pub postfix: usize,
}

/// Two deliveries of one publisher to one consumer, both `redelivered = false`, the later one published earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderBreach {
    /// Who saw it.
    pub consumer: ConsumerId,
    /// The greatest seen before.
    pub before: MessageId,
    /// What came after it.
    pub after: MessageId,
}

/// What a history shows. The lists are faults, the plain numbers are information.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Confirmed, never delivered.
    pub lost: Vec<MessageId>,
    /// How the lost ones lie.
    pub holes: Holes,
    /// Delivered, though never published or finally refused.
    pub unexpected: Vec<MessageId>,
    /// Delivered with `redelivered = false` although it had been seen: once more so, or by the same consumer before.
    pub duplicates: Vec<MessageId>,
    /// First deliveries out of publish order.
    pub order_breaches: Vec<OrderBreach>,
    /// Delivered again to the consumer whose settle was committed.
    pub returned: Vec<MessageId>,
    /// The recording is not a history: an answer without a question, a second question, two answers.
    pub malformed: Vec<MessageId>,
    /// Deliveries whose body does not fit its checksum.
    pub corrupted: usize,

    /// Publishes begun.
    pub invoked: usize,
    /// Publishes confirmed.
    pub confirmed: usize,
    /// Publishes finally refused.
    pub refused: usize,
    /// Deliveries seen.
    pub delivered: usize,
    /// Deliveries flagged as repeated.
    pub redelivered: usize,
    /// Settles known to be committed.
    pub settled: usize,
    /// Without a clear answer to the publisher, yet delivered.
    pub recovered: usize,
}

impl Report {
    /// Whether the broker kept its promises.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.unexpected.is_empty()
            && self.duplicates.is_empty()
            && self.order_breaches.is_empty()
            && self.returned.is_empty()
            && self.malformed.is_empty()
            && self.corrupted == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "invoked {}, confirmed {}, refused {}, delivered {}, redelivered {}, settled {}, recovered {}",
            self.invoked,
            self.confirmed,
            self.refused,
            self.delivered,
            self.redelivered,
            self.settled,
            self.recovered
        )?;
        writeln!(
            out,
            "lost {} (prefix {}, middle {}, postfix {}), unexpected {}, duplicates {}, order breaches {}, \
             returned {}, corrupted {}, malformed {}",
            self.lost.len(),
            self.holes.prefix,
            self.holes.middle,
            self.holes.postfix,
            self.unexpected.len(),
            self.duplicates.len(),
            self.order_breaches.len(),
            self.returned.len(),
            self.corrupted,
            self.malformed.len()
        )?;
        show_some(out, "lost", &self.lost)?;
        show_some(out, "unexpected", &self.unexpected)?;
        show_some(out, "duplicate", &self.duplicates)?;
        show_some(out, "order", &self.order_breaches)?;
        show_some(out, "returned", &self.returned)?;
        show_some(out, "malformed", &self.malformed)
    }
}

/// The first few of a list: enough to look for in the history.
fn show_some<T: fmt::Debug>(out: &mut fmt::Formatter<'_>, what: &str, all: &[T]) -> fmt::Result {
    for one in all.iter().take(5) {
        writeln!(out, "  {what}: {one:?}")?;
    }
    Ok(())
}

/// Judges a history that ended with a full drain.
pub fn check(events: &[Event]) -> Report {
    let mut checker = Checker::default();
    for event in events {
        checker.take(event);
    }
    checker.finish()
}

/// What is known of one message.
#[derive(Default)]
struct Fate {
    invoked: bool,
    outcome: Option<PublishOutcome>,
    deliveries: u32,
    first_deliveries: u32,
}

/// Judges a history as it grows. It remembers some hundred bytes per message.
#[derive(Default)]
pub struct Checker {
    report: Report,
    fates: BTreeMap<MessageId, Fate>,
    seen: BTreeMap<(ConsumerId, MessageId), Seen>,
    greatest: BTreeMap<(ConsumerId, u32), MessageId>,
}

/// What one consumer knows of one message.
#[derive(Default)]
struct Seen {
    settled: bool,
}

impl Checker {
    /// The next thing that happened.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::PublishInvoked(id) => self.invoked(*id),
            Event::PublishEnded(id, outcome) => self.ended(*id, *outcome),
            Event::Delivered(delivery) => self.delivered(delivery),
            Event::Settled(consumer, id) => self.settled(*consumer, *id),
        }
    }

    fn invoked(&mut self, id: MessageId) {
        self.report.invoked += 1;
        let fate = self.fates.entry(id).or_default();
        if fate.invoked {
            self.report.malformed.push(id);
        }
        fate.invoked = true;
    }

    fn ended(&mut self, id: MessageId, outcome: PublishOutcome) {
        let fate = self.fates.entry(id).or_default();
        if !fate.invoked || fate.outcome.is_some() {
            self.report.malformed.push(id);
        }
        fate.outcome = Some(outcome);
    }

    fn delivered(&mut self, delivery: &Delivered) {
        self.report.delivered += 1;
        self.report.redelivered += usize::from(delivery.redelivered);
        let Some(id) = delivery.message else {
            self.report.corrupted += 1;
            return;
        };
        let fate = self.fates.entry(id).or_default();
        fate.deliveries += 1;
        fate.first_deliveries += u32::from(!delivery.redelivered);
        let seen_before = self.seen.get(&(delivery.consumer, id));
        if seen_before.is_some_and(|seen| seen.settled) {
            self.report.returned.push(id);
        }
        if !delivery.redelivered {
            // Another consumer's sight may be recorded late, so only its own memory and a second
            // "first" delivery are proof.
            if seen_before.is_some() || fate.first_deliveries > 1 {
                self.report.duplicates.push(id);
            }
            self.first_delivery_in_order(delivery.consumer, id);
        }
        self.seen.entry((delivery.consumer, id)).or_default();
    }

    fn first_delivery_in_order(&mut self, consumer: ConsumerId, id: MessageId) {
        let greatest = self.greatest.entry((consumer, id.publisher)).or_insert(id);
        if id < *greatest {
            self.report.order_breaches.push(OrderBreach {
                consumer,
                before: *greatest,
                after: id,
            });
        }
        *greatest = id.max(*greatest);
    }

    fn settled(&mut self, consumer: ConsumerId, id: MessageId) {
        self.report.settled += 1;
        match self.seen.get_mut(&(consumer, id)) {
            Some(seen) => seen.settled = true,
            None => self.report.malformed.push(id),
        }
    }

    /// What is wrong already, whatever comes: not what is lost, nor what was not to come out.
    pub fn so_far(&self) -> &Report {
        &self.report
    }

    /// The verdict, when everything has come out that is to.
    pub fn finish(mut self) -> Report {
        let delivered_of = delivered_bounds(&self.fates);
        for (id, fate) in &self.fates {
            let delivered = fate.deliveries > 0;
            match fate.outcome {
                Some(PublishOutcome::Confirmed) => {
                    self.report.confirmed += 1;
                    if !delivered {
                        self.report.lost.push(*id);
                        self.report.holes.add(*id, &delivered_of);
                    }
                }
                Some(PublishOutcome::Refused) => {
                    self.report.refused += 1;
                    if delivered {
                        self.report.unexpected.push(*id);
                    }
                }
                Some(PublishOutcome::Unknown) | None if delivered => {
                    if fate.invoked {
                        self.report.recovered += 1;
                    } else {
                        self.report.unexpected.push(*id);
                    }
                }
                Some(PublishOutcome::Unknown) | None => {}
            }
        }
        self.report
    }
}

/// First and last delivered counter of each publisher.
fn delivered_bounds(fates: &BTreeMap<MessageId, Fate>) -> BTreeMap<u32, (u64, u64)> {
    let mut bounds = BTreeMap::new();
    for (id, fate) in fates {
        if fate.deliveries > 0 {
            let (_, last) = bounds
                .entry(id.publisher)
                .or_insert((id.counter, id.counter));
            *last = id.counter;
        }
    }
    bounds
}

impl Holes {
    fn add(&mut self, lost: MessageId, delivered_of: &BTreeMap<u32, (u64, u64)>) {
        match delivered_of.get(&lost.publisher) {
            Some((first, _)) if lost.counter < *first => self.prefix += 1,
            Some((_, last)) if lost.counter < *last => self.middle += 1,
            Some(_) | None => self.postfix += 1,
        }
    }
}
