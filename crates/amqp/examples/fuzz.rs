//! Fuzzes what reads clients' bytes: frames, methods, field tables, content headers, and whole streams through a connection. Knows the
//! structure of what it mutates, runs on stable, and is as long as it is told to be; a finding panics with the seed that repeats it.
//! Not here: coverage guidance.
//!
//! ```text
//! cargo run --release --package warren-amqp --example fuzz -- [--seconds 60] [--seed N] [--only frames|methods|tables|headers|streams]
//! ```
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]
// A program of its own, that is told how long to run.
#![allow(clippy::disallowed_methods)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use common::{CHANNEL, HEADER, Peer, content_header, frame, handshake, method, publish, short};
use warren_amqp::method::{access, basic, channel, confirm, exchange, queue, tx};
use warren_amqp::{
    ChannelId, Config, ContentHeader, DeliveryTag, Event, FrameDecoder, Method, Time,
};
use warren_types::{PropertiesBuilder, Table, Value};

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        it ^ (it >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let length = self.below(limit + 1);
        (0..length).map(|_| self.byte()).collect()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn text(&mut self) -> String {
        let length = self.below(20);
        let alphabet: Vec<char> = "abc.#*\r\n é€\u{10FFFF}".chars().collect();
        (0..length).map(|_| *self.pick(&alphabet)).collect()
    }
}

fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 8 } else { 10 }) {
        0 => Value::Bool(random.next() & 1 == 1),
        1 => Value::I64(random.next() as i64),
        2 => Value::LongString(Bytes::from(random.bytes(40))),
        3 => Value::Void,
        4 => Value::Timestamp(*random.pick(&[0, 1, u64::MAX, 1 << 63])),
        5 => Value::from(random.text().as_str()),
        6 => Value::U8(random.byte()),
        7 => Value::I64(*random.pick(&[0, i64::MIN, i64::MAX])),
        8 => Value::Table(table(random, depth - 1)),
        _ => Value::Array(
            (0..random.below(4))
                .map(|_| value(random, depth - 1))
                .collect(),
        ),
    }
}

fn table(random: &mut Random, depth: usize) -> Table {
    let mut table = Table::new();
    for _ in 0..random.below(5) {
        let (key, value) = (random.text(), value(random, depth));
        table.push(&key, value).unwrap();
    }
    table
}

/// Any method a client may send, with random arguments.
fn any_method(random: &mut Random) -> Method {
    match random.below(3) {
        0 => of_exchange(random),
        1 => of_queue(random),
        _ => of_channel(random),
    }
}

fn name(random: &mut Random) -> warren_amqp::ShortString {
    short(&random.text())
}

fn of_exchange(random: &mut Random) -> Method {
    let (exchange, kind, routing_key) = (name(random), name(random), name(random));
    let (flag, no_wait) = (random.below(2) == 0, random.below(4) == 0);
    let arguments = table(random, 3);
    match random.below(4) {
        0 => exchange::Declare {
            exchange,
            kind,
            passive: flag,
            durable: flag,
            auto_delete: flag,
            internal: flag,
            no_wait,
            arguments,
        }
        .into(),
        1 => exchange::Delete {
            exchange,
            if_unused: flag,
            no_wait,
        }
        .into(),
        2 => exchange::Bind {
            destination: exchange,
            source: kind,
            routing_key,
            no_wait,
            arguments,
        }
        .into(),
        _ => exchange::Unbind {
            destination: exchange,
            source: kind,
            routing_key,
            no_wait,
            arguments,
        }
        .into(),
    }
}

fn of_queue(random: &mut Random) -> Method {
    let (queue, exchange, routing_key) = (name(random), name(random), name(random));
    let (flag, no_wait) = (random.below(2) == 0, random.below(4) == 0);
    let arguments = table(random, 3);
    match random.below(6) {
        0 => queue::Declare {
            queue,
            passive: flag,
            durable: flag,
            exclusive: flag,
            auto_delete: flag,
            no_wait,
            arguments,
        }
        .into(),
        1 => queue::Bind {
            queue,
            exchange,
            routing_key,
            no_wait,
            arguments,
        }
        .into(),
        2 => queue::Purge { queue, no_wait }.into(),
        3 => queue::Delete {
            queue,
            if_unused: flag,
            if_empty: flag,
            no_wait,
        }
        .into(),
        4 => basic::Get {
            queue,
            no_ack: flag,
        }
        .into(),
        _ => basic::Consume {
            queue,
            consumer_tag: exchange,
            no_local: flag,
            no_ack: flag,
            exclusive: flag,
            no_wait,
            arguments,
        }
        .into(),
    }
}

fn of_channel(random: &mut Random) -> Method {
    let delivery_tag = DeliveryTag(*random.pick(&[0, 1, 2, u64::MAX]));
    let (multiple, requeue) = (random.below(2) == 0, random.below(2) == 0);
    match random.below(12) {
        0 => basic::Qos {
            prefetch_size: random.below(2) as u32,
            prefetch_count: random.next() as u16,
            global: multiple,
        }
        .into(),
        1 => basic::Ack {
            delivery_tag,
            multiple,
        }
        .into(),
        2 => basic::Nack {
            delivery_tag,
            multiple,
            requeue,
        }
        .into(),
        3 => basic::Reject {
            delivery_tag,
            requeue,
        }
        .into(),
        4 => basic::Recover { requeue }.into(),
        5 => basic::RecoverAsync { requeue }.into(),
        6 => confirm::Select { no_wait: multiple }.into(),
        7 => tx::Select {}.into(),
        8 => tx::Commit {}.into(),
        9 => channel::Flow { active: multiple }.into(),
        10 => access::Request::default().into(),
        _ => basic::Cancel {
            consumer_tag: name(random),
            no_wait: multiple,
        }
        .into(),
    }
}

fn message(random: &mut Random) -> Vec<u8> {
    let headers = table(random, 3);
    let mut properties = PropertiesBuilder::new().headers(&headers);
    if random.below(2) == 0 {
        properties = properties
            .persistent()
            .priority(random.byte())
            .expiration(&random.text());
    }
    let properties = properties.build().unwrap();
    let body = vec![random.byte(); *random.pick(&[0, 1, 100, 5_000, 20_000])];
    let frame_max = *random.pick(&[4_096, 8_192, 131_072]);
    publish(
        &random.text(),
        &random.text(),
        &properties,
        &body,
        frame_max,
    )
}

/// A piece of a stream that is well formed, if not always in its place.
fn piece(random: &mut Random) -> Vec<u8> {
    let number = *random.pick(&[0, 1, 1, 1, 2, 2_047, 2_048, u16::MAX]);
    match random.below(12) {
        0..=3 => message(random),
        4..=6 => {
            let it = any_method(random);
            method(CHANNEL, it)
        }
        7 => {
            let it = any_method(random);
            method(ChannelId(number), it)
        }
        8 => method(ChannelId(number), channel::Open {}),
        9 => method(ChannelId(number), channel::Close::default()),
        10 => {
            let size = *random.pick(&[0, 1, 5, 1 << 63, u64::MAX]);
            let properties = random.bytes(20);
            content_header(size, &properties)
        }
        _ => {
            let kind = *random.pick(&[0, 1, 2, 3, 8, 9, 255]);
            let payload = random.bytes(60);
            frame(kind, number, &payload)
        }
    }
}

/// Damages bytes: single ones, numbers that are lengths perhaps, pieces cut out, doubled or put in.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(5) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] = random.byte(),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => {
                let extreme = *random.pick(&[
                    0u32,
                    1,
                    0x7FFF_FFFF,
                    0x8000_0000,
                    u32::MAX,
                    131_072,
                    131_073,
                ]);
                for (slot, byte) in bytes[at..].iter_mut().zip(extreme.to_be_bytes()) {
                    *slot = byte;
                }
            }
            3 => bytes.truncate(at),
            4 => {
                let end = at + random.below(bytes.len() - at);
                bytes.drain(at..end);
            }
            5 => {
                let end = at + random.below((bytes.len() - at).min(500));
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let more = random.bytes(30);
                bytes.splice(at..at, more);
            }
        }
    }
}

fn frames(random: &mut Random) {
    let mut bytes: Vec<u8> = (0..random.below(5)).flat_map(|_| piece(random)).collect();
    mutate(random, &mut bytes);
    let mut decoder = FrameDecoder::default();
    decoder.set_frame_bytes_max(*random.pick(&[4_096, 8_192, 131_072]));
    let mut input = BytesMut::from(&bytes[..]);
    let mut taken = 0;
    while let Ok(Some(frame)) = decoder.next(&mut input) {
        taken += frame.payload.len() + 8;
    }
    assert!(taken + input.len() <= bytes.len());
}

fn methods(random: &mut Random) {
    let mut wire = method(CHANNEL, any_method(random));
    let mut payload = wire.split_off(7);
    payload.pop();
    mutate(random, &mut payload);
    if let Ok(decoded) = Method::decode(&Bytes::from(payload)) {
        let again = method(CHANNEL, decoded.clone());
        let payload = Bytes::copy_from_slice(&again[7..again.len() - 1]);
        assert_eq!(Method::decode(&payload), Ok(decoded), "does not come back");
    }
}

fn tables(random: &mut Random) {
    let mut wire = BytesMut::new();
    if random.below(20) == 0 {
        let depth = 1 + random.below(10_000);
        for level in (0..depth).rev() {
            wire.put_u32(u32::try_from((level + 1) * 6).unwrap_or(u32::MAX));
            wire.put_slice(b"\x00F");
        }
    } else {
        table(random, 5).encode(&mut wire);
    }
    let mut bytes = wire.to_vec();
    mutate(random, &mut bytes);
    if let Ok(decoded) = Table::decode(&Bytes::from(bytes)) {
        let mut again = BytesMut::new();
        decoded.encode(&mut again);
        let twice = Table::decode(&again.clone().freeze()).unwrap();
        let mut last = BytesMut::new();
        twice.encode(&mut last);
        // As bytes: a float that is not a number is not equal to itself.
        assert_eq!(again, last, "does not come back");
    }
}

fn headers(random: &mut Random) {
    let whole = message(random);
    let start = whole
        .windows(4)
        .position(|it| it == [0, 60, 0, 0])
        .unwrap_or(0);
    let mut bytes = whole[start..whole.len().min(start + 400)].to_vec();
    mutate(random, &mut bytes);
    if let Ok(header) = ContentHeader::decode(Bytes::from(bytes), 1 << 24) {
        assert!(header.body_bytes <= 1 << 24);
        // Whatever was let in can be looked at.
        let properties = &header.properties;
        let _looked = (
            properties.headers(),
            properties.priority(),
            properties.expiration(),
            properties.reply_to(),
        );
    }
}

/// The same bytes in one piece and in many lead to the same; nothing is held beyond what came.
fn streams(random: &mut Random) {
    let mut bytes = Vec::new();
    if random.below(8) == 0 {
        bytes.extend([HEADER, &handshake()].concat());
        mutate(random, &mut bytes);
    } else {
        bytes.extend([HEADER, &handshake(), &method(CHANNEL, channel::Open {})].concat());
    }
    let mut tail: Vec<u8> = (0..random.below(12)).flat_map(|_| piece(random)).collect();
    mutate(random, &mut tail);
    bytes.extend(tail);
    let whole = feed(&bytes, bytes.len().max(1));
    let size = 1 + random.below(200);
    assert_eq!(
        feed(&bytes, size),
        whole,
        "cut into pieces of {size} it means something else"
    );
}

fn feed(bytes: &[u8], size: usize) -> (Vec<Event>, Bytes) {
    let mut peer = Peer::new(Config::default());
    let mut events = Vec::new();
    for piece in bytes.chunks(size) {
        events.extend(peer.feed(piece));
        assert!(
            peer.connection.incoming_bytes() <= bytes.len() as u64,
            "holds more than came"
        );
        assert!(
            peer.said.len() < 64 * 1024 + 64 * bytes.len(),
            "says without end"
        );
    }
    let ends = events
        .iter()
        .filter(|it| matches!(it, Event::Ended { .. }))
        .count();
    assert!(ends <= 1 && (ends == 0 || matches!(events.last(), Some(Event::Ended { .. }))));
    if let Some(last) = peer.connection.tick(Time(u64::MAX / 2)) {
        events.push(last);
    }
    (events, peer.said.split().freeze())
}

type Target = (&'static str, fn(&mut Random));

const TARGETS: [Target; 5] = [
    ("frames", frames),
    ("methods", methods),
    ("tables", tables),
    ("headers", headers),
    ("streams", streams),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|it| it == name)?;
        arguments.get(at + 1).cloned()
    };
    let seconds: u64 = option("--seconds").map_or(60, |it| it.parse().unwrap());
    let mut seed: u64 = option("--seed").map_or_else(
        || {
            std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .as_nanos() as u64
        },
        |it| it.parse().unwrap(),
    );
    let only = option("--only");
    let targets: Vec<&Target> = TARGETS
        .iter()
        .filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name))
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut counts = vec![0u64; targets.len()];
    println!("seed {seed}");
    std::panic::set_hook(Box::new(|panic| println!("FOUND {panic}")));
    // Always at least one round, so that a seed alone repeats a finding: --seconds 0 --seed N.
    loop {
        for ((name, run), count) in targets.iter().zip(&mut counts) {
            let from = seed;
            let ran = std::panic::catch_unwind(|| run(&mut Random(from)));
            if ran.is_err() {
                println!("repeat with: --only {name} --seconds 0 --seed {seed}");
                std::process::exit(1);
            }
            *count += 1;
        }
        seed = seed.wrapping_add(1);
        if Instant::now() >= end {
            break;
        }
    }
    for ((name, _), count) in targets.iter().zip(&counts) {
        println!("{name}: {count} inputs");
    }
    println!("{} inputs, 0 crashes", counts.iter().sum::<u64>());
}
