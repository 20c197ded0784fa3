//! A client's TCP connection as the server sees it: what its streams and calls share. Not here: HTTP/2 (`tonic`).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tonic::transport::server::Connected;
use tracing::info;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_types::{UserName, VhostId};

use crate::admission::ConnectionAdmission;
use crate::auth::Who;
use crate::counters::CountedConnection;
use crate::gateway::Gateway;
use crate::places::Place;

/// A socket with the connection's share of admission.
pub(super) struct ClientIo {
    socket: TcpStream,
    peer: SocketAddr,
    admission: ConnectionAdmission,
    seats: Seats,
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
            seats: Seats::default(),
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
    pub(super) seats: Seats,
}

/// Where the connection counts against limits of connections: once for each user and vhost that it has streams for. Single calls do not
/// count.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

type Taken = HashMap<(UserName, VhostId), Weak<Place>>;

impl Seats {
    /// Held as long as the stream that asks for it.
    ///
    /// # Errors
    /// The user or the vhost has as many connections as it may.
    pub(super) fn take(
        &self,
        gateway: &Gateway,
        who: &Who,
        vhost: VhostId,
    ) -> Result<Arc<Place>, ApiError> {
        let user = who.principal.name();
        let mut taken = self.0.lock();
        taken.retain(|_, place| place.strong_count() > 0);
        let key = (user.clone(), vhost);
        if let Some(place) = taken.get(&key).and_then(Weak::upgrade) {
            return Ok(place);
        }
        let opened = gateway.places().open(&gateway.topology(), vhost, user);
        let place = opened.map_err(|reached| {
            info!(%reached, "stream refused");
            ApiError::new(Reason::LimitReached, reached.to_string())
        })?;
        let place = Arc::new(place);
        taken.insert(key, Arc::downgrade(&place));
        Ok(place)
    }
}

impl Connected for ClientIo {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        ConnectionInfo {
            peer: self.peer,
            admission: self.admission.clone(),
            seats: self.seats.clone(),
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
