//! An AMQP client of a few methods, byte by byte, that publishes with confirms and consumes: one connection, one channel. It notices
//! a node that says nothing. Not here: what becomes of the messages (`lanes`), codes and refusals (`tests/support/amqp.rs`).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use warren_client::Credentials;

const CHANNEL: u16 = 1;
const FRAME_MAX: u32 = 131_072;
const HEARTBEAT_SECONDS: u16 = 4;
/// Heartbeats come twice in their interval.
const SILENT_FOR: Duration = Duration::from_secs(9);
const STEP_WITHIN: Duration = Duration::from_secs(10);
const READ_AHEAD: usize = 64 << 10;

/// What the server says on the channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Ack {
        tag: u64,
        multiple: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
    },
    Delivery(Delivery),
    /// basic.cancel: the consumer is no more.
    Cancelled,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    pub tag: u64,
    pub redelivered: bool,
    pub body: Vec<u8>,
}

/// The server closed the channel or the connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    pub code: u16,
    pub text: String,
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "closed by the server: {} {}", self.code, self.text)
    }
}

impl std::error::Error for Closed {}

#[derive(Debug)]
pub struct Amqp {
    socket: TcpStream,
    read: Vec<u8>,
    heard: Instant,
    said: Instant,
    /// A delivery whose body is not whole yet, and what is missing of it.
    coming: Option<(Delivery, Option<u64>)>,
}

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// Class and method.
    fn method(&self) -> (u16, u16) {
        let number = |at: usize| self.payload.get(at..at + 2).map_or(0, big_endian);
        let number = |at| u16::try_from(number(at)).unwrap_or_default();
        (number(0), number(2))
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, it| (all << 8) | u64::from(*it))
}

fn short(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("names of tests are short");
    [&[length][..], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("tables of tests are short");
    [&length.to_be_bytes()[..], bytes].concat()
}

impl Amqp {
    /// Open in the vhost `/`, with a channel.
    ///
    /// # Errors
    /// The node cannot be reached, refuses, or does not answer in time.
    pub async fn open(address: &str, credentials: Option<&Credentials>) -> Result<Self> {
        let opening = Self::try_open(address, credentials);
        timeout(STEP_WITHIN, opening).await.context("no answer")?
    }

    async fn try_open(address: &str, credentials: Option<&Credentials>) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut client = Self {
            socket,
            read: Vec::new(),
            heard: Instant::now(),
            said: Instant::now(),
            coming: None,
        };
        let guest = || ("guest".to_owned(), "guest".to_owned());
        let (user, password) =
            credentials.map_or_else(guest, |it| (it.user.clone(), it.password.clone()));
        client.write(b"AMQP\x00\x00\x09\x01").await?;
        client.answer((10, 10)).await?;
        let mut capabilities = Vec::new();
        for name in ["consumer_cancel_notify", "basic.nack"] {
            capabilities.extend([short(name), b"t\x01".to_vec()].concat());
        }
        let table = [short("capabilities"), vec![b'F'], long(&capabilities)].concat();
        let response = format!("\0{user}\0{password}");
        let start_ok = [
            long(&table),
            short("PLAIN"),
            long(response.as_bytes()),
            short("en_US"),
        ];
        client.say(0, (10, 11), &start_ok.concat()).await?;
        client.answer((10, 30)).await?;
        let tune_ok = [
            &2047_u16.to_be_bytes()[..],
            &FRAME_MAX.to_be_bytes(),
            &HEARTBEAT_SECONDS.to_be_bytes(),
        ];
        client.say(0, (10, 31), &tune_ok.concat()).await?;
        let open = [short("/"), short(""), vec![0]].concat();
        client.say(0, (10, 40), &open).await?;
        client.answer((10, 41)).await?;
        client.say(CHANNEL, (20, 10), &short("")).await?;
        client.answer((20, 11)).await?;
        Ok(client)
    }

    /// Confirms for what is published from now on; the first has tag 1.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn confirms(&mut self) -> Result<()> {
        self.say(CHANNEL, (85, 10), &[0]).await?;
        let answering = self.answer((85, 11));
        timeout(STEP_WITHIN, answering).await.context("no answer")?
    }

    /// A consumer that acks, with a limit.
    ///
    /// # Errors
    /// The connection is gone, or the queue is not there.
    pub async fn consume(&mut self, queue: &str, prefetch: u16) -> Result<()> {
        let qos = [&[0; 4][..], &prefetch.to_be_bytes(), &[0]].concat();
        self.say(CHANNEL, (60, 10), &qos).await?;
        let answering = self.answer((60, 11));
        timeout(STEP_WITHIN, answering)
            .await
            .context("no answer")??;
        let consume = [vec![0, 0], short(queue), short("tag"), vec![0], long(b"")];
        self.say(CHANNEL, (60, 20), &consume.concat()).await?;
        let answering = self.answer((60, 21));
        timeout(STEP_WITHIN, answering).await.context("no answer")?
    }

    /// A persistent message to a queue.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn publish(&mut self, queue: &str, body: &[u8]) -> Result<()> {
        let method = [&[0, 60, 0, 40, 0, 0][..], &short(""), &short(queue), &[0]].concat();
        let size = u64::try_from(body.len())?.to_be_bytes();
        // Of the properties, the delivery mode.
        let header = [&[0, 60, 0, 0][..], &size, &[0x10, 0], &[2]].concat();
        let parts = [frame(1, CHANNEL, &method), frame(2, CHANNEL, &header)].concat();
        self.write(&[parts, frame(3, CHANNEL, body)].concat()).await
    }

    /// # Errors
    /// The connection is gone.
    pub async fn ack(&mut self, tag: u64) -> Result<()> {
        let ack = [&tag.to_be_bytes()[..], &[0]].concat();
        self.say(CHANNEL, (60, 80), &ack).await
    }

    /// It returns to the queue.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn requeue(&mut self, tag: u64) -> Result<()> {
        let nack = [&tag.to_be_bytes()[..], &[0b10]].concat();
        self.say(CHANNEL, (60, 120), &nack).await
    }

    /// Says that the client is there when it has said nothing for long. To be called every second or so.
    ///
    /// # Errors
    /// The connection is gone, or the server has said nothing for too long.
    pub async fn beat(&mut self) -> Result<()> {
        ensure!(self.heard.elapsed() < SILENT_FOR, "the node is silent");
        if self.said.elapsed() > Duration::from_secs(1) {
            self.write(&frame(8, 0, &[])).await?;
        }
        Ok(())
    }

    /// The next thing that matters. Cancel safe: what was read is kept.
    ///
    /// # Errors
    /// The connection or the channel is closed (`Closed` says so if the server did), or what comes makes no sense.
    pub async fn hear(&mut self) -> Result<Heard> {
        loop {
            let frame = self.frame().await?;
            match frame.kind {
                1 => {
                    if let Some(heard) = self.method(&frame)? {
                        return Ok(heard);
                    }
                }
                2 | 3 => {
                    if let Some(delivery) = self.content(&frame)? {
                        return Ok(Heard::Delivery(delivery));
                    }
                }
                8 => {}
                other => bail!("a frame of type {other}"),
            }
        }
    }

    fn method(&mut self, frame: &Frame) -> Result<Option<Heard>> {
        let rest = frame.payload.get(4..).unwrap_or_default();
        let tag = || rest.get(..8).map(big_endian).context("a tag");
        let multiple = rest.get(8).is_some_and(|it| it & 1 == 1);
        match frame.method() {
            (60, 80) => Ok(Some(Heard::Ack {
                tag: tag()?,
                multiple,
            })),
            (60, 120) => Ok(Some(Heard::Nack {
                tag: tag()?,
                multiple,
            })),
            (60, 60) => {
                ensure!(self.coming.is_none(), "a delivery within another");
                let named = usize::from(*rest.first().context("a consumer tag")?) + 1;
                let after = rest.get(named..).unwrap_or_default();
                let delivery = Delivery {
                    tag: after.get(..8).map(big_endian).context("a tag")?,
                    redelivered: *after.get(8).context("a flag")? != 0,
                    body: Vec::new(),
                };
                self.coming = Some((delivery, None));
                Ok(None)
            }
            (60, 30) => Ok(Some(Heard::Cancelled)),
            (10 | 20, 40 | 50) => Err(closed(frame).into()),
            // connection.blocked and unblocked: what waits, waits.
            (10, 60 | 61) => Ok(None),
            other => bail!("method {other:?}"),
        }
    }

    fn content(&mut self, frame: &Frame) -> Result<Option<Delivery>> {
        let (mut delivery, missing) = self.coming.take().context("content of nothing")?;
        let missing = match missing {
            None => frame.payload.get(4..12).map(big_endian).context("a size")?,
            Some(missing) => {
                delivery.body.extend(&frame.payload);
                let length = u64::try_from(frame.payload.len())?;
                missing.checked_sub(length).context("too much of a body")?
            }
        };
        if missing == 0 {
            return Ok(Some(delivery));
        }
        self.coming = Some((delivery, Some(missing)));
        Ok(None)
    }

    /// Waits for one method; nothing else may come before it.
    async fn answer(&mut self, expected: (u16, u16)) -> Result<()> {
        let frame = loop {
            let frame = self.frame().await?;
            if frame.kind != 8 {
                break frame;
            }
        };
        if frame.kind == 1 && matches!(frame.method(), (10, 50) | (20, 40)) {
            return Err(closed(&frame).into());
        }
        let heard = frame.method();
        ensure!(
            frame.kind == 1 && heard == expected,
            "{expected:?}: {heard:?}"
        );
        Ok(())
    }

    async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            self.read.reserve(READ_AHEAD);
            let read = self.socket.read_buf(&mut self.read).await?;
            ensure!(read > 0, "the node closed the socket");
            self.heard = Instant::now();
        }
    }

    fn take_frame(&mut self) -> Result<Option<Frame>> {
        let Some(size) = self.read.get(3..7).map(big_endian) else {
            return Ok(None);
        };
        let size = usize::try_from(size)?;
        if self.read.len() < size + 8 {
            return Ok(None);
        }
        let whole: Vec<u8> = self.read.drain(..size + 8).collect();
        ensure!(whole.last() == Some(&0xce), "a frame without its end");
        Ok(Some(Frame {
            kind: whole.first().copied().unwrap_or_default(),
            payload: whole.get(7..7 + size).unwrap_or_default().to_vec(),
        }))
    }

    async fn say(&mut self, channel: u16, method: (u16, u16), arguments: &[u8]) -> Result<()> {
        let id = [method.0.to_be_bytes(), method.1.to_be_bytes()].concat();
        let payload = [&id, arguments].concat();
        self.write(&frame(1, channel, &payload)).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.said = Instant::now();
        let writing = self.socket.write_all(bytes);
        timeout(STEP_WITHIN, writing)
            .await
            .context("the node reads nothing")??;
        Ok(())
    }
}

fn closed(frame: &Frame) -> Closed {
    let code = frame.payload.get(4..6).map_or(0, big_endian);
    let length = frame.payload.get(6).copied().map_or(0, usize::from);
    let text = frame.payload.get(7..7 + length).unwrap_or_default();
    Closed {
        code: u16::try_from(code).unwrap_or_default(),
        text: String::from_utf8_lossy(text).into_owned(),
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("frames of tests are small");
    [
        &[kind][..],
        &channel.to_be_bytes(),
        &size.to_be_bytes(),
        payload,
        &[0xce],
    ]
    .concat()
}
