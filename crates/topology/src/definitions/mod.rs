//! Definitions: all that is declared, as one JSON document in RabbitMQ's form, and the commands that declare what a document has
//! (features F31). Not here: proposing the commands, hashing passwords that a document has in clear (`gateway`).

mod document;
mod export;
mod hashes;
mod json;
mod plan;
mod policies;
mod report;
mod users;

/// The global parameter that holds the digest of what a node has loaded at its start; it is not exported.
pub const LOADED_PARAMETER: &str = "warren_loaded_definitions";

pub use document::{ClearPassword, Document, DocumentError};
pub use plan::{Item, Section};
pub use report::Report;
