//! What `build.rs` generates from `proto/`. Not here: anything written by hand.

/// The files of the client packages and what they import, as reflection serves them. Node-to-node and stored packages are
/// left out on purpose.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/client_descriptor_set.bin"));

/// The packages as nested modules, as generated code refers to itself.
#[allow(
    unreachable_pub,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::match_wildcard_for_single_variants,
    clippy::unused_async,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]
pub mod packages {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}
