//! A client's TCP connection as the server sees it: what its streams and calls share. Not here: HTTP/2 (`tonic`).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tonic::transport::server::Connected;

use crate::admission::ConnectionAdmission;
use crate::counters::CountedConnection;

/// A socket with the connection's share of admission.
pub(super) struct ClientIo {
    socket: TcpStream,
    peer: SocketAddr,
    admission: ConnectionAdmission,
    _counted: CountedConnection,
    _place: OwnedSemaphorePermit,
}

impl ClientIo {
    /// # Errors
    /// The client has gone already.
    pub(super) fn new(
        socket: TcpStream,
        admission: ConnectionAdmission,
        counted: CountedConnection,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        Ok(Self {
            peer: socket.peer_addr()?,
            socket,
            admission,
            _counted: counted,
            _place: place,
        })
    }
}

/// Found in the extensions of every request of the connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectionInfo {
    /// Of the socket; what a client says of itself does not count.
    pub(super) peer: SocketAddr,
    pub(super) admission: ConnectionAdmission,
}

impl Connected for ClientIo {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        ConnectionInfo {
            peer: self.peer,
            admission: self.admission.clone(),
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
