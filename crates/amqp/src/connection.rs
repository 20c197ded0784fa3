//! The server's side of one connection as a state machine: bytes and time in, events and bytes out.
//! `handshake` and `running` take frames, `commands` is what a session may say, `timers` knows the deadlines.
//! Not here: sockets, clocks, permissions, queues.

mod channels;
mod commands;
mod handshake;
mod running;
mod timers;

use std::sync::Arc;

use bytes::BytesMut;

pub use timers::Time;

use crate::{
    config::Config,
    error::{AmqpError, Level},
    event::{Client, EndReason, Event},
    frame::{ChannelId, FRAME_BYTES_BEFORE_TUNE, Frame, FrameDecoder, put_heartbeat},
    method::{Method, connection},
    text::ShortString,
};
use channels::Channels;
use timers::{Due, Timers};

/// What both sides agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    pub channel_max: u16,
    /// Bytes of a whole frame.
    pub frame_max: u32,
    /// 0: no heartbeats.
    pub heartbeat_s: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits for the protocol header.
    Header,
    /// connection.start is sent.
    StartOk,
    /// The session owes `login_ok` or `login_refused`.
    Login,
    /// connection.tune is sent.
    TuneOk,
    /// Tuned, waits for connection.open.
    Open,
    /// The session owes `open_ok`.
    Vhost,
    Running,
    /// The client closes; the session owes `close_ok`.
    ClientClosing,
    /// connection.close is sent; everything but the answer is ignored.
    Closing {
        until: Time,
        input: Input,
    },
    Ended,
}

/// Whether what still comes can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Input {
    Readable,
    /// The stream's frames are lost: no answer will be recognised.
    Lost,
}

/// One client connection. See the crate's page for how a session drives it.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    state: State,
    decoder: FrameDecoder,
    channels: Channels,
    timers: Timers,
    tuning: Tuning,
    client: Client,
    /// How it logs in; one that was offered.
    mechanism: ShortString,
    /// So many channels more may be opened, and why no more; `None`: as many as were agreed on.
    channel_room: Option<(u32, Box<str>)>,
    /// connection.blocked has been sent.
    blocked: bool,
    output: BytesMut,
    /// Bytes the last call left in the input: more than that is traffic.
    leftover_bytes: usize,
    /// Why it ended, until the session has been told.
    untold_end: Option<EndReason>,
}

impl Connection {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(config: Arc<Config>, now: Time) -> Self {
        let timers = Timers::new(now, config.handshake_ms_max);
        Self {
            config,
            state: State::Header,
            decoder: FrameDecoder::default(),
            channels: Channels::default(),
            timers,
            tuning: Tuning {
                channel_max: 0,
                frame_max: FRAME_BYTES_BEFORE_TUNE,
                heartbeat_s: 0,
            },
            client: Client::default(),
            mechanism: ShortString::default(),
            channel_room: None,
            blocked: false,
            output: BytesMut::new(),
            leftover_bytes: 0,
            untold_end: None,
        }
    }

    /// Takes bytes off the front of `input` up to the next event. `None`: nothing more to say until more bytes come, a
    /// deadline passes or the session gives the answer it owes. Handle each event before asking for the next, so that a
    /// channel the session fails takes nothing of what the client sent behind it.
    pub fn next_event(&mut self, input: &mut BytesMut, now: Time) -> Option<Event> {
        if input.len() > self.leftover_bytes {
            self.timers.received(now);
        }
        let event = self.advance(input, now);
        self.leftover_bytes = input.len();
        event
    }

    fn advance(&mut self, input: &mut BytesMut, now: Time) -> Option<Event> {
        loop {
            match self.state {
                State::Header => {
                    if !self.protocol_header(input) {
                        return None;
                    }
                    continue;
                }
                State::Login | State::Vhost | State::ClientClosing => return None,
                State::Ended
                | State::Closing {
                    input: Input::Lost, ..
                } => {
                    input.clear();
                    return self.end_event();
                }
                State::StartOk
                | State::TuneOk
                | State::Open
                | State::Running
                | State::Closing {
                    input: Input::Readable,
                    ..
                } => {}
            }
            let frame = match self.decoder.next(input) {
                Ok(frame) => frame?,
                Err(error) => {
                    if let Some(event) = self.input_lost(error, now) {
                        return Some(event);
                    }
                    continue;
                }
            };
            let channel = frame.channel;
            match self.frame(frame) {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(error) => return Some(self.raise(channel, error, now)),
            }
        }
    }

    fn frame(&mut self, frame: Frame) -> Result<Option<Event>, AmqpError> {
        match self.state {
            State::StartOk | State::TuneOk | State::Open => self.handshake_frame(&frame),
            State::Running => self.running_frame(frame),
            State::Closing { .. } => {
                self.closing_frame(&frame);
                Ok(None)
            }
            State::Header | State::Login | State::Vhost | State::ClientClosing | State::Ended => {
                Ok(None)
            }
        }
    }

    /// After connection.close only its answer, or the client's own close, means anything.
    fn closing_frame(&mut self, frame: &Frame) {
        if frame.channel != ChannelId::CONNECTION {
            return;
        }
        match Method::decode(&frame.payload) {
            Ok(Method::Connection(connection::Method::CloseOk(_))) => {
                self.end(EndReason::ClosedByServer)
            }
            Ok(Method::Connection(connection::Method::Close(_))) => {
                Method::from(connection::CloseOk {})
                    .encode(&mut self.output, ChannelId::CONNECTION);
                self.end(EndReason::ClosedByServer);
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// The frames of the stream are lost: says so and reads no more.
    fn input_lost(&mut self, error: AmqpError, now: Time) -> Option<Event> {
        let closing = matches!(self.state, State::Closing { .. });
        let event = (!closing).then(|| self.raise(ChannelId::CONNECTION, error, now));
        if let State::Closing { input, .. } = &mut self.state {
            *input = Input::Lost;
        }
        event
    }

    /// Fails a channel or the connection for something the client sent.
    fn raise(&mut self, channel: ChannelId, error: AmqpError, now: Time) -> Event {
        let level = self.level(channel, &error);
        self.fail(channel, error.clone(), now);
        match level {
            Level::Channel => Event::ChannelFailed { channel, error },
            Level::Connection => Event::Failed { error },
        }
    }

    fn level(&self, channel: ChannelId, error: &AmqpError) -> Level {
        if channel == ChannelId::CONNECTION {
            Level::Connection
        } else {
            error.level()
        }
    }

    fn end(&mut self, reason: EndReason) {
        if self.state != State::Ended {
            self.state = State::Ended;
            self.channels = Channels::default();
            self.untold_end = Some(reason);
        }
    }

    fn end_event(&mut self) -> Option<Event> {
        self.untold_end.take().map(|reason| Event::Ended { reason })
    }

    /// Does what is due: heartbeats, and the end of a peer that keeps one waiting. Call it at [`Connection::deadline`],
    /// or whenever; then write the output. At most one event comes of it.
    pub fn tick(&mut self, now: Time) -> Option<Event> {
        let reason = match self.state {
            State::Ended => return self.end_event(),
            State::Closing { until, .. } if now >= until => Some(EndReason::CloseTimeout),
            State::Closing { .. } => None,
            State::Header | State::StartOk | State::Login | State::TuneOk => self
                .timers
                .handshake_over(now)
                .then_some(EndReason::HandshakeTimeout),
            State::Open | State::Vhost if self.timers.handshake_over(now) => {
                Some(EndReason::HandshakeTimeout)
            }
            State::Open | State::Vhost | State::Running | State::ClientClosing => {
                self.heartbeat(now)
            }
        };
        self.end(reason?);
        self.end_event()
    }

    fn heartbeat(&mut self, now: Time) -> Option<EndReason> {
        match self.timers.due(now) {
            Due::Nothing => None,
            Due::PeerGone => Some(EndReason::HeartbeatTimeout),
            Due::Send => {
                // With output waiting the peer hears of us as soon as it reads; more would only pile up.
                if self.output.is_empty() {
                    put_heartbeat(&mut self.output);
                }
                self.timers.sent(now);
                None
            }
        }
    }

    /// When [`Connection::tick`] is to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Header | State::StartOk | State::Login | State::TuneOk => {
                Some(self.timers.handshake_end())
            }
            State::Open | State::Vhost => {
                let handshake = self.timers.handshake_end();
                Some(
                    self.timers
                        .next_heartbeat()
                        .map_or(handshake, |it| it.min(handshake)),
                )
            }
            State::Running | State::ClientClosing => self.timers.next_heartbeat(),
            State::Closing { until, .. } => Some(until),
            State::Ended => None,
        }
    }

    /// What is to be written to the socket: take it off the front, then call [`Connection::wrote`].
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Bytes of the output have gone into the socket.
    pub fn wrote(&mut self, now: Time) {
        self.timers.sent(now);
    }

    /// The session stops reading the socket (or reads on): a peer that is not listened to is not missed.
    pub fn set_reading(&mut self, reading: bool, now: Time) {
        self.timers.set_listening(reading, now);
    }

    /// What both sides agreed on; before that, what holds until then.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// What the client said of itself.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Bytes of bodies whose last frame has not come yet, over all channels. Walks over the channels.
    #[must_use]
    pub fn incoming_bytes(&self) -> u64 {
        self.channels.incoming_bytes()
    }

    /// The last event has been made: nothing more is read or said.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The channel takes methods and deliveries.
    #[must_use]
    pub fn is_open(&self, channel: ChannelId) -> bool {
        self.state == State::Running && self.channels.is_open(channel)
    }
}
