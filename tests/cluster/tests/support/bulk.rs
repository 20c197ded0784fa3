//! AMQP in bulk: clients that write as fast as they can, and read as fast or as slowly as a test wants. Not here: logging in (`amqp`).
#![allow(dead_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::amqp::short;

/// Of the messages that make memory grow if anything does.
pub(crate) const BODY_BYTES: usize = 16 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
const DELIVER: (u16, u16) = (60, 60);
const ACK: (u16, u16) = (60, 80);
const NACK: (u16, u16) = (60, 120);
const RETURN: (u16, u16) = (60, 50);

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind][..], &channel.to_be_bytes(), &size, payload, &[0xce]].concat()
}

/// A connection whose buffer for what comes is small: what it does not read stays with the server.
pub(crate) fn connect_narrow(address: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let socket = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        let stream = socket.connect(address.parse().unwrap()).await.unwrap();
        stream.into_std().unwrap()
    });
    socket.set_nonblocking(false).unwrap();
    socket
}

/// One message as bytes; the first eight of its body are a number.
pub(crate) struct Template {
    bytes: Vec<u8>,
    channel_at: Vec<usize>,
    number_at: usize,
}

impl Template {
    pub(crate) fn new(exchange: &str, key: &str, body_bytes: usize, is_mandatory: bool) -> Self {
        let bits = vec![u8::from(is_mandatory)];
        let method = [
            &[0, 60, 0, 40][..],
            &[0, 0],
            &short(exchange),
            &short(key),
            &bits,
        ]
        .concat();
        let size = u64::try_from(body_bytes).unwrap().to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &size, &[0; 2]].concat();
        let mut bytes = Vec::new();
        let mut channel_at = Vec::new();
        for (kind, payload) in [(1, method), (2, header), (3, vec![0x77; body_bytes])] {
            channel_at.push(bytes.len() + 1);
            bytes.extend(frame(kind, 1, &payload));
        }
        let number_at = bytes.len() - 1 - body_bytes;
        Self {
            bytes,
            channel_at,
            number_at,
        }
    }

    fn set(&mut self, number: u64, channel: u16) {
        self.bytes[self.number_at..self.number_at + 8].copy_from_slice(&number.to_be_bytes());
        for at in &self.channel_at {
            self.bytes[*at..*at + 2].copy_from_slice(&channel.to_be_bytes());
        }
    }
}

/// Writes messages whose numbers begin with 0, without waiting for anything.
pub(crate) struct Flood {
    socket: TcpStream,
    template: Template,
    /// The messages go to so many channels in turn.
    channels: u64,
    from: u64,
    /// Messages that are in the socket, whole.
    pub(crate) messages: u64,
    /// Bytes of the next one that are in the socket.
    begun: usize,
    /// How often the socket took nothing.
    pub(crate) pushed_back: u64,
}

impl Flood {
    pub(crate) fn new(socket: &TcpStream, template: Template, channels: u64) -> Self {
        let socket = socket.try_clone().unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            template,
            channels,
            from: 0,
            messages: 0,
            begun: 0,
            pushed_back: 0,
        }
    }

    pub(crate) fn numbered_from(self, from: u64) -> Self {
        Self { from, ..self }
    }

    /// Writes until the socket takes no more, or so many messages have gone in all. False: the socket took no more.
    pub(crate) fn write(&mut self, messages_max: u64) -> bool {
        while self.messages < messages_max {
            let channel = u16::try_from(self.messages % self.channels).unwrap() + 1;
            self.template.set(self.from + self.messages, channel);
            match self.socket.write(&self.template.bytes[self.begun..]) {
                Ok(written) => self.begun += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.pushed_back += 1;
                    return false;
                }
                Err(error) => panic!("the server ended the connection: {error}"),
            }
            if self.begun == self.template.bytes.len() {
                self.begun = 0;
                self.messages += 1;
            }
        }
        true
    }

    /// Brings the message that is begun to its end.
    pub(crate) fn finish(&mut self, within: Duration) {
        let (deadline, whole) = (
            Instant::now() + within,
            self.messages + u64::from(self.begun > 0),
        );
        while !self.write(whole) {
            assert!(Instant::now() < deadline, "the socket takes nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What came of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Confirm {
        channel: u16,
        tag: u64,
        multiple: bool,
        is_ack: bool,
    },
    /// A message, with the number in its body.
    Delivery {
        tag: u64,
        redelivered: bool,
        number: u64,
    },
    Returned {
        number: u64,
    },
}

/// Reads frames of a connection that is past its handshake.
pub(crate) struct Frames {
    socket: TcpStream,
    buffer: Vec<u8>,
    from: usize,
    /// A delivery or return whose content is coming.
    open: Option<Came>,
    body_left: u64,
    is_body_begun: bool,
}

impl Frames {
    pub(crate) fn new(socket: &TcpStream) -> Self {
        Self {
            socket: socket.try_clone().unwrap(),
            buffer: Vec::new(),
            from: 0,
            open: None,
            body_left: 0,
            is_body_begun: false,
        }
    }

    /// The next that comes; `None`: nothing is there now (or, where the socket blocks, came in its time).
    pub(crate) fn next(&mut self) -> Option<Came> {
        loop {
            while let Some((kind, channel, payload)) = self.frame() {
                if let Some(came) = self.take(kind, channel, &payload) {
                    return Some(came);
                }
            }
            if self.from > 0 {
                self.buffer.drain(..self.from);
                self.from = 0;
            }
            let end = self.buffer.len();
            self.buffer.resize(end + READ_BYTES, 0);
            let read = self.socket.read(&mut self.buffer[end..]);
            self.buffer.truncate(end + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => panic!("the server ended the connection"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("the server ended the connection: {error}"),
            }
        }
    }

    /// As `next`, of what must come.
    pub(crate) fn must(&mut self, within: Duration) -> Came {
        let deadline = Instant::now() + within;
        loop {
            if let Some(came) = self.next() {
                return came;
            }
            assert!(Instant::now() < deadline, "nothing came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes the confirms that are there, and nothing else may be; how many publishes have theirs.
    pub(crate) fn confirms(&mut self, confirms: &mut Confirms) -> u64 {
        while let Some(came) = self.next() {
            let Came::Confirm {
                tag,
                multiple,
                is_ack,
                ..
            } = came
            else {
                panic!("{came:?}")
            };
            confirms.take(tag, multiple, is_ack);
        }
        confirms.count
    }

    fn frame(&mut self) -> Option<(u8, u16, Vec<u8>)> {
        let there = &self.buffer[self.from..];
        let head: [u8; 7] = there.get(..7)?.try_into().unwrap();
        let size = u32::from_be_bytes(head[3..].try_into().unwrap());
        let size = usize::try_from(size).unwrap();
        let payload = there.get(7..7 + size)?.to_vec();
        assert_eq!(*there.get(7 + size)?, 0xce, "a frame has its end");
        self.from += size + 8;
        Some((head[0], u16::from_be_bytes([head[1], head[2]]), payload))
    }

    fn take(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Option<Came> {
        let eight = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
        match kind {
            1 => {
                let id = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
                match (id(0), id(2)) {
                    DELIVER => {
                        let at = 5 + usize::from(payload[4]);
                        self.open = Some(Came::Delivery {
                            tag: eight(at),
                            redelivered: payload[at + 8] & 1 == 1,
                            number: 0,
                        });
                    }
                    RETURN => self.open = Some(Came::Returned { number: 0 }),
                    it @ (ACK | NACK) => {
                        return Some(Came::Confirm {
                            channel,
                            tag: eight(4),
                            multiple: payload[12] & 1 == 1,
                            is_ack: it == ACK,
                        });
                    }
                    // connection.blocked, and what was asked before.
                    _ => {}
                }
                None
            }
            2 => {
                self.body_left = eight(4);
                self.is_body_begun = false;
                None
            }
            3 => {
                if !std::mem::replace(&mut self.is_body_begun, true)
                    && let Some(Came::Delivery { number, .. } | Came::Returned { number }) =
                        &mut self.open
                {
                    *number = eight(0);
                }
                self.body_left -= u64::try_from(payload.len()).unwrap();
                if self.body_left == 0 {
                    self.open.take()
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    /// Acknowledges all up to a delivery.
    pub(crate) fn ack_up_to(&mut self, tag: u64) {
        let ack = [&[0, 60, 0, 80][..], &tag.to_be_bytes(), &[1]].concat();
        self.socket.write_all(&frame(1, 1, &ack)).unwrap();
    }
}

/// What a channel's publishes have become. Each is told once.
#[derive(Default)]
pub(crate) struct Confirms {
    /// By tag, from 1 on: whether it was acknowledged.
    told: Vec<Option<bool>>,
    /// All up to this tag are told.
    whole: usize,
    pub(crate) count: u64,
}

impl Confirms {
    pub(crate) fn take(&mut self, tag: u64, multiple: bool, is_ack: bool) {
        let tag = usize::try_from(tag).unwrap();
        if self.told.len() < tag {
            self.told.resize(tag, None);
        }
        if !multiple {
            self.tell(tag - 1, is_ack);
        } else {
            for at in self.whole..tag {
                if self.told[at].is_none() {
                    self.tell(at, is_ack);
                }
            }
        }
        while self.told.get(self.whole).is_some_and(Option::is_some) {
            self.whole += 1;
        }
    }

    fn tell(&mut self, at: usize, is_ack: bool) {
        let before = self.told[at].replace(is_ack);
        assert_eq!(before, None, "publish {} is told twice", at + 1);
        self.count += 1;
    }

    /// Whether the publish of this number, from 0 on, was acknowledged.
    pub(crate) fn is_acked(&self, number: u64) -> bool {
        let at = usize::try_from(number).unwrap();
        self.told.get(at).copied().flatten() == Some(true)
    }
}
