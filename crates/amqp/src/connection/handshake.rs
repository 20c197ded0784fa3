//! From the protocol header to connection.open. Not here: who may log in and to which vhost (the session answers that).

use bytes::{Buf, BytesMut};

use super::{Connection, State, Tuning};
use crate::{
    error::AmqpError,
    event::{Client, EndReason, Event, Login, Opening},
    frame::{ChannelId, FRAME_BYTES_MIN, Frame, FrameKind},
    method::{Method, connection},
    sasl,
    text::ShortString,
};

const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// What clients of the version before the final one send; they mean 0-9-1.
const PROTOCOL_HEADER_OLD: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

impl Connection {
    /// Takes the protocol header; `false` if it is not there yet.
    pub(super) fn protocol_header(&mut self, input: &mut BytesMut) -> bool {
        let Some(header) = input.first_chunk::<8>() else {
            return false;
        };
        if *header == PROTOCOL_HEADER || *header == PROTOCOL_HEADER_OLD {
            input.advance(PROTOCOL_HEADER.len());
            Method::from(self.config.start()).encode(&mut self.output, ChannelId::CONNECTION);
            self.state = State::StartOk;
        } else {
            self.output.extend_from_slice(&PROTOCOL_HEADER);
            self.end(EndReason::NotAmqp(opening(header)));
        }
        true
    }

    pub(super) fn handshake_frame(&mut self, frame: &Frame) -> Result<Option<Event>, AmqpError> {
        match frame.kind {
            FrameKind::Heartbeat => super::running::check_heartbeat(frame).map(|()| None),
            FrameKind::Header | FrameKind::Body => Err(AmqpError::unexpected_frame(
                "content before connection.open-ok",
            )),
            FrameKind::Method => {
                let method = Method::decode(&frame.payload)?;
                if frame.channel != ChannelId::CONNECTION {
                    let text =
                        format_args!("channel {} used before connection.open-ok", frame.channel);
                    return Err(AmqpError::channel_error(text).for_method(method.id()));
                }
                self.handshake_method(method)
            }
        }
    }

    fn handshake_method(&mut self, method: Method) -> Result<Option<Event>, AmqpError> {
        let id = method.id();
        match (self.state, method) {
            (State::StartOk, Method::Connection(connection::Method::StartOk(it))) => {
                self.start_ok(it).map(Some)
            }
            (State::TuneOk, Method::Connection(connection::Method::TuneOk(it))) => {
                self.tune_ok(&it)?;
                Ok(None)
            }
            (State::Open, Method::Connection(connection::Method::Open(it))) => {
                self.state = State::Vhost;
                Ok(Some(Event::Open {
                    vhost: it.virtual_host,
                }))
            }
            (_, Method::Connection(connection::Method::Close(it))) => {
                self.state = State::ClientClosing;
                Ok(Some(Event::Close {
                    reply_code: it.reply_code,
                    reply_text: it.reply_text,
                }))
            }
            _ => Err(AmqpError::channel_error(format_args!(
                "method {id} before connection.open-ok"
            ))
            .for_method(id)),
        }
    }

    fn start_ok(&mut self, it: connection::StartOk) -> Result<Event, AmqpError> {
        let client = Client::new(it.client_properties);
        let credentials = sasl::credentials(&self.config.mechanisms, &it.mechanism, &it.response)?;
        self.client = client.clone();
        self.mechanism = ShortString::cut(&it.mechanism);
        self.state = State::Login;
        Ok(Event::Login(Box::new(Login {
            credentials,
            client,
        })))
    }

    fn tune_ok(&mut self, it: &connection::TuneOk) -> Result<(), AmqpError> {
        let offer = self.config.tune();
        let refused = |what: &str, value: u32, min: u32, max: u32| {
            AmqpError::not_allowed(format_args!(
                "{what} {value} is not between {min} and {max}"
            ))
            .for_method(connection::TuneOk::ID)
        };
        if !(1..=offer.channel_max).contains(&it.channel_max) {
            return Err(refused(
                "channel_max",
                it.channel_max.into(),
                1,
                offer.channel_max.into(),
            ));
        }
        if !(FRAME_BYTES_MIN..=offer.frame_max).contains(&it.frame_max) {
            return Err(refused(
                "frame_max",
                it.frame_max,
                FRAME_BYTES_MIN,
                offer.frame_max,
            ));
        }
        self.tuning = Tuning {
            channel_max: it.channel_max,
            frame_max: it.frame_max,
            heartbeat_s: it.heartbeat,
        };
        self.decoder.set_frame_bytes_max(it.frame_max);
        self.timers.set_heartbeat(it.heartbeat);
        self.state = State::Open;
        Ok(())
    }
}

fn opening(header: &[u8; 8]) -> Opening {
    const HTTP: [&[u8]; 6] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
    ];
    const HTTP2: &[u8] = b"PRI * HT";
    if HTTP.iter().any(|method| header.starts_with(method)) || header == HTTP2 {
        Opening::Http
    } else if header.starts_with(&[0x16, 0x03]) {
        Opening::Tls
    } else if header.starts_with(b"AMQP") {
        Opening::OtherAmqp
    } else {
        Opening::Unknown
    }
}
