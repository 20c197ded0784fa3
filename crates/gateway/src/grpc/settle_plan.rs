//! What a batch of settlements asks of which queue, and its results as they come back. Pure. Not here: asking (`consume`, `settle`).

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::message::{
    duration_ms_from_client, duration_to_client, time_ms_to_client,
};
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::settlement::{Action, Target as Named};
use warren_shard::api::{
    AnswerTime, RequestToken, ReturnWait, SettleAction, SettlePart, SettleSpec, TOGETHER_MAX,
    Target, TogetherSpec, Unavailable,
};
use warren_shard::{AttemptOutcome, Held, ReturnKind, Said, Session, SettleReason, SettleResult};
use warren_types::ClusterId;

use super::error::{bad_argument, of_settle, of_unavailable};
use super::held::{Extended, HeldBook, HeldDelivery, NotHeld};
use super::outputs::Outputs;
use super::receipt::Receipt;
use crate::clock::millis;

mod results;

pub(super) use results::{Answered, SettleResults};

/// A settlement joins one of so many groups before it.
const GROUPS_SEEN: usize = 8;

/// What is asked of one queue in one go.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) target: Target,
    pub(super) wished: Wished,
    pub(super) items: Vec<AskItem>,
    /// What comes with it; then it is one settlement.
    pub(super) outputs: Option<Outputs>,
    pub(super) ends: Ends,
}

/// Whether its deliveries end each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// Or as one ack with what comes with it.
    Each,
    /// All of them, and what comes with them, or none.
    Together,
}

/// One delivery of an ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskItem {
    /// Index of the settlement.
    index: u32,
    /// Named by a range: its own tag, else 0.
    range_tag: u64,
    held: Held,
    /// It was in the session's book.
    pub(super) taken: Option<HeldDelivery>,
}

impl Ask {
    pub(super) fn spec(&self, answer: AnswerTime) -> SettleSpec {
        let items = self.all_held().collect();
        SettleSpec {
            target: self.target,
            items,
            action: self.wished.action,
            answer,
            outputs: self
                .outputs
                .as_ref()
                .map_or(Vec::new(), |it| it.items.clone()),
            said: self.wished.said.clone(),
        }
    }

    /// # Errors
    /// It is not asked.
    pub(super) async fn make(
        &self,
        session: &Session,
        answer: AnswerTime,
        token: RequestToken,
    ) -> Result<(), Unavailable> {
        let spec = self.spec(answer);
        match self.ends {
            Ends::Each => session.settle(spec, token).await,
            Ends::Together => {
                let part = SettlePart {
                    queue: spec.target.queue,
                    items: spec.items,
                    action: spec.action,
                };
                let together = TogetherSpec {
                    shard: spec.target.shard,
                    parts: vec![part],
                    outputs: spec.outputs,
                    said: spec.said,
                };
                session.settle_together(together, token).await
            }
        }
    }

    /// It is more than the ack of one delivery.
    pub(super) fn is_more(&self) -> bool {
        self.items.len() > 1 || self.wished.action != SettleAction::Settle(SettleReason::Acked)
    }

    pub(super) fn all_held(&self) -> impl Iterator<Item = Held> + '_ {
        self.items.iter().map(|it| it.held)
    }

    /// Its first delivery.
    pub(super) fn held(&self) -> Option<Held> {
        self.items.first().map(|it| it.held)
    }

    /// Index of its first settlement.
    pub(super) fn index(&self) -> u32 {
        self.items.first().map_or(0, |it| it.index)
    }
}

/// Where deliveries are looked up, and what extending one answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) cluster: ClusterId,
    /// The stream's queue; `None` outside streams, where tags mean nothing.
    pub(super) own: Option<Target>,
    pub(super) now_ms: u64,
    pub(super) now: Instant,
    /// The tag of the stream's consumer; empty outside streams.
    pub(super) consumer: &'a str,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) asks: Vec<Ask>,
    /// Known without asking.
    pub(super) results: Vec<v1::SettleResult>,
    /// Extensions of deliveries that are not in the book: `(index, receipt, by)`.
    pub(super) extensions: Vec<(u32, Receipt, std::time::Duration)>,
}

/// What is to be done with deliveries, and what their consumer says of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wished {
    pub(super) action: SettleAction,
    pub(super) said: Option<Arc<Said>>,
}

/// One action, checked.
enum Wish {
    Do(Wished),
    Extend(std::time::Duration),
}

pub(super) fn plan(
    settlements: Vec<v1::Settlement>,
    context: Context<'_>,
    book: &mut HeldBook,
) -> Plan {
    let mut plan = Plan::default();
    for (index, settlement) in (0_u32..).zip(settlements) {
        let wish = wish(settlement.action.as_ref(), context.consumer);
        let entries = settlement.then_publish;
        let may_be_first = settlement.allow_non_atomic;
        let named = settlement.target;
        let added = match wish {
            Ok(Wish::Do(wished)) if entries.is_empty() => {
                add(&mut plan, index, named, &wished, context, book)
            }
            Ok(Wish::Extend(by)) if entries.is_empty() => {
                extend(&mut plan, index, named, by, context, book)
            }
            Ok(Wish::Do(wished)) => {
                let with = (wished, Outputs::of(entries, may_be_first));
                add_with_outputs(&mut plan, index, named, with, context, book)
            }
            Ok(Wish::Extend(_)) => Err(bad_argument("then_publish", "comes with no extension")),
            Err(error) => Err(error),
        };
        if let Err(error) = added {
            plan.results.push(refused(index, &error));
        }
    }
    plan
}

fn wish(action: Option<&Action>, consumer: &str) -> Result<Wish, ApiError> {
    let silent = |action| Wished { action, said: None };
    Ok(Wish::Do(match action {
        Some(Action::Ack(_)) => silent(SettleAction::Settle(SettleReason::Acked)),
        Some(Action::Reject(it)) => {
            let (action, outcome) = if it.park {
                let action = SettleAction::Return {
                    kind: ReturnKind::Untouched,
                    wait: ReturnWait::Parked,
                };
                (action, AttemptOutcome::Parked)
            } else {
                let action = SettleAction::Settle(SettleReason::Rejected);
                (action, AttemptOutcome::Rejected)
            };
            let said = Said::new(outcome, &it.reason, &it.detail, consumer);
            let said = said.map(Arc::new);
            Wished { action, said }
        }
        Some(Action::Requeue(requeue)) => {
            let (kind, outcome) = if requeue.failed {
                (ReturnKind::Failed, AttemptOutcome::Failed)
            } else {
                (ReturnKind::Untouched, AttemptOutcome::Returned)
            };
            let wait = match &requeue.delay {
                Some(delay) => match duration(delay, "requeue.delay")? {
                    0 => ReturnWait::Not,
                    delay => ReturnWait::Ms(delay),
                },
                None if requeue.by_policy => ReturnWait::ByPolicy,
                None => ReturnWait::Not,
            };
            let action = SettleAction::Return { kind, wait };
            let said = Said::new(outcome, &requeue.reason, "", consumer);
            let said = said.map(Arc::new);
            Wished { action, said }
        }
        Some(Action::Extend(extend)) => {
            let by = extend
                .by
                .as_ref()
                .map(|by| duration(by, "extend.by"))
                .transpose()?;
            let by = std::time::Duration::from_millis(by.unwrap_or(0));
            return Ok(Wish::Extend(by));
        }
        None => return Err(bad_argument("action", "is missing or unknown")),
    }))
}

fn duration(duration: &prost_types::Duration, field: &str) -> Result<u64, ApiError> {
    duration_ms_from_client(duration).ok_or_else(|| bad_argument(field, "is negative or too long"))
}

fn add(
    plan: &mut Plan,
    index: u32,
    named: Option<Named>,
    wished: &Wished,
    context: Context<'_>,
    book: &mut HeldBook,
) -> Result<(), ApiError> {
    match named {
        Some(Named::Receipt(receipt)) => {
            let receipt = read_receipt(context, &receipt)?;
            let taken = if context.own == Some(receipt.target) {
                book.take(receipt.held)
            } else {
                None
            };
            let item = AskItem {
                index,
                range_tag: 0,
                held: receipt.held,
                taken,
            };
            ask(plan, receipt.target, wished, item);
        }
        Some(Named::DeliveryTag(tag)) => {
            let own = own(context)?;
            match book.take_tag(tag) {
                Ok(taken) => {
                    let item = AskItem {
                        index,
                        range_tag: 0,
                        held: taken.held,
                        taken: Some(taken),
                    };
                    ask(plan, own, wished, item);
                }
                Err(why) => plan.results.push(not_held(index, why)?),
            }
        }
        Some(Named::Tags(range)) => {
            let own = own(context)?;
            match book.take_range(range.first, range.last) {
                Ok(taken) => {
                    for tag in book.lost_within(range.first, range.last) {
                        let lost = result_of(index, tag, SettleResult::Expired);
                        plan.results.push(lost);
                    }
                    for taken in taken {
                        let item = AskItem {
                            index,
                            range_tag: taken.tag,
                            held: taken.held,
                            taken: Some(taken),
                        };
                        ask(plan, own, wished, item);
                    }
                }
                Err(why) => plan.results.push(not_held(index, why)?),
            }
        }
        None => return Err(bad_argument("target", "is missing or unknown")),
    }
    Ok(())
}

/// A settlement with messages. It is never put together with others: all its deliveries end with them, or none.
fn add_with_outputs(
    plan: &mut Plan,
    index: u32,
    named: Option<Named>,
    (wished, outputs): (Wished, Outputs),
    context: Context<'_>,
    book: &mut HeldBook,
) -> Result<(), ApiError> {
    let before = std::mem::take(&mut plan.asks);
    let known = plan.results.len();
    let added = add(plan, index, named, &wished, context, book);
    let with = std::mem::replace(&mut plan.asks, before).into_iter().next();
    let Some(ask) = with else {
        return added;
    };
    let refused = if plan.results.len() > known {
        plan.results.truncate(known);
        // Some of the range is lost: so is the whole.
        plan.results
            .push(result_of(index, 0, SettleResult::Expired));
        Ok(())
    } else if ask.items.len() > TOGETHER_MAX {
        let text = format!("comes with at most {TOGETHER_MAX} deliveries");
        Err(bad_argument("then_publish", text))
    } else {
        plan.asks.push(Ask {
            outputs: Some(outputs),
            ..ask
        });
        return added;
    };
    for taken in ask.items.into_iter().filter_map(|it| it.taken) {
        book.put_back(taken);
    }
    refused
}

fn read_receipt(context: Context<'_>, receipt: &Bytes) -> Result<Receipt, ApiError> {
    Receipt::read(context.cluster, receipt)
        .map_err(|error| ApiError::new(Reason::BadReceipt, error.to_string()))
}

fn own(context: Context<'_>) -> Result<Target, ApiError> {
    context.own.ok_or_else(|| {
        bad_argument(
            "target",
            "tags name deliveries of a stream; this call needs a receipt",
        )
    })
}

fn not_held(index: u32, why: NotHeld) -> Result<v1::SettleResult, ApiError> {
    let result = match why {
        NotHeld::NeverGiven => {
            return Err(bad_argument(
                "target",
                "the tag was not given on this stream",
            ));
        }
        NotHeld::Settled => SettleResult::AlreadySettled,
        NotHeld::Lost => SettleResult::Expired,
    };
    Ok(result_of(index, 0, result))
}

fn ask(plan: &mut Plan, target: Target, wished: &Wished, item: AskItem) {
    // Those before it are of others or say something else: more than a few of them are not worth a look.
    match plan
        .asks
        .iter_mut()
        .rev()
        .take(GROUPS_SEEN)
        .find(|it| it.target == target && it.wished == *wished && it.outputs.is_none())
    {
        Some(ask) => ask.items.push(item),
        None => plan.asks.push(Ask {
            target,
            wished: wished.clone(),
            items: vec![item],
            outputs: None,
            ends: Ends::Each,
        }),
    }
}

/// On a stream the lease is the consumer's, whatever its client asks for; what a delivery may be held at most is prolonged, as is a lease of
/// `Receive`.
fn extend(
    plan: &mut Plan,
    index: u32,
    named: Option<Named>,
    by: std::time::Duration,
    context: Context<'_>,
    book: &mut HeldBook,
) -> Result<(), ApiError> {
    let named = match named {
        Some(Named::Receipt(receipt)) => {
            let receipt = read_receipt(context, &receipt)?;
            if context.own != Some(receipt.target) {
                plan.extensions.push((index, receipt, by));
                return Ok(());
            }
            Extended::Receipt(receipt.held)
        }
        Some(Named::DeliveryTag(tag)) => {
            own(context)?;
            let (first, last) = (tag, tag);
            Extended::Tags { first, last }
        }
        Some(Named::Tags(range)) => {
            own(context)?;
            let (first, last) = (range.first, range.last);
            Extended::Tags { first, last }
        }
        None => return Err(bad_argument("target", "is missing or unknown")),
    };
    plan.results
        .push(match book.extend(named, context.now + by) {
            Ok(()) => extended(index, context.now_ms, by),
            Err(_) => result_of(index, 0, SettleResult::Expired),
        });
    Ok(())
}

/// The result of an extension.
pub(super) fn extended(index: u32, now_ms: u64, by: std::time::Duration) -> v1::SettleResult {
    v1::SettleResult {
        index,
        outcome: v1::SettleOutcome::Done.into(),
        lease_until: Some(time_ms_to_client(now_ms.saturating_add(millis(by)))),
        ..v1::SettleResult::default()
    }
}

/// A settlement that was refused for itself.
pub(super) fn refused(index: u32, error: &ApiError) -> v1::SettleResult {
    v1::SettleResult {
        index,
        outcome: v1::SettleOutcome::Refused.into(),
        error: Some(error.to_status()),
        ..v1::SettleResult::default()
    }
}

pub(super) fn result_of(index: u32, range_tag: u64, result: SettleResult) -> v1::SettleResult {
    let (outcome, error) = of_settle(result);
    v1::SettleResult {
        index,
        tags: tags_of(range_tag),
        outcome: outcome.into(),
        error: error.map(|it| it.to_status()),
        ..v1::SettleResult::default()
    }
}

fn retry_later(item: &AskItem, why: Unavailable) -> v1::SettleResult {
    v1::SettleResult {
        index: item.index,
        tags: tags_of(item.range_tag),
        outcome: v1::SettleOutcome::RetryLater.into(),
        error: Some(of_unavailable(why).to_status()),
        ..v1::SettleResult::default()
    }
}

fn tags_of(range_tag: u64) -> Option<v1::TagRange> {
    (range_tag != 0).then_some(v1::TagRange {
        first: range_tag,
        last: range_tag,
    })
}

/// How long a lease lasts, for clients.
pub(super) fn lease_to_client(lease: std::time::Duration) -> prost_types::Duration {
    duration_to_client(lease)
}

#[cfg(test)]
mod tests;
