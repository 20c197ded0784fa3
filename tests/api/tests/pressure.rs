//! gRPC clients that take or give too much: a consumer that does not read, publishers that go on beyond their credit and do not read their
//! results. The nodes keep to their limits, others go on, and nothing is lost. The same over AMQP: `tests/cluster/tests/pressure.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use warren_api::{Call, Consuming, FIRST, Publishing, in_band, queue_batch, runtime};
use warren_client::{
    Connection, ConnectionOptions, ConsumerOptions, Message, PublisherOptions, QueueSpec, Target,
    parse_addresses,
};
use warren_proto::v1;
use warren_proto::v1::{
    consume_request::Frame as Consume, consume_response::Frame as Consumed,
    publish_stream_request::Frame as Publish, publish_stream_response::Frame as Published,
};
use warren_testkit::memory::Memory;
use warren_testkit::process::{Cluster, NodeNumber, Options};

const BODY_BYTES: usize = 16 * 1024;
/// 320 MiB before the consumer comes, 64 MiB while it does not read.
const BEFORE: u64 = 20_480;
const MEANWHILE: u64 = 4_096;
/// A consumer is lent a megabyte, so much more may be in frames, and the sockets hold some; far less than what waits.
const UNREAD_BYTES: u64 = 24 << 20;
/// By how much a node may grow, with all that storing what is stored meanwhile takes.
const GROWTH_MAX: u64 = 192 << 20;
/// Nothing that goes on takes longer, however busy the machine.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);
/// A stream that takes nothing for so long stands still.
const STANDS_STILL: Duration = Duration::from_millis(1_500);
const ROUNDS: u64 = 200;
/// Messages of a batch, and batches that are far more than a node keeps results of.
const ENTRIES: u64 = 1_000;
const BATCHES_MAX: u64 = 3_000;

fn connect(cluster: &Cluster) -> Connection {
    let servers = parse_addresses(&cluster.grpc_address(FIRST)).unwrap();
    Connection::new(&servers, ConnectionOptions::default()).unwrap()
}

/// Declares a queue and says where it is.
async fn declare(connection: &Connection, name: &str) -> u64 {
    let spec = QueueSpec::durable(name);
    connection.declare_queue(&spec).await.unwrap().shard
}

fn body(number: u64, bytes: usize) -> Bytes {
    let mut body = vec![0x77; bytes];
    body[..8].copy_from_slice(&number.to_be_bytes());
    body.into()
}

fn number(body: &[u8]) -> u64 {
    u64::from_be_bytes(body[..8].try_into().unwrap())
}

/// Publishes messages of these numbers, in order, and waits for their confirms.
async fn fill(connection: &Connection, queue: &str, numbers: std::ops::Range<u64>) {
    let publisher = connection.publisher(PublisherOptions::default());
    let target = Target::queue(queue);
    let mut confirms = Vec::new();
    for it in numbers {
        let message = Message::new(body(it, BODY_BYTES));
        confirms.push(publisher.publish(&target, message).await.unwrap());
        if confirms.len() == 1_000 {
            for confirm in confirms.drain(..) {
                assert!(confirm.await.unwrap().is_success());
            }
        }
    }
    for confirm in confirms {
        assert!(confirm.await.unwrap().is_success());
    }
}

/// Publishes one message, waits for its confirm and for the message, and so on.
struct Pair {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Pair {
    /// On a queue of the same shard as another one, where that is given.
    async fn start(connection: &Connection, beside: u64) -> Self {
        let mut number = 0;
        let name = loop {
            let name = format!("pair-{number}");
            if declare(connection, &name).await == beside {
                break name;
            }
            number += 1;
        };
        let (stop, rounds) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let task = tokio::spawn(rounds_of(
            connection.clone(),
            name,
            Arc::clone(&stop),
            Arc::clone(&rounds),
        ));
        let pair = Self { stop, rounds, task };
        pair.goes_on().await;
        pair
    }

    /// It does as many rounds as before anybody disturbed it.
    async fn goes_on(&self) {
        let (from, began) = (self.rounds.load(Ordering::Relaxed), Instant::now());
        while self.rounds.load(Ordering::Relaxed) < from + ROUNDS {
            let alive = !self.task.is_finished() && began.elapsed() < ALIVE_WITHIN;
            assert!(alive, "the pair stands still");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("pair: {ROUNDS} rounds in {:?}", began.elapsed());
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the pair saw nothing wrong");
    }
}

async fn rounds_of(
    connection: Connection,
    queue: String,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
) {
    let publisher = connection.publisher(PublisherOptions::default());
    let target = Target::queue(&queue);
    let mut consumer = connection
        .consume(ConsumerOptions::queue(&queue))
        .await
        .unwrap();
    while !stop.load(Ordering::Relaxed) {
        let confirm = publisher.publish(&target, Message::new("x")).await.unwrap();
        assert!(confirm.await.unwrap().is_success());
        let delivery = consumer.next().await.unwrap().unwrap();
        assert!(!delivery.redelivered);
        consumer.ack(&delivery).await.unwrap();
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

fn ack(first: u64, last: u64) -> Consume {
    Consume::Settle(v1::SettleBatch {
        settle_ref: last,
        settlements: vec![v1::Settlement {
            target: Some(v1::settlement::Target::Tags(v1::TagRange { first, last })),
            action: Some(v1::settlement::Action::Ack(v1::Ack {})),
            ..v1::Settlement::default()
        }],
    })
}

#[test]
fn consumer_that_does_not_read_its_stream_costs_others_nothing() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let memory = Memory::watch(&cluster);
    runtime(async {
        let connection = connect(&cluster);
        let shard = declare(&connection, "slow").await;
        let pair = Pair::start(&connection, shard).await;
        fill(&connection, "slow", 0..BEFORE).await;
        pair.goes_on().await;

        let before = memory.begin();
        let call = Call::to(&cluster.grpc_address(FIRST));
        let open = v1::ConsumeOpen {
            queue: "slow".to_owned(),
            prefetch: 65_535,
            ..v1::ConsumeOpen::default()
        };
        let (mut stream, _) = Consuming::open(&call, open).await;
        pair.goes_on().await;
        stream.send(Consume::Ping(v1::Ping { nonce: 1 })).await;
        fill(&connection, "slow", BEFORE..BEFORE + MEANWHILE).await;
        stream.send(Consume::Ping(v1::Ping { nonce: 2 })).await;
        pair.goes_on().await;
        let out = call.stats("slow").await.unacked * u64::try_from(BODY_BYTES).unwrap();
        let peak = memory.peak();
        println!(
            "resident: {before}, then at most {peak}; on its way: {} KiB",
            out >> 10
        );
        assert!(out <= UNREAD_BYTES, "{out} bytes are on their way");
        let growth = peak.growth_since(&before);
        assert!(growth <= GROWTH_MAX, "grew by {growth}");

        let (mut next, mut first) = (0, 1);
        while next < BEFORE + MEANWHILE {
            let Consumed::Deliveries(more) = stream.next().await.unwrap() else {
                continue;
            };
            let last = more.deliveries.last().unwrap().delivery_tag;
            for it in more.deliveries {
                assert!(!it.redelivered);
                assert_eq!(number(&it.message.unwrap().body), next);
                next += 1;
            }
            stream.send(ack(first, last)).await;
            first = last + 1;
        }
        while stream.settled(first - 1).await.settle_ref != first - 1 {}
        let left = call.stats("slow").await;
        assert_eq!((left.ready, left.unacked), (0, 0));
        pair.end().await;
    });
}

fn small_batch(batch_ref: u64) -> v1::PublishBatch {
    let messages = (0..ENTRIES).map(|it| v1::Message {
        body: body(it, 8),
        ..v1::Message::default()
    });
    v1::PublishBatch {
        batch_ref,
        ..queue_batch("small", messages)
    }
}

/// Results of each batch, by what became of the messages. Each is told once.
#[derive(Default)]
struct Results {
    batches: BTreeMap<u64, Vec<bool>>,
    committed: u64,
    beyond_credit: u64,
    whole: u64,
}

impl Results {
    fn take(&mut self, confirms: v1::Confirms, entries: u64) {
        for confirm in confirms.batches {
            let told = self.batches.entry(confirm.batch_ref).or_default();
            told.resize(usize::try_from(entries).unwrap(), false);
            for result in confirm.results {
                let before = std::mem::replace(&mut told[result.index as usize], true);
                assert!(!before, "a second result");
                if result.outcome() == v1::PublishOutcome::Committed {
                    self.committed += 1;
                } else {
                    let error = in_band(result.error.as_ref());
                    assert_eq!(error, "ResourceExhausted OVER_CREDIT");
                    self.beyond_credit += 1;
                }
            }
            if confirm.all_committed {
                let rest = told.iter().filter(|it| !**it).count();
                self.committed += u64::try_from(rest).unwrap();
                told.fill(true);
                self.whole += 1;
            }
        }
    }
}

#[test]
fn publisher_that_reads_no_results_is_pushed_back_and_gets_each_when_it_reads() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let memory = Memory::watch(&cluster);
    runtime(async {
        let connection = connect(&cluster);
        let shard = declare(&connection, "small").await;
        let pair = Pair::start(&connection, shard).await;
        let call = Call::to(&cluster.grpc_address(FIRST));
        let (mut stream, _) = Publishing::open(&call, v1::PublishOpen::default()).await;
        let before = memory.begin();
        let mut sent = 0;
        while sent < BATCHES_MAX {
            let send = stream.send(Publish::Batch(small_batch(sent)));
            if timeout(STANDS_STILL, send).await.is_err() {
                break;
            }
            sent += 1;
        }
        let peak = memory.peak();
        println!(
            "resident: {before}, then at most {peak}; taken: {sent} batches of at most {BATCHES_MAX}"
        );
        assert!(sent < BATCHES_MAX, "it is not pushed back");
        let growth = peak.growth_since(&before);
        assert!(growth <= GROWTH_MAX, "grew by {growth}");
        pair.goes_on().await;

        let mut results = Results::default();
        while results.whole < sent {
            if let Published::Confirms(confirms) = stream.next().await.unwrap() {
                results.take(confirms, ENTRIES);
            }
        }
        println!(
            "committed: {}, beyond the credit: {}",
            results.committed, results.beyond_credit
        );
        assert_eq!(results.committed + results.beyond_credit, sent * ENTRIES);
        assert_eq!(call.stats("small").await.ready, results.committed);
        pair.end().await;
    });
}

#[test]
fn publisher_that_goes_on_beyond_its_credit_is_refused_and_what_was_taken_is_stored() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let memory = Memory::watch(&cluster);
    runtime(async {
        let connection = connect(&cluster);
        let shard = declare(&connection, "large").await;
        let pair = Pair::start(&connection, shard).await;
        let call = Call::to(&cluster.grpc_address(FIRST));
        let (mut stream, opened) = Publishing::open(&call, v1::PublishOpen::default()).await;
        let granted = opened.credit.unwrap().bytes;
        let before = memory.begin();
        for node in [2, 3] {
            cluster.pause(NodeNumber(node)).unwrap();
        }
        // Eight times its credit, while nothing can be stored.
        let per_batch = 16_u64;
        let batch_bytes = per_batch * u64::try_from(BODY_BYTES).unwrap();
        let batches = 8 * granted / batch_bytes;
        let began = Instant::now();
        let mut results = Results::default();
        let mut sent = 0;
        while sent < batches {
            let messages = (0..per_batch).map(|it| v1::Message {
                body: body(sent * per_batch + it, BODY_BYTES),
                ..v1::Message::default()
            });
            let batch = v1::PublishBatch {
                batch_ref: sent,
                ..queue_batch("large", messages)
            };
            stream.send(Publish::Batch(batch)).await;
            sent += 1;
            while let Ok(Ok(frame)) = timeout(Duration::ZERO, stream.next()).await {
                if let Published::Confirms(confirms) = frame {
                    results.take(confirms, per_batch);
                }
            }
        }
        let (took, peak) = (began.elapsed(), memory.peak());
        for node in [2, 3] {
            cluster.resume(NodeNumber(node)).unwrap();
        }
        while results.whole < sent {
            if let Published::Confirms(confirms) = stream.next().await.unwrap() {
                results.take(confirms, per_batch);
            }
        }
        let committed = results.committed * u64::try_from(BODY_BYTES).unwrap();
        println!(
            "resident: {before}, then at most {peak}; sent {} MiB in {took:?}, taken {} MiB",
            (sent * batch_bytes) >> 20,
            committed >> 20,
        );
        let one = u64::try_from(BODY_BYTES).unwrap();
        assert!(
            committed <= granted + one,
            "{committed} bytes with a credit of {granted}"
        );
        let growth = peak.growth_since(&before);
        assert!(growth <= GROWTH_MAX, "grew by {growth}");
        pair.goes_on().await;
        pair.end().await;
        assert_eq!(call.stats("large").await.ready, results.committed);
    });
}
