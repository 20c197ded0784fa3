//! Source rules and crate edges, held by a test. Each rule is a function from sources to findings, tried on planted
//! samples beside it; `tests/workspace.rs` runs them all over this workspace. Not here: what rustfmt and clippy hold.

pub mod code;
pub mod edges;
mod finding;
mod mask;
pub mod text;
mod tree;

pub use finding::Finding;
pub use mask::code_only;
pub use tree::{SourceFile, load, workspace_root};
