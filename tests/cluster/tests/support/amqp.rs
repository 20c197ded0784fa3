//! An AMQP client of a few methods, byte by byte, that waits for each answer for five seconds at most. Not here: tests.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Guarantee G14, and long enough for any answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The largest frame, with what is around its payload.
const FRAME_BYTES: usize = 131_072;
const CONNECTION_CLOSE: (u16, u16) = (10, 50);
const CHANNEL_CLOSE: (u16, u16) = (20, 40);

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Method { class: u16, method: u16 },
    ChannelClosed { code: u16 },
    ConnectionClosed { code: u16 },
    SocketClosed,
}

#[derive(Debug)]
pub(crate) struct Amqp {
    socket: TcpStream,
    /// Why the server closed something last.
    pub(crate) why: String,
}

pub(crate) fn short(text: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(text.len()).unwrap()];
    out.extend(text.as_bytes());
    out
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

/// What the client understands beyond the standard.
fn properties() -> Vec<u8> {
    let mut capabilities = Vec::new();
    for name in ["authentication_failure_close", "consumer_cancel_notify"] {
        capabilities.extend(short(name));
        capabilities.extend(b"t\x01");
    }
    let mut table = short("capabilities");
    table.push(b'F');
    table.extend(long(&capabilities));
    long(&table)
}

impl Amqp {
    /// To the server's tune.
    pub(crate) fn login(address: &str, mechanism: &str, response: &[u8]) -> Result<Self, Heard> {
        let socket = TcpStream::connect(address).unwrap();
        Self::login_over(socket, mechanism, response)
    }

    /// Open in the vhost `/`, as the user of clients on this machine, and with a channel 1; it waits so long for answers from then on.
    pub(crate) fn guest(socket: TcpStream, answer_within: Duration) -> Self {
        let mut client = Self::login_over(socket, "PLAIN", b"\0guest\0guest").unwrap();
        client.open("/").unwrap();
        client.channel(1);
        client.socket.set_nodelay(true).unwrap();
        let within = Some(answer_within);
        client.socket.set_read_timeout(within).unwrap();
        client
    }

    fn login_over(socket: TcpStream, mechanism: &str, response: &[u8]) -> Result<Self, Heard> {
        socket.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        let mut client = Self {
            socket,
            why: String::new(),
        };
        client.socket.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
        client.expect(10, 10)?;
        let mut start_ok = properties();
        start_ok.extend(short(mechanism));
        start_ok.extend(long(response));
        start_ok.extend(short("en_US"));
        client.say(0, 10, 11, &start_ok);
        client.expect(10, 30)?;
        Ok(client)
    }

    pub(crate) fn open(&mut self, vhost: &str) -> Result<(), Heard> {
        let tune_ok = [
            &2047_u16.to_be_bytes()[..],
            &u32::try_from(FRAME_BYTES).unwrap().to_be_bytes(),
            &[0, 0],
        ]
        .concat();
        self.say(0, 10, 31, &tune_ok);
        let open = [short(vhost), short(""), vec![0]].concat();
        self.say(0, 10, 40, &open);
        self.expect(10, 41)
    }

    pub(crate) fn channel(&mut self, number: u16) {
        self.try_channel(number).unwrap();
    }

    pub(crate) fn try_channel(&mut self, number: u16) -> Result<(), Heard> {
        self.say(number, 20, 10, &short(""));
        self.expect(20, 11)
    }

    /// connection.update-secret; its answer is heard.
    pub(crate) fn update_secret(&mut self, secret: &str) {
        let update = [long(secret.as_bytes()), short("it was time")].concat();
        self.say(0, 10, 70, &update);
    }

    pub(crate) fn tx_select(&mut self, channel: u16) {
        self.say(channel, 90, 10, &[]);
        self.expect(90, 11).unwrap();
    }

    pub(crate) fn tx_commit(&mut self, channel: u16) {
        self.say(channel, 90, 20, &[]);
        self.expect(90, 21).unwrap();
    }

    /// Confirms for what is published.
    pub(crate) fn confirm_select(&mut self, channel: u16) {
        self.say(channel, 85, 10, &[0]);
        self.expect(85, 11).unwrap();
    }

    pub(crate) fn declare(&mut self, channel: u16, queue: &str, is_passive: bool) {
        let bits = u8::from(is_passive);
        let declare = [vec![0, 0], short(queue), vec![bits], long(b"")].concat();
        self.say(channel, 50, 10, &declare);
    }

    pub(crate) fn consume(&mut self, channel: u16, queue: &str) {
        self.consume_with(channel, queue, false);
    }

    pub(crate) fn consume_with(&mut self, channel: u16, queue: &str, no_ack: bool) {
        let bits = vec![u8::from(no_ack) << 1];
        let consume = [vec![0, 0], short(queue), short("tag"), bits, long(b"")].concat();
        self.say(channel, 60, 20, &consume);
    }

    /// The limit of consumers to come.
    pub(crate) fn qos(&mut self, channel: u16, messages: u16) {
        let qos = [&[0; 4][..], &messages.to_be_bytes(), &[0]].concat();
        self.say(channel, 60, 10, &qos);
        self.expect(60, 11).unwrap();
    }

    /// What it has read is done with; what comes is the caller's.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// An empty message.
    pub(crate) fn publish(&mut self, channel: u16, exchange: &str, key: &str) {
        self.publish_body(channel, exchange, key, b"");
    }

    pub(crate) fn publish_body(&mut self, channel: u16, exchange: &str, key: &str, body: &[u8]) {
        let publish = [vec![0, 0], short(exchange), short(key), vec![0]].concat();
        self.say(channel, 60, 40, &publish);
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &size, &[0; 2]].concat();
        self.frame(2, channel, &header);
        for part in body.chunks(FRAME_BYTES - 8) {
            self.frame(3, channel, part);
        }
    }

    /// Takes one message for good: its body; `None` from an empty queue.
    pub(crate) fn get(&mut self, channel: u16, queue: &str) -> Option<Vec<u8>> {
        let get = [vec![0, 0], short(queue), vec![1]].concat();
        self.say(channel, 60, 70, &get);
        let heard = self.heard();
        let answer = |method| Heard::Method { class: 60, method };
        if heard == answer(72) {
            return None;
        }
        assert_eq!(heard, answer(71), "no answer to basic.get");
        let (_, header) = self.read_frame().unwrap();
        let size = u64::from_be_bytes(header[4..12].try_into().unwrap());
        let mut body = Vec::new();
        while u64::try_from(body.len()).unwrap() < size {
            body.extend(self.read_frame().unwrap().1);
        }
        Some(body)
    }

    /// The next thing that the server says; a channel it closes is agreed to.
    pub(crate) fn heard(&mut self) -> Heard {
        loop {
            let Some((head, payload)) = self.read_frame() else {
                return Heard::SocketClosed;
            };
            if head[0] != 1 {
                continue; // a heartbeat, or content
            }
            let channel = u16::from_be_bytes([head[1], head[2]]);
            let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
            if [CONNECTION_CLOSE, CHANNEL_CLOSE].contains(&(number(0), number(2))) {
                let text = &payload[7..7 + usize::from(payload[6])];
                self.why = String::from_utf8(text.to_vec()).unwrap();
            }
            return match (number(0), number(2)) {
                CONNECTION_CLOSE => Heard::ConnectionClosed { code: number(4) },
                CHANNEL_CLOSE => {
                    let code = number(4);
                    self.say(channel, 20, 41, &[]);
                    Heard::ChannelClosed { code }
                }
                (class, method) => Heard::Method { class, method },
            };
        }
    }

    /// Its head and its payload; `None` when there is no more.
    fn read_frame(&mut self) -> Option<([u8; 7], Vec<u8>)> {
        let mut head = [0; 7];
        self.socket.read_exact(&mut head).ok()?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(size).unwrap() + 1];
        self.socket.read_exact(&mut payload).unwrap();
        payload.pop();
        Some((head, payload))
    }

    fn expect(&mut self, class: u16, method: u16) -> Result<(), Heard> {
        match self.heard() {
            heard if heard == (Heard::Method { class, method }) => Ok(()),
            other => Err(other),
        }
    }

    fn say(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let id = [class.to_be_bytes(), method.to_be_bytes()].concat();
        self.frame(1, channel, &[&id, arguments].concat());
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let channel = channel.to_be_bytes();
        let frame = [&[kind][..], &channel, &size, payload, &[0xce]].concat();
        self.socket.write_all(&frame).unwrap();
    }
}
