//! The unary `Settle`: deliveries of any stream or call, on any node, by receipt. Not here: what a settlement asks for (`settle_plan`).

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use warren_proto::convert::error::ApiError;
use warren_proto::v1;
use warren_shard::api::{AnswerTime, RequestToken, SessionEvent, Unavailable};
use warren_topology::Operation;
use warren_types::QueueId;

use super::consume::not_leased;
use super::error::{bad_argument, of_operation};
use super::held::HeldBook;
use super::open::vhost_name;
use super::outputs;
use super::outputs_first::AT_ONCE;
use super::settle_plan::{Ask, Context, Plan, SettleResults, extended, plan, refused};
use crate::admission::ConnectionAdmission;
use crate::auth::Who;
use crate::clock::wall_clock_ms;
use crate::gateway::Gateway;

const SETTLEMENTS_MAX: usize = 10_000;

/// Settles and answers when all is committed; what is not known at the deadline is to be sent again.
///
/// # Errors
/// The request as a whole makes no sense.
pub(super) async fn settle(
    gateway: &Gateway,
    who: &Who,
    admission: &ConnectionAdmission,
    request: v1::SettleRequest,
    deadline: Instant,
) -> Result<v1::SettleResponse, ApiError> {
    vhost_name(&request.vhost)?;
    let count = request.settlements.len();
    if count > SETTLEMENTS_MAX {
        return Err(bad_argument(
            "settlements",
            format!("has {count} entries; the limit is {SETTLEMENTS_MAX}"),
        ));
    }
    let context = Context {
        cluster: gateway.cluster(),
        own: None,
        now_ms: wall_clock_ms(),
        now: Instant::now(),
        consumer: "",
    };
    let mut plan = plan(request.settlements, context, &mut HeldBook::default());
    may_settle(gateway, who, &plan).await?;
    outputs::route(gateway, who, admission, &mut plan).await;
    publish_first(gateway, &mut plan, deadline).await;
    extend(gateway, &mut plan, context.now_ms);
    let session = gateway.broker().session();
    let mut results = SettleResults::default();
    let mut last = 0;
    let tokens = results.open(0, plan.results, &mut plan.asks, || {
        last += 1;
        RequestToken(last)
    });
    let all = async {
        for (ask, token) in plan.asks.iter().zip(tokens) {
            if ask.outputs.is_none() {
                let held: Vec<_> = ask.all_held().collect();
                gateway.leases().settled(ask.target.queue, &held);
            }
            if let Err(why) = ask.make(&session, AnswerTime::AtOnce, token).await {
                results.not_asked(token, why);
            }
        }
        while results.unanswered() > 0 {
            let Some(events) = session.events().await else {
                return;
            };
            for event in events {
                if let SessionEvent::Settled {
                    token,
                    results: answers,
                } = event
                {
                    let answered = results.settled(token, &answers);
                    if let Some((target, held)) = answered.and_then(|it| it.released) {
                        gateway.leases().settled(target.queue, &held);
                    }
                }
            }
        }
    };
    if timeout_at(deadline, all).await.is_err() {
        let _held_still = results.give_up(Unavailable::NoQuorum);
    }
    let named = results.take_done().map(|it| it.results).unwrap_or_default();
    Ok(v1::SettleResponse {
        results: in_order(count, named),
    })
}

/// Stores the messages that come before their acks. What cannot be stored is refused with its ask.
async fn publish_first(gateway: &Gateway, plan: &mut Plan, deadline: Instant) {
    let asks = std::mem::take(&mut plan.asks).into_iter();
    let asks = asks.map(|mut ask| async move {
        let index = ask.index();
        let first = ask.outputs.as_mut().and_then(|it| it.first.take());
        if let (Some(first), Some(outputs)) = (first, &mut ask.outputs) {
            let stored = first.publish(gateway, index, deadline).await;
            outputs.promised = Some(stored?);
        }
        Ok::<Ask, Box<v1::SettleResult>>(ask)
    });
    let mut asks = stream::iter(asks).buffered(AT_ONCE);
    while let Some(ask) = asks.next().await {
        match ask {
            Ok(ask) => plan.asks.push(ask),
            Err(result) => plan.results.push(*result),
        }
    }
}

/// Makes leases longer, at once.
fn extend(gateway: &Gateway, plan: &mut Plan, now_ms: u64) {
    for (index, receipt, by) in std::mem::take(&mut plan.extensions) {
        let leases = gateway.leases();
        let is_extended = leases.extend(receipt.target.queue, receipt.held, by);
        let result = if is_extended {
            extended(index, now_ms, by)
        } else {
            refused(index, &not_leased())
        };
        plan.results.push(result);
    }
}

/// # Errors
/// The caller may not read one of the queues. Those that are gone settle nothing anyway.
async fn may_settle(gateway: &Gateway, who: &Who, plan: &Plan) -> Result<(), ApiError> {
    let targets = plan.asks.iter().map(|ask| ask.target.queue);
    let leased = plan.extensions.iter().map(|it| it.1.target.queue);
    let queues: BTreeSet<QueueId> = targets.chain(leased).collect();
    let topology = gateway.topology();
    for queue in queues {
        let Some(queue) = topology.queue_by_id(queue) else {
            continue;
        };
        let operation = Operation::Consume {
            queue: queue.name.as_str(),
        };
        let may = gateway.authorise(who, queue.vhost, operation).await;
        may.map_err(|error| of_operation(&error))?;
    }
    Ok(())
}

/// One result per settlement; what is not named was done.
fn in_order(count: usize, named: Vec<v1::SettleResult>) -> Vec<v1::SettleResult> {
    let done = |index| v1::SettleResult {
        index,
        outcome: v1::SettleOutcome::Done.into(),
        ..v1::SettleResult::default()
    };
    let mut results: Vec<v1::SettleResult> = (0_u32..).take(count).map(done).collect();
    for result in named {
        let place = usize::try_from(result.index)
            .ok()
            .and_then(|index| results.get_mut(index));
        if let Some(place) = place {
            *place = result;
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_settlement_has_one_result_in_its_place() {
        let named = v1::SettleResult {
            index: 1,
            outcome: v1::SettleOutcome::Expired.into(),
            ..Default::default()
        };
        let outcomes: Vec<v1::SettleOutcome> = in_order(3, vec![named])
            .iter()
            .map(v1::SettleResult::outcome)
            .collect();
        let done = v1::SettleOutcome::Done;
        assert_eq!(outcomes, vec![done, v1::SettleOutcome::Expired, done]);
    }
}
