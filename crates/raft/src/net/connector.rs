//! Dials another node for tonic and shakes hands before HTTP/2 begins. Not here: when to dial (tonic, `pulse`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::{Service, http::Uri};

use super::handshake::{self, HandshakeError, Introduction};
use super::peers::Peer;

/// Makes connections to one node, wherever it is now.
#[derive(Clone)]
pub(super) struct Connector {
    us: Arc<Introduction>,
    peer: Arc<Peer>,
}

impl Connector {
    pub(super) fn new(us: Arc<Introduction>, peer: Arc<Peer>) -> Self {
        Self { us, peer }
    }

    async fn connect(self) -> Result<TokioIo<TcpStream>, HandshakeError> {
        let dialled = TcpStream::connect(self.peer.address()).await;
        let refused =
            matches!(&dialled, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        self.peer.dialled(refused);
        let mut stream = dialled?;
        stream.set_nodelay(true)?;
        let identity = handshake::call(&mut stream, &self.us, self.peer.node).await?;
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
