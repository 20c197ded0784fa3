//! What a publisher has accepted and not yet answered: what is to be sent next within the credit, what each confirm
//! resolves, what has to be sent again. Pure. Not here: streams, time, waiting for room.

use std::collections::{BTreeSet, VecDeque};

use warren_proto::v1::{self, PublishOutcome};

use super::{Outcome, PublishResult, Reply};
use crate::{
    error::Refusal,
    message::{Message, Target},
};

/// A frame is closed at this size, so that one stream does not hold up the others on its connection.
const FRAME_BYTES_MAX: u64 = 256 << 10;
/// Most messages of a frame, unless the server says less.
const FRAME_MESSAGES_MAX: usize = 1000;
/// A queue remembers this many numbers behind a producer's last one; a message may be sent again within them only.
pub(super) const DEDUP_SPAN: u64 = 1024;

/// An accepted message.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) target: Target,
    pub(super) message: Message,
    pub(super) mandatory: bool,
    /// The sequence it goes out under, if the program has given one.
    pub(super) number: Option<u64>,
    /// Permits it holds of the byte window.
    pub(super) permits: u32,
    pub(super) reply: Reply,
}

/// A message that has its outcome.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) result: PublishResult,
    pub(super) reply: Reply,
    pub(super) permits: u32,
}

/// A frame on its way. The sequences of its entries in order; 0 = already named in a result.
#[derive(Debug)]
struct Batch {
    sequences: Vec<u64>,
    left: usize,
}

/// Whether resends are recognised by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dedup {
    On,
    Off,
}

#[derive(Debug)]
pub(super) struct Window {
    dedup: Dedup,
    /// Sequence of the front of `entries`.
    first: u64,
    /// In order; `None` = resolved.
    entries: VecDeque<Option<Entry>>,
    unresolved: usize,
    /// The first that was never sent on this stream.
    next: u64,
    /// Below `next`, to be sent again on this stream.
    resend: BTreeSet<u64>,
    /// Refused for now; become `resend` when the pause is over.
    paused: BTreeSet<u64>,
    /// By batch reference, from `first_batch` on.
    batches: VecDeque<Batch>,
    first_batch: u64,
    credit_messages: u64,
    /// Below zero after a message that overdrew it.
    credit_bytes: i128,
    batch_max: usize,
    resent_total: u64,
    /// Sequences below this were sent at least once.
    sent_end: u64,
}

impl Window {
    /// `first` is the first sequence, at least 1.
    pub(super) fn new(dedup: Dedup, first: u64) -> Self {
        Self {
            dedup,
            first,
            entries: VecDeque::new(),
            unresolved: 0,
            next: first,
            resend: BTreeSet::new(),
            paused: BTreeSet::new(),
            batches: VecDeque::new(),
            first_batch: 1,
            credit_messages: 0,
            credit_bytes: 0,
            batch_max: FRAME_MESSAGES_MAX,
            resent_total: 0,
            sent_end: first,
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push_back(Some(entry));
        self.unresolved += 1;
    }

    /// One past the last accepted sequence.
    pub(super) fn end(&self) -> u64 {
        self.first + count(self.entries.len())
    }

    /// Every sequence below this has its outcome.
    pub(super) fn resolved_up_to(&self) -> u64 {
        self.first
    }

    pub(super) fn unresolved(&self) -> usize {
        self.unresolved
    }

    /// Messages sent a second time or more.
    pub(super) fn resent_total(&self) -> u64 {
        self.resent_total
    }

    /// Accepted and not on its way.
    pub(super) fn waiting(&self) -> usize {
        let fresh = usize::try_from(self.end() - self.next).unwrap_or(usize::MAX);
        fresh + self.resend.len() + self.paused.len()
    }

    /// Something was sent whose outcome is still to come.
    pub(super) fn has_in_flight(&self) -> bool {
        self.batches.iter().any(|it| it.left > 0)
    }

    /// A new stream: everything without an outcome is sent again, in order, under the new stream's credit.
    pub(super) fn restart(&mut self, batch_max: u32) {
        self.first_batch += count(self.batches.len());
        self.batches.clear();
        self.resend.clear();
        self.paused.clear();
        self.next = self.first;
        self.credit_messages = 0;
        self.credit_bytes = 0;
        let told = usize::try_from(batch_max).unwrap_or(usize::MAX);
        self.batch_max = if told == 0 {
            FRAME_MESSAGES_MAX
        } else {
            told.min(FRAME_MESSAGES_MAX)
        };
    }

    pub(super) fn grant(&mut self, messages: u64, bytes: u64) {
        self.credit_messages = self.credit_messages.saturating_add(messages);
        self.credit_bytes = self.credit_bytes.saturating_add(i128::from(bytes));
    }

    /// Client and server may count bytes a little differently, and what is lost so adds up. With nothing on its way there
    /// is nothing to wait for: one message is tried, which the server refuses in-band if it really has no room.
    pub(super) fn try_one(&mut self) {
        self.credit_messages = self.credit_messages.max(1);
        self.credit_bytes = self.credit_bytes.max(1);
    }

    /// What was refused for now may be sent again, before anything newer.
    pub(super) fn end_pause(&mut self) {
        self.resend.append(&mut self.paused);
    }

    pub(super) fn is_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    pub(super) fn can_send(&self) -> bool {
        self.paused.is_empty()
            && self.credit_messages > 0
            && self.credit_bytes > 0
            && self.next_sequence().is_some()
    }

    /// The next frame, with as much as credit and its size allow.
    pub(super) fn next_batch(&mut self) -> Option<v1::PublishBatch> {
        let mut sequences = Vec::new();
        let mut batch = v1::PublishBatch::default();
        let mut frame_bytes = 0;
        while self.paused.is_empty() && self.credit_messages > 0 && self.credit_bytes > 0 {
            let Some(sequence) = self.next_sequence() else {
                break;
            };
            let Some(entry) = self.entry(sequence) else {
                // Resolved meanwhile.
                self.pass(sequence);
                continue;
            };
            let bytes = entry.message.size_bytes();
            let is_full =
                frame_bytes + bytes > FRAME_BYTES_MAX || sequences.len() >= self.batch_max;
            if !sequences.is_empty() && is_full {
                break;
            }
            let wire = entry_to_wire(entry, &mut batch, self.dedup, sequence);
            batch.entries.push(wire);
            sequences.push(sequence);
            frame_bytes += bytes;
            self.credit_messages -= 1;
            self.credit_bytes -= i128::from(bytes);
            self.pass(sequence);
        }
        if sequences.is_empty() {
            return None;
        }
        let resent = sequences.iter().filter(|it| **it < self.sent_end).count();
        self.resent_total += count(resent);
        let last = sequences.last().copied().unwrap_or_default();
        self.sent_end = self.sent_end.max(last + 1);
        batch.batch_ref = self.first_batch + count(self.batches.len());
        self.batches.push_back(Batch {
            left: sequences.len(),
            sequences,
        });
        Some(batch)
    }

    /// Takes the results of a batch. Answers the longest pause a refusal asked for, if one is to be sent again.
    pub(super) fn confirm(
        &mut self,
        confirm: v1::BatchConfirm,
        out: &mut Vec<Resolved>,
    ) -> Option<Refusal> {
        // Of an older stream, or an answer to nothing: each message has one outcome all the same.
        let index = confirm.batch_ref.checked_sub(self.first_batch)?;
        let mut named = Vec::with_capacity(confirm.results.len());
        {
            let batch = self.batches.get_mut(usize::try_from(index).ok()?)?;
            for result in confirm.results {
                let place = usize::try_from(result.index).unwrap_or(usize::MAX);
                let Some(sequence) = batch.sequences.get_mut(place) else {
                    continue;
                };
                let sequence = std::mem::take(sequence);
                if sequence != 0 {
                    batch.left -= 1;
                    named.push((sequence, result));
                }
            }
        }
        let mut pause = None;
        for (sequence, result) in named {
            match outcome_from_wire(result) {
                Outcome::Refused(refusal) if refusal.is_transient() => {
                    self.paused.insert(sequence);
                    pause = Some(*refusal);
                }
                outcome @ (Outcome::Committed { .. }
                | Outcome::Duplicate
                | Outcome::Unrouted
                | Outcome::Refused(_)
                | Outcome::Unknown(_)) => self.resolve(sequence, outcome, out),
            }
        }
        if confirm.all_committed {
            let batch = self.batches.get_mut(usize::try_from(index).ok()?)?;
            batch.left = 0;
            for sequence in std::mem::take(&mut batch.sequences) {
                if sequence != 0 {
                    self.resolve(sequence, COMMITTED, out);
                }
            }
        }
        while self.batches.front().is_some_and(|it| it.left == 0) {
            self.batches.pop_front();
            self.first_batch += 1;
        }
        pause
    }

    /// Gives every message without an outcome this one.
    pub(super) fn resolve_all(&mut self, outcome: &Outcome, out: &mut Vec<Resolved>) {
        for sequence in self.first..self.end() {
            self.resolve(sequence, outcome.clone(), out);
        }
        self.resend.clear();
        self.paused.clear();
        self.next = self.first;
    }

    fn resolve(&mut self, sequence: u64, outcome: Outcome, out: &mut Vec<Resolved>) {
        let place = sequence.checked_sub(self.first);
        let entry = place
            .and_then(|it| usize::try_from(it).ok())
            .and_then(|it| self.entries.get_mut(it))
            .and_then(Option::take);
        let Some(entry) = entry else {
            return;
        };
        self.unresolved -= 1;
        out.push(Resolved {
            result: PublishResult {
                sequence: entry.number.unwrap_or(sequence),
                token: entry.reply.token(),
                outcome,
            },
            reply: entry.reply,
            permits: entry.permits,
        });
        while self.entries.front().is_some_and(Option::is_none) {
            self.entries.pop_front();
            self.first += 1;
        }
        self.next = self.next.max(self.first);
    }

    fn entry(&self, sequence: u64) -> Option<&Entry> {
        let place = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.entries.get(place)?.as_ref()
    }

    fn next_sequence(&self) -> Option<u64> {
        if let Some(sequence) = self.resend.first() {
            return Some(*sequence);
        }
        let within_span = self.dedup == Dedup::Off || self.is_within_span(self.next);
        (self.next < self.end() && within_span).then_some(self.next)
    }

    /// Whether the oldest may still be sent again after this one.
    fn is_within_span(&self, sequence: u64) -> bool {
        let number = |it| {
            let given = self.entry(it).and_then(|entry| entry.number);
            given.unwrap_or(it)
        };
        let apart = number(sequence).saturating_sub(number(self.first));
        sequence - self.first < DEDUP_SPAN && apart < DEDUP_SPAN
    }

    fn pass(&mut self, sequence: u64) {
        if !self.resend.remove(&sequence) {
            self.next = sequence + 1;
        }
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("usize is at most 64 bits")
}

/// The first entry's target becomes the batch's; others name what differs.
fn entry_to_wire(
    entry: &Entry,
    batch: &mut v1::PublishBatch,
    dedup: Dedup,
    sequence: u64,
) -> v1::PublishEntry {
    let target = &entry.target;
    if batch.entries.is_empty() {
        target.exchange.as_ref().clone_into(&mut batch.exchange);
        target
            .routing_key
            .as_ref()
            .clone_into(&mut batch.routing_key);
    }
    let differs = |value: &str, default: &str| (value != default).then(|| value.to_owned());
    v1::PublishEntry {
        exchange: differs(&target.exchange, &batch.exchange),
        routing_key: differs(&target.routing_key, &batch.routing_key),
        message: Some(entry.message.clone().into_wire()),
        mandatory: entry.mandatory,
        sequence: match dedup {
            Dedup::On => entry.number.unwrap_or(sequence),
            Dedup::Off => 0,
        },
        ..v1::PublishEntry::default()
    }
}

/// Of a message that the server does not name.
const COMMITTED: Outcome = Outcome::Committed {
    queues: None,
    schedule_handle: None,
};

pub(crate) fn outcome_from_wire(result: v1::PublishResult) -> Outcome {
    let refused = || Outcome::Refused(Box::new(Refusal::from_in_band(result.error.as_ref())));
    match PublishOutcome::try_from(result.outcome) {
        Ok(PublishOutcome::Committed) => Outcome::Committed {
            queues: Some(result.queues),
            schedule_handle: Some(result.schedule_handle)
                .filter(|it| !it.is_empty())
                .map(String::into_boxed_str),
        },
        Ok(PublishOutcome::Duplicate) => Outcome::Duplicate,
        Ok(PublishOutcome::Unrouted) => Outcome::Unrouted,
        // An outcome that this version does not know counts as an error.
        Ok(PublishOutcome::Refused | PublishOutcome::Unspecified) | Err(_) => refused(),
    }
}

#[cfg(test)]
mod tests;
