//! `Receive`: takes what is ready under a lease. A task per call keeps the lease until all is settled or it expires, so that a call
//! that is repeated finds the same messages. Not here: the table of leases (`leases`), streams (`consume`).

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use warren_proto::convert::error::ApiError;
use warren_proto::convert::message::duration_ms_from_client;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_shard::api::{
    AnswerTime, ConsumerSpec, Delivery, RequestToken, ReturnWait, SessionEvent, SettleAction,
    SettleSpec, Target, Unavailable,
};
use warren_shard::{AttachResult, ConsumerOptions, Credit, Held, Refill, ReturnKind, Session};
use warren_topology::{Operation, Queue};
use warren_types::{ConsumerId, Position};

use super::attempts::elsewhere;
use super::consume::may_consume;
use super::deliveries::{FRAME_BYTES_MAX, Frame, held_of, receipts, to_client};
use super::error::{bad_argument, of_denied, of_operation, of_unavailable};
use super::leases::{Answer, Attempt, AttemptKey, LeaseHandle, Leases, TooMany};
use super::open::{owner, queue_name, vhost_name};
use crate::auth::Who;
use crate::clock::{millis, wall_clock_ms};
use crate::gateway::Gateway;
use crate::operations::target_of;

/// A leader that is asked has so long to say that nothing is ready.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// The answer needs so long before the deadline.
const ANSWER_TIME: Duration = Duration::from_millis(100);
const RECALL_WITHIN: Duration = Duration::from_secs(1);
const DEPTH_WITHIN: Duration = Duration::from_millis(100);
const MESSAGES_MAX: u32 = 1_000;

/// Runs one call.
///
/// # Errors
/// Nothing was taken, or what was taken returns.
pub(super) async fn receive(
    gateway: &Gateway,
    who: &Who,
    request: v1::ReceiveRequest,
    deadline: Instant,
) -> Result<v1::ReceiveResponse, ApiError> {
    let (vhost, name) = (vhost_name(&request.vhost)?, queue_name(&request.queue)?);
    let limits = checked(gateway, &request, deadline)?;
    may_consume(gateway, who, &request.vhost, &request.queue).await?;
    let queue = gateway
        .find_queue(&vhost, &name, owner(&request.client_id).as_ref())
        .await
        .map_err(|error| of_operation(&error))?;
    if queue.is_single_active() {
        let text = format!("queue '{name}' serves a single active consumer: open a Consume stream");
        return Err(ApiError::new(Reason::ResourceLocked, text).resource("queue", name.as_str()));
    }
    let space = queue.vhost;
    let key = AttemptKey {
        queue: queue.id,
        consumer_tag: request.consumer_tag,
        attempt_id: request.attempt_id,
    };
    let attempt = gateway.leases().attempt(&key).map_err(|TooMany| {
        ApiError::new(
            Reason::LimitReached,
            "too many deliveries of this node are leased",
        )
    })?;
    let mut answer = match attempt {
        Attempt::Known(answer) => answer,
        Attempt::New(sender, answer) => {
            let call = Call {
                gateway: gateway.clone(),
                queue,
                limits,
                key,
                sender,
            };
            gateway.tasks().spawn(call.run());
            answer
        }
    };
    let answered = timeout_at(deadline, answer.wait_for(Option::is_some)).await;
    // It may have waited long: what was taken returns when its lease ends.
    let queue = name.as_str();
    let still = gateway.still_may(who, space, Operation::Consume { queue });
    still.map_err(|denied| of_denied(&denied))?;
    match answered {
        Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| Err(not_answered())),
        Ok(Err(_)) | Err(_) => Err(not_answered()),
    }
}

pub(super) fn not_answered() -> ApiError {
    ApiError::new(
        Reason::OutcomeUnknown,
        "the deadline passed; repeat the call with the same attempt id",
    )
}

/// What one call may take.
#[derive(Clone, Copy, Debug)]
struct CallLimits {
    credit: Credit,
    lease: Duration,
    wait_until: Instant,
    /// What is not known by then is answered as that.
    latest: Instant,
}

fn checked(
    gateway: &Gateway,
    request: &v1::ReceiveRequest,
    deadline: Instant,
) -> Result<CallLimits, ApiError> {
    if request.max_messages > MESSAGES_MAX {
        return Err(bad_argument(
            "max_messages",
            format!("is more than {MESSAGES_MAX}"),
        ));
    }
    let span = |span: &Option<prost_types::Duration>, field: &str| match span {
        Some(span) => duration_ms_from_client(span)
            .map(|ms| Some(Duration::from_millis(ms)))
            .ok_or_else(|| bad_argument(field, "is negative or too long")),
        None => Ok(None),
    };
    let options = gateway.options();
    let lease = span(&request.lease, "lease")?.unwrap_or(options.lease);
    if lease.is_zero() || lease > options.lease_max {
        return Err(bad_argument(
            "lease",
            format!("is zero or longer than {} s", options.lease_max.as_secs()),
        ));
    }
    let wait = span(&request.wait, "wait")?
        .unwrap_or_default()
        .max(WAIT_MIN)
        .min(Duration::from_secs(24 * 3_600));
    let now = Instant::now();
    let latest = deadline.checked_sub(ANSWER_TIME).unwrap_or(now).max(now);
    let bytes = if request.max_bytes == 0 {
        FRAME_BYTES_MAX
    } else {
        request.max_bytes.min(options.outbox_bytes)
    };
    Ok(CallLimits {
        credit: Credit {
            messages: u64::from(request.max_messages.max(1)),
            bytes,
        },
        lease,
        wait_until: (now + wait).min(latest),
        latest,
    })
}

struct Call {
    gateway: Gateway,
    queue: Queue,
    limits: CallLimits,
    key: AttemptKey,
    sender: watch::Sender<Answer>,
}

/// What a call took.
struct Taken {
    session: Session,
    deliveries: Vec<Delivery>,
}

/// What came while a call waited.
#[derive(Default)]
struct First {
    /// The queue's leader has answered: that nothing came means that nothing was ready.
    is_attached: bool,
    deliveries: Vec<Delivery>,
}

/// An attempt is known as long as this lives.
struct AttemptEnd {
    leases: Leases,
    key: AttemptKey,
}

impl Drop for AttemptEnd {
    fn drop(&mut self) {
        self.leases.end_attempt(&self.key);
    }
}

impl Call {
    async fn run(mut self) {
        let _end = AttemptEnd {
            leases: self.gateway.leases().clone(),
            key: self.key.clone(),
        };
        if !self.key.attempt_id.is_empty() {
            let asked_at = Instant::now();
            let wait = self.limits.wait_until.saturating_duration_since(asked_at);
            if let Some(answer) = elsewhere(&self.gateway, &self.key, wait).await {
                self.sender.send_replace(Some(answer));
                return;
            }
            // Asking others is not what the client waits for.
            let wait_until = self.limits.wait_until + asked_at.elapsed();
            self.limits.wait_until = wait_until.min(self.limits.latest);
            self.gateway.leases().begins(&self.key);
        }
        let taken = match self.take().await {
            Ok(taken) => taken,
            Err(error) => {
                self.sender.send_replace(Some(Err(error)));
                return;
            }
        };
        let held: Vec<Held> = taken.deliveries.iter().map(held_of).collect();
        let until = Instant::now() + self.limits.lease;
        let lease = self.gateway.leases().add(self.queue.id, &held, until);
        let response = self.response(taken.deliveries).await;
        // Asked before it is answered: whoever has the answer listens no more. Who leaves in between costs the length of the lease.
        let is_alone = self.sender.is_closed();
        self.sender.send_replace(Some(Ok(response)));
        // Nobody hears the answer, and nobody can ask for it again.
        if is_alone && self.key.attempt_id.is_empty() {
            return give_back(&taken.session, self.target(), held, ReturnKind::Untouched).await;
        }
        self.keep(&taken.session, &lease).await;
    }

    fn target(&self) -> Target {
        target_of(&self.queue)
    }

    /// Takes what comes until the first messages are there, and what was on its way with them.
    async fn take(&self) -> Result<Taken, ApiError> {
        let session = self.gateway.broker().session();
        let spec = ConsumerSpec {
            target: self.target(),
            options: ConsumerOptions {
                no_ack: false,
                refill: Refill::Nothing,
                priority: 0,
                exclusive: false,
                uncommitted_max: MESSAGES_MAX,
                passing: true,
            },
            credit: self.limits.credit,
        };
        let consumer = session.attach(spec).await.map_err(of_unavailable)?;
        let mut first = First::default();
        let waited = tokio::select! {
            biased; // what has come counts
            waited = timeout_at(self.limits.wait_until, self.first(&session, &mut first)) => waited,
            () = self.sender.closed(), if self.key.attempt_id.is_empty() => Ok(Ok(())),
        };
        if let Ok(Err(refused)) = waited {
            return Err(refused);
        }
        if waited.is_err() && !first.is_attached {
            return Err(of_unavailable(Unavailable::NoQuorum));
        }
        let mut deliveries = first.deliveries;
        self.call_back(&session, consumer, &mut deliveries).await;
        Ok(Taken {
            session,
            deliveries,
        })
    }

    /// Waits for the first deliveries.
    async fn first(&self, session: &Session, first: &mut First) -> Result<(), ApiError> {
        while let Some(events) = session.events().await {
            for event in events {
                if let SessionEvent::Attached { result, .. } = &event {
                    self.attached(result)?;
                    first.is_attached = true;
                }
                took(event, &mut first.deliveries);
            }
            if !first.deliveries.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn attached(&self, result: &AttachResult) -> Result<(), ApiError> {
        let queue = self.queue.name.as_str();
        let (reason, text) = match result {
            AttachResult::Ok { .. } => return Ok(()),
            AttachResult::QueueGone => (Reason::QueueNotFound, format!("no queue '{queue}'")),
            AttachResult::Exclusive => (
                Reason::InUse,
                format!("queue '{queue}' has an exclusive consumer"),
            ),
        };
        Err(ApiError::new(reason, text).resource("queue", queue))
    }

    /// Calls the rest of the credit back, so that nothing more comes; the consumer then only holds.
    async fn call_back(
        &self,
        session: &Session,
        consumer: ConsumerId,
        deliveries: &mut Vec<Delivery>,
    ) {
        let everything = Credit {
            messages: u64::MAX,
            bytes: u64::MAX,
        };
        // An uplink that has stopped takes its consumers with it.
        let _stopped = session.recall(consumer, everything).await;
        let recalled = async {
            while let Some(events) = session.events().await {
                let mut is_over = false;
                for event in events {
                    is_over |= matches!(
                        event,
                        SessionEvent::Recalled { .. } | SessionEvent::Cancelled { .. }
                    );
                    took(event, deliveries);
                }
                if is_over {
                    return;
                }
            }
        };
        if timeout(RECALL_WITHIN, recalled).await.is_ok() {
            let _stopped = session.detach(consumer, None).await;
        }
    }

    async fn response(&self, deliveries: Vec<Delivery>) -> v1::ReceiveResponse {
        let lease_until_ms = wall_clock_ms().saturating_add(millis(self.limits.lease));
        let cluster = self.gateway.cluster();
        let frame = Frame {
            cluster,
            target: self.target(),
            lease_until_ms: Some(lease_until_ms),
        };
        let mut receipts = receipts(deliveries.len());
        let deliveries = deliveries
            .into_iter()
            .map(|it| to_client(it, 0, frame, &mut receipts))
            .collect();
        let depth = timeout(
            DEPTH_WITHIN,
            self.gateway.broker().queue_stats(self.target()),
        )
        .await;
        // Best effort: unknown is told as none left, and the next call finds out.
        let ready_left = depth
            .ok()
            .and_then(Result::ok)
            .flatten()
            .map_or(0, |it| it.ready);
        v1::ReceiveResponse {
            deliveries,
            ready_left,
        }
    }

    /// Keeps the lease: what expires returns as a failed attempt; settles are made by other sessions.
    async fn keep(&self, session: &Session, lease: &LeaseHandle) {
        while let Some(at) = lease.next_expiry() {
            tokio::select! {
                biased; // what is settled does not expire
                () = lease.over() => return,
                events = session.events() => {
                    let Some(events) = events else { return };
                    for event in events {
                        if let Some(position) = forgotten(&event) {
                            lease.forget(position);
                        }
                    }
                }
                () = tokio::time::sleep_until(at) => {
                    let expired = lease.take_expired(Instant::now());
                    give_back(session, self.target(), expired, ReturnKind::Failed).await;
                }
            }
        }
    }
}

fn took(event: SessionEvent, deliveries: &mut Vec<Delivery>) {
    if let SessionEvent::Deliveries {
        deliveries: more, ..
    } = event
    {
        deliveries.extend(more);
    }
}

fn forgotten(event: &SessionEvent) -> Option<Position> {
    if let SessionEvent::Forget { position, .. } = event {
        Some(*position)
    } else {
        None
    }
}

async fn give_back(session: &Session, target: Target, items: Vec<Held>, kind: ReturnKind) {
    if items.is_empty() {
        return;
    }
    let spec = SettleSpec {
        target,
        items,
        action: SettleAction::Return {
            kind,
            wait: ReturnWait::ByPolicy,
        },
        answer: AnswerTime::AtOnce,
        outputs: Vec::new(),
        said: None,
    };
    // An uplink that has stopped takes its consumers with it, and what they hold returns.
    let _stopped = session.settle(spec, RequestToken(0)).await;
}
