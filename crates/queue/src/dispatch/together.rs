//! Deliveries that end in one (features X4, ADR 0081): all of them are looked at, and promised together or not at all. What may change its
//! mind by itself, since a block is to be read, a node is to report or another end of it is under way, is waited for. Not here: messages that
//! come with it (the caller has them), one item for itself (`dispose`), the commit (`applied`).

use std::collections::{BTreeMap, BTreeSet};

use warren_types::QueueId;

use super::claim::{self, Found};
use super::consumer::Standing;
use super::dispose::Wish;
use super::in_flight::State;
use super::io::{Action, Actions, End, Held, SettleResult, TogetherPart, TogetherRequest, Wait};
use super::proposals::Proposals;
use super::queue::Queue;
use super::request::RequestId;
use super::shared::Shared;
use super::{Dispatch, dispose, outputs, retry};
use crate::entry::{EndedDelivery, Ending, ParkCause};
use crate::outcome::{TogetherRefused, WhyNotTogether};

/// Whether deliveries can end now.
enum Verdict {
    /// Each is held under its attempt.
    All,
    /// Not before something of this queue is known.
    Wait(QueueId),
    Refused(SettleResult),
}

impl Dispatch {
    pub(super) fn settle_together(&mut self, it: TogetherRequest, out: &mut Actions) {
        let verdict = judge(&self.queues, &self.shared, &it.parts);
        let verdict = match (verdict, self.attaching(&it)) {
            // It may have been done under an older leader: who attaches hears first what it holds, so that credit comes back once.
            (Verdict::Refused(_), Some(queue)) => Verdict::Wait(queue),
            (verdict, _) => verdict,
        };
        match verdict {
            Verdict::All => self.begin_together(it, out),
            Verdict::Wait(queue) => self.waiting.push((queue, it)),
            Verdict::Refused(result) => out.list.push(Action::SettleResults {
                node: it.node,
                token: it.token,
                results: vec![result],
            }),
        }
    }

    /// One of its queues, to which a consumer of its node attaches at this moment.
    fn attaching(&self, it: &TogetherRequest) -> Option<QueueId> {
        let consumers = &self.shared.consumers;
        let of_node = consumers.of_node(it.node).into_iter();
        let mut attaching = of_node.filter_map(|holder| {
            let consumer = consumers.get(holder)?;
            let is_meant = it.parts.iter().any(|it| it.queue == consumer.queue);
            (is_meant && consumer.standing == Standing::Attaching).then_some(consumer.queue)
        });
        attaching.next()
    }

    /// Those that wait for a queue of which something changed in this step are looked at again.
    pub(super) fn settle_waiting(&mut self, out: &mut Actions) {
        if self.waiting.is_empty() {
            return;
        }
        let queues = &self.queues;
        let is_due = |id: &QueueId| queues.get(id).is_none_or(|it| it.dirty);
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (due, rest) = waiting.partition::<Vec<_>, _>(|(id, _)| is_due(id));
        self.waiting = rest;
        for (_, it) in due {
            self.settle_together(it, out);
        }
    }

    pub(super) fn touch_waiting(&mut self) {
        let queues: Vec<QueueId> = self.waiting.iter().map(|(id, _)| *id).collect();
        for id in queues {
            self.touch(id);
        }
    }

    fn begin_together(&mut self, it: TogetherRequest, out: &mut Actions) {
        let count = it.parts.iter().map(|it| it.items.len()).sum();
        let request = self.shared.requests.open_together(&it, count);
        let mut deliveries = Vec::with_capacity(count);
        let mut endings = Vec::new();
        for part in it.parts {
            let Some((queue, shared)) = self.touch(part.queue) else {
                continue; // judged: it is there
            };
            deliveries.extend(part.items.iter().map(|held| EndedDelivery {
                queue: part.queue,
                position: held.position,
                attempt: held.attempt,
            }));
            endings.extend(begin(queue, shared, request, &part));
        }
        out.list.push(Action::ProposeTogether {
            outputs: it.outputs,
            deliveries,
            endings,
        });
    }

    /// It came to nothing: its deliveries are held as before.
    pub(super) fn together_refused(&mut self, it: &TogetherRefused, out: &mut Actions) {
        let result = match it.why {
            WhyNotTogether::Output { index, why } => SettleResult::OutputRefused { index, why },
            WhyNotTogether::Left => SettleResult::AlreadySettled,
            WhyNotTogether::QueueGone => SettleResult::QueueGone,
            WhyNotTogether::DeadLetter => SettleResult::DeadLetter,
        };
        let mut request = None;
        let mut nobodys: BTreeMap<QueueId, Proposals> = BTreeMap::new();
        for delivered in &it.deliveries {
            let Some((queue, shared)) = self.touch(delivered.queue) else {
                continue;
            };
            let Some(given_back) = outputs::give_back(queue, shared, delivered.position) else {
                continue;
            };
            request = request.or(given_back.request);
            for item in given_back.also {
                shared.requests.decide(item, result, out);
            }
            if !given_back.is_held {
                let proposals = nobodys.entry(delivered.queue).or_default();
                outputs::return_nobodys(queue, shared, delivered.position, proposals);
            }
        }
        if let Some(request) = request {
            self.shared.requests.end(request, result, out);
        }
        for (queue, proposals) in nobodys {
            proposals.propose(queue, out);
        }
    }
}

fn judge(queues: &BTreeMap<QueueId, Queue>, shared: &Shared, parts: &[TogetherPart]) -> Verdict {
    let mut verdict = Verdict::All;
    let mut named = BTreeSet::new();
    for part in parts {
        let Some(queue) = queues.get(&part.queue) else {
            return Verdict::Refused(SettleResult::QueueGone);
        };
        for held in &part.items {
            if !named.insert((part.queue, held.position)) {
                return Verdict::Refused(SettleResult::NotOwner);
            }
            match judge_one(queue, shared, *held) {
                Verdict::All => {}
                Verdict::Wait(queue) => verdict = Verdict::Wait(queue),
                Verdict::Refused(result) => return Verdict::Refused(result),
            }
        }
    }
    if named.is_empty() {
        return Verdict::Refused(SettleResult::NotOwner);
    }
    verdict
}

/// As `dispose::item`, but what nobody claims is left alone.
fn judge_one(queue: &Queue, shared: &Shared, held: Held) -> Verdict {
    let position = held.position;
    let Some(flight) = queue.in_flight.get(position) else {
        let result = if queue.is_back(position) {
            SettleResult::Expired
        } else if position >= queue.next {
            SettleResult::NotOwner
        } else {
            match claim::look(queue, position, 0) {
                Found::Settled => SettleResult::AlreadySettled,
                // Its consumer's node may report it still.
                Found::Ready { .. } | Found::Unknown
                    if !shared.started && held.attempt.term < shared.term =>
                {
                    return Verdict::Wait(queue.id);
                }
                Found::Ready { .. } | Found::Unknown => SettleResult::Expired,
            }
        };
        return Verdict::Refused(result);
    };
    if queue.leaving.iter().any(|it| it.contains(position)) || held.attempt < flight.attempt {
        return Verdict::Refused(SettleResult::NotOwner);
    }
    if held.attempt > flight.attempt {
        if shared.started || held.attempt.term >= shared.term {
            return Verdict::Refused(SettleResult::NotOwner);
        }
        return Verdict::Wait(queue.id);
    }
    match flight.state {
        State::Held => Verdict::All,
        State::Unverified | State::Settling | State::Returning => Verdict::Wait(queue.id),
    }
}

/// What is proposed of a part. Its deliveries leave or return; until that is certain they count as leaving, and their credit stays spent.
fn begin(
    queue: &mut Queue,
    shared: &mut Shared,
    request: RequestId,
    part: &TogetherPart,
) -> Vec<Ending> {
    let mut proposals = Proposals::default();
    let stays = match part.end {
        End::Return(..) => true,
        End::Settle(_) => drops(part.end) && queue.settings.dead_letter.is_some(),
    };
    let said = shared.requests.said(request).filter(|_| stays);
    for position in part.items.iter().map(|it| it.position) {
        let Some(flight) = queue.in_flight.get_mut(position) else {
            continue; // judged: it is there
        };
        flight.request = Some(request);
        flight.state = State::Settling;
        flight.refill_due = !flight.unclaimed;
        flight.leaving = drops(part.end);
        queue.settling += 1;
        if let Some(consumer) = shared.consumers.get_mut(flight.holder) {
            consumer.uncommitted += 1;
        }
        if let Some(said) = &said {
            proposals.remark(said.clone(), position);
        }
        match part.end {
            End::Settle(reason) => proposals.settle(reason, position),
            End::Return(kind, Wait::Parked) => {
                proposals.park(ParkCause::Rejected, kind, position);
            }
            End::Return(kind, wait @ (Wait::Not | Wait::Until(_) | Wait::ByPolicy)) => {
                let count = flight.delivery_count + dispose::failures(kind);
                let retry = queue.settings.retry;
                let not_before = retry::not_before(retry, wait, kind, count, shared.now);
                proposals.give_back(kind, not_before, position);
            }
        }
    }
    proposals.endings(queue.id)
}

/// The message leaves this queue, and not since it was acked.
fn drops(end: End) -> bool {
    match end {
        End::Settle(reason) => Wish::Settle(reason).is_failure(),
        End::Return(..) => false,
    }
}
