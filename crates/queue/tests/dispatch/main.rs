//! The dispatcher alone: golden scripts and laws, against a store of a few lines. Not here: the real store (`machine_props`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod fake;
mod script;
