//! How long what a client holds stays its own: while its stream says something (features A26), for a while after the stream broke, and not a
//! moment after it said goodbye (A28). And what tells it that the class of durability is `persisted` (A3). Not here: coming back in time
//! (`resume`), leases of calls (`receipts`), single deliveries that are held too long (`max_processing`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use warren_api::{Call, Consuming, FIRST, Publishing, one_node, runtime};
use warren_proto::v1::consume_request::Frame;
use warren_proto::{admin_v1, v1};
use warren_testkit::process::{Cluster, NodeNumber, Options};

const LEASE: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(15);

fn open(queue: &str) -> v1::ConsumeOpen {
    v1::ConsumeOpen {
        queue: queue.to_owned(),
        prefetch: 10,
        ..v1::ConsumeOpen::default()
    }
}

/// Waits for the message to be ready again, and says when it was.
async fn comes_back(call: &Call, queue: &str, within: Duration) -> (v1::Delivery, Instant) {
    let patience = Instant::now() + within;
    loop {
        if let Some(it) = call.receive(queue, 1).await.unwrap().pop() {
            return (it, Instant::now());
        }
        assert!(Instant::now() < patience, "not back within {within:?}");
    }
}

#[test]
fn stream_that_says_nothing_loses_what_it_holds_and_one_that_pings_does_not() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        for queue in ["silent", "pings"] {
            call.declare(queue).await.unwrap();
            call.fill(queue, &["a"]).await;
        }
        let (mut silent, opened) = Consuming::open(&call, open("silent")).await;
        assert_eq!(opened.lease.unwrap().seconds, 30);
        silent.deliveries(1).await;
        let began = Instant::now();
        let (mut pings, _) = Consuming::open(&call, open("pings")).await;
        let held = pings.deliveries(1).await;
        while began.elapsed() < LEASE - Duration::from_secs(4) {
            tokio::time::sleep(Duration::from_secs(4)).await;
            pings.send(Frame::Ping(v1::Ping { nonce: 1 })).await;
        }
        let (again, at) = comes_back(&call, "silent", LEASE).await;
        assert!(
            at - began > LEASE - Duration::from_secs(1),
            "{:?}",
            at - began
        );
        assert!(again.redelivered && again.delivery_count == 1, "{again:?}");
        let ended = silent.end().await;
        assert_eq!(ended.as_deref(), Some("FailedPrecondition EXPIRED"));
        assert_eq!(call.receive("pings", 1).await.unwrap(), vec![]);
        call.settle(held, v1::settlement::Action::Ack(v1::Ack {}))
            .await;
    });
}

#[test]
fn stream_that_is_closed_gives_back_what_it_holds_at_once_and_one_that_broke_after_its_grace() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        for queue in ["closed", "broken"] {
            call.declare(queue).await.unwrap();
            call.fill(queue, &["a"]).await;
        }
        let (mut broken, opened) = Consuming::open(&call, open("broken")).await;
        broken.deliveries(1).await;
        let broke = Instant::now();
        broken.abandon();

        let (mut closed, _) = Consuming::open(&call, open("closed")).await;
        closed.deliveries(1).await;
        let began = Instant::now();
        assert_eq!(closed.close().await, None);
        let (again, at) = comes_back(&call, "closed", GRACE).await;
        assert!(at - began < GRACE / 3, "{:?}", at - began);
        // Its client has not failed with it.
        assert!(again.redelivered && again.delivery_count == 0, "{again:?}");
        assert_eq!(call.stats("closed").await.consumers, 0);

        let (again, at) = comes_back(&call, "broken", 3 * GRACE).await;
        assert!(
            at - broke > GRACE - Duration::from_secs(1),
            "{:?}",
            at - broke
        );
        assert!(again.redelivered && again.delivery_count == 1, "{again:?}");
        assert_eq!(call.stats("broken").await.consumers, 0);
        // Whoever comes now is too late, and told so by having nothing.
        let late = v1::ConsumeOpen {
            resume_token: opened.resume_token,
            ..open("broken")
        };
        let (_stream, opened) = Consuming::open(&call, late).await;
        assert_eq!(opened.resumed_receipts, Vec::<bytes::Bytes>::new());
    });
}

#[test]
fn class_of_durability_is_told_wherever_a_queue_is_shown() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let declared = call.declare("orders").await.unwrap();
        assert_eq!(declared.durability, "persisted");
        let (_consumer, opened) = Consuming::open(&call, open("orders")).await;
        assert_eq!(opened.durability, "persisted");
        let (_publisher, opened) = Publishing::open(&call, v1::PublishOpen::default()).await;
        assert_eq!(opened.durability, "persisted");
        let all = admin_v1::ListQueuesRequest::default();
        let listed = call.topology().list_queues(all).await.unwrap().into_inner();
        assert_eq!(listed.queues[0].durability, "persisted");
        let shown = cluster.run(&["queue", "show", "orders"]).unwrap();
        assert!(shown.contains("persisted"), "{shown}");
        let shown = cluster
            .run(&["queue", "show", "orders", "--output", "json"])
            .unwrap();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["durability"], "persisted");
    });
}

fn attempt(id: &str, max_messages: u32, max_bytes: u64) -> v1::ReceiveRequest {
    v1::ReceiveRequest {
        queue: "orders".to_owned(),
        max_messages,
        max_bytes,
        attempt_id: id.to_owned(),
        wait: Some(prost_types::Duration {
            seconds: 2,
            nanos: 0,
        }),
        ..v1::ReceiveRequest::default()
    }
}

async fn receive(call: &Call, request: v1::ReceiveRequest) -> Vec<v1::Delivery> {
    let answer = call.messaging().receive(request).await.unwrap();
    answer.into_inner().deliveries
}

#[test]
fn receive_takes_no_more_bytes_than_it_may_but_one_message_in_any_case() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let body = "x".repeat(1_000);
        call.fill("orders", &[body.as_str(); 20]).await;
        let mut taken = Vec::new();
        while taken.len() < 20 {
            let some = receive(&call, attempt("", 100, 3_000)).await;
            // The last one may overdraw the bytes.
            assert!((1..=4).contains(&some.len()), "{}", some.len());
            taken.extend(some);
        }
        call.settle(taken, v1::settlement::Action::Ack(v1::Ack {}))
            .await;
        let large = "x".repeat(100_000);
        call.fill("orders", &[large.as_str(); 2]).await;
        assert_eq!(receive(&call, attempt("", 100, 10)).await.len(), 1);
    });
}

#[test]
fn receive_that_is_repeated_on_another_node_finds_the_same_messages() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let call = |node| Call::to(&cluster.grpc_address(NodeNumber(node)));
        call(1).declare("orders").await.unwrap();
        call(1)
            .fill("orders", &["a", "b", "c", "d", "e", "f"])
            .await;
        let first = receive(&call(1), attempt("one", 2, 0)).await;
        for node in [2, 3, 1] {
            let again = receive(&call(node), attempt("one", 2, 0)).await;
            assert_eq!(again, first, "node {node}");
        }
        // At the same time, on all of them: one of them takes messages.
        let calls = [1, 2, 3].map(call);
        let [one, two, three] = &calls;
        let request = || attempt("two", 2, 0);
        let (one, two, three) = tokio::join!(
            receive(one, request()),
            receive(two, request()),
            receive(three, request())
        );
        assert!(!one.is_empty() && one == two && two == three);
        // A call that waits is found, too.
        let left = 6 - first.len() - two.len();
        call(1).take("orders", left).await;
        let (here, there) = (call(1), call(2));
        let waits = tokio::spawn(async move { receive(&here, attempt("four", 1, 0)).await });
        let joins = tokio::spawn(async move { receive(&there, attempt("four", 1, 0)).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        call(3).fill("orders", &["late"]).await;
        let (waits, joins) = (waits.await.unwrap(), joins.await.unwrap());
        assert!(waits.len() == 1 && waits == joins, "{waits:?} {joins:?}");
        // When all of it is settled the attempt is over: the same id begins anew.
        call(3)
            .settle(first, v1::settlement::Action::Ack(v1::Ack {}))
            .await;
        call(3).fill("orders", &["next"]).await;
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let next = receive(&call(2), attempt("one", 1, 0)).await;
            if next[0].message.as_ref().unwrap().body == "next" {
                break;
            }
            assert!(Instant::now() < patience, "the attempt does not end");
        }
    });
}
