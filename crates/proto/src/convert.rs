//! Conversions between the client messages of `warren.v1` and the values of `warren-types`, and errors as clients see them.
//! Not here: routing, admission, sessions; conversions of stored messages (`warren-codec`).

pub mod error;
pub mod hints;
pub mod message;
pub mod publish;
pub mod reason;
pub mod value;
