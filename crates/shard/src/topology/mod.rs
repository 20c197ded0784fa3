//! The topology group on this node: its machine, and the handle through which everyone reads and changes the topology.
//! Not here: its rules (`warren-topology`).

pub(crate) mod handle;
pub(crate) mod machine;
mod serve;
pub(crate) mod stored;
#[cfg(test)]
pub(crate) mod testing;
