//! AMQP 0-9-1 for clients: one task per connection, which owns the socket, the protocol's state machine (`warren-amqp`) and one
//! session on the broker. Not here: the wire format (`warren-amqp`), what both fronts share (the crate's other modules).
//!
//! The road of a channel is one: what must wait (a declare for its commit, a consume for its queue's leader) keeps the channel's
//! later frames waiting, and no other channel's. Publishes wait for nothing; what looks into a queue waits for the channel's own
//! publishes first. When too much waits, the socket is not read.

mod binding;
mod caller;
mod channel;
mod closing;
mod commit;
mod consume;
mod deliver;
mod error;
mod get;
mod lend;
mod listen;
mod login;
mod names;
mod operation;
mod outbox;
mod permit;
mod pipeline;
mod publishes;
mod reply;
mod revoke;
mod route;
mod run;
mod session;
mod settle;
mod shares;
mod stall;
mod steps;
mod timeout;
mod transaction;
mod wire;

pub use listen::serve_amqp;
