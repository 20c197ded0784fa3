//! Decides who gets which message. Leader only, in memory, rebuilt after failover. Not here: IO, clocks, durable facts.

pub mod io;
