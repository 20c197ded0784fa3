//! The task of one publisher: keeps a stream open on one node or another, sends what the window allows, hands out outcomes.
//! Not here: which message is next and what a confirm means (`window`).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Interval, MissedTickBehavior, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use warren_proto::convert::reason::Reason;
use warren_proto::v1::{
    self, publish_stream_request::Frame as Request, publish_stream_response::Frame as Response,
};

use super::{
    Outcome, OutcomeSink, PublisherOptions, Reply, Shared,
    window::{Entry, Resolved, Window},
};
use crate::{
    connection::{Connection, Rotation, millis},
    error::{Error, Refusal},
};

/// Frames handed to the transport and not yet taken by it.
const FRAMES_QUEUED: usize = 4;
/// Accepted messages looked at in one turn.
const COMMANDS_TAKEN: usize = 1000;
const TICK: Duration = Duration::from_millis(100);
/// Silence after which the node is asked whether it is there.
const PING_AFTER: Duration = Duration::from_millis(500);
/// How long a silent node may take to answer a call.
const PROBE_WITHIN: Duration = Duration::from_secs(1);
/// With nothing on its way and no credit: how long to wait before one message is tried.
const CREDIT_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) enum Command {
    Publish(Entry),
    Flush(oneshot::Sender<()>),
}

/// Why a stream ended.
enum End {
    /// The publisher was dropped and everything has its outcome.
    Done,
    /// Another node may do.
    Broken(Error),
    /// No retry can mend it.
    Fatal(Error),
}

/// An open stream.
struct Link {
    index: usize,
    outgoing: mpsc::Sender<v1::PublishStreamRequest>,
    incoming: Streaming<v1::PublishStreamResponse>,
    heard: Instant,
    pinged: bool,
}

pub(super) struct Driver {
    connection: Connection,
    open: v1::PublishOpen,
    window: Window,
    commands: mpsc::Receiver<Command>,
    taken: Vec<Command>,
    resolved: Vec<Resolved>,
    shared: Arc<Shared>,
    sink: Option<OutcomeSink>,
    /// Answered when everything below the sequence has its outcome; in order.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    handle_dropped: bool,
    /// When something was last resolved, or the window was empty.
    progress: Instant,
    paused_until: Option<Instant>,
    give_up_after: Duration,
    stall_timeout: Duration,
}

impl Driver {
    pub(super) fn new(
        connection: Connection,
        options: PublisherOptions,
        window: Window,
        commands: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        let producer = (!options.without_dedup).then(|| v1::Producer {
            producer_id: options
                .producer_id
                .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            producer_epoch: options.producer_epoch,
        });
        let open = v1::PublishOpen {
            vhost: options.vhost,
            producer,
            client_id: connection.options().client_id.clone(),
            features: Vec::new(),
        };
        Self {
            connection,
            open,
            window,
            commands,
            taken: Vec::with_capacity(COMMANDS_TAKEN),
            resolved: Vec::new(),
            shared,
            sink: options.sink,
            flushes: Vec::new(),
            handle_dropped: false,
            progress: Instant::now(),
            paused_until: None,
            give_up_after: options.give_up_after,
            stall_timeout: options.stall_timeout,
        }
    }

    /// Runs until the publisher is dropped and everything is answered, or until an error that no retry can mend.
    pub(super) async fn run(mut self) {
        let mut rotation = self.connection.rotation();
        let mut streams: u64 = 0;
        loop {
            match self.stream(&mut rotation, &mut streams).await {
                End::Done => return,
                End::Fatal(error) => return self.fail(&error),
                End::Broken(error) => {
                    let index = rotation.index();
                    tracing::debug!(node = %self.connection.node(index).address, %error, "publish stream ended");
                    let wait = rotation.failed(error.retry_after());
                    self.give_up_if_overdue(&error);
                    tokio::time::sleep(wait).await;
                }
            }
            if self.is_done() {
                return;
            }
        }
    }

    async fn stream(&mut self, rotation: &mut Rotation, streams: &mut u64) -> End {
        let index = rotation.index();
        let mut link = match self.open_on(index).await {
            Ok((link, opened)) => {
                self.window
                    .restart(opened.limits.map_or(0, |it| it.max_batch));
                self.grant(opened.credit);
                link
            }
            Err(error) if error.is_transient() => return End::Broken(error),
            Err(error) => return End::Fatal(error),
        };
        self.paused_until = None;
        self.connection.prefer(index);
        if *streams > 0 {
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        *streams += 1;
        let before = self.window.resolved_up_to();
        let end = self.serve(&mut link).await;
        if self.window.resolved_up_to() > before || self.window.unresolved() == 0 {
            rotation.worked();
        }
        end
    }

    async fn open_on(&mut self, index: usize) -> Result<(Link, v1::Opened), Error> {
        let node = self.connection.node(index);
        let waited = self.connection.options().connect_timeout + self.stall_timeout;
        let (outgoing, requests) = mpsc::channel(FRAMES_QUEUED);
        let opening = async {
            let open = Request::Open(self.open.clone());
            // It cannot be full, and its other end is in this function.
            let _ = outgoing.send(frame(open)).await;
            let mut client = node.messaging();
            let stream = client.publish_stream(node.request(ReceiverStream::new(requests)));
            let mut incoming = stream.await?.into_inner();
            let first = incoming.message().await?;
            Ok((incoming, first.and_then(|it| it.frame)))
        };
        let opened: Result<_, tonic::Status> =
            timeout(waited, opening).await.map_err(|_| Error::Timeout {
                operation: "opening a publish stream",
                waited_ms: millis(waited),
            })?;
        match opened.map_err(|status| self.connection.error_of(&status))? {
            (incoming, Some(Response::Opened(opened))) => {
                let link = Link {
                    index,
                    outgoing,
                    incoming,
                    heard: Instant::now(),
                    pinged: false,
                };
                Ok((link, opened))
            }
            (_, Some(Response::Notice(notice))) => Err(notice_error(&notice)),
            (_, other) => Err(Error::BadAnswer {
                operation: "opening a publish stream",
                detail: match other {
                    Some(_) => "the first frame is not Opened".to_owned(),
                    None => "the stream ended at once".to_owned(),
                },
            }),
        }
    }

    async fn serve(&mut self, link: &mut Link) -> End {
        let mut ticks = ticks();
        loop {
            if self.is_done() {
                return End::Done;
            }
            let can_send = self.window.can_send();
            let takes = !self.handle_dropped && self.window.waiting() < COMMANDS_TAKEN;
            // What the server says first, since it frees window and credit; then what is to be said, as much as there is
            // in one frame.
            tokio::select! {
                biased;
                answer = link.incoming.message() => {
                    link.heard = Instant::now();
                    link.pinged = false;
                    match answer {
                        Ok(Some(response)) => if let Err(error) = self.answer(response) {
                            return End::Broken(error);
                        },
                        Ok(None) => return End::Broken(self.ended_by_server()),
                        Err(status) => return self.end_of(&status),
                    }
                }
                taken = self.commands.recv_many(&mut self.taken, COMMANDS_TAKEN), if takes => {
                    self.accept(taken);
                }
                room = has_room(&link.outgoing), if can_send => {
                    if !room || !self.send_batch(link) {
                        return End::Broken(self.ended_by_server());
                    }
                }
                _ = ticks.tick() => if let Err(error) = self.tick(link) {
                    if !self.node_answers(link).await {
                        return End::Broken(error);
                    }
                    link.heard = Instant::now();
                },
            }
        }
    }

    /// Needs room. Answers false when the stream is gone.
    fn send_batch(&mut self, link: &Link) -> bool {
        let Some(batch) = self.window.next_batch() else {
            return true;
        };
        let resent = self.window.resent_total();
        self.shared.resent.store(resent, Ordering::Relaxed);
        link.outgoing.try_send(frame(Request::Batch(batch))).is_ok()
    }

    fn accept(&mut self, taken: usize) {
        if taken == 0 {
            self.handle_dropped = true;
            return;
        }
        if self.window.unresolved() == 0 {
            self.progress = Instant::now();
        }
        for command in self.taken.drain(..) {
            match command {
                Command::Publish(entry) => self.window.push(entry),
                Command::Flush(done) => self.flushes.push((self.window.end(), done)),
            }
        }
        self.answer_flushes();
    }

    /// An error means that this stream is of no more use.
    fn answer(&mut self, response: v1::PublishStreamResponse) -> Result<(), Error> {
        match response.frame {
            Some(Response::Confirms(confirms)) => return self.confirm(confirms),
            Some(Response::Credit(credit)) => self.grant(Some(credit)),
            Some(Response::Notice(notice)) => match v1::NoticeKind::try_from(notice.kind) {
                Ok(v1::NoticeKind::Draining) => return Err(notice_error(&notice)),
                Ok(
                    v1::NoticeKind::Unspecified
                    | v1::NoticeKind::LeaderMoved
                    | v1::NoticeKind::ConsumerCancelled
                    | v1::NoticeKind::Paused
                    | v1::NoticeKind::GroupRevoked
                    | v1::NoticeKind::SettingsChanged
                    | v1::NoticeKind::CredentialsExpiring,
                )
                | Err(_) => {}
            },
            // A frame that this version does not know counts as nothing.
            Some(Response::Opened(_) | Response::Pong(_)) | None => {}
        }
        Ok(())
    }

    /// An error means that another node may do.
    fn confirm(&mut self, confirms: v1::Confirms) -> Result<(), Error> {
        let mut cut_off = None;
        for batch in confirms.batches {
            if let Some(refusal) = self.window.confirm(batch, &mut self.resolved) {
                self.pause(&refusal);
                let is_cut_off = Reason::parse(&refusal.reason) == Some(Reason::NoQuorum);
                cut_off = is_cut_off.then_some(refusal).or(cut_off);
            }
        }
        self.hand_out();
        match cut_off {
            // Only what is deduplicated may go to another node while some of it has no outcome yet.
            Some(refusal)
                if self.open.producer.is_some() && self.connection.addresses().nth(1).is_some() =>
            {
                Err(Error::Refused(refusal))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn pause(&mut self, refusal: &Refusal) {
        let wait = refusal.retry_after().unwrap_or_default();
        let until = Instant::now() + wait.clamp(Duration::from_millis(5), Duration::from_secs(2));
        self.paused_until = Some(self.paused_until.map_or(until, |it| it.max(until)));
    }

    fn grant(&mut self, credit: Option<v1::Credit>) {
        if let Some(credit) = credit {
            self.window.grant(u64::from(credit.messages), credit.bytes);
        }
    }

    fn tick(&mut self, link: &mut Link) -> Result<(), Error> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|it| it <= now) {
            self.paused_until = None;
            self.window.end_pause();
        }
        let silent = now.duration_since(link.heard);
        if self.window.unresolved() == 0 {
            // Nothing is expected: silence says nothing.
            link.heard = now;
            return Ok(());
        }
        if silent >= self.stall_timeout {
            return Err(Error::Timeout {
                operation: "a publish stream",
                waited_ms: millis(silent),
            });
        }
        if silent >= PING_AFTER && !link.pinged {
            let ping = Request::Ping(v1::Ping { nonce: 1 });
            // Full: then there is enough for the node to answer.
            link.pinged = link.outgoing.try_send(frame(ping)).is_ok();
        }
        let starved = !self.window.has_in_flight() && !self.window.is_paused();
        if starved && !self.window.can_send() && silent >= CREDIT_PATIENCE {
            self.window.try_one();
        }
        let overdue = Error::Timeout {
            operation: "publishing",
            waited_ms: millis(self.give_up_after),
        };
        self.give_up_if_overdue(&overdue);
        Ok(())
    }

    /// A node under pressure stops reading streams, pings with them, and is to be waited for; a frozen one answers nothing at
    /// all. An empty settle tells them apart: any answer will do.
    async fn node_answers(&mut self, link: &Link) -> bool {
        let mut client = self.connection.node(link.index).messaging();
        let probe = client.settle(v1::SettleRequest::default());
        let answer = timeout(PROBE_WITHIN, probe).await;
        answer.is_ok_and(|it| match it {
            Ok(_) => true,
            Err(status) => !self.connection.error_of(&status).is_transient(),
        })
    }

    fn give_up_if_overdue(&mut self, error: &Error) {
        while let Ok(command) = self.commands.try_recv() {
            self.taken.push(command);
        }
        if !self.taken.is_empty() {
            self.accept(self.taken.len());
        }
        if self.window.unresolved() > 0 && self.progress.elapsed() >= self.give_up_after {
            let outcome = Outcome::Unknown(Box::new(error.clone()));
            self.window.resolve_all(&outcome, &mut self.resolved);
            self.hand_out();
        }
    }

    /// Tells outcomes and gives the room back.
    fn hand_out(&mut self) {
        if self.resolved.is_empty() {
            return;
        }
        self.progress = Instant::now();
        let mut permits = 0;
        let mut bulk = Vec::with_capacity(self.resolved.len());
        let messages = self.resolved.len();
        for it in self.resolved.drain(..) {
            permits += usize::try_from(it.permits).expect("32 bits fit");
            match it.reply {
                // Nobody waits for it any more: nobody is to be told.
                Reply::Future(sender) => drop(sender.send(it.result.outcome)),
                Reply::Sink { .. } => bulk.push(it.result),
            }
        }
        if let (Some(sink), false) = (&mut self.sink, bulk.is_empty()) {
            sink(&bulk);
        }
        self.shared.messages.add_permits(messages);
        self.shared.bytes.add_permits(permits);
        self.answer_flushes();
    }

    fn answer_flushes(&mut self) {
        let resolved = self.window.resolved_up_to();
        let ready = self.flushes.partition_point(|(end, _)| *end <= resolved);
        for (_, done) in self.flushes.drain(..ready) {
            // Nobody waits for it any more.
            let _ = done.send(());
        }
    }

    fn is_done(&self) -> bool {
        self.handle_dropped && self.window.unresolved() == 0
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

    /// Ends for good: everything accepted gets its outcome, and nothing more is accepted.
    fn fail(mut self, error: &Error) {
        tracing::debug!(%error, "publisher ended");
        // Set at most once: this takes the driver.
        let _ = self.shared.failure.set(error.clone());
        self.shared.messages.close();
        self.shared.bytes.close();
        self.commands.close();
        self.progress = Instant::now();
        self.give_up_after = Duration::ZERO;
        self.give_up_if_overdue(error);
    }
}

/// Waits for room; this task is the only sender, so it stays. False when the stream is gone.
async fn has_room(outgoing: &mpsc::Sender<v1::PublishStreamRequest>) -> bool {
    outgoing.reserve().await.is_ok()
}

fn frame(frame: Request) -> v1::PublishStreamRequest {
    v1::PublishStreamRequest { frame: Some(frame) }
}

fn notice_error(notice: &v1::Notice) -> Error {
    match &notice.status {
        Some(status) => Error::Refused(Refusal::from_in_band(Some(status))),
        None => Error::Unreachable {
            addresses: "the node".to_owned(),
            cause: "it is about to stop".to_owned(),
        },
    }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
