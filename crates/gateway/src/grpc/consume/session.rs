//! A consumer's task: delivers what comes under its client's credit, and keeps the consumer for a while after its stream broke.
//! Not here: what the client says (`frames`), opening (`consume`).

use std::collections::VecDeque;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::consume_response::Frame as Response;
use warren_shard::api::{
    AnswerTime, Delivery, Forgotten, RequestToken, SessionEvent, SettleAction, SettleSpec,
};
use warren_shard::{Credit, HandedOver, Held, ReturnKind, SettleReason};
use warren_types::{ClusterId, NodeId, Position, QueueSettings, TopologyIndex};

use super::first::Storing;
use super::notices::HeldKeys;
use super::park::coming;
use super::{Attached, Early};
use crate::clock::{millis, wall_clock_ms};
use crate::grpc::deliveries::{
    FRAME_BYTES_MAX, FRAME_MESSAGES_MAX, Frame, body_bytes, held_of, receipts, to_client,
};
use crate::grpc::held::HeldBook;
use crate::grpc::named_errors::named;
use crate::grpc::open::{DURABILITY, leader_hint, limits};
use crate::grpc::receipt::Receipt;
use crate::grpc::resume::{Coming, Link, Registration, Rejoin};
use crate::grpc::settle_plan::{SettleResults, lease_to_client};
use crate::grpc::streams::{CONTROL_MAX, draining, has_room, reached};

/// Settles without a result; then nothing is read.
const UNANSWERED_MAX: usize = 20_000;
/// How long an ending stream waits for the results of its settles.
const LAST_RESULTS_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);
/// Both directions of a stream that is reset end within this time of each other.
const RESET_WITHIN: std::time::Duration = std::time::Duration::from_millis(50);
/// Settles of deliveries without acknowledgement: nobody waits for their results.
pub(super) const NO_ACK_TOKEN: RequestToken = RequestToken(0);

/// How far a drain has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Running,
    /// Credit is being called back.
    Draining,
    /// Nothing more comes; what is held can be settled.
    Drained,
}

/// Why a stream is over.
pub(super) enum End {
    /// The client has closed its side.
    Closed,
    /// The client is gone; it may come back.
    Broken,
    /// Its client is back on another stream.
    Rejoined(Box<Rejoin>),
    /// Its client is back on another node, which asks for what it holds.
    Elsewhere(oneshot::Sender<HandedOver>),
    /// The server ends it; what is held returns.
    Status {
        error: ApiError,
        returns: ReturnKind,
    },
}

pub(super) struct ConsumeSession {
    pub(super) attached: Attached,
    pub(super) link: Link,
    pub(super) cluster: ClusterId,
    pub(super) held: HeldBook,
    pub(super) settles: SettleResults,
    pub(super) storing: Storing,
    /// Delivered to this session, not written; bounded by the credit that is lent.
    pub(super) outbox: VecDeque<Delivery>,
    pub(super) control: VecDeque<Response>,
    pub(super) phase: Phase,
    /// All credit is to be called back.
    pub(super) must_recall: bool,
    /// Answers that must follow the last delivery.
    pub(super) late_pongs: Vec<u64>,
    pub(super) lease_until: Instant,
    pub(super) last_token: u64,
    early: Vec<SessionEvent>,
    pub(super) leader: Option<NodeId>,
    /// Of its queue, as far as its client was told.
    pub(super) settings: QueueSettings,
    pub(super) keys: HeldKeys,
    pub(super) registration: Option<Registration>,
    /// The queue is gone, or the client may not read it any more.
    pub(super) is_cancelled: bool,
    /// Why it is cancelled, if the queue is still there.
    pub(super) revoked: Option<ApiError>,
    /// Told when rights have changed somewhere.
    access: watch::Receiver<TopologyIndex>,
    /// The same of policies.
    policies: watch::Receiver<TopologyIndex>,
    pub(super) is_closed: bool,
    pub(super) draining_until: Option<Instant>,
}

impl ConsumeSession {
    pub(super) fn new(attached: Attached, link: Link, early: Early) -> Self {
        let gateway = &attached.gateway;
        let broker = gateway.broker();
        let number = gateway.next_number();
        let registration = if attached.no_ack {
            None // there is nothing to keep
        } else {
            gateway
                .parked()
                .register(broker.node(), broker.run(), number, attached.target.queue)
        };
        Self {
            cluster: gateway.cluster(),
            held: HeldBook::resumed(early.held, attached.until()),
            settles: SettleResults::default(),
            storing: Storing::new(),
            outbox: VecDeque::new(),
            control: VecDeque::new(),
            phase: Phase::Running,
            must_recall: false,
            late_pongs: Vec::new(),
            lease_until: Instant::now() + gateway.options().lease,
            last_token: NO_ACK_TOKEN.0,
            early: early.events,
            leader: broker.leader_of(attached.target.shard),
            settings: gateway.topology().queue_settings(&attached.queue),
            keys: HeldKeys::default(),
            registration,
            is_cancelled: false,
            revoked: None,
            access: broker.topology().access_changes(),
            policies: broker.topology().policy_changes(),
            is_closed: false,
            draining_until: None,
            attached,
            link,
        }
    }

    /// Runs the consumer to its end, over as many streams as its client makes.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.opened();
        let early = std::mem::take(&mut self.early);
        self.events(early);
        loop {
            let end = match self.serve(&stop).await {
                End::Broken => self.park(&stop).await,
                end @ (End::Closed | End::Rejoined(_) | End::Elsewhere(_) | End::Status { .. }) => {
                    end
                }
            };
            match end {
                End::Rejoined(rejoin) => self.rejoined(*rejoin),
                End::Elsewhere(reply) => return self.hand_over(reply).await,
                End::Closed => return self.leave(ReturnKind::Untouched).await,
                End::Broken => return self.leave(ReturnKind::Failed).await,
                End::Status { error, returns } => {
                    debug!(queue = %self.attached.queue.name, %error, "consume stream ended");
                    self.flush().await;
                    // The client may have left already.
                    let _gone = self.link.outbound.send(Err(error.into())).await;
                    return self.leave(returns).await;
                }
            }
        }
    }

    /// Everything that is held returns.
    pub(super) async fn leave(&mut self, returns: ReturnKind) {
        // An uplink that has stopped takes its consumers with it.
        let _stopped = self
            .attached
            .session
            .detach(self.attached.consumer, Some(returns))
            .await;
    }

    /// The first frame of a stream, with the receipts of what the client holds from before.
    pub(super) fn opened(&mut self) {
        let gateway = &self.attached.gateway;
        let target = self.attached.target;
        let resumed_receipts = self
            .held
            .all()
            .map(|held| Receipt { target, held }.to_bytes(self.cluster))
            .collect();
        let opened = v1::Opened {
            resume_token: self
                .registration
                .as_ref()
                .map(Registration::token)
                .unwrap_or_default(),
            consumer_tag: self.attached.tag.clone(),
            lease: Some(lease_to_client(gateway.options().lease)),
            credit: None,
            limits: Some(limits(gateway.options())),
            leader: leader_hint(gateway, self.attached.target.shard),
            features: Vec::new(),
            durability: DURABILITY.to_owned(),
            resumed_receipts,
        };
        self.control.push_back(Response::Opened(opened));
    }

    async fn serve(&mut self, stop: &CancellationToken) -> End {
        loop {
            if let Some(end) = self.end() {
                return end;
            }
            self.lend().await;
            let has_output = self.has_output();
            let may_read = !self.is_closed
                && self.control.len() < CONTROL_MAX
                && self.settles.unanswered() < UNANSWERED_MAX;
            let lease = (!self.is_closed).then_some(self.lease_until);
            // What the broker says first: it frees credit and results. Writing before reading: what is read asks for more.
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.draining_until.is_none() => self.drain_node(),
                events = self.attached.session.events() => match events {
                    Some(events) => self.events(events),
                    None => return node_stops(),
                },
                Some(stored) = self.storing.join_next() => self.stored(stored).await,
                room = has_room(&self.link.outbound), if has_output => {
                    if !room {
                        return End::Broken;
                    }
                    self.send().await;
                }
                () = self.link.outbound.closed() => return End::Broken,
                coming = coming(&mut self.registration) => return End::from(coming),
                frame = self.link.inbound.message(), if may_read => match frame {
                    Ok(Some(frame)) => if let Err(error) = self.frame(frame.frame).await {
                        return End::Status { error, returns: ReturnKind::Failed };
                    },
                    Ok(None) => if let Some(end) = self.left().await { return end } else { self.close() },
                    Err(status) => return broken(&status),
                },
                Ok(()) = self.access.changed() => self.look_at_rights(),
                Ok(()) = self.policies.changed() => self.look_at_settings(),
                () = reached(self.held.next_time()), if self.held.next_time().is_some() => self.return_late().await,
                () = reached(lease), if lease.is_some() => {
                    let error = ApiError::new(Reason::Expired, "the lease ended: no ping came");
                    return End::Status { error, returns: ReturnKind::Failed };
                }
                () = reached(self.draining_until), if self.draining_until.is_some() => {
                    return if self.is_closed { End::Closed } else { node_stops() };
                }
            }
        }
    }

    /// A stream that is reset ends like one whose client has nothing more to say; but then nobody takes answers any more, either, or
    /// the client is back already, on another stream.
    async fn left(&mut self) -> Option<End> {
        let outbound = self.link.outbound.clone();
        let left = async {
            tokio::select! {
                biased; // who is back says more than a stream that is gone
                coming = coming(&mut self.registration) => End::from(coming),
                () = outbound.closed() => End::Broken,
            }
        };
        timeout(RESET_WITHIN, left).await.ok()
    }

    fn close(&mut self) {
        self.is_closed = true;
        // What was not written returns with what is held.
        self.outbox.clear();
        self.late_pongs.clear();
        self.draining_until = Some(Instant::now() + LAST_RESULTS_WITHIN);
    }

    fn end(&mut self) -> Option<End> {
        if self.is_cancelled && self.settles.is_idle() {
            let queue = self.attached.queue.name.as_str();
            let error = ApiError::new(Reason::QueueNotFound, format!("queue '{queue}' is gone"));
            let gone = error.resource("queue", queue);
            return Some(End::Status {
                error: self.revoked.take().unwrap_or(gone),
                returns: ReturnKind::Untouched,
            });
        }
        (self.is_closed && self.settles.is_idle() && self.control.is_empty()).then_some(End::Closed)
    }

    /// Lends the leader what the client's credit and the outbox allow, or calls back what is too much.
    async fn lend(&mut self) {
        let (session, consumer) = (&self.attached.session, self.attached.consumer);
        // An uplink that has stopped ends the session, which is noticed where its events are awaited.
        if std::mem::take(&mut self.must_recall) {
            let everything = self.attached.credit.recall_all();
            let _stopped = session.recall(consumer, everything).await;
        }
        if self.phase == Phase::Running
            && let Some(surplus) = self.attached.credit.recall()
        {
            let _stopped = session.recall(consumer, surplus).await;
        }
        if self.phase == Phase::Running
            && !self.is_closed
            && !self.is_cancelled
            && let Some(credit) = self.attached.credit.lend()
        {
            let _stopped = session.credit(consumer, credit).await;
        }
    }

    pub(super) fn events(&mut self, events: impl IntoIterator<Item = SessionEvent>) {
        for event in events {
            match event {
                SessionEvent::Deliveries { deliveries, .. } => {
                    for delivery in deliveries {
                        self.attached.credit.delivered(body_bytes(&delivery));
                        if !self.is_closed && !self.is_cancelled {
                            self.outbox.push_back(delivery);
                        }
                    }
                }
                SessionEvent::Settled { token, results } => {
                    if let Some(answered) = self.settles.settled(token, &results) {
                        self.answered(answered);
                    }
                }
                SessionEvent::Forget { position, why, .. } => self.forget(position, why),
                SessionEvent::Recalled { credit, .. } => self.recalled(credit),
                SessionEvent::Cancelled { .. } => self.cancelled(),
                SessionEvent::LeaderMoved { node, .. } => self.leader_moved(node),
                SessionEvent::Attached { .. }
                | SessionEvent::Waiting { .. }
                | SessionEvent::Published(_)
                | SessionEvent::Purged { .. } => {}
            }
        }
        self.tell_settled();
    }

    /// A delivery is not this consumer's any more; one that was not written yet is not written at all.
    fn forget(&mut self, position: Position, why: Forgotten) {
        let waiting = self.outbox.iter().position(|it| it.position == position);
        if let Some(delivery) = waiting.and_then(|at| self.outbox.remove(at)) {
            let bytes = body_bytes(&delivery);
            self.attached.credit.written(bytes);
            self.attached.credit.returned(bytes);
        } else if let Some(lost) = self
            .held
            .lose(position)
            .or_else(|| self.settles.lose(position))
        {
            self.attached.credit.returned(lost.bytes);
            match why {
                Forgotten::Lost => self.groups_revoked(&[position]),
                Forgotten::Settled => {}
            }
        }
    }

    fn recalled(&mut self, credit: Credit) {
        self.attached.credit.recalled(credit);
        if self.phase == Phase::Draining {
            self.phase = Phase::Drained;
        }
    }

    fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.outbox.is_empty() || self.has_late_pongs()
    }

    fn has_late_pongs(&self) -> bool {
        !self.late_pongs.is_empty() && self.outbox.is_empty() && self.phase != Phase::Draining
    }

    /// Sends the next frame; there is room for it.
    async fn send(&mut self) {
        let frame = if let Some(frame) = self.control.pop_front() {
            frame
        } else if !self.outbox.is_empty() {
            return self.deliver().await;
        } else if let Some(nonce) = self.late_pongs.pop() {
            Response::Pong(v1::Pong { nonce })
        } else {
            return;
        };
        self.write(frame);
    }

    fn write(&self, frame: Response) {
        // This task is the only sender and has seen the room; a client that left is noticed by the next turn.
        let _gone = self
            .link
            .outbound
            .try_send(Ok(v1::ConsumeResponse { frame: Some(frame) }));
    }

    /// Writes a frame of deliveries: what is there, without waiting for more.
    async fn deliver(&mut self) {
        let no_ack = self.attached.no_ack;
        let lease = self.attached.gateway.options().lease;
        let lease_ms = millis(self.attached.max_processing.unwrap_or(lease));
        let frame = Frame {
            cluster: self.cluster,
            target: self.attached.target,
            lease_until_ms: (!no_ack).then(|| wall_clock_ms().saturating_add(lease_ms)),
        };
        let count = self.outbox.len().min(FRAME_MESSAGES_MAX);
        let mut receipts = receipts(if no_ack { 0 } else { count });
        let mut deliveries = Vec::with_capacity(count);
        let mut settled: Vec<Held> = Vec::new();
        let mut frame_bytes = 0;
        while deliveries.len() < count {
            let Some(next) = self.outbox.front() else {
                break;
            };
            let bytes = body_bytes(next);
            if !deliveries.is_empty() && frame_bytes + bytes > FRAME_BYTES_MAX {
                break;
            }
            let Some(delivery) = self.outbox.pop_front() else {
                break;
            };
            frame_bytes += bytes;
            let held = held_of(&delivery);
            let tag = if no_ack {
                settled.push(held);
                // Settled as soon as it is written, so a prefetch is refilled at once.
                self.attached.credit.returned(bytes);
                self.held.skip()
            } else {
                self.held.add(held, bytes, self.attached.until())
            };
            let delivery = to_client(delivery, tag, frame, &mut receipts);
            if !no_ack && self.settings.message_groups.is_some() {
                self.keys.add(held, &delivery, &self.held);
            }
            deliveries.push(delivery);
        }
        self.write(Response::Deliveries(v1::Deliveries { deliveries }));
        self.attached.credit.written(frame_bytes);
        if !settled.is_empty() {
            let action = SettleAction::Settle(SettleReason::NoAck);
            let spec = SettleSpec {
                target: self.attached.target,
                items: settled,
                action,
                answer: AnswerTime::Soon,
                outputs: Vec::new(),
                said: None,
            };
            // An uplink that has stopped: then the messages come again, flagged.
            let _stopped = self.attached.session.settle(spec, NO_ACK_TOKEN).await;
        }
    }

    /// Writes what was to be said before the end, as far as the client takes it.
    async fn flush(&mut self) {
        while let Some(frame) = self.control.pop_front() {
            let response = v1::ConsumeResponse { frame: Some(frame) };
            if self.link.outbound.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
}

impl From<Coming> for End {
    fn from(coming: Coming) -> Self {
        match coming {
            Coming::Here(rejoin) => Self::Rejoined(rejoin),
            Coming::Elsewhere(reply) => Self::Elsewhere(reply),
        }
    }
}

/// The stream cannot be read: its client is gone, or has sent what is no message.
fn broken(status: &tonic::Status) -> End {
    match named(status) {
        Some(error) => End::Status {
            error,
            returns: ReturnKind::Failed,
        },
        None => End::Broken,
    }
}

fn node_stops() -> End {
    End::Status {
        error: draining(),
        returns: ReturnKind::Untouched,
    }
}
