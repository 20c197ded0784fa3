//! The long-lived streams that carry entries of many groups to another node: what is queued goes in one frame, at once.
//! Not here: one group's requests and answers in order (`append_stream`).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::debug;
use warren_proto::internal_v1::raft_service_client::RaftServiceClient;
use warren_proto::internal_v1::{AppendItem, AppendReply, AppendRequest, AppendStep, Target};
use warren_types::{ClusterId, GroupId, NodeId};

use super::peers::{Lane, Peers};
use super::{MESSAGE_BYTES_MAX, cluster_bytes};
use crate::tasks::Tasks;

/// A frame is closed at this size, or at this many items.
const FRAME_BYTES: usize = 1 << 20;
const FRAME_ITEMS: usize = 64;
/// Items that wait for the wire, each about a mebibyte at most unless a message is larger; the streams that made them wait beyond it.
const ITEMS_MAX: usize = 32;
/// The slowest wire and disk, in bytes per second, that an item of more than a frame's size gets through before it counts as
/// unanswered. It holds up what is behind it for as long.
const SLOWEST: usize = 16 << 20;

/// All append streams of this node.
#[derive(Clone)]
pub(crate) struct AppendLinks {
    inner: Arc<Inner>,
}

struct Inner {
    peers: Peers,
    cluster: ClusterId,
    tasks: Tasks,
    per_peer: usize,
    answers_max: usize,
    sessions: Mutex<BTreeMap<(NodeId, usize), Session>>,
    next_stream: AtomicU64,
}

/// One bidirectional stream to another node, from its connection until it breaks.
#[derive(Clone)]
struct Session {
    items: mpsc::Sender<AppendItem>,
    open: Arc<Mutex<OpenStreams>>,
    large: Arc<AtomicUsize>,
}

#[derive(Default)]
struct OpenStreams {
    answers: BTreeMap<u64, mpsc::Sender<AppendReply>>,
    /// Given up while there was no room for saying so.
    to_close: Vec<u64>,
    ended: bool,
}

/// One group's share of a session.
pub(super) struct LinkStream {
    pub(super) id: u64,
    pub(super) items: mpsc::Sender<AppendItem>,
    pub(super) answers: mpsc::Receiver<AppendReply>,
    open: Arc<Mutex<OpenStreams>>,
    /// Bytes of items larger than a frame, of all of the session's streams, that are not answered.
    large: Arc<AtomicUsize>,
    /// This stream's part of them.
    own_large: usize,
}

impl LinkStream {
    /// An item with so many bytes of entries goes out.
    pub(super) fn sends(&mut self, bytes: usize) {
        if bytes > FRAME_BYTES {
            self.own_large += bytes;
            self.large.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// It was answered.
    pub(super) fn is_answered(&mut self, bytes: usize) {
        if bytes > FRAME_BYTES {
            self.own_large -= bytes;
            self.large.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// How much longer than usual an answer may take, for what is large and under way before it.
    pub(super) fn allowance(&self) -> Duration {
        let bytes = self.large.load(Ordering::Relaxed);
        Duration::from_secs_f64(bytes as f64 / SLOWEST as f64)
    }
}

impl AppendLinks {
    pub(super) fn new(
        peers: Peers,
        cluster: ClusterId,
        tasks: Tasks,
        per_peer: usize,
        requests_in_flight: usize,
    ) -> Self {
        let inner = Inner {
            peers,
            cluster,
            tasks,
            per_peer: per_peer.max(1),
            answers_max: requests_in_flight + 1,
            sessions: Mutex::default(),
            next_stream: AtomicU64::new(1),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Opens a stream for a group; connects if there is no session. The stream ends when its session does.
    pub(super) fn open(&self, node: NodeId, group: GroupId) -> LinkStream {
        let id = self.inner.next_stream.fetch_add(1, Ordering::Relaxed);
        let (answers, received) = mpsc::channel(self.inner.answers_max);
        let lane = group.0 as usize % self.inner.per_peer;
        let mut sessions = self.inner.sessions.lock();
        let session = match sessions.get(&(node, lane)) {
            Some(session) if !session.open.lock().ended => session.clone(),
            _ => {
                let session = self.start(node);
                sessions.insert((node, lane), session.clone());
                session
            }
        };
        drop(sessions);
        // A session that ends in between has dropped the answers already, or drops them at once.
        let mut open = session.open.lock();
        if !open.ended {
            open.answers.insert(id, answers);
        }
        drop(open);
        LinkStream {
            id,
            items: session.items,
            answers: received,
            open: session.open,
            large: session.large,
            own_large: 0,
        }
    }

    fn start(&self, node: NodeId) -> Session {
        let (items, queued) = mpsc::channel(ITEMS_MAX);
        let session = Session {
            items,
            open: Arc::default(),
            large: Arc::default(),
        };
        let target = Target {
            cluster: cluster_bytes(self.inner.cluster),
            node: node.0,
            ..Target::default()
        };
        let frames = Frames {
            target: Some(target),
            items: queued,
            open: session.open.clone(),
        };
        let ending = EndMark(session.open.clone());
        let peers = self.inner.peers.clone();
        self.inner.tasks.spawn("append-link", async move {
            let _ending = ending;
            run(peers, node, frames, &_ending.0).await;
        });
        session
    }
}

/// Whatever ends the session's task, its streams learn of it.
struct EndMark(Arc<Mutex<OpenStreams>>);

impl Drop for EndMark {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        open.ended = true;
        open.answers.clear();
    }
}

async fn run(peers: Peers, node: NodeId, frames: Frames, open: &Mutex<OpenStreams>) {
    let Some(channel) = peers.channel(node, Lane::Bulk) else {
        return;
    };
    let mut client = RaftServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let moved = peers.moved(node);
    let exchange = async {
        match client.append(frames).await {
            Ok(response) => {
                peers.report(node, Lane::Bulk, true);
                deliver(&peers, node, response.into_inner(), open).await
            }
            Err(status) => status,
        }
    };
    let ended = tokio::select! {
        biased; // nothing more goes to an address that is no longer the node's
        () = moved.cancelled() => tonic::Status::cancelled("node has moved"),
        ended = exchange => ended,
    };
    debug!(%node, reason = ended.message(), "append stream ended");
    peers.report(node, Lane::Bulk, false);
}

/// Hands answers to the streams they belong to, until the session breaks.
async fn deliver(
    peers: &Peers,
    node: NodeId,
    mut answers: tonic::Streaming<warren_proto::internal_v1::AppendResponse>,
    open: &Mutex<OpenStreams>,
) -> tonic::Status {
    loop {
        let frame = match answers.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return tonic::Status::unavailable("closed by the other node"),
            Err(status) => return status,
        };
        peers.hear(node);
        let open = open.lock();
        for reply in frame.replies {
            if let Some(answers) = open.answers.get(&reply.stream) {
                // There is room for every request in flight; an answer too many is dropped and times out.
                let _ = answers.try_send(reply);
            }
        }
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.large.fetch_sub(self.own_large, Ordering::Relaxed);
        let mut open = self.open.lock();
        open.answers.remove(&self.id);
        if open.ended {
            return;
        }
        let close = AppendItem {
            stream: self.id,
            step: AppendStep::Close.into(),
            ..AppendItem::default()
        };
        if self.items.try_send(close).is_err() {
            // Bounded by the streams there are; goes with the next frame.
            open.to_close.push(self.id);
        }
    }
}

/// The request side of a session: everything queued so far, up to a frame's bounds.
struct Frames {
    /// Sent in the first frame.
    target: Option<Target>,
    items: mpsc::Receiver<AppendItem>,
    open: Arc<Mutex<OpenStreams>>,
}

impl Stream for Frames {
    type Item = AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AppendRequest>> {
        let this = &mut *self;
        let mut frame = AppendRequest::default();
        let mut bytes = 0;
        while bytes < FRAME_BYTES && frame.items.len() < FRAME_ITEMS {
            match this.items.poll_recv(cx) {
                Poll::Ready(Some(item)) => {
                    bytes += item
                        .entries
                        .iter()
                        .map(|entry| entry.entry.len())
                        .sum::<usize>();
                    frame.items.push(item);
                }
                Poll::Ready(None) if frame.items.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if frame.items.is_empty() && this.target.is_none() {
            return Poll::Pending;
        }
        frame.target = this.target.take();
        let closed = std::mem::take(&mut this.open.lock().to_close);
        frame
            .items
            .extend(closed.into_iter().map(|stream| AppendItem {
                stream,
                step: AppendStep::Close.into(),
                ..AppendItem::default()
            }));
        Poll::Ready(Some(frame))
    }
}
