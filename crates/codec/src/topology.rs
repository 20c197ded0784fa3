//! The topology group's entries, replies, and the topology as a snapshot. Not here: what they mean (`warren-topology`).

mod command;
mod objects;
mod placement;
mod policy;
mod reply;
mod snapshot;
mod tenancy;

pub use command::{TopologyEntry, decode_topology_entry, encode_topology_entry};
pub use reply::{decode_reply, encode_reply};
pub use snapshot::{decode_topology, encode_topology};
