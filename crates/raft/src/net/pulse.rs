//! One stream to each other node that says "alive" and carries the heartbeats of all groups, merged.
//!
//! Raft's heartbeats come at random moments; those of a few milliseconds go in one frame. When there are none a beat goes
//! out. The answers tell that the node lives and what its clock says; a stream that breaks is tried again at once, so that a
//! port that refuses is noticed within milliseconds. Not here: what a heartbeat means (openraft).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::Rng as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::debug;
use warren_proto::internal_v1::raft_service_client::RaftServiceClient;
use warren_proto::internal_v1::{
    HeartbeatItem, HeartbeatReply, PulseRequest, PulseResponse, Target,
};
use warren_types::{Alarms, ClusterId, NodeId};

use super::cluster_bytes;
use super::peers::{Lane, Peers};
use crate::options::StreamOptions;

/// Heartbeats that wait to be sent; more fail at once.
pub(super) const CALLS_MAX: usize = 1024;
/// Frames that wait for the wire. One that does not move is not worth queueing behind.
const FRAMES_MAX: usize = 4;
const ITEMS_PER_FRAME: usize = 256;
/// Without any answer for so long, the stream is made anew.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Between attempts to reach a node: soon at first, so that a restart is noticed, then slower.
const RETRY_FIRST: Duration = Duration::from_millis(2);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// One group's heartbeat to one follower. Dropped unanswered if the node is not reached.
pub(super) struct HeartbeatCall {
    pub item: HeartbeatItem,
    pub reply: oneshot::Sender<HeartbeatReply>,
}

/// Runs as long as the node is a peer.
pub(super) async fn run(
    peers: Peers,
    node: NodeId,
    cluster: ClusterId,
    options: StreamOptions,
    mut calls: mpsc::Receiver<HeartbeatCall>,
) {
    let mut retry = RETRY_FIRST;
    loop {
        let Some(channel) = peers.channel(node, Lane::Control) else {
            return;
        };
        let (frames, queued) = mpsc::channel(FRAMES_MAX);
        let target = Target {
            cluster: cluster_bytes(cluster),
            node: node.0,
            ..Target::default()
        };
        let first = PulseRequest {
            target: Some(target),
            ..PulseRequest::default()
        };
        // There is room: the channel is new.
        let _ = frames.try_send(first);
        let moved = peers.moved(node);
        let exchange = async {
            match connect(channel, queued, &mut calls).await {
                Some(Ok(answers)) => {
                    peers.report(node, Lane::Control, true);
                    retry = RETRY_FIRST;
                    let mut session = Session::new(peers.clone(), node, options.clone(), frames);
                    Some(session.run(answers, &mut calls).await)
                }
                Some(Err(status)) => Some(status),
                None => None,
            }
        };
        let ended = tokio::select! {
            biased; // nothing more goes to an address that is no longer the node's
            () = moved.cancelled() => Some(Status::cancelled("node has moved")),
            ended = exchange => ended,
        };
        let Some(ended) = ended else { return };
        debug!(%node, reason = ended.message(), "pulse ended");
        peers.report(node, Lane::Control, false);
        // Nodes that lost each other at the same moment do not come back at the same one.
        let pause = rand::rng().random_range(retry / 2..=retry);
        if !wait(pause, &mut calls).await {
            return;
        }
        retry = (retry * 2).min(RETRY_LAST);
    }
}

/// Connects; heartbeats that come meanwhile fail. `None` when nobody can call any more.
async fn connect(
    channel: tonic::transport::Channel,
    frames: mpsc::Receiver<PulseRequest>,
    calls: &mut mpsc::Receiver<HeartbeatCall>,
) -> Option<Result<Streaming<PulseResponse>, Status>> {
    let mut client = RaftServiceClient::new(channel);
    let connecting = client.pulse(ReceiverStream::new(frames));
    tokio::pin!(connecting);
    loop {
        tokio::select! {
            biased; // the connection first: calls wait for it
            result = &mut connecting => return Some(result.map(tonic::Response::into_inner)),
            call = calls.recv() => drop(call?),
        }
    }
}

/// Waits before the next attempt; `false` when nobody can call any more.
async fn wait(time: Duration, calls: &mut mpsc::Receiver<HeartbeatCall>) -> bool {
    let until = tokio::time::sleep(time);
    tokio::pin!(until);
    loop {
        tokio::select! {
            biased; // calls that cannot be sent are not allowed to prolong the wait
            () = &mut until => return true,
            call = calls.recv() => {
                if call.is_none() {
                    return false;
                }
            }
        }
    }
}

/// One stream from its connection until it breaks.
struct Session {
    peers: Peers,
    node: NodeId,
    options: StreamOptions,
    frames: mpsc::Sender<PulseRequest>,
    sequence: u64,
    /// The last frame sent: its sequence, by the monotonic and by the wall clock.
    sent: (u64, Instant, i64),
    heard_at: Instant,
    next_slot: u64,
    gathered: Vec<HeartbeatItem>,
    waiting: BTreeMap<u64, oneshot::Sender<HeartbeatReply>>,
}

impl Session {
    fn new(
        peers: Peers,
        node: NodeId,
        options: StreamOptions,
        frames: mpsc::Sender<PulseRequest>,
    ) -> Self {
        let now = Instant::now();
        Self {
            peers,
            node,
            options,
            frames,
            sequence: 0,
            sent: (0, now, wall_clock_ms()),
            heard_at: now,
            next_slot: 1,
            gathered: Vec::new(),
            waiting: BTreeMap::new(),
        }
    }

    async fn run(
        &mut self,
        mut answers: Streaming<PulseResponse>,
        calls: &mut mpsc::Receiver<HeartbeatCall>,
    ) -> Status {
        let timer = tokio::time::sleep_until(self.sent.1 + self.options.beat);
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased; // what was heard decides whether the node is silent
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.answered(answer),
                    Ok(None) => return Status::unavailable("closed by the other node"),
                    Err(status) => return status,
                },
                call = calls.recv() => {
                    let Some(call) = call else { return Status::cancelled("node is stopping") };
                    let starts = self.gathered.is_empty();
                    self.gather(call);
                    if self.gathered.len() >= ITEMS_PER_FRAME {
                        self.send();
                        timer.as_mut().reset(self.sent.1 + self.options.beat);
                    } else if starts {
                        timer.as_mut().reset(Instant::now() + self.options.heartbeat_window);
                    }
                },
                () = &mut timer => {
                    if self.heard_at.elapsed() > SILENCE_MAX {
                        return Status::deadline_exceeded("no answer");
                    }
                    self.send();
                    timer.as_mut().reset(self.sent.1 + self.options.beat);
                }
            }
        }
    }

    fn gather(&mut self, call: HeartbeatCall) {
        let slot = self.next_slot;
        self.next_slot += 1;
        // Those who gave up waiting are forgotten here, so that the map stays as small as what is in flight.
        if self.waiting.len() >= CALLS_MAX {
            self.waiting.retain(|_, reply| !reply.is_closed());
        }
        self.waiting.insert(slot, call.reply);
        self.gathered.push(HeartbeatItem { slot, ..call.item });
    }

    fn send(&mut self) {
        self.sequence += 1;
        let items = std::mem::take(&mut self.gathered);
        let frame = PulseRequest {
            target: None,
            sequence: self.sequence,
            items,
        };
        self.sent = (self.sequence, Instant::now(), wall_clock_ms());
        // No room: the wire does not move, and the next frame will say what is true then.
        let _ = self.frames.try_send(frame);
    }

    fn answered(&mut self, answer: PulseResponse) {
        self.heard_at = Instant::now();
        // What is answered late on a lane that this comes by is no sign of a wedged channel.
        self.peers.report(self.node, Lane::Control, true);
        let mut offset = None;
        if answer.sequence == self.sent.0 && answer.sequence != 0 {
            let half_trip = self.sent.1.elapsed().as_millis() / 2;
            let ours = self
                .sent
                .2
                .saturating_add(i64::try_from(half_trip).unwrap_or(0));
            let theirs = i64::try_from(answer.wall_clock_ms).unwrap_or(ours);
            offset = Some(theirs.saturating_sub(ours));
        }
        if let Some(peer) = self.peers.peer(self.node) {
            peer.hear(offset);
            if answer.sequence != 0 {
                peer.hear_alarms(Alarms {
                    memory: answer.memory_alarm,
                    disk: answer.disk_alarm,
                });
                peer.hear_draining(answer.draining);
                peer.hear_usage(answer.usage);
                peer.hear_wrong(answer.wrong);
            }
        }
        for reply in answer.replies {
            if let Some(waiting) = self.waiting.remove(&reply.slot) {
                // It may have given up.
                let _ = waiting.send(reply);
            }
        }
    }
}

/// Milliseconds since the Unix epoch by this node's wall clock.
pub(super) fn wall_clock_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
