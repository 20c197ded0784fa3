//! One `PublishStream`: reads batches while admission and the shards take them, and sends results as they come. One task owns it.
//! Not here: checking entries (`entry`), routing and tracking (`publish`), packing results (`confirms`).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::debug;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::publish::refused;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::publish_stream_request::Frame as Request;
use warren_proto::v1::publish_stream_response::Frame as Response;
use warren_shard::Session;
use warren_shard::api::SessionEvent;
use warren_topology::{Rights, Topology};
use warren_types::TopologyIndex;

use super::batch::{Routing, check_batch, publish_time, result};
use super::confirms::{BatchResults, EntryId};
use super::connection::Seats;
use super::entry::{Defaults, Publisher};
use super::error::{aborted, bad_argument, of_denied, out_of_order};
use super::named_errors::named;
use super::open::{DURABILITY, limits};
use super::publish_credit::{PublishCredit, over_credit};
use super::publish_open::open;
use super::publish_pause::Pause;
use super::streams::{CONTROL_MAX, draining, draining_notice, has_room, reached};
use crate::admission::{ConnectionAdmission, Permit};
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::publish::{Outcome, PublishId, Publishing, Resolved};

/// Results wait so long for the rest of their batch.
const PARTIAL_AFTER: Duration = Duration::from_millis(20);
/// How long the bytes of a client that left are held for the results of what it sent.
const LINGER: Duration = Duration::from_secs(30);

pub(super) type PublishOut = mpsc::Sender<Result<v1::PublishStreamResponse, Status>>;
type Admitting = Pin<Box<dyn Future<Output = Permit> + Send>>;

/// What a stream's task is given.
pub(super) struct PublishParts {
    pub(super) gateway: Gateway,
    pub(super) who: Who,
    pub(super) inbound: Streaming<v1::PublishStreamRequest>,
    pub(super) outbound: PublishOut,
    pub(super) admission: ConnectionAdmission,
    pub(super) seats: Seats,
    pub(super) stop: CancellationToken,
}

/// Runs a stream to its end.
pub(super) async fn run(mut parts: PublishParts) {
    let opened = open(&mut parts).await;
    // The seat is held while the stream is there.
    let (publisher, rights, _seat) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // The client may have left already.
            let _gone = parts.outbound.send(Err(Status::from(error))).await;
            return;
        }
    };
    let mut stream = PublishStream::new(parts, publisher, rights);
    let end = stream.serve().await;
    if let End::Status(error) = end {
        debug!(session_id = %stream.session.id(), %error, "publish stream ended");
        // The client may have left already.
        let _gone = stream.outbound.send(Err(Status::from(error))).await;
    }
    stream.linger().await;
}

enum End {
    /// The client has closed its side and has every result.
    Done,
    /// The client is gone.
    Gone,
    Status(ApiError),
}

struct PublishStream {
    gateway: Gateway,
    session: Arc<Session>,
    inbound: Streaming<v1::PublishStreamRequest>,
    outbound: PublishOut,
    admission: ConnectionAdmission,
    stop: CancellationToken,
    publisher: Publisher,
    publishing: Publishing,
    /// Told when rights have changed somewhere.
    access: watch::Receiver<TopologyIndex>,
    results: BatchResults,
    credit: PublishCredit,
    /// What is admitted and has no outcome.
    admitted: Permit,
    /// A batch that waits for admission.
    waiting: Option<(Routing, Admitting)>,
    pause: Pause,
    control: VecDeque<Response>,
    /// When the oldest so many partial batches are told.
    partial_at: Option<(Instant, usize)>,
    /// No more comes from the client.
    is_closed: bool,
    draining_until: Option<Instant>,
}

impl PublishStream {
    fn new(parts: PublishParts, publisher: Publisher, rights: Rights) -> Self {
        let PublishParts {
            gateway,
            who: _,
            inbound,
            outbound,
            admission,
            seats: _,
            stop,
        } = parts;
        let session = Arc::new(gateway.broker().session());
        let options = gateway.options();
        let credit = PublishCredit::new(
            options.publish_credit_messages,
            options.publish_credit_bytes,
        );
        let opened = v1::Opened {
            credit: Some(credit.granted()),
            limits: Some(limits(options)),
            durability: DURABILITY.to_owned(),
            ..v1::Opened::default()
        };
        Self {
            publishing: Publishing::new(gateway.clone(), Arc::clone(&session), rights),
            access: gateway.broker().topology().access_changes(),
            admitted: admission.nothing(),
            gateway,
            session,
            inbound,
            outbound,
            admission,
            stop,
            publisher,
            results: BatchResults::default(),
            credit,
            waiting: None,
            pause: Pause::default(),
            control: VecDeque::from([Response::Opened(opened)]),
            partial_at: None,
            is_closed: false,
            draining_until: None,
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            if let Some(end) = self.end() {
                return end;
            }
            let has_output = self.has_output();
            let is_handing_over = self.publishing.has_to_hand_over();
            let may_read = !is_handing_over
                && self.waiting.is_none()
                && !self.is_closed
                && self.draining_until.is_none()
                && self.control.len() < CONTROL_MAX
                && !self.results.is_full();
            // Answers first: they free credit and admission. Reading last: what is read must be kept.
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if self.draining_until.is_none() => self.drain(),
                events = self.session.events() => match events {
                    Some(events) => self.events(events),
                    None => return End::Gone,
                },
                room = has_room(&self.outbound), if has_output => {
                    if !room {
                        return End::Gone;
                    }
                    self.send();
                }
                () = self.outbound.closed() => return End::Gone,
                () = self.publishing.hand_over(), if is_handing_over => self.collect(),
                permit = admitted(&mut self.waiting), if self.waiting.is_some() => self.admitted(permit).await,
                notice = self.pause.news() => self.notify(notice),
                Ok(()) = self.access.changed() => {
                    if let Err(denied) = self.publishing.check_open() {
                        return End::Status(of_denied(&denied));
                    }
                }
                () = reached(self.partial_at.map(|(at, _)| at)), if self.partial_at.is_some() => self.tell_partial(),
                () = reached(self.draining_until), if self.draining_until.is_some() => {
                    return End::Status(draining());
                }
                frame = self.inbound.message(), if may_read => match frame {
                    Ok(Some(frame)) => if let Err(error) = self.frame(frame.frame).await {
                        return End::Status(error);
                    },
                    Ok(None) => self.is_closed = true,
                    Err(status) => return named(&status).map_or(End::Gone, End::Status),
                },
            }
        }
    }

    /// The stream is over when there is nothing more to say.
    fn end(&self) -> Option<End> {
        let is_idle = self.publishing.is_idle()
            && self.waiting.is_none()
            && !self.publishing.has_to_hand_over()
            && self.results.partial() == 0
            && !self.has_output();
        match (is_idle, self.is_closed, self.draining_until) {
            (true, true, _) => Some(End::Done),
            (true, false, Some(_)) => Some(End::Status(draining())),
            (true | false, _, _) => None,
        }
    }

    fn drain(&mut self) {
        let within = self.gateway.options().drain;
        self.draining_until = Some(Instant::now() + within);
        self.notify(draining_notice(within));
    }

    /// A notice that waits to be sent gives way to a newer one of its kind.
    fn notify(&mut self, notice: v1::Notice) {
        let kind = notice.kind;
        let is_older = |it: &Response| matches!(it, Response::Notice(it) if it.kind == kind);
        self.control.retain(|it| !is_older(it));
        self.control.push_back(Response::Notice(notice));
    }

    fn events(&mut self, events: VecDeque<SessionEvent>) {
        for event in events {
            if let SessionEvent::Published(answers) = event {
                self.publishing.published(answers);
            }
        }
        self.collect();
    }

    async fn frame(&mut self, frame: Option<Request>) -> Result<(), ApiError> {
        match frame {
            Some(Request::Batch(batch)) => {
                self.batch(batch).await;
                Ok(())
            }
            Some(Request::Ping(ping)) => {
                self.control
                    .push_back(Response::Pong(v1::Pong { nonce: ping.nonce }));
                Ok(())
            }
            // Nothing expires yet that could be renewed.
            Some(Request::Refresh(_)) => Ok(()),
            Some(Request::Open(_)) => Err(bad_argument("frame", "the stream is open already")),
            // A frame that this version does not know.
            None => Err(bad_argument("frame", "the frame is empty or unknown")),
        }
    }

    async fn batch(&mut self, batch: v1::PublishBatch) {
        let slot = self.results.open(batch.batch_ref, batch.entries.len());
        let checked = check_batch(&self.gateway, &batch);
        if let Err(error) = checked.and_then(|()| self.check_order(&batch)) {
            for (index, entry) in (0..).zip(&batch.entries) {
                self.turn_down(slot, index, body_bytes(entry), &error);
            }
            return;
        }
        let defaults = Defaults {
            exchange: &batch.exchange,
            routing_key: &batch.routing_key,
        };
        let mut publishes = Vec::with_capacity(batch.entries.len());
        let mut bytes = 0;
        let mut is_whole = true;
        for (index, entry) in (0_u32..).zip(batch.entries) {
            let id = EntryId {
                slot,
                is_mandatory: entry.mandatory,
                index,
            };
            let (body, sequence) = (body_bytes(&entry), entry.sequence);
            match self.publisher.publish(PublishId::from(id), entry, defaults) {
                Ok(publish) if self.credit.spend(publish.bytes) => {
                    bytes += publish.bytes;
                    publishes.push(publish);
                }
                Ok(_) => {
                    is_whole = false;
                    self.publishing.order().refused_anywhere([sequence]);
                    self.results.result(slot, refused(index, &over_credit()));
                }
                Err(error) => {
                    is_whole = false;
                    self.turn_down(slot, index, body, &error);
                }
            }
        }
        if batch.atomic && !is_whole {
            for publish in publishes {
                self.credit.give_back(publish.bytes);
                let index = EntryId::from(publish.id).index;
                self.results.result(slot, refused(index, &aborted()));
            }
            return;
        }
        let routing = Routing {
            publishes,
            is_atomic: batch.atomic,
        };
        self.admit(routing, bytes).await;
    }

    /// Routes a batch, or lets it wait for its time and for bytes: nothing is read meanwhile.
    async fn admit(&mut self, routing: Routing, bytes: u64) {
        let is_time = routing.may_publish_now(&self.gateway);
        if is_time {
            let news = self.pause.goes_on(false);
            news.into_iter().for_each(|it| self.notify(it));
        } else {
            self.pause.waits();
        }
        if is_time && let Some(permit) = self.admission.try_admit(bytes) {
            self.admitted.merge(permit);
            return self.route(routing).await;
        }
        let (gateway, admission) = (self.gateway.clone(), self.admission.clone());
        let late = routing.late(is_time);
        let admitting = async move {
            publish_time(&gateway, late).await;
            admission.admit(bytes).await
        };
        self.waiting = Some((routing, Box::pin(admitting)));
    }

    /// Refuses an entry that is not even routed. Its publisher has counted it, so the credit goes back.
    fn turn_down(&mut self, slot: u32, index: u32, bytes: u64, error: &ApiError) {
        if self.credit.spend(bytes) {
            self.credit.give_back(bytes);
        }
        self.results.result(slot, refused(index, error));
    }

    /// A node that has lost touch with the cluster takes nothing. What was refused for now before it was known where it goes, as here, comes
    /// before anything later.
    fn check_order(&mut self, batch: &v1::PublishBatch) -> Result<(), ApiError> {
        let numbers = batch.entries.iter().map(|it| it.sequence);
        let order = self.publishing.order();
        if !self.gateway.may_serve() {
            order.refused_anywhere(numbers);
            let why = "the node has lost touch with the cluster";
            return Err(ApiError::new(Reason::NotReady, why));
        }
        let may_be_routed = order.may_be_routed(numbers);
        may_be_routed.then_some(()).ok_or_else(out_of_order)
    }

    async fn admitted(&mut self, permit: Permit) {
        self.admitted.merge(permit);
        let news = self.pause.goes_on(true);
        news.into_iter().for_each(|it| self.notify(it));
        if let Some((routing, _)) = self.waiting.take() {
            self.route(routing).await;
        }
    }

    async fn route(&mut self, routing: Routing) {
        routing.route(&mut self.publishing).await;
        if let Some(held) = self.publishing.take_held_back()
            && let Some(notice) = self.pause.refused(&self.gateway, held)
        {
            self.notify(notice);
        }
        self.collect();
    }

    /// Turns outcomes into results.
    fn collect(&mut self) {
        let mut topology: Option<Arc<Topology>> = None;
        let mut freed = 0;
        for Resolved {
            tracked, outcome, ..
        } in self.publishing.collect()
        {
            self.credit.give_back(tracked.bytes);
            freed += tracked.bytes;
            let entry = EntryId::from(tracked.id);
            if outcome == (Outcome::Committed { queues: 1 }) {
                self.results.committed_once(entry.slot, entry.index);
                continue;
            }
            let topology = topology.get_or_insert_with(|| self.gateway.topology());
            self.results
                .result(entry.slot, result(entry, &outcome, &self.gateway, topology));
        }
        self.admitted.release(freed);
        let partial = self.results.partial();
        if partial == 0 {
            self.partial_at = None;
        } else if self.partial_at.is_none() {
            self.partial_at = Some((Instant::now() + PARTIAL_AFTER, partial));
        }
    }

    fn tell_partial(&mut self) {
        if let Some((_, batches)) = self.partial_at.take()
            && let Some(frame) = self.results.partial_frame(batches)
        {
            self.control.push_back(Response::Confirms(frame));
        }
        let partial = self.results.partial();
        if partial > 0 {
            self.partial_at = Some((Instant::now() + PARTIAL_AFTER, partial));
        }
    }

    fn has_output(&self) -> bool {
        !self.control.is_empty() || self.results.has_complete() || self.credit.has_frame()
    }

    /// Sends the next frame; there is room for it.
    fn send(&mut self) {
        let frame = match self.control.pop_front() {
            Some(frame) => frame,
            None => match self.results.next_frame() {
                Some(confirms) => Response::Confirms(confirms),
                None => match self.credit.next_frame() {
                    Some(credit) => Response::Credit(credit),
                    None => return,
                },
            },
        };
        let response = v1::PublishStreamResponse { frame: Some(frame) };
        // This task is the only sender and has seen the room; a client that left is noticed by the next turn.
        let _gone = self.outbound.try_send(Ok(response));
    }

    /// The client is gone; its bytes are free when what it sent has its outcome.
    async fn linger(mut self) {
        self.waiting = None;
        let rest = async {
            while self.publishing.unresolved() > 0 {
                let Some(events) = self.session.events().await else {
                    return;
                };
                self.events(events);
            }
        };
        if timeout(LINGER, rest).await.is_err() {
            debug!("results of a publish stream that ended did not come");
        }
    }
}

fn body_bytes(entry: &v1::PublishEntry) -> u64 {
    entry
        .message
        .as_ref()
        .map_or(0, |it| u64::try_from(it.body.len()).unwrap_or(u64::MAX))
}

async fn admitted(waiting: &mut Option<(Routing, Admitting)>) -> Permit {
    match waiting {
        Some((_, admitting)) => admitting.await,
        None => std::future::pending().await,
    }
}
