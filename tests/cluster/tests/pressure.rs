//! AMQP clients that take or give too much (issue: a slow consumer, or a publisher at ten times capacity, costs others nothing): consumers
//! that do not read, publishers that do not stop, publishers that do not read their confirms. The node that serves them keeps to its
//! limits, others go on, and nothing is lost. The same over gRPC: `tests/api/tests/pressure.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/amqp.rs"]
mod amqp;
#[path = "support/bulk.rs"]
mod bulk;
#[path = "support/pressure.rs"]
mod pressure;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use amqp::Amqp;
use bulk::{BODY_BYTES, Came, Confirms, Flood, Frames, Template, connect_narrow};
use pressure::{ADMITTED_BYTES, ALIVE_WITHIN, NODE, SOCKET_BYTES, World};
use warren_client::Queue;
use warren_testkit::process::NodeNumber;

/// 320 MiB before the consumer comes, 64 MiB while it does not read.
const BEFORE: u64 = 20_480;
const MEANWHILE: u64 = 4_096;
/// A consumer is lent a megabyte, so much more may be encoded, and the sockets hold some; far less than what waits.
const UNREAD_BYTES: u64 = 24 << 20;
/// By how much a node may grow for it, with all that storing 64 MiB more takes.
const UNREAD_GROWTH: u64 = 192 << 20;

/// So long, or so many messages (128 MiB), a publisher does not stop.
const FLOOD_TIME: Duration = Duration::from_secs(4);
const FLOOD_MAX: u64 = 8_192;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// By how much a node may grow for it: what the connection may have unconfirmed, the log's cache (64 MiB), those of the database (256 MiB),
/// and what is on its way between them.
const FLOOD_GROWTH: u64 = 448 << 20;
/// The same where nothing can be stored: what the connection may have unconfirmed, as it came and in batches, and as much again.
const HELD_GROWTH: u64 = 192 << 20;
/// What waits for a client that does not read its confirms is four megabytes of them.
const UNREAD_CONFIRMS_GROWTH: u64 = 64 << 20;
/// A socket that takes nothing for so long stands still.
const STANDS_STILL: Duration = Duration::from_millis(1_500);
/// Without a majority publishes are refused after six seconds, and more is taken.
const REFUSED_AFTER: Duration = Duration::from_secs(5);
const CHANNELS: u16 = 2_000;
const SMALL_BYTES: usize = 8;
/// More than the sockets hold of them (40 MB, of some 72 bytes each) and the server and the sockets of their confirms (9 MB, of 21 bytes
/// each).
const UNREAD_CONFIRMS: u64 = 1_500_000;

fn mib(messages: u64) -> u64 {
    (messages * u64::try_from(BODY_BYTES).unwrap()) >> 20
}

fn led_by(node: NodeNumber) -> impl Fn(u64, Option<u64>) -> bool {
    let node = u64::try_from(node.0).unwrap();
    move |_, leader| leader == Some(node)
}

fn in_shard(wanted: u64) -> impl Fn(u64, Option<u64>) -> bool {
    move |shard, _| shard == wanted
}

/// Reads all that is in a queue: each number once, ascending, none flagged. What is read is acknowledged.
fn read_all(frames: &mut Frames, mut is_last: impl FnMut(u64) -> bool) -> u64 {
    let (mut count, mut last) = (0, None);
    loop {
        let came = frames.must(ALIVE_WITHIN);
        let Came::Delivery {
            tag,
            redelivered,
            number,
        } = came
        else {
            panic!("{came:?}")
        };
        assert!(!redelivered, "{number} is flagged");
        assert!(last < Some(number), "{number} after {last:?}");
        last = Some(number);
        count += 1;
        let is_over = is_last(number);
        if is_over || count % 64 == 0 {
            frames.ack_up_to(tag);
        }
        if is_over {
            return count;
        }
    }
}

fn consumer_that_does_not_read(leader: NodeNumber, prefetch: u16) {
    let world = World::start();
    let slow = world.queue("slow", led_by(leader));
    let pair = world.queue("pair", in_shard(slow.shard));
    let pair = world.pair(&pair);
    world.fill(&slow, 0, BEFORE);
    pair.goes_on();

    let before = world.memory.begin();
    let mut client = Amqp::guest(connect_narrow(&world.amqp()), ALIVE_WITHIN);
    client.qos(1, prefetch);
    client.consume_with(1, &slow.name, false);
    let socket = client.into_socket();
    pair.goes_on();
    world.fill(&slow, BEFORE, MEANWHILE);
    pair.goes_on();
    let out = world.stats(&slow).unwrap().unacked * u64::try_from(BODY_BYTES).unwrap();
    let peak = world.memory.peak();
    println!(
        "resident: {before}, then at most {peak}; on its way to the client: {} KiB",
        out >> 10
    );
    assert!(out <= UNREAD_BYTES, "{out} bytes are on their way");
    let growth = peak.growth_since(&before);
    assert!(growth <= UNREAD_GROWTH, "grew by {growth}");

    let mut frames = Frames::new(&socket);
    let all = BEFORE + MEANWHILE;
    assert_eq!(read_all(&mut frames, |number| number + 1 == all), all);
    world.until("all is settled", || {
        world
            .stats(&slow)
            .is_some_and(|it| it.ready + it.unacked == 0)
    });
    pair.end();
}

#[test]
fn consumer_without_a_limit_that_does_not_read_costs_others_nothing() {
    consumer_that_does_not_read(NODE, 0);
}

#[test]
fn consumer_with_a_large_limit_that_does_not_read_costs_others_nothing() {
    consumer_that_does_not_read(NodeNumber(2), u16::MAX);
}

/// What a flooding connection has, and what its queue.
struct Flooded {
    /// Taken from the client and not stored, at most.
    behind_bytes_max: u64,
    written: u64,
    /// Until all of it was stored.
    took: Duration,
}

/// Writes until the time is over or so many messages are written, and looks meanwhile how far the queue is behind.
fn flood(
    world: &World,
    queue: &Queue,
    flood: &mut Flood,
    messages_max: u64,
    time: Duration,
) -> Flooded {
    let body = u64::try_from(BODY_BYTES).unwrap();
    let (began, mut looked, mut behind) = (Instant::now(), Instant::now(), 0);
    while began.elapsed() < time && flood.messages < messages_max {
        if !flood.write(messages_max) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if looked.elapsed() >= LOOK_EVERY {
            let written = flood.messages;
            // What is stored is known a little later, so this is rather less than what there was.
            if let Some(stats) = world.stats(queue) {
                behind = behind.max(written.saturating_sub(stats.ready) * body);
            }
            looked = Instant::now();
        }
    }
    world.until("all is stored", || world.stored(queue) >= flood.messages);
    Flooded {
        behind_bytes_max: behind,
        written: flood.messages,
        took: began.elapsed(),
    }
}

/// Writes until the socket has taken nothing for a while. False: it takes more and more, for so long or up to so many messages.
fn until_it_stands_still(
    writer: &mut Flood,
    messages_max: u64,
    within: Duration,
    mut meanwhile: impl FnMut(),
) -> bool {
    let (began, mut last) = (Instant::now(), Instant::now());
    while began.elapsed() < within && writer.messages < messages_max {
        let taken = writer.messages;
        writer.write(messages_max);
        if writer.messages > taken {
            last = Instant::now();
        }
        if last.elapsed() >= STANDS_STILL {
            return true;
        }
        meanwhile();
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Everything that is in the queue, read by a consumer that behaves well.
fn take_all(world: &World, queue: &Queue, is_last: impl FnMut(u64) -> bool) -> u64 {
    let mut client = Amqp::guest(TcpStream::connect(world.amqp()).unwrap(), ALIVE_WITHIN);
    client.qos(1, 500);
    client.consume_with(1, &queue.name, false);
    let socket = client.into_socket();
    read_all(&mut Frames::new(&socket), is_last)
}

fn publisher(world: &World) -> TcpStream {
    let socket = TcpStream::connect(world.amqp()).unwrap();
    Amqp::guest(socket, ALIVE_WITHIN).into_socket()
}

#[test]
fn publisher_without_confirms_that_does_not_stop_is_pushed_back_and_costs_others_nothing() {
    let mut world = World::start();
    let flooded = world.queue("flooded", led_by(NODE));
    let beside = world.queue("beside", in_shard(flooded.shard));
    let elsewhere = world.queue("elsewhere", led_by(NodeNumber(2)));
    let pairs = [world.pair(&beside), world.pair(&elsewhere)];
    let socket = publisher(&world);
    let template = Template::new("", &flooded.name, BODY_BYTES, false);
    let mut writer = Flood::new(&socket, template, 1);

    let before = world.memory.begin();
    let rounds = pairs.each_ref().map(pressure::Pair::begin);
    let first = flood(&world, &flooded, &mut writer, FLOOD_MAX, FLOOD_TIME);
    let done: Vec<u64> = pairs
        .iter()
        .zip(rounds)
        .map(|(it, before)| it.rounds() - before)
        .collect();
    let longest = pairs.each_ref().map(pressure::Pair::longest);
    // One of the nodes takes nothing for a while: the others are the majority, and what it misses is not kept in memory.
    world.cluster.pause(NodeNumber(3)).unwrap();
    let second = flood(&world, &flooded, &mut writer, FLOOD_MAX * 2, FLOOD_TIME);
    world.cluster.resume(NodeNumber(3)).unwrap();
    writer.finish(ALIVE_WITHIN);
    let peak = world.memory.peak();
    println!(
        "resident: {before}, then at most {peak}; written: {} MiB in {:?}, with a node that stands still {} MiB in {:?}; pushed back {} times; \
         at most {} and {} MiB ahead of what is stored; rounds at first: {done:?}, the longest {longest:?}",
        mib(first.written),
        first.took,
        mib(second.written - first.written),
        second.took,
        writer.pushed_back,
        first.behind_bytes_max >> 20,
        second.behind_bytes_max >> 20,
    );
    assert!(writer.pushed_back > 0);
    assert!(done.iter().all(|it| *it > 0), "somebody stood still");
    for it in [first, second] {
        assert!(
            it.behind_bytes_max <= ADMITTED_BYTES + SOCKET_BYTES,
            "{} bytes are taken and not stored",
            it.behind_bytes_max
        );
    }
    let growth = peak.growth_since(&before);
    assert!(growth <= FLOOD_GROWTH, "grew by {growth}");
    for pair in pairs {
        pair.goes_on();
        pair.end();
    }
    let last = writer.messages - 1;
    assert_eq!(
        take_all(&world, &flooded, |number| number == last),
        writer.messages
    );
}

#[test]
fn publisher_into_a_cluster_without_majority_is_pushed_back_and_what_was_confirmed_is_there() {
    let mut world = World::start();
    let flooded = world.queue("flooded", led_by(NODE));
    let pair = world.queue("pair", led_by(NODE));
    let pair = world.pair(&pair);
    let mut client = Amqp::guest(TcpStream::connect(world.amqp()).unwrap(), ALIVE_WITHIN);
    client.confirm_select(1);
    let socket = client.into_socket();
    let template = Template::new("", &flooded.name, BODY_BYTES, false);
    let mut writer = Flood::new(&socket, template, 1);
    let (mut frames, mut confirms) = (Frames::new(&socket), Confirms::default());
    let before = world.memory.begin();
    for node in [2, 3] {
        world.cluster.pause(NodeNumber(node)).unwrap();
    }
    // Nothing more is taken once the connection has its share; publishes are refused only after six seconds.
    let stands_still = until_it_stands_still(&mut writer, u64::MAX, REFUSED_AFTER, || {
        frames.confirms(&mut confirms);
    });
    let ahead = mib(writer.messages - frames.confirms(&mut confirms));
    let peak = world.memory.peak();
    println!(
        "resident: {before}, then at most {peak}; taken without majority: {ahead} MiB, then nothing: {stands_still}"
    );
    assert!(stands_still, "the socket is read on and on");
    assert!(ahead <= (ADMITTED_BYTES + SOCKET_BYTES) >> 20);
    let growth = peak.growth_since(&before);
    assert!(growth <= HELD_GROWTH, "grew by {growth}");
    for node in [2, 3] {
        world.cluster.resume(NodeNumber(node)).unwrap();
    }
    pair.goes_on();
    pair.end();
    let deadline = Instant::now() + ALIVE_WITHIN;
    writer.finish(ALIVE_WITHIN);
    while frames.confirms(&mut confirms) < writer.messages {
        assert!(Instant::now() < deadline, "not all is confirmed");
        std::thread::sleep(Duration::from_millis(1));
    }
    let acked = (0..writer.messages).filter(|it| confirms.is_acked(*it));
    let Some(last) = acked.clone().max() else {
        panic!("nothing was confirmed")
    };
    let mut there = std::collections::BTreeSet::new();
    take_all(&world, &flooded, |number| {
        there.insert(number);
        number == last
    });
    let lost: Vec<u64> = acked.filter(|it| !there.contains(it)).collect();
    assert_eq!(lost, Vec::<u64>::new(), "lost, of {}", writer.messages);
}

#[test]
fn publisher_that_does_not_read_its_confirms_is_pushed_back_and_gets_each_when_it_reads() {
    let world = World::start();
    let pair = world.pair(&world.queue("beside", led_by(NODE)));
    let mut client = Amqp::guest(connect_narrow(&world.amqp()), ALIVE_WITHIN);
    client.confirm_select(1);
    // No queue takes them, so that they are confirmed at once; and each channel says its own: there is a frame for each message.
    for channel in 2..=CHANNELS {
        client.channel(channel);
        client.confirm_select(channel);
    }
    let socket = client.into_socket();
    let template = Template::new("amq.direct", "nowhere", SMALL_BYTES, false);
    let mut writer = Flood::new(&socket, template, CHANNELS.into());
    let before = world.memory.begin();
    until_it_stands_still(&mut writer, UNREAD_CONFIRMS, ALIVE_WITHIN, || {});
    let taken = writer.messages;
    let peak = world.memory.peak();
    println!(
        "resident: {before}, then at most {peak}; taken: {taken} messages of at most {UNREAD_CONFIRMS}"
    );
    assert!(taken < UNREAD_CONFIRMS, "it is not pushed back");
    pair.goes_on();
    pair.end();
    let growth = peak.growth_since(&before);
    assert!(growth <= UNREAD_CONFIRMS_GROWTH, "grew by {growth}");

    let mut frames = Frames::new(&socket);
    let mut confirms: BTreeMap<u16, Confirms> = BTreeMap::new();
    let mut last = Instant::now();
    let mut told = 0;
    let mut end = u64::MAX;
    while told < end {
        match frames.next() {
            Some(Came::Confirm {
                channel,
                tag,
                multiple,
                is_ack,
            }) => {
                let of_channel = confirms.entry(channel).or_default();
                let before = of_channel.count;
                of_channel.take(tag, multiple, is_ack);
                assert!(is_ack);
                told += of_channel.count - before;
                last = Instant::now();
            }
            Some(came) => panic!("{came:?}"),
            None if end == u64::MAX => {
                writer.finish(ALIVE_WITHIN);
                end = writer.messages;
            }
            None => {
                assert!(
                    last.elapsed() < ALIVE_WITHIN,
                    "{told} of {end} are confirmed"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
