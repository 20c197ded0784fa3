//! A session that says yes to everything, and the frames a client sends. Not here: any test.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use warren_amqp::{
    ChannelId, Config, Connection, Content, Event, Frame, FrameDecoder, Method, ShortString, Time,
    encode_publish,
    method::{basic, channel, connection},
};
use warren_types::{Properties, Table};

pub(crate) const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
pub(crate) const CHANNEL: ChannelId = ChannelId(1);

/// A connection with its input, its clock and what it has said.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) input: BytesMut,
    pub(crate) now: Time,
    /// Everything the connection has said so far.
    pub(crate) said: BytesMut,
    /// Answer what the session owes.
    pub(crate) agreeable: bool,
}

impl Peer {
    pub(crate) fn new(config: Config) -> Self {
        let now = Time(1_000);
        let connection = Connection::new(Arc::new(config), now);
        Self {
            connection,
            input: BytesMut::new(),
            now,
            said: BytesMut::new(),
            agreeable: true,
        }
    }

    /// Open, with channel 1.
    pub(crate) fn running() -> Self {
        Self::running_with(Config::default())
    }

    pub(crate) fn running_with(config: Config) -> Self {
        let mut peer = Self::new(config);
        peer.feed(HEADER);
        peer.feed(&handshake());
        peer.feed(&method(CHANNEL, channel::Open {}));
        assert!(peer.connection.is_open(CHANNEL));
        peer.said.clear();
        peer
    }

    /// Takes bytes from the client and gives the events.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.connection.next_event(&mut self.input, self.now) {
            if self.agreeable {
                self.answer(&event);
            }
            events.push(event);
        }
        self.flush();
        events
    }

    fn answer(&mut self, event: &Event) {
        match event {
            Event::Login(_) => self.connection.login_ok(),
            Event::Open { .. } => self.connection.open_ok(),
            Event::ChannelClose { channel, .. } => self.connection.channel_close_ok(*channel),
            Event::UpdateSecret { .. } => self.connection.update_secret_ok(),
            Event::Close { .. } => self.connection.close_ok(),
            Event::ChannelOpened { .. }
            | Event::Request { .. }
            | Event::Publish { .. }
            | Event::ChannelFailed { .. }
            | Event::Failed { .. }
            | Event::Ended { .. } => {}
        }
    }

    pub(crate) fn flush(&mut self) {
        let bytes = self.connection.output().split();
        if !bytes.is_empty() {
            self.said.extend_from_slice(&bytes);
            self.connection.wrote(self.now);
        }
    }

    pub(crate) fn wait_ms(&mut self, ms: u64) -> Option<Event> {
        self.now = self.now.plus_ms(ms);
        let event = self.connection.tick(self.now);
        self.flush();
        event
    }

    /// The frames said since the last call.
    pub(crate) fn frames(&mut self) -> Vec<Frame> {
        self.flush();
        let mut decoder = FrameDecoder::default();
        decoder.set_frame_bytes_max(u32::MAX);
        std::iter::from_fn(|| decoder.next(&mut self.said).unwrap()).collect()
    }

    /// The methods said since the last call.
    pub(crate) fn methods(&mut self) -> Vec<(ChannelId, Method)> {
        self.frames()
            .into_iter()
            .map(|it| (it.channel, Method::decode(&it.payload).unwrap()))
            .collect()
    }

    /// The only thing said since the last call is a close with this code, of this channel (0: the connection).
    pub(crate) fn closed(&mut self) -> (u16, u16) {
        match &self.methods()[..] {
            [(at, Method::Connection(connection::Method::Close(it)))] => (at.0, it.reply_code),
            [(at, Method::Channel(channel::Method::Close(it)))] => (at.0, it.reply_code),
            other => panic!("expected one close, got {other:?}"),
        }
    }
}

pub(crate) fn method(channel: ChannelId, it: impl Into<Method>) -> Vec<u8> {
    let mut out = BytesMut::new();
    it.into().encode(&mut out, channel);
    out.to_vec()
}

pub(crate) fn short(text: &str) -> ShortString {
    ShortString::try_from(text).unwrap()
}

pub(crate) fn start_ok(
    mechanism: &str,
    response: &'static [u8],
    capable: bool,
) -> connection::StartOk {
    let capabilities = Table::new()
        .with("authentication_failure_close", capable)
        .with("consumer_cancel_notify", capable)
        .with("connection.blocked", capable);
    connection::StartOk {
        client_properties: Table::new()
            .with("product", "pika")
            .with("connection_name", "test")
            .with("capabilities", capabilities),
        mechanism: short(mechanism),
        response: Bytes::from_static(response),
        locale: short("en_US"),
    }
}

pub(crate) fn tune_ok() -> connection::TuneOk {
    connection::TuneOk {
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat: 60,
    }
}

/// start-ok, tune-ok and open.
pub(crate) fn handshake() -> Vec<u8> {
    let connection = ChannelId::CONNECTION;
    let open = connection::Open {
        virtual_host: short("/"),
    };
    let login = method(connection, start_ok("PLAIN", b"\0guest\0guest", true));
    [
        login,
        method(connection, tune_ok()),
        method(connection, open),
    ]
    .concat()
}

/// A frame of any kind.
pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.put_u16(channel);
    out.put_u32(u32::try_from(payload.len()).unwrap());
    out.put_slice(payload);
    out.put_u8(0xCE);
    out
}

/// A content header frame on channel 1.
pub(crate) fn content_header(size: u64, properties: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.put_u64(size);
    payload.put_slice(properties);
    frame(2, CHANNEL.0, &payload)
}

/// basic.publish alone.
pub(crate) fn publish_method() -> Vec<u8> {
    method(
        CHANNEL,
        basic::Publish {
            routing_key: short("q"),
            ..basic::Publish::default()
        },
    )
}

/// A whole message on channel 1.
pub(crate) fn publish(
    exchange: &str,
    key: &str,
    properties: &Properties,
    body: &[u8],
    frame_max: u32,
) -> Vec<u8> {
    let mut out = BytesMut::new();
    let publish = basic::Publish {
        exchange: short(exchange),
        routing_key: short(key),
        ..basic::Publish::default()
    };
    let body = [Bytes::copy_from_slice(body)];
    encode_publish(
        &mut out,
        CHANNEL,
        &publish,
        Content {
            properties,
            body: &body,
        },
        frame_max,
    );
    out.to_vec()
}

/// What the bytes cost: (closed channel or 0, code).
pub(crate) fn cost(bytes: &[u8]) -> (u16, u16) {
    let mut peer = Peer::running();
    peer.feed(bytes);
    peer.closed()
}

pub(crate) fn on_channel(it: impl Into<Method>) -> Vec<u8> {
    method(CHANNEL, it)
}
