//! The node's sockets: bound early, so that a port in use is told before anything else happens; served when there is something to
//! serve. Not here: what is served (`gateway`, `warren-raft`, `node_service`).

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use warren_topology::Addresses;

use crate::config::Config;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

#[derive(Debug, Error)]
pub enum ListenError {
    #[error("{setting}: {address} is in use by another process")]
    InUse {
        setting: &'static str,
        address: SocketAddr,
    },
    #[error("{setting}: cannot listen on {address}: {source}")]
    Io {
        setting: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
}

impl ListenError {
    fn new(setting: &'static str, address: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            return Self::InUse { setting, address };
        }
        Self::Io {
            setting,
            address,
            source,
        }
    }
}

/// An address that is taken, but where nobody is answered yet.
pub(crate) struct Bound {
    setting: &'static str,
    address: SocketAddr,
    socket: TcpSocket,
}

impl Bound {
    fn new(setting: &'static str, wanted: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError::new(setting, wanted, source);
        let socket = if wanted.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        };
        let socket = socket.map_err(failed)?;
        // A restart binds at once, whatever connections of the last run still linger in the kernel.
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(wanted).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self {
            setting,
            address,
            socket,
        })
    }

    pub(crate) fn listen(self) -> Result<TcpListener, ListenError> {
        let Self {
            setting,
            address,
            socket,
        } = self;
        socket
            .listen(BACKLOG)
            .map_err(|source| ListenError::new(setting, address, source))
    }
}

/// All listeners of a node.
pub(crate) struct Sockets {
    pub(crate) node: Bound,
    pub(crate) grpc: Bound,
    pub(crate) amqp: Option<Bound>,
    pub(crate) http: Option<Bound>,
    pub(crate) metrics: Option<Bound>,
}

impl Sockets {
    pub(crate) fn bind(config: &Config) -> Result<Self, ListenError> {
        let optional = |setting, address: Option<SocketAddr>| {
            address
                .map(|address| Bound::new(setting, address))
                .transpose()
        };
        let listen = &config.listen;
        Ok(Self {
            node: Bound::new("listen.node", listen.node)?,
            grpc: Bound::new("listen.grpc", listen.grpc)?,
            amqp: optional("listen.amqp", listen.amqp)?,
            http: optional("listen.http", listen.http)?,
            metrics: optional("listen.metrics", listen.metrics)?,
        })
    }

    /// What others are told.
    pub(crate) fn addresses(&self, config: &Config) -> Addresses {
        let told = |given: &Option<String>, bound: &Bound| {
            given
                .clone()
                .unwrap_or_else(|| bound.address.to_string())
                .into_boxed_str()
        };
        let advertise = &config.advertise;
        Addresses {
            node: told(&advertise.node, &self.node),
            grpc: told(&advertise.grpc, &self.grpc),
            amqp: self
                .amqp
                .as_ref()
                .map_or_else(Box::default, |amqp| told(&advertise.amqp, amqp)),
        }
    }
}
