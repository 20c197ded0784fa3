//! Messages of the largest size that a node can be told to take, over both doors: through a node that does not lead, to a node that was
//! away, across the death of the leader (A12). Not here: what is too large (`publish`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../../cluster/tests/support/amqp.rs"]
mod amqp;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use amqp::{Amqp, Heard};
use warren_api::{Call, Consuming, FIRST, one_node, queue_batch, runtime};
use warren_proto::v1;
use warren_testkit::process::{Cluster, NodeNumber, Options};

const LARGEST: usize = 128 << 20;
const QUEUE: &str = "large";
const WITHIN: Duration = Duration::from_secs(60);

fn cluster() -> Cluster {
    let mut cluster = Cluster::prepare(Options::default()).unwrap();
    for number in cluster.numbers() {
        cluster.set_environment(number, "WARREN_LIMITS_MAX_MESSAGE_SIZE", "128 MiB");
        cluster.set_environment(number, "WARREN_LIMITS_ADMISSION_BYTES", "256 MiB");
        // A machine with little memory is no reason to hold publishers back here.
        cluster.set_environment(number, "WARREN_LIMITS_MEMORY_WATERMARK", "6 GiB");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    cluster
}

/// No two pieces of it are alike.
fn body(bytes: usize, seed: u64) -> Vec<u8> {
    let words = (seed << 32..).take(bytes.div_ceil(8));
    let mut body: Vec<u8> = words
        .flat_map(|it| it.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    body.truncate(bytes);
    body
}

async fn publish(call: &Call, body: Vec<u8>) -> v1::PublishOutcome {
    let message = v1::Message {
        body: body.into(),
        ..v1::Message::default()
    };
    let batch = queue_batch(QUEUE, [message]);
    let results = call.publish_within(batch, WITHIN).await.unwrap();
    results[0].outcome()
}

async fn comes_back(call: &Call, sent: &[u8]) {
    // A leader is elected first, and then reads it.
    let until = Instant::now() + WITHIN;
    let taken = loop {
        match call.receive(QUEUE, 1).await {
            Ok(taken) if !taken.is_empty() => break taken,
            other => assert!(Instant::now() < until, "nothing came: {other:?}"),
        }
    };
    let message = taken[0].message.as_ref().unwrap();
    assert!(message.body == sent, "another body came back");
    call.settle(taken, v1::settlement::Action::Ack(v1::Ack {}))
        .await;
}

#[test]
fn largest_messages_pass_any_node_reach_one_that_was_away_and_survive_their_leader() {
    let mut cluster = cluster();
    let [first, second, third] = [1, 2, 3].map(NodeNumber);
    let at = |cluster: &Cluster, number| Call::to(&cluster.grpc_address(number));
    let (one, two) = (body(LARGEST, 1), body(LARGEST, 2));
    runtime(async {
        let call = at(&cluster, first);
        call.declare(QUEUE).await.unwrap();
    });
    cluster.kill(third).unwrap();
    runtime(async {
        for (number, body) in [(first, &one), (second, &two)] {
            let outcome = publish(&at(&cluster, number), body.clone()).await;
            assert_eq!(outcome, v1::PublishOutcome::Committed, "{number:?}");
        }
        let outcome = publish(&at(&cluster, second), body(LARGEST + 1, 3)).await;
        assert_eq!(outcome, v1::PublishOutcome::Refused);
    });
    cluster.restart(third).unwrap();
    cluster.wait_all_ready().unwrap();
    // One of the two that have them goes: the one that was away is needed.
    cluster.kill(first).unwrap();
    runtime(async {
        comes_back(&at(&cluster, third), &one).await;
        comes_back(&at(&cluster, second), &two).await;
    });
}

#[test]
fn largest_messages_pass_the_door_of_amqp_both_ways() {
    let cluster = cluster();
    let open = |number| {
        let socket = TcpStream::connect(cluster.amqp_address(NodeNumber(number))).unwrap();
        Amqp::guest(socket, WITHIN)
    };
    let (mut sends, mut takes) = (open(2), open(3));
    sends.confirm_select(1);
    sends.declare(1, QUEUE, false);
    let declared = Heard::Method {
        class: 50,
        method: 11,
    };
    assert_eq!(sends.heard(), declared);
    let confirmed = Heard::Method {
        class: 60,
        method: 80,
    };
    for seed in 0..2 {
        let body = body(LARGEST, seed);
        sends.publish_body(1, "", QUEUE, &body);
        assert_eq!(sends.heard(), confirmed);
        let came = takes.get(1, QUEUE);
        assert!(came.as_ref() == Some(&body), "another body came back");
    }
    // As RabbitMQ has it.
    sends.publish_body(1, "", QUEUE, &vec![0; LARGEST + 1]);
    assert_eq!(sends.heard(), Heard::ChannelClosed { code: 406 });
}

/// Each is larger than what a node writes ahead for a consumer: one after the other it comes all the same, with a prefetch and with credit by hand.
#[test]
fn consumer_gets_messages_that_are_larger_than_its_window() {
    const COUNT: usize = 8;
    const BYTES: usize = 3 << 20;
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare(QUEUE).await.unwrap();
        for seed in 0..COUNT as u64 {
            let stored = publish(&call, body(BYTES, seed)).await;
            assert_eq!(stored, v1::PublishOutcome::Committed);
        }
        let by_hand = v1::Credit {
            messages: COUNT as u32,
            bytes: 1 << 30,
        };
        for (prefetch, credit) in [(COUNT as u32, None), (0, Some(by_hand))] {
            let open = v1::ConsumeOpen {
                queue: QUEUE.to_owned(),
                prefetch,
                credit,
                ..v1::ConsumeOpen::default()
            };
            let (mut consuming, _) = Consuming::open(&call, open).await;
            let taken = tokio::time::timeout(WITHIN, consuming.deliveries(COUNT)).await;
            for (delivery, seed) in taken.unwrap().iter().zip(0..) {
                assert!(delivery.message.as_ref().unwrap().body == body(BYTES, seed));
            }
            // Nothing is settled: they come again.
            consuming.close().await;
        }
    });
}
