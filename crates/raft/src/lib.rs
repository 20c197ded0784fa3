//! Replicated groups; the only crate that names openraft.
