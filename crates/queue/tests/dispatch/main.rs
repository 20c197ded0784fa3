//! The dispatcher alone: golden scripts, against a store on rows in memory. Not here: laws (`machine_props`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod ask;
mod line;
mod say;
mod script;
mod shard;
