//! Between nodes: who is there (`peers`), how they meet (`handshake`, `connector`, `listener`) and how often (`lanes`), and Raft's traffic:
//! what goes out (`client`, `append_stream`, `append_link`, `pulse`, `snapshot_out`) and what comes in (`service` and its parts).
//! Not here: what a request does to a group (openraft), forwarding (`shard`).

mod append_link;
mod append_stream;
mod client;
mod connector;
mod handshake;
mod lanes;
mod links;
mod listener;
mod peers;
mod pulse;
mod serve_append;
mod serve_pulse;
mod service;
mod snapshot_in;
mod snapshot_out;

use bytes::Bytes;
use warren_types::ClusterId;

pub(crate) use client::NetworkFactory;
pub use handshake::{ClusterSecret, HandshakeError, PeerIdentity};
pub(crate) use links::Links;
pub use listener::{NodeListener, PeerStream, node_server};
pub use peers::{Lane, PeerHealth, PeerOptions, Peers};
pub use service::RaftService;

/// One message between nodes: an entry with the largest message body and what was batched with it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 132 << 20;

/// A cluster's identity as `Target` carries it.
fn cluster_bytes(cluster: ClusterId) -> Bytes {
    Bytes::copy_from_slice(&cluster.0.to_be_bytes())
}
