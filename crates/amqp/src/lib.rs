//! Sans-IO AMQP 0-9-1, the server's side (and enough of the client's to test it): frames, methods, contents, and the
//! state machine of a connection. Bytes and the time go in, events come out; the session says what it decides; bytes come
//! out. Not here: sockets, clocks, tasks, permissions, routing, queues.
//!
//! A session's loop reads, handles each event before it asks for the next, and flushes:
//!
//! ```
//! use std::sync::Arc;
//! use bytes::BytesMut;
//! use warren_amqp::{Config, Connection, Event, Request, Time, method::queue};
//!
//! /// Called after each read, with what has been read so far. The session then writes `connection.output()` to the
//! /// socket, says `connection.wrote(now)`, and reads again or, at `connection.deadline()`, calls `connection.tick(now)`.
//! fn after_read(connection: &mut Connection, input: &mut BytesMut, now: Time) {
//!     while let Some(event) = connection.next_event(input, now) {
//!         match event {
//!             Event::Login(_) => connection.login_ok(),                          // or login_refused
//!             Event::Open { .. } => connection.open_ok(),                        // or fail
//!             Event::Request { channel, request: Request::QueueDeclare(it) } => {
//!                 let answer = queue::DeclareOk { queue: it.queue, ..Default::default() };
//!                 connection.send(channel, answer);                              // or fail
//!             }
//!             Event::Publish { channel: _, publish: _ } => {}                    // route it, confirm it later
//!             Event::ChannelClose { channel, .. } => connection.channel_close_ok(channel),
//!             Event::Close { .. } => connection.close_ok(),
//!             _ => {}                                                            // a real session handles them all
//!         }
//!     }
//! }
//!
//! let mut connection = Connection::new(Arc::new(Config::default()), Time(0));
//! let mut input = BytesMut::from(&b"AMQP\x00\x00\x09\x01"[..]);
//! after_read(&mut connection, &mut input, Time(1));
//! assert!(!connection.output().is_empty()); // connection.start
//! ```
//!
//! Rules that make it simple for a session:
//!
//! - After [`Event::Login`], [`Event::Open`] and [`Event::Close`] no more events come until the session has answered.
//! - [`Connection::fail`] is the one way to refuse: the error's code decides whether it costs the channel or the
//!   connection. What the client sent behind the refused method is ignored, as the standard says.
//! - What the session says on a channel that has gone meanwhile is dropped and answered `false`.
//! - After [`Event::ChannelFailed`] and [`Event::Failed`] the channel or all channels are gone: return what was not
//!   settled. [`Event::Ended`] is the last event: write out the output, close the socket.
//! - Payloads and names are slices of the read buffer: copy out what outlives the batch.
//! - The session bounds the input: what `next_event` leaves is less than one frame, unless the session owes an answer;
//!   it stops reading then, and when it has no permits for more. It says so with [`Connection::set_reading`].
//! - Messages under way are held here, at most one per channel: [`Connection::incoming_bytes`] counts them.
//! - The session bounds the output: it flushes before it asks for more events when [`Connection::output`] is long.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod arguments;
mod body;
mod bookkeeping;
mod config;
mod connection;
mod content;
mod deliver;
mod error;
mod event;
mod frame;
pub mod method;
mod sasl;
mod text;

pub use body::Body;
pub use bookkeeping::{Confirm, ConfirmTracker, DeliveryTag, Outcome, UnackedTags};
pub use config::Config;
pub use connection::{Connection, Time, Tuning};
pub use content::{ContentHeader, Publish};
pub use deliver::{
    Content, Delivery, Got, Returned, encode_delivery, encode_get_ok, encode_publish, encode_return,
};
pub use error::{AmqpError, Code, Level};
pub use event::{Capabilities, Client, EndReason, Event, Login, Opening, Request};
pub use frame::{
    ChannelId, FRAME_BYTES_BEFORE_TUNE, FRAME_BYTES_MIN, FRAME_OVERHEAD_BYTES, Frame, FrameDecoder,
    FrameKind,
};
pub use method::{Method, MethodId};
pub use sasl::{Credentials, Mechanism, Secret};
pub use text::{ShortString, TooLong};
