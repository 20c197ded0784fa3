//! The task of one consumer: keeps a stream open on one node or another, hands deliveries on, sends settles, keeps the lease.
//! Not here: what a settle result means (`held`).

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Interval, MissedTickBehavior, timeout},
};
use warren_proto::{
    convert::value::table_to_client,
    v1::{self, consume_request::Frame as Request, consume_response::Frame as Response},
};

use super::{
    ConsumerOptions, Delivery, Disposition, SettleOutcome, Shared,
    held::Held,
    link::{BYTES_PER_CREDIT, Link, first_credit, frame, notice_error},
};
use crate::{
    connection::{Connection, Rotation, millis},
    error::Error,
    message::Message,
};

const COMMANDS_TAKEN: usize = 1000;
const TICK: Duration = Duration::from_millis(100);
/// How long to wait before a settle is sent again that the server could not do yet.
const SETTLE_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long the server may take to end a stream that was closed.
const GOODBYE: Duration = Duration::from_secs(1);
/// Nonce of the ping that follows a drain.
const DRAIN_NONCE: u64 = u64::MAX;

#[derive(Debug)]
pub(super) enum Command {
    Settle {
        first: u64,
        last: u64,
        disposition: Disposition,
        reply: oneshot::Sender<SettleOutcome>,
    },
    Drain,
    Close(oneshot::Sender<()>),
}

/// Why a stream ended.
enum End {
    /// Closed by its owner.
    Done,
    /// Another node may do.
    Broken(Error),
    /// The queue is led on this node: go there.
    Moved(usize),
    /// No retry can mend it.
    Fatal(Error),
}

/// How far the end has come.
#[derive(Debug, PartialEq, Eq, Clone, Copy, PartialOrd, Ord)]
enum Phase {
    Running,
    /// No further deliveries are wanted.
    Draining,
    /// The last settles are waited for.
    Closing,
}

pub(super) struct Driver {
    connection: Connection,
    options: ConsumerOptions,
    commands: mpsc::Receiver<Command>,
    taken: Vec<Command>,
    /// `None` after a drain is complete.
    deliveries: Option<mpsc::Sender<Vec<Delivery>>>,
    /// Not handed on yet; bounded by the credit.
    arrived: VecDeque<Vec<Delivery>>,
    held: Held,
    shared: Arc<Shared>,
    opened: Option<oneshot::Sender<Result<(), Error>>>,
    resume_token: Bytes,
    phase: Phase,
    drain_sent: bool,
    /// The server has nothing more for us.
    drained: bool,
    close_waiters: Vec<oneshot::Sender<()>>,
    settle_again_at: Option<Instant>,
    /// Highest term of a leader that was followed.
    followed_term: Option<u64>,
}

impl Driver {
    pub(super) fn new(
        connection: Connection,
        options: ConsumerOptions,
        commands: mpsc::Receiver<Command>,
        deliveries: mpsc::Sender<Vec<Delivery>>,
        opened: oneshot::Sender<Result<(), Error>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            connection,
            options,
            commands,
            taken: Vec::new(),
            deliveries: Some(deliveries),
            arrived: VecDeque::new(),
            held: Held::new(),
            shared,
            opened: Some(opened),
            resume_token: Bytes::new(),
            phase: Phase::Running,
            drain_sent: false,
            drained: false,
            close_waiters: Vec::new(),
            settle_again_at: None,
            followed_term: None,
        }
    }

    /// Runs until the consumer is closed or dropped, or until an error that no retry can mend.
    pub(super) async fn run(mut self) {
        let mut rotation = self.connection.rotation();
        loop {
            let end = self.stream(&mut rotation).await;
            let (error, wait) = match end {
                End::Done => return self.finish(),
                End::Fatal(error) => return self.fail(error),
                End::Moved(index) => {
                    rotation.go_to(index);
                    continue;
                }
                End::Broken(error) => {
                    let wait = rotation.failed(error.retry_after());
                    (error, wait)
                }
            };
            tracing::debug!(queue = self.options.queue, %error, "consume stream ended");
            if self.opened.as_ref().is_some_and(oneshot::Sender::is_closed) {
                return;
            }
            if self.phase == Phase::Closing && !self.held.is_settling() {
                return self.finish();
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn stream(&mut self, rotation: &mut Rotation) -> End {
        let index = rotation.index();
        let mut link = match self.open_on(index).await {
            Ok(link) => link,
            Err(error) if error.is_transient() => return End::Broken(error),
            Err(error) => return End::Fatal(error),
        };
        rotation.worked();
        self.connection.prefer(index);
        match self.opened.take() {
            // Nobody waits any more: seen when its commands are taken.
            Some(opened) => drop(opened.send(Ok(()))),
            None => {
                self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.drain_sent = false;
        self.serve(&mut link).await
    }

    async fn open_on(&mut self, index: usize) -> Result<Link, Error> {
        let frame_out = Request::Open(self.open_frame());
        let (link, opened) = Link::open(
            &self.connection,
            index,
            frame_out,
            self.options.stall_timeout,
        )
        .await?;
        self.resume_token = opened.resume_token;
        let unknown = self.held.restart(opened.resumed_receipts);
        if !unknown.is_empty() {
            let returned = Request::Settle(self.held.return_frame(unknown));
            // The stream is new: there is room. If it broke already, the next one says the same again.
            let _ = link.outgoing.try_send(frame(returned));
        }
        Ok(link)
    }

    fn open_frame(&self) -> v1::ConsumeOpen {
        let options = &self.options;
        v1::ConsumeOpen {
            vhost: options.vhost.clone(),
            queue: options.queue.clone(),
            consumer_tag: options.consumer_tag.clone(),
            resume_token: self.resume_token.clone(),
            credit: first_credit(options),
            prefetch: if options.no_ack {
                0
            } else {
                options.prefetch.max(1)
            },
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            priority: options.priority,
            arguments: (!options.arguments.is_empty())
                .then(|| table_to_client(&options.arguments))
                .flatten(),
            client_id: self.connection.options().client_id.clone(),
            ..v1::ConsumeOpen::default()
        }
    }

    async fn serve(&mut self, link: &mut Link) -> End {
        let mut ticks = ticks();
        loop {
            if self.phase > Phase::Running && !self.drain_sent {
                self.drain_sent = self.send_drain(link);
            }
            if self.phase == Phase::Closing && !self.held.is_settling() {
                return self.goodbye(link).await;
            }
            if self.drained && self.arrived.is_empty() {
                self.deliveries = None;
            }
            let has_settles = self.held.has_to_send() && self.settle_again_at.is_none();
            let hands_on = !self.arrived.is_empty() && self.deliveries.is_some();
            // Settles first, since they free credit; deliveries before commands only matters for fairness.
            tokio::select! {
                biased;
                taken = self.commands.recv_many(&mut self.taken, COMMANDS_TAKEN), if self.phase != Phase::Closing => {
                    self.command(taken);
                }
                room = has_room(Some(&link.outgoing)), if has_settles => {
                    if !room || !self.send_settles(link) {
                        return End::Broken(self.ended_by_server());
                    }
                }
                room = has_room(self.deliveries.as_ref()), if hands_on => self.hand_on(room, link),
                answer = link.incoming.message() => {
                    link.heard = Instant::now();
                    link.pinged_at = None;
                    match answer {
                        Ok(Some(response)) => if let Some(end) = self.answer(response, link) {
                            return end;
                        },
                        Ok(None) => return End::Broken(self.ended_by_server()),
                        Err(status) => return self.end_of(&status),
                    }
                }
                _ = ticks.tick() => if let Some(end) = self.tick(link) {
                    return end;
                },
            }
        }
    }

    fn command(&mut self, taken: usize) {
        if taken == 0 {
            // Every handle is gone: what was settled is still sent.
            self.phase = Phase::Closing;
            self.arrived.clear();
            return;
        }
        for command in std::mem::take(&mut self.taken) {
            match command {
                Command::Settle {
                    first,
                    last,
                    disposition,
                    reply,
                } => self.held.settle(first..=last, disposition, reply),
                Command::Drain => self.phase = self.phase.max(Phase::Draining),
                Command::Close(done) => {
                    self.phase = Phase::Closing;
                    self.arrived.clear();
                    self.close_waiters.push(done);
                }
            }
        }
    }

    /// Needs room. Answers false when the stream is gone.
    fn send_settles(&mut self, link: &Link) -> bool {
        let Some(batch) = self.held.next_batch() else {
            return true;
        };
        link.outgoing
            .try_send(frame(Request::Settle(batch)))
            .is_ok()
    }

    /// Answers whether it is said; if there is no room now, later.
    fn send_drain(&self, link: &Link) -> bool {
        if link.outgoing.capacity() < 2 {
            return false;
        }
        // There is room, and a stream that broke meanwhile is noticed when it is read.
        let _ = link.outgoing.try_send(frame(Request::Drain(v1::Drain {})));
        let nonce = DRAIN_NONCE;
        let _ = link
            .outgoing
            .try_send(frame(Request::Ping(v1::Ping { nonce })));
        true
    }

    fn hand_on(&mut self, room: bool, link: &Link) {
        let outbox = self.deliveries.as_ref().filter(|_| room);
        let (Some(outbox), Some(batch)) = (outbox, self.arrived.pop_front()) else {
            // The consumer was dropped; its settlers may go on.
            self.phase = self.phase.max(Phase::Draining);
            self.deliveries = None;
            self.arrived.clear();
            return;
        };
        if self.options.no_ack {
            let messages = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            let credit = v1::Credit {
                messages,
                bytes: u64::from(messages) * BYTES_PER_CREDIT,
            };
            // Sixteen frames wait to be written: then this one is told with the next stream.
            let _ = link.outgoing.try_send(frame(Request::Credit(credit)));
        }
        // There is room; a consumer that was dropped just now is noticed the next time.
        let _ = outbox.try_send(batch);
    }

    fn answer(&mut self, response: v1::ConsumeResponse, link: &Link) -> Option<End> {
        match response.frame? {
            Response::Deliveries(deliveries) => match self.arrive(deliveries) {
                Ok(()) => None,
                Err(error) => Some(End::Fatal(error)),
            },
            Response::Settled(results) => {
                if self.held.results(results) {
                    self.settle_again_at = Some(Instant::now() + SETTLE_AGAIN_AFTER);
                }
                None
            }
            Response::Notice(notice) => self.notice(&notice, link),
            Response::Opened(opened) => self.follow(opened.leader.as_ref(), link),
            Response::Pong(pong) => {
                self.drained |= pong.nonce == DRAIN_NONCE;
                None
            }
        }
    }

    fn arrive(&mut self, deliveries: v1::Deliveries) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(deliveries.deliveries.len());
        for wire in deliveries.deliveries {
            let number = if self.options.no_ack {
                self.held.skip()
            } else {
                self.held.add(wire.delivery_tag, wire.receipt)
            };
            let enqueued_at = wire
                .enqueued_at
                .and_then(|it| SystemTime::try_from(it).ok());
            batch.push(Delivery {
                message: Message::from_wire(wire.message.unwrap_or_default())?,
                exchange: wire.exchange,
                routing_key: wire.routing_key,
                redelivered: wire.redelivered,
                delivery_count: wire.delivery_count,
                acquired_count: wire.acquired_count,
                fencing: wire.fencing,
                enqueued_at,
                position: wire.position,
                number,
            });
        }
        if self.phase != Phase::Closing && self.deliveries.is_some() && !batch.is_empty() {
            self.arrived.push_back(batch);
        }
        Ok(())
    }

    fn notice(&mut self, notice: &v1::Notice, link: &Link) -> Option<End> {
        match v1::NoticeKind::try_from(notice.kind) {
            Ok(v1::NoticeKind::Draining) => Some(End::Broken(notice_error(notice))),
            Ok(v1::NoticeKind::ConsumerCancelled) => Some(End::Fatal(notice_error(notice))),
            Ok(v1::NoticeKind::LeaderMoved) => self.follow(notice.leader.as_ref(), link),
            Ok(
                v1::NoticeKind::Unspecified
                | v1::NoticeKind::Paused
                | v1::NoticeKind::GroupRevoked
                | v1::NoticeKind::SettingsChanged
                | v1::NoticeKind::CredentialsExpiring,
            )
            | Err(_) => None,
        }
    }

    fn follow(&mut self, leader: Option<&v1::LeaderHint>, link: &Link) -> Option<End> {
        let hint = leader.filter(|_| self.connection.options().follow_leader_hints)?;
        if self.followed_term.is_some_and(|it| hint.term <= it) {
            return None;
        }
        let index = self.connection.index_of(&hint.endpoint)?;
        self.followed_term = Some(hint.term);
        (index != link.index).then_some(End::Moved(index))
    }

    fn tick(&mut self, link: &mut Link) -> Option<End> {
        let now = Instant::now();
        if self.settle_again_at.is_some_and(|it| it <= now) {
            self.settle_again_at = None;
        }
        let unanswered = link.pinged_at.map(|it| now.duration_since(it));
        if unanswered.is_some_and(|it| it >= self.options.stall_timeout) {
            return Some(End::Broken(Error::Timeout {
                operation: "a consume stream",
                waited_ms: millis(now.duration_since(link.heard)),
            }));
        }
        if now.duration_since(link.last_ping) >= link.ping_every {
            let ping = frame(Request::Ping(v1::Ping { nonce: 1 }));
            // Full: then there is enough for the node to answer, and the next tick tries again.
            if link.outgoing.try_send(ping).is_ok() {
                link.last_ping = now;
                link.pinged_at = link.pinged_at.or(Some(now));
            }
        }
        None
    }

    /// Ends the stream from this side: the server returns at once what is held, and then ends it too.
    async fn goodbye(&mut self, link: &mut Link) -> End {
        let (closed, _) = mpsc::channel(1);
        link.outgoing = closed;
        let rest = async { while let Ok(Some(_)) = link.incoming.message().await {} };
        // A server that does not end it finds it gone.
        let _ = timeout(GOODBYE, rest).await;
        End::Done
    }

    fn finish(&mut self) {
        for done in self.close_waiters.drain(..) {
            // Nobody waits for it any more.
            let _ = done.send(());
        }
    }

    fn fail(&mut self, error: Error) {
        tracing::debug!(queue = self.options.queue, %error, "consumer ended");
        if let Some(opened) = self.opened.take() {
            // Nobody waits for it any more.
            let _ = opened.send(Err(error));
            return;
        }
        // Set at most once: the driver ends here.
        let _ = self.shared.failure.set(error);
    }

    fn ended_by_server(&self) -> Error {
        Error::Unreachable {
            addresses: self.connection.addresses_text(),
            cause: "the server ended the stream".to_owned(),
        }
    }

    fn end_of(&self, status: &tonic::Status) -> End {
        let error = self.connection.error_of(status);
        if error.is_transient() {
            End::Broken(error)
        } else {
            End::Fatal(error)
        }
    }
}

/// Waits for room; this task is the only sender, so it stays. False when the other end is gone.
async fn has_room<T>(sender: Option<&mpsc::Sender<T>>) -> bool {
    match sender {
        Some(sender) => sender.reserve().await.is_ok(),
        None => false,
    }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
