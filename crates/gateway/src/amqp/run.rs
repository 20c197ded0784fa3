//! The task of one connection: waits for whatever comes next, lets the session deal with it, writes what that says.
//! Not here: what anything means (`session`).

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use futures::{Future, FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use warren_amqp::{AmqpError, ChannelId, Time};
use warren_shard::api::SessionEvent;
use warren_types::TopologyIndex;

use super::listen::delete_queues;
use super::operation::{Answer, Finished};
use super::pipeline::Sent;
use super::reply::next_reply;
use super::session::{AmqpSession, Closing};
use super::stall::Why;
use super::wire::{Progress, Wire};
use crate::admission::Permit;
use crate::replies::Reply;

/// How long the last bytes may take to leave, and then the operations of a connection that is gone to end.
const LAST_BYTES_WITHIN: Duration = Duration::from_secs(3);
const LAST_OPERATIONS_WITHIN: Duration = Duration::from_secs(10);
/// Bodies under way are added up whenever so many bytes have come.
const INCOMING_LOOK_BYTES: usize = 1 << 20;

enum Wake {
    Stopping,
    Wire(io::Result<Progress>),
    Sent(Sent),
    Finished(Finished),
    Admitted(Permit),
    Inbox(VecDeque<SessionEvent>),
    Reply(Reply),
    Time,
    /// Rights have changed somewhere.
    Rights,
}

/// A publish that waits for bytes.
type Admitting = Pin<Box<dyn Future<Output = Permit> + Send>>;

pub(super) struct Task<S> {
    session: AmqpSession,
    wire: Wire<S>,
    input: BytesMut,
    started: Instant,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Time>,
    admitting: Option<Admitting>,
    unlooked_bytes: usize,
    stop: CancellationToken,
    stopping: bool,
    /// Its place among those that have not opened yet.
    handshake: Option<OwnedSemaphorePermit>,
    rights: watch::Receiver<TopologyIndex>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    pub(super) fn new(
        session: AmqpSession,
        socket: S,
        stop: CancellationToken,
        handshake: OwnedSemaphorePermit,
    ) -> Self {
        let started = Instant::now();
        let rights = session.gateway.broker().topology().access_changes();
        Self {
            rights,
            session,
            wire: Wire::new(socket),
            input: BytesMut::new(),
            started,
            timer: Box::pin(sleep_until(started)),
            timer_at: None,
            admitting: None,
            unlooked_bytes: 0,
            stop,
            stopping: false,
            handshake: Some(handshake),
        }
    }

    /// Serves the connection until it has ended, then takes what is left of it away.
    pub(super) async fn run(mut self) {
        loop {
            let reading = self.session.wants_input();
            self.set_timer();
            self.begin_admitting();
            let wake = self.next(reading).await;
            self.set_now();
            match wake {
                Wake::Wire(Err(error)) => {
                    debug!(peer = %self.session.peer(), %error, "socket failed");
                    break;
                }
                Wake::Wire(Ok(Progress::Closed)) => {
                    debug!(peer = %self.session.peer(), "client went away");
                    break;
                }
                Wake::Wire(Ok(progress)) => self.progressed(progress),
                Wake::Stopping => {
                    self.stopping = true;
                    let error = AmqpError::connection_forced("the broker is shutting down");
                    self.session.fail(ChannelId::CONNECTION, error);
                }
                Wake::Sent(sent) => self.session.sent(sent),
                Wake::Finished(finished) => self.session.finished(finished),
                Wake::Admitted(permit) => {
                    self.admitting = None;
                    self.session.admitted(permit);
                }
                Wake::Inbox(events) => self.session.events(events),
                Wake::Reply(reply) => self.session.reply(&reply),
                // The turn looks at them.
                Wake::Rights => {}
                Wake::Time => {
                    self.timer_at = None;
                    self.session.tick();
                }
            }
            self.take_what_is_there();
            self.session.turn(&mut self.input);
            if self.session.caller.is_some() {
                self.handshake = None;
                self.wire.trust();
            }
            if self.session.has_ended() {
                break;
            }
        }
        self.end().await;
    }

    /// Waits for the next thing that happens.
    async fn next(&mut self, reading: bool) -> Wake {
        let session = &mut self.session;
        let takes_replies = session.replies.is_some() && session.has_room_for_replies();
        tokio::select! {
            // The socket first: it bounds itself. All the others are looked at in every turn, so none of them starves.
            biased;
            () = self.stop.cancelled(), if !self.stopping => Wake::Stopping,
            progress = self.wire.progress(&mut self.input, session.conn.output(), reading) => Wake::Wire(progress),
            sent = session.pipeline.sent() => Wake::Sent(sent),
            Some(finished) = session.operations.next() => Wake::Finished(finished),
            permit = admitted(&mut self.admitting) => Wake::Admitted(permit),
            events = session.broker.events() => Wake::Inbox(events.unwrap_or_default()),
            reply = next_reply(&mut session.replies), if takes_replies => Wake::Reply(reply),
            Ok(()) = self.rights.changed() => Wake::Rights,
            () = &mut self.timer, if self.timer_at.is_some() => Wake::Time,
        }
    }

    fn take_what_is_there(&mut self) {
        while let Some(Some(finished)) = self.session.operations.next().now_or_never() {
            self.session.finished(finished);
        }
        let events = self.session.broker.events_now();
        self.session.events(events);
        self.session.take_replies();
    }

    fn progressed(&mut self, progress: Progress) {
        match progress {
            Progress::Wrote(bytes) => self.session.wrote(bytes),
            Progress::Read(bytes) => {
                self.unlooked_bytes += bytes;
                if self.unlooked_bytes >= INCOMING_LOOK_BYTES {
                    self.unlooked_bytes = 0;
                    self.session.bound_incoming();
                }
            }
            Progress::Closed => {}
        }
    }

    fn set_now(&mut self) {
        let elapsed = self.started.elapsed().as_millis();
        self.session.now = Time(u64::try_from(elapsed).unwrap_or(u64::MAX));
    }

    /// The timer is only ever moved forward: that it goes off early does no harm.
    fn set_timer(&mut self) {
        let Some(deadline) = self.session.deadline() else {
            return;
        };
        if self.timer_at.is_none_or(|at| deadline < at) {
            self.timer_at = Some(deadline);
            let at = self.started + Duration::from_millis(deadline.0);
            self.timer.as_mut().reset(at);
        }
    }

    fn begin_admitting(&mut self) {
        if let Some(stalled) = self.session.stalled
            && self.admitting.is_none()
        {
            let gateway = self.session.gateway.clone();
            let admission = self.session.publishes.admission().clone();
            // Nothing else is routed while this message waits.
            let targets = match stalled.why {
                Why::Alarm(_) => self.session.publishes.targets().to_vec(),
                Why::Rate(_) | Why::Quota(_) | Why::Bytes => Vec::new(),
            };
            self.admitting = Some(Box::pin(async move {
                match stalled.why {
                    Why::Rate(vhost) => gateway.publish_time(vhost, 1).await,
                    Why::Quota(vhost) => gateway.quota_room(vhost).await,
                    Why::Alarm(_) => gateway.relief(&targets).await,
                    Why::Bytes => {}
                }
                admission.admit(stalled.bytes).await
            }));
        }
    }

    /// The last bytes, then whatever the client cannot do any more itself.
    async fn end(mut self) {
        let last = async {
            while !self.session.conn.output().is_empty() {
                let output = self.session.conn.output();
                if self
                    .wire
                    .progress(&mut self.input, output, false)
                    .await
                    .is_err()
                {
                    return;
                }
            }
        };
        // A client that does not read its last bytes goes without.
        let _late = timeout(LAST_BYTES_WITHIN, last).await;
        self.session.abandon();
        let left = async {
            // A declare under way may still make an exclusive queue, what is handed over may still be waited for.
            while !self.session.pipeline.is_idle() {
                let sent = self.session.pipeline.sent().await;
                self.session.sent(sent);
            }
            while let Some(finished) = self.session.operations.next().await {
                if let Answer::Cleaned = finished.answer {
                    continue;
                }
                self.session.finished(finished);
            }
            if let Some(caller) = self.session.caller.clone()
                && self.session.closing != Closing::Cleaning
            {
                delete_queues(&caller, self.session.exclusive.clone()).await;
            }
        };
        if timeout(LAST_OPERATIONS_WITHIN, left).await.is_err() {
            debug!(peer = %self.session.peer(), "connection ended with operations under way");
        }
    }
}

async fn admitted(admitting: &mut Option<Admitting>) -> Permit {
    match admitting {
        Some(admitting) => admitting.await,
        None => pending().await,
    }
}
