//! Health and metrics of a node over HTTP, without a login and without names of objects. Not here: the listeners' sockets and what
//! is measured of the process (`server`), queues over HTTP and the web console, which do not exist yet.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod figures;
mod health;
mod http;
mod metrics;
mod overview;
mod page;
mod totals;

pub use figures::ProcessFigures;
pub use http::{Site, serve};
pub use overview::{NodeFacts, Overview};
