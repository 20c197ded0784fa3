//! Settle-and-publish (features X4): messages that come with a settlement, all of it or nothing. They are routed before it is asked for, and
//! must all go to queues of its shard, or go first (`outputs_first`). Not here: that it is done in one (`warren-queue`), what a settlement
//! names (`settle_plan`).

use std::sync::Arc;

use warren_proto::convert::error::ApiError;
use warren_proto::convert::publish::{committed, not_stored, refused, unrouted};
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_shard::SettleResult;
use warren_shard::api::{PublishItem, TOGETHER_SINCE};
use warren_topology::Topology;

use super::batch::result;
use super::confirms::EntryId;
use super::entry::{Defaults, Publisher};
use super::error::{aborted, bad_argument, queue_name, unsupported};
use super::held::HeldDelivery;
use super::outputs_first::First;
use super::settle_plan::{Ask, Ends, Plan, refused as refused_settle, result_of};
use crate::admission::{ConnectionAdmission, Permit};
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::message::counted_bytes;
use crate::publish::{Outcome, Outputs as Routed, Publish, PublishId, Publishing, Refused};

/// What comes with an ask.
#[derive(Debug)]
pub(super) struct Outputs {
    entries: Vec<v1::PublishEntry>,
    /// They may be stored before the ack where both together are impossible.
    may_be_first: bool,
    pub(super) items: Vec<PublishItem>,
    /// Once routed, or stored.
    pub(super) promised: Option<Promised>,
    /// Is to be published before the ack is asked for.
    pub(super) first: Option<First>,
}

/// What is told of the messages when the ack is done.
#[derive(Debug)]
pub(super) enum Promised {
    /// They come with the ack.
    Together {
        /// Of each message: into how many queues, and the name of the first.
        targets: Vec<(u32, String)>,
        _permit: Permit,
    },
    /// They are published first, and are not yet.
    Pending,
    /// They were published first.
    Stored(Vec<v1::PublishResult>),
}

impl Outputs {
    pub(super) fn of(entries: Vec<v1::PublishEntry>, may_be_first: bool) -> Self {
        Self {
            entries,
            may_be_first,
            items: Vec::new(),
            promised: None,
            first: None,
        }
    }

    /// They come with the settles, as they are routed.
    fn promise(&mut self, routed: Routed, permit: Permit, topology: &Topology) {
        let targets = routed.targets.iter().map(|queues| {
            let name = queues.first().map(|it| queue_name(topology, *it));
            let count = u32::try_from(queues.len()).unwrap_or(u32::MAX);
            (count, name.unwrap_or_default())
        });
        self.promised = Some(Promised::Together {
            targets: targets.collect(),
            _permit: permit,
        });
        self.items = routed.items;
    }
}

impl Promised {
    /// The results of messages that are stored whatever becomes of the ack.
    pub(super) fn stored(&self) -> Vec<v1::PublishResult> {
        match self {
            Self::Stored(published) => published.clone(),
            Self::Together { .. } | Self::Pending => Vec::new(),
        }
    }

    /// The result of the settlement: a message that its queue had before counts as committed.
    pub(super) fn result(
        &self,
        index: u32,
        range_tag: u64,
        result: SettleResult,
    ) -> v1::SettleResult {
        let published = match self {
            Self::Together { targets, _permit } => together(targets, result),
            Self::Stored(published) => published.clone(),
            Self::Pending => Vec::new(),
        };
        with_published(result_of(index, range_tag, result), published)
    }
}

fn together(targets: &[(u32, String)], result: SettleResult) -> Vec<v1::PublishResult> {
    let all = (0_u32..).zip(targets);
    match result {
        SettleResult::Done => all
            .map(|(at, (queues, _))| match queues {
                0 => unrouted(at),
                queues => committed(at, *queues),
            })
            .collect(),
        SettleResult::OutputRefused { index, why } => all
            .map(|(at, (_, queue))| {
                if at == index {
                    not_stored(at, queue, why)
                } else {
                    refused(at, &aborted())
                }
            })
            .collect(),
        SettleResult::AlreadySettled
        | SettleResult::NotOwner
        | SettleResult::Expired
        | SettleResult::QueueGone
        | SettleResult::DeadLetter => Vec::new(),
    }
}

/// The settlement's own error is that of its first message that could not be published.
pub(super) fn with_published(
    settled: v1::SettleResult,
    published: Vec<v1::PublishResult>,
) -> v1::SettleResult {
    let mut errors = published.iter().filter_map(|it| it.error.as_ref());
    let first = errors.find(|it| {
        let error = ApiError::from_status(it);
        error.is_none_or(|it| it.reason() != Reason::BatchAborted)
    });
    v1::SettleResult {
        error: first.cloned().or(settled.error),
        published,
        ..settled
    }
}

/// Routes what comes with the asks of a plan. What cannot be published is refused with its ask; gives what those would have acked.
pub(super) async fn route(
    gateway: &Gateway,
    who: &Who,
    admission: &ConnectionAdmission,
    plan: &mut Plan,
) -> Vec<HeldDelivery> {
    let mut kept = Vec::new();
    for mut ask in std::mem::take(&mut plan.asks) {
        match route_one(gateway, who, admission, &mut ask).await {
            Ok(()) => plan.asks.push(ask),
            Err(result) => {
                kept.extend(ask.items.iter().filter_map(|it| it.taken));
                plan.results.push(*result);
            }
        }
    }
    kept
}

/// # Errors
/// The result of the settlement that is refused.
async fn route_one(
    gateway: &Gateway,
    who: &Who,
    admission: &ConnectionAdmission,
    ask: &mut Ask,
) -> Result<(), Box<v1::SettleResult>> {
    let (index, target, held) = (ask.index(), ask.target, ask.held());
    let (is_more, action) = (ask.is_more(), ask.wished.action);
    let Some(outputs) = &mut ask.outputs else {
        return Ok(());
    };
    let count = outputs.entries.len();
    let whole = |error: ApiError| Box::new(refused_settle(index, &error));
    let max = usize::try_from(gateway.options().max_batch).unwrap_or(usize::MAX);
    if count > max {
        let text = format!("has {count} entries; the limit is {max}");
        return Err(whole(bad_argument("then_publish", text)));
    }
    let topology = gateway.topology();
    let Some(queue) = topology.queue_by_id(target.queue) else {
        let text = "the queue is gone";
        return Err(whole(ApiError::new(Reason::QueueNotFound, text)));
    };
    let vhost = queue.vhost;
    let hindrance = is_more.then(|| hindrance(&topology)).flatten();
    let entries = std::mem::take(&mut outputs.entries);
    let publishes = publishes(gateway, vhost, entries);
    let publishes = publishes.map_err(|wrong| refused_all(index, count, wrong))?;
    let bytes = publishes.iter().map(|it| it.bytes).sum();
    let Some(permit) = admission.try_admit(bytes) else {
        let text = "too much that this connection publishes is not answered yet";
        return Err(whole(ApiError::new(Reason::OverCredit, text)));
    };
    let session = Arc::new(gateway.broker().session());
    let mut publishing = Publishing::new(gateway.clone(), session, who.rights(vhost));
    let may_be_first = outputs.may_be_first.then(|| publishes.clone());
    let is_mandatory = |id: PublishId| EntryId::from(id).is_mandatory;
    let routed = publishing.route_outputs(publishes, target.shard, is_mandatory);
    let routed = routed.await;
    let topology = gateway.topology();
    let obstacle = match &routed {
        Ok(it) => hindrance.or_else(|| too_large(gateway, &it.items)),
        Err(wrong) if wrong.iter().all(|(_, it)| is_cross_shard(it)) => Some(aborted()),
        Err(_) => None,
    };
    if let (Some(_), Some(publishes)) = (&obstacle, may_be_first) {
        let rights = who.rights(vhost);
        outputs.first = Some(First::new(publishes, permit, rights, target, held, action));
        return Ok(());
    }
    let routed = routed.map_err(|wrong| {
        let known = wrong
            .into_iter()
            .map(|(id, outcome): (PublishId, Outcome)| {
                let entry = EntryId::from(id);
                (entry.index, result(entry, &outcome, gateway, &topology))
            });
        refused_all(index, count, known.collect())
    })?;
    if let Some(error) = obstacle {
        return Err(whole(error));
    }
    outputs.promise(routed, permit, &topology);
    if is_more {
        ask.ends = Ends::Together;
    }
    Ok(())
}

/// Why deliveries cannot end in one with messages, whatever the messages are.
fn hindrance(topology: &Topology) -> Option<ApiError> {
    let finalised = topology.version();
    let text = || {
        format!(
            "messages with more than one ack need version {TOGETHER_SINCE}, and the cluster has finalised version {finalised}"
        )
    };
    (finalised < TOGETHER_SINCE).then(|| ApiError::new(Reason::NotFinalized, text()))
}

/// All of it is one entry of the log, which may be as large as that of the largest message.
fn too_large(gateway: &Gateway, items: &[PublishItem]) -> Option<ApiError> {
    let bytes: u64 = items.iter().map(|it| counted_bytes(&it.message)).sum();
    let max = gateway.options().together_bytes_max();
    if bytes <= max {
        return None;
    }
    let text = format!(
        "the messages of a settlement, counted for each queue they go to, have {bytes} bytes; the limit is {max}"
    );
    Some(ApiError::new(Reason::MessageTooLarge, text))
}

fn is_cross_shard(outcome: &Outcome) -> bool {
    *outcome == Outcome::Refused(Refused::CrossShard)
}

/// Some of the messages cannot be published, so nothing is done.
fn refused_all(
    index: u32,
    count: usize,
    wrong: Vec<(u32, v1::PublishResult)>,
) -> Box<v1::SettleResult> {
    let each = (0_u32..).take(count).map(|at| refused(at, &aborted()));
    let mut each: Vec<v1::PublishResult> = each.collect();
    for (at, result) in wrong {
        let place = usize::try_from(at).ok().and_then(|at| each.get_mut(at));
        if let Some(place) = place {
            *place = result;
        }
    }
    Box::new(with_published(refused_settle(index, &aborted()), each))
}

/// # Errors
/// What is wrong with which of the entries.
fn publishes(
    gateway: &Gateway,
    vhost: warren_types::VhostId,
    entries: Vec<v1::PublishEntry>,
) -> Result<Vec<Publish>, Vec<(u32, v1::PublishResult)>> {
    let (mut publishes, mut wrong) = (Vec::with_capacity(entries.len()), Vec::new());
    let nowhere = Defaults {
        exchange: "",
        routing_key: "",
    };
    let publisher = Publisher::new(vhost, None, gateway.options().max_message_bytes);
    let Ok(mut publisher) = publisher else {
        return Err(wrong);
    };
    for (index, entry) in (0_u32..).zip(entries) {
        let id = EntryId {
            slot: 0,
            is_mandatory: entry.mandatory,
            index,
        };
        if entry.need_consumer {
            let error = unsupported("need_consumer of a message that comes with an ack");
            wrong.push((index, refused(index, &error)));
            continue;
        }
        match publisher.publish(PublishId::from(id), entry, nowhere) {
            Ok(publish) => publishes.push(publish),
            Err(error) => wrong.push((index, refused(index, &error))),
        }
    }
    if wrong.is_empty() {
        Ok(publishes)
    } else {
        Err(wrong)
    }
}
