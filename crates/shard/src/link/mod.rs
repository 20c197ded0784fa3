//! How a node with sessions and a shard's leader talk: frames, and what carries them. Not here: what either end does (`uplink`, `leader`).

pub(crate) mod convert;
pub(crate) mod frame;
pub(crate) mod outbox;
pub(crate) mod post;
pub(crate) mod remote;
pub(crate) mod reply;
pub(crate) mod service;
