//! Source rules and crate edges, held by a test.
