//! An open consume stream: how it is opened, and what its frames are wrapped in. Not here: what is said on it (`driver`).

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use warren_proto::v1::{
    self, consume_request::Frame as Request, consume_response::Frame as Response,
};

use super::ConsumerOptions;
use crate::{
    connection::{Connection, millis},
    error::{Error, Refusal},
};

/// Frames handed to the transport and not yet taken by it.
const FRAMES_QUEUED: usize = 16;
/// Silence after which the node is asked whether it is there; a third of the lease if that is less.
const PING_AFTER: Duration = Duration::from_secs(1);
const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// Without acknowledgements: bytes granted with each message.
pub(super) const BYTES_PER_CREDIT: u64 = 64 << 10;

/// An open stream.
pub(super) struct Link {
    pub(super) index: usize,
    pub(super) outgoing: mpsc::Sender<v1::ConsumeRequest>,
    pub(super) incoming: Streaming<v1::ConsumeResponse>,
    /// When a ping was sent that has no answer, or of the last sign of life.
    pub(super) heard: Instant,
    pub(super) pinged_at: Option<Instant>,
    pub(super) last_ping: Instant,
    pub(super) ping_every: Duration,
}

impl Link {
    /// Opens a stream on a node.
    ///
    /// # Errors
    /// The node does not answer in time, or refuses.
    pub(super) async fn open(
        connection: &Connection,
        index: usize,
        open: Request,
        patience: Duration,
    ) -> Result<(Self, v1::Opened), Error> {
        let node = connection.node(index);
        let waited = connection.options().connect_timeout + patience;
        let (outgoing, requests) = mpsc::channel(FRAMES_QUEUED);
        let opening = async {
            // It cannot be full, and its other end is in this function.
            let _ = outgoing.send(frame(open)).await;
            let mut client = node.messaging();
            let stream = client.consume(node.request(ReceiverStream::new(requests)));
            let mut incoming = stream.await?.into_inner();
            let first = incoming.message().await?;
            Ok((incoming, first.and_then(|it| it.frame)))
        };
        let opened: Result<_, tonic::Status> =
            timeout(waited, opening).await.map_err(|_| Error::Timeout {
                operation: "opening a consumer",
                waited_ms: millis(waited),
            })?;
        let (incoming, first) = opened.map_err(|status| connection.error_of(&status))?;
        let opened = match first {
            Some(Response::Opened(opened)) => opened,
            Some(Response::Notice(notice)) => return Err(notice_error(&notice)),
            Some(_) | None => {
                return Err(Error::Unreachable {
                    addresses: node.address.to_string(),
                    cause: "it did not open the stream".to_owned(),
                });
            }
        };
        let lease = opened
            .lease
            .as_ref()
            .and_then(|it| Duration::try_from(*it).ok());
        let lease = lease.filter(|it| !it.is_zero()).unwrap_or(LEASE_DEFAULT);
        let now = Instant::now();
        let link = Self {
            index,
            outgoing,
            incoming,
            heard: now,
            pinged_at: None,
            last_ping: now,
            ping_every: (lease / 3).min(PING_AFTER),
        };
        Ok((link, opened))
    }
}

/// Without acknowledgements the client counts; with them the server does, up to the prefetch, and to these bytes if any are named.
pub(super) fn first_credit(options: &ConsumerOptions) -> Option<v1::Credit> {
    let messages = options.prefetch.max(1);
    if options.no_ack {
        let bytes = u64::from(messages) * BYTES_PER_CREDIT;
        return Some(v1::Credit { messages, bytes });
    }
    (options.prefetch_bytes != 0).then_some(v1::Credit {
        messages: 0,
        bytes: options.prefetch_bytes,
    })
}

pub(super) fn frame(frame: Request) -> v1::ConsumeRequest {
    v1::ConsumeRequest { frame: Some(frame) }
}

/// Why the server gives notice.
pub(super) fn notice_error(notice: &v1::Notice) -> Error {
    match &notice.status {
        Some(status) => Error::Refused(Refusal::from_in_band(Some(status))),
        None => Error::Unreachable {
            addresses: "the node".to_owned(),
            cause: "it is about to stop".to_owned(),
        },
    }
}
