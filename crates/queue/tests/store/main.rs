//! The store from outside: golden scripts of what it does, properties of what it never does. Not here: the dispatcher's tests.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

mod generator;
mod limits;
mod machine;
mod memory;
mod model;
mod moves;
mod nonsense;
mod properties;
#[path = "../support/rows.rs"]
mod rows;
mod script;
mod scripts;
mod show;
