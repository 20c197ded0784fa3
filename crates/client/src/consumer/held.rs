//! What a consumer holds and what it has settled without a result yet: which settles go into the next frame and how, what
//! each result means, what has to be said again on a new stream. Pure. Not here: streams, time.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use bytes::Bytes;
use tokio::sync::oneshot;
use warren_proto::{
    convert::message::duration_to_client,
    v1::{self, settlement::Action, settlement::Target},
};

use super::{Disposition, SettleOutcome};
use crate::error::Refusal;

/// Most settlements of one frame.
const FRAME_SETTLEMENTS_MAX: usize = 1000;

/// A delivery that has no settle result yet.
#[derive(Debug)]
struct Entry {
    receipt: Bytes,
    /// On the present stream; 0 = it came on an older one and goes by receipt.
    tag: u64,
    settling: bool,
}

/// Who waits for a settle, which may have been cut into several.
#[derive(Debug)]
struct Waiter {
    left: u64,
    worst: SettleOutcome,
    sender: oneshot::Sender<SettleOutcome>,
}

/// Consecutive deliveries settled alike.
#[derive(Debug, Clone)]
struct Run {
    first: u64,
    last: u64,
    disposition: Disposition,
    waiter: u64,
    /// Sent before on another stream, or asked to be sent again: that it is settled already is a success.
    repeated: bool,
}

/// A settlement on its way: runs that are neighbours and were put together.
#[derive(Debug)]
struct Sent {
    runs: Vec<Run>,
    /// Numbers without a result.
    left: u64,
}

impl Sent {
    fn first(&self) -> u64 {
        self.runs.first().map_or(0, |it| it.first)
    }

    fn last(&self) -> u64 {
        self.runs.last().map_or(0, |it| it.last)
    }
}

#[derive(Debug, Default)]
pub(super) struct Held {
    /// Number of the front of `entries`; numbers start at 1.
    first: u64,
    entries: VecDeque<Option<Entry>>,
    to_send: VecDeque<Run>,
    /// By settle reference; `None` = has its result.
    sent: BTreeMap<u64, Vec<Option<Sent>>>,
    last_ref: u64,
    waiters: BTreeMap<u64, Waiter>,
    last_waiter: u64,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            first: 1,
            ..Self::default()
        }
    }

    /// A delivery came; answers its number.
    pub(super) fn add(&mut self, tag: u64, receipt: Bytes) -> u64 {
        self.entries.push_back(Some(Entry {
            receipt,
            tag,
            settling: false,
        }));
        self.end() - 1
    }

    /// A delivery came that needs no settle; answers its number.
    pub(super) fn skip(&mut self) -> u64 {
        self.entries.push_back(None);
        self.pop_settled();
        self.end() - 1
    }

    /// The consumer decided. What it has settled before is `AlreadySettled` and does not reach the server.
    pub(super) fn settle(
        &mut self,
        numbers: RangeInclusive<u64>,
        disposition: Disposition,
        sender: oneshot::Sender<SettleOutcome>,
    ) {
        let last = (*numbers.end()).min(self.end().saturating_sub(1));
        let is_single = numbers.start() == numbers.end();
        self.last_waiter += 1;
        let waiter = self.last_waiter;
        let mut left = 0;
        let mut number = (*numbers.start()).max(self.first);
        while number <= last {
            let Some(run_last) = self.take_run(number, last) else {
                number += 1;
                continue;
            };
            left += run_last - number + 1;
            self.to_send.push_back(Run {
                first: number,
                last: run_last,
                disposition: disposition.clone(),
                waiter,
                repeated: false,
            });
            number = run_last + 1;
        }
        if left > 0 {
            let worst = SettleOutcome::Done;
            let entry = Waiter {
                left,
                worst,
                sender,
            };
            self.waiters.insert(waiter, entry);
            return;
        }
        let outcome = if is_single {
            SettleOutcome::AlreadySettled
        } else {
            SettleOutcome::Done
        };
        // Nobody waits for it any more.
        let _ = sender.send(outcome);
    }

    /// Marks the longest run from `number` that one settlement can name, up to `last`.
    fn take_run(&mut self, number: u64, last: u64) -> Option<u64> {
        let first_tag = self.open_entry(number)?;
        let mut run_last = number;
        while first_tag != 0 && run_last < last {
            let expected = first_tag + (run_last + 1 - number);
            if self.peek_open(run_last + 1) != Some(expected) {
                break;
            }
            self.open_entry(run_last + 1);
            run_last += 1;
        }
        Some(run_last)
    }

    fn peek_open(&self, number: u64) -> Option<u64> {
        let entry = self.entry(number)?;
        (!entry.settling).then_some(entry.tag)
    }

    /// Marks it as settling; answers its tag.
    fn open_entry(&mut self, number: u64) -> Option<u64> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(place)?.as_mut()?;
        (!std::mem::replace(&mut entry.settling, true)).then_some(entry.tag)
    }

    pub(super) fn has_to_send(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// Settles wait for their result or for being sent.
    pub(super) fn is_settling(&self) -> bool {
        !self.to_send.is_empty() || !self.sent.is_empty()
    }

    /// The next frame of settles.
    pub(super) fn next_batch(&mut self) -> Option<v1::SettleBatch> {
        let mut sent: Vec<Option<Sent>> = Vec::new();
        let mut settlements: Vec<v1::Settlement> = Vec::new();
        while settlements.len() < FRAME_SETTLEMENTS_MAX {
            let Some(run) = self.to_send.pop_front() else {
                break;
            };
            let tag = self.entry(run.first).map_or(0, |it| it.tag);
            if let (Some(Some(before)), Some(settlement)) =
                (sent.last_mut(), settlements.last_mut())
                && extend(before, settlement, &run, tag)
            {
                continue;
            }
            let Some(target) = self.target(&run, tag) else {
                continue;
            };
            settlements.push(v1::Settlement {
                target: Some(target),
                action: Some(action(&run.disposition)),
                ..v1::Settlement::default()
            });
            sent.push(Some(Sent {
                left: run.last - run.first + 1,
                runs: vec![run],
            }));
        }
        if settlements.is_empty() {
            return None;
        }
        self.last_ref += 1;
        self.sent.insert(self.last_ref, sent);
        Some(v1::SettleBatch {
            settle_ref: self.last_ref,
            settlements,
        })
    }

    fn target(&self, run: &Run, tag: u64) -> Option<Target> {
        let entry = self.entry(run.first)?;
        Some(match (tag, run.last - run.first) {
            (0, _) => Target::Receipt(entry.receipt.clone()),
            (tag, 0) => Target::DeliveryTag(tag),
            (first, more) => Target::Tags(v1::TagRange {
                first,
                last: first + more,
            }),
        })
    }

    /// Takes the results of a frame. Answers whether something is to be sent again a little later.
    pub(super) fn results(&mut self, results: v1::SettleResults) -> bool {
        let Some(mut sent) = self.sent.remove(&results.settle_ref) else {
            // Of a stream before: it was said again under another reference.
            return false;
        };
        let mut again = false;
        for result in results.results {
            let place = usize::try_from(result.index).unwrap_or(usize::MAX);
            if let Some(slot) = sent.get_mut(place) {
                again |= self.result(slot, &result);
            }
        }
        if results.all_done {
            for slot in &mut sent {
                if let Some(whole) = slot.take() {
                    self.finish(&whole, whole.first(), whole.last(), &SettleOutcome::Done);
                }
            }
        } else if sent.iter().any(Option::is_some) {
            self.sent.insert(results.settle_ref, sent);
        }
        self.pop_settled();
        again
    }

    fn result(&mut self, slot: &mut Option<Sent>, result: &v1::SettleResult) -> bool {
        let Some(whole) = slot else {
            return false;
        };
        let (mut first, mut last) = (whole.first(), whole.last());
        if let Some(tags) = result.tags {
            // A run's tags grow with its numbers.
            let first_tag = self.entry(first).map_or(0, |it| it.tag);
            let number = |tag: u64| first + tag.saturating_sub(first_tag);
            (first, last) = (number(tags.first).min(last), number(tags.last).min(last));
        }
        let again = match outcome_of(result) {
            Some(outcome) => {
                self.finish(whole, first, last, &outcome);
                false
            }
            None => {
                for number in first..=last {
                    self.say_again(whole, number);
                }
                true
            }
        };
        whole.left = whole.left.saturating_sub(last - first + 1);
        if whole.left == 0 {
            *slot = None;
        }
        again
    }

    /// Gives the numbers an outcome and tells who waits. A number that has one keeps it.
    fn finish(&mut self, whole: &Sent, first: u64, last: u64, outcome: &SettleOutcome) {
        for run in &whole.runs {
            let mut done = 0;
            for number in run.first.max(first)..=run.last.min(last) {
                if self.remove(number) {
                    done += 1;
                }
            }
            let was_repeat = run.repeated && *outcome == SettleOutcome::AlreadySettled;
            let outcome = if was_repeat {
                &SettleOutcome::Done
            } else {
                outcome
            };
            self.tell(run.waiter, done, outcome);
        }
    }

    fn tell(&mut self, waiter: u64, done: u64, outcome: &SettleOutcome) {
        let Some(it) = self.waiters.get_mut(&waiter) else {
            return;
        };
        if done > 0 && !outcome.is_done() && it.worst.is_done() {
            it.worst = outcome.clone();
        }
        it.left = it.left.saturating_sub(done);
        if it.left == 0
            && let Some(it) = self.waiters.remove(&waiter)
        {
            // Nobody waits for it any more.
            let _ = it.sender.send(it.worst);
        }
    }

    fn say_again(&mut self, whole: &Sent, number: u64) {
        if self.entry(number).is_none() {
            return;
        }
        let run = whole
            .runs
            .iter()
            .find(|it| (it.first..=it.last).contains(&number));
        if let Some(run) = run {
            self.to_send.push_back(Run {
                first: number,
                last: number,
                repeated: true,
                ..run.clone()
            });
        }
    }

    /// A new stream: tags start anew, what was settled without a result is said again by receipt. Answers the receipts in
    /// `resumed` that never arrived here: the server holds them for us, and nobody will settle them.
    pub(super) fn restart(&mut self, resumed: Vec<Bytes>) -> Vec<Bytes> {
        for entry in self.entries.iter_mut().flatten() {
            entry.tag = 0;
        }
        let waiting = std::mem::take(&mut self.to_send);
        for (_, sent) in std::mem::take(&mut self.sent) {
            for whole in sent.into_iter().flatten() {
                for number in whole.first()..=whole.last() {
                    self.say_again(&whole, number);
                }
            }
        }
        for run in waiting {
            for number in run.first..=run.last {
                self.to_send.push_back(Run {
                    first: number,
                    last: number,
                    ..run.clone()
                });
            }
        }
        let known: std::collections::BTreeSet<&Bytes> = self
            .entries
            .iter()
            .flatten()
            .map(|it| &it.receipt)
            .collect();
        let mut unknown = resumed;
        unknown.retain(|it| !known.contains(it));
        unknown
    }

    /// Gives the receipts back, in a frame of their own whose results nobody waits for.
    pub(super) fn return_frame(&mut self, receipts: Vec<Bytes>) -> v1::SettleBatch {
        self.last_ref += 1;
        let requeue = Disposition::Requeue(super::Requeue::default());
        let settlement = |receipt| settlement_by_receipt(receipt, &requeue);
        v1::SettleBatch {
            settle_ref: self.last_ref,
            settlements: receipts.into_iter().map(settlement).collect(),
        }
    }

    fn end(&self) -> u64 {
        self.first + u64::try_from(self.entries.len()).expect("usize is at most 64 bits")
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get(place)?.as_ref()
    }

    fn remove(&mut self, number: u64) -> bool {
        let place = number
            .checked_sub(self.first)
            .and_then(|it| usize::try_from(it).ok());
        place
            .and_then(|it| self.entries.get_mut(it))
            .is_some_and(|it| it.take().is_some())
    }

    fn pop_settled(&mut self) {
        while self.entries.front().is_some_and(Option::is_none) {
            self.entries.pop_front();
            self.first += 1;
        }
    }
}

/// Puts an ack together with the one before it, if they are neighbours.
fn extend(before: &mut Sent, settlement: &mut v1::Settlement, run: &Run, tag: u64) -> bool {
    let last = before.runs.last();
    let both_acks = run.disposition == Disposition::Ack
        && last.is_some_and(|it| it.disposition == Disposition::Ack);
    let (first_tag, last_tag) = match &settlement.target {
        Some(Target::DeliveryTag(it)) => (*it, *it),
        Some(Target::Tags(it)) => (it.first, it.last),
        Some(Target::Receipt(_)) | None => return false,
    };
    if tag == 0 || !both_acks || before.last() + 1 != run.first || last_tag + 1 != tag {
        return false;
    }
    let more = run.last - run.first;
    settlement.target = Some(Target::Tags(v1::TagRange {
        first: first_tag,
        last: tag + more,
    }));
    before.left += more + 1;
    before.runs.push(run.clone());
    true
}

/// A settle that any node takes.
pub(crate) fn settlement_by_receipt(receipt: Bytes, disposition: &Disposition) -> v1::Settlement {
    v1::Settlement {
        target: Some(Target::Receipt(receipt)),
        action: Some(action(disposition)),
        ..v1::Settlement::default()
    }
}

/// The outcome of a settle that was a call of its own: what the server could not do yet is for the caller to repeat.
pub(crate) fn unary_settle_outcome(result: &v1::SettleResult) -> SettleOutcome {
    outcome_of(result).unwrap_or_else(|| {
        SettleOutcome::Refused(Box::new(Refusal::from_in_band(result.error.as_ref())))
    })
}

fn action(disposition: &Disposition) -> Action {
    match disposition {
        Disposition::Ack => Action::Ack(v1::Ack {}),
        Disposition::Reject { reason } => Action::Reject(v1::Reject {
            reason: reason.clone(),
            ..v1::Reject::default()
        }),
        Disposition::Requeue(how) => Action::Requeue(v1::Requeue {
            delay: how.delay.map(duration_to_client),
            failed: how.failed,
            reason: how.reason.clone(),
            by_policy: false,
        }),
    }
}

/// `None` = send it again.
fn outcome_of(result: &v1::SettleResult) -> Option<SettleOutcome> {
    let refusal = || Refusal::from_in_band(result.error.as_ref());
    Some(match v1::SettleOutcome::try_from(result.outcome) {
        Ok(v1::SettleOutcome::Done) => SettleOutcome::Done,
        Ok(v1::SettleOutcome::AlreadySettled) => SettleOutcome::AlreadySettled,
        Ok(v1::SettleOutcome::Expired) => SettleOutcome::Expired,
        Ok(v1::SettleOutcome::NotOwner) => SettleOutcome::NotOwner,
        Ok(v1::SettleOutcome::RetryLater) => return None,
        // An outcome that this version does not know counts as an error.
        Ok(v1::SettleOutcome::Refused | v1::SettleOutcome::Unspecified) | Err(_) => {
            let refusal = refusal();
            if refusal.is_transient() {
                return None;
            }
            SettleOutcome::Refused(Box::new(refusal))
        }
    })
}
