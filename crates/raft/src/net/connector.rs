//! Dials another node for tonic and shakes hands before HTTP/2 begins. Not here: when to dial (tonic, `pulse`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::codegen::{Service, http::Uri};

use super::handshake::{self, HandshakeError, Introduction};
use super::peers::{Lane, Peer};

/// Makes connections to one node, wherever it is now.
#[derive(Clone)]
pub(super) struct Connector {
    us: Arc<Introduction>,
    peer: Arc<Peer>,
    lane: Lane,
    /// A connection is made by the other node's kernel: it takes no longer when its process has no time.
    within: Duration,
}

impl Connector {
    pub(super) fn new(
        us: Arc<Introduction>,
        peer: Arc<Peer>,
        lane: Lane,
        within: Duration,
    ) -> Self {
        Self {
            us,
            peer,
            lane,
            within,
        }
    }

    async fn connect(self) -> Result<TokioIo<TcpStream>, HandshakeError> {
        let handshake_within = self.peer.patience.within();
        let until = Instant::now() + self.within + handshake_within;
        let lane = self.peer.lane(self.lane);
        lane.lock().dials(until);
        let met = self.meet(handshake_within).await;
        lane.lock().dialled();
        met
    }

    async fn meet(&self, handshake_within: Duration) -> Result<TokioIo<TcpStream>, HandshakeError> {
        let dialled = timeout(self.within, TcpStream::connect(self.peer.address())).await;
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let refused =
            matches!(&dialled, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        self.peer.dialled(refused);
        let mut stream = dialled?;
        stream.set_nodelay(true)?;
        let patience = &self.peer.patience;
        let began = Instant::now();
        let shaken = handshake::call(&mut stream, &self.us, self.peer.node, handshake_within).await;
        match &shaken {
            Ok(_) => patience.done(began.elapsed()),
            Err(HandshakeError::TimedOut(after)) => patience.cut_off(*after),
            Err(_) => {}
        }
        let identity = shaken?;
        if !self.peer.accepts(&identity) {
            return Err(HandshakeError::Refused);
        }
        self.peer.hear(None);
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = HandshakeError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
