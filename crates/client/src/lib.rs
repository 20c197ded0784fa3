//! The Rust client: connection, publisher with confirms, consumer stream.
