//! The node-to-node listener: a connection is passed on to tonic only after the handshake. Not here: services.
//!
//! Closing it while the process goes on makes other nodes think the process is gone, once its own connections to them are
//! closed too: stop leading first.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tracing::warn;

use super::handshake::{self, HandshakeError, PeerIdentity};
use super::peers::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, KEEPALIVE_EVERY, KEEPALIVE_WITHIN, Peer, Peers,
    STREAM_WINDOW_BYTES,
};

/// Connections in their handshake; beyond it new ones wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 64;

/// Accepts connections of other nodes.
pub struct NodeListener {
    listener: TcpListener,
    peers: Peers,
}

impl NodeListener {
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs, peers: Peers) -> io::Result<Self> {
        Ok(Self::new(TcpListener::bind(address).await?, peers))
    }

    /// Takes a listener that is bound already.
    #[must_use]
    pub fn new(listener: TcpListener, peers: Peers) -> Self {
        Self { listener, peers }
    }

    /// # Errors
    /// If the socket is broken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Proven connections, for `Server::serve_with_incoming_shutdown`. A caller that is refused is logged, not returned.
    pub fn incoming(self) -> impl Stream<Item = io::Result<PeerStream>> + Send + 'static {
        Incoming {
            listener: self.listener,
            peers: self.peers,
            handshakes: FuturesUnordered::new(),
        }
    }
}

/// tonic's server with the settings that calls between nodes need. Add services, then serve `NodeListener::incoming`.
#[must_use]
pub fn node_server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
}

type Handshake = Pin<Box<dyn Future<Output = Result<PeerStream, HandshakeError>> + Send>>;

struct Incoming {
    listener: TcpListener,
    peers: Peers,
    handshakes: FuturesUnordered<Handshake>,
}

impl Stream for Incoming {
    type Item = io::Result<PeerStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.handshakes.len() < HANDSHAKES_MAX {
            match this.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, address))) => {
                    this.handshakes
                        .push(Box::pin(admit(stream, address, this.peers.clone())));
                }
                // Out of descriptors, perhaps: tonic goes on after an error of one connection.
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(Some(result)) = this.handshakes.poll_next_unpin(cx) {
            if let Ok(stream) = result {
                return Poll::Ready(Some(Ok(stream)));
            }
        }
        Poll::Pending
    }
}

async fn admit(
    mut stream: TcpStream,
    address: SocketAddr,
    peers: Peers,
) -> Result<PeerStream, HandshakeError> {
    stream.set_nodelay(true)?;
    let admitted = async {
        let known = |node| peers.peer(node).and_then(|peer| peer.incarnation());
        let identity = handshake::listen(&mut stream, peers.us(), known).await?;
        Ok((identity, peers.peer(identity.node)))
    };
    let (identity, peer) = admitted.await.inspect_err(|error: &HandshakeError| {
        warn!(%address, %error, "connection of a node refused");
        if let HandshakeError::KnownOtherwise { node, called, .. } = error {
            peers.note_stranger(*node, *called);
        }
    })?;
    Ok(PeerStream {
        stream,
        identity,
        _open: peer.map(OpenMark::new),
    })
}

/// A proven connection of another node. Its identity is an extension of every request that comes over it.
pub struct PeerStream {
    stream: TcpStream,
    identity: PeerIdentity,
    _open: Option<OpenMark>,
}

/// Counts as a connection of the node while it lives.
struct OpenMark(Arc<Peer>);

impl OpenMark {
    fn new(peer: Arc<Peer>) -> Self {
        peer.inbound_opened();
        peer.hear(None);
        Self(peer)
    }
}

impl Drop for OpenMark {
    fn drop(&mut self) {
        self.0.inbound_closed();
    }
}

impl Connected for PeerStream {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.identity
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
