//! Requests (features A33): a publish that wants a consumer fails at once where there is none, and nothing of it is stored. Not here: direct
//! replies to AMQP clients (`doors`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use warren_api::{
    Call, Consuming, FIRST, Publishing, in_band, message, number, one_node, runtime, text,
};
use warren_proto::v1;
use warren_proto::v1::publish_stream_request::Frame;
use warren_testkit::process::{Cluster, NodeNumber, Options};

const NOBODY: &str = "FailedPrecondition NO_RESPONDERS";

/// A request for a queue.
fn entry(queue: &str) -> v1::PublishEntry {
    v1::PublishEntry {
        message: Some(message("question")),
        routing_key: Some(queue.to_owned()),
        need_consumer: true,
        ..v1::PublishEntry::default()
    }
}

fn batch(entries: Vec<v1::PublishEntry>) -> v1::PublishBatch {
    v1::PublishBatch {
        batch_ref: 1,
        entries,
        ..v1::PublishBatch::default()
    }
}

fn told(results: &[v1::PublishResult]) -> Vec<String> {
    let each = results.iter().map(|it| match it.outcome() {
        v1::PublishOutcome::Refused => in_band(it.error.as_ref()),
        outcome @ (v1::PublishOutcome::Unspecified
        | v1::PublishOutcome::Committed
        | v1::PublishOutcome::Duplicate
        | v1::PublishOutcome::Unrouted) => format!("{outcome:?} {}", it.queues),
    });
    each.collect()
}

async fn ask(call: &Call, entries: Vec<v1::PublishEntry>) -> Vec<String> {
    told(&call.publish(batch(entries)).await.unwrap())
}

async fn consume(call: &Call, queue: &str) -> Consuming {
    let open = v1::ConsumeOpen {
        queue: queue.to_owned(),
        prefetch: 10,
        ..v1::ConsumeOpen::default()
    };
    Consuming::open(call, open).await.0
}

#[test]
fn request_to_a_queue_without_consumers_is_refused_and_stored_nowhere() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("calc").await.unwrap();
        assert_eq!(ask(&call, vec![entry("calc")]).await, [NOBODY]);
        // Where no queue is, nobody answers, either.
        let mandatory = v1::PublishEntry {
            mandatory: true,
            ..entry("nowhere")
        };
        let answers = ask(&call, vec![entry("nowhere"), mandatory]).await;
        assert_eq!(answers, [NOBODY, "FailedPrecondition UNROUTABLE"]);
        assert_eq!(call.stats("calc").await.ready, 0);

        // As soon as a consumer is told that it is there, its queue has one.
        for _ in 0..5 {
            let mut stream = consume(&call, "calc").await;
            assert_eq!(ask(&call, vec![entry("calc")]).await, ["Committed 1"]);
            let taken = stream.deliveries(1).await;
            call.settle(taken, v1::settlement::Action::Ack(v1::Ack {}))
                .await;
            assert_eq!(stream.close().await, None);
            let patience = Instant::now() + Duration::from_secs(10);
            while call.stats("calc").await.consumers > 0 {
                assert!(Instant::now() < patience, "a consumer is left");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(ask(&call, vec![entry("calc")]).await, [NOBODY]);
        }
        assert_eq!(call.stats("calc").await.ready, 0);
    });
}

/// The answer was lost and its consumer has gone since: it is told that nobody answers, and is stored as it was, once.
#[test]
fn request_that_is_repeated_without_its_consumer_is_refused_and_stays_stored() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare_with("calc", &[("x-dedup-window", number(60_000))])
            .await;
        let keyed = || {
            let mut entry = entry("calc");
            if let Some(message) = &mut entry.message {
                message.dedup_key = "question-1".to_owned();
            }
            vec![entry]
        };
        let mut stream = consume(&call, "calc").await;
        assert_eq!(ask(&call, keyed()).await, ["Committed 1"]);
        assert_eq!(stream.deliveries(1).await.len(), 1);
        assert_eq!(stream.close().await, None);
        let patience = Instant::now() + Duration::from_secs(20);
        while call.stats("calc").await.consumers > 0 {
            assert!(Instant::now() < patience, "a consumer is left");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(ask(&call, keyed()).await, [NOBODY]);
        assert_eq!(call.stats("calc").await.published_total, 1);
        let mut stream = consume(&call, "calc").await;
        assert_eq!(ask(&call, keyed()).await, ["Duplicate 0"]);
        assert_eq!(stream.deliveries(1).await.len(), 1);
        assert_eq!(call.stats("calc").await.published_total, 1);
    });
}

#[test]
fn receive_that_waits_is_a_consumer() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("calc").await.unwrap();
        let waiting = tokio::spawn({
            let call = call.clone();
            async move { call.receive("calc", 1).await.unwrap() }
        });
        let patience = Instant::now() + Duration::from_secs(2);
        while ask(&call, vec![entry("calc")]).await == [NOBODY] {
            assert!(
                Instant::now() < patience,
                "the call that waits does not count"
            );
        }
        assert_eq!(waiting.await.unwrap().len(), 1);
    });
}

#[test]
fn request_goes_to_all_its_queues_if_one_has_a_consumer() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        for queue in ["served", "kept", "alone"] {
            call.declare(queue).await.unwrap();
        }
        let _stream = consume(&call, "served").await;
        let both = v1::PublishEntry {
            cc: vec!["kept".to_owned()],
            ..entry("served")
        };
        let neither = v1::PublishEntry {
            cc: vec!["alone".to_owned()],
            ..entry("kept")
        };
        let answers = ask(&call, vec![both, neither, entry("served")]).await;
        assert_eq!(answers, ["Committed 2", NOBODY, "Committed 1"]);
        assert_eq!(call.stats("kept").await.ready, 1);
        assert_eq!(call.stats("alone").await.ready, 0);
    });
}

#[test]
fn request_in_an_atomic_batch_is_refused_with_all_of_it_and_on_a_stream_alone() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let together = [("x-placement-group", text("g"))];
        call.declare_with("served", &together).await;
        call.declare_with("alone", &together).await;
        let _stream = consume(&call, "served").await;
        let atomic = v1::PublishBatch {
            atomic: true,
            ..batch(vec![entry("served"), entry("alone")])
        };
        let answers = told(&call.publish(atomic).await.unwrap());
        assert_eq!(answers, ["FailedPrecondition BATCH_ABORTED", NOBODY]);
        let (mut stream, _) = Publishing::open(&call, v1::PublishOpen::default()).await;
        let frame = Frame::Batch(batch(vec![entry("alone"), entry("served")]));
        stream.send(frame).await;
        let results = stream.results(1, 2).await;
        assert_eq!(told(&results[..1]), [NOBODY]);
        assert_eq!(results[1].outcome(), v1::PublishOutcome::Committed);
        assert_eq!(call.stats("alone").await.ready, 0);
    });
}

/// A new leader has no consumers until the nodes have reported theirs: it does not say that there are none.
#[test]
fn request_is_never_refused_because_the_leader_changed() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let leads = runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("calc").await.unwrap();
        let leader = call.stats("calc").await.leader.unwrap();
        NodeNumber(leader.node.parse().unwrap())
    });
    let numbers = cluster.numbers().into_iter();
    let others: Vec<NodeNumber> = numbers.filter(|it| *it != leads).collect();
    runtime(async {
        let served_by = Call::to(&cluster.grpc_address(others[0]));
        let asks = Call::to(&cluster.grpc_address(others[1]));
        let _stream = consume(&served_by, "calc").await;
        assert_eq!(ask(&asks, vec![entry("calc")]).await, ["Committed 1"]);
        cluster.kill(leads).unwrap();
        let (mut answered, patience) = (0, Instant::now() + Duration::from_secs(60));
        while answered < 50 {
            assert!(Instant::now() < patience, "{answered} answers only");
            match ask(&asks, vec![entry("calc")]).await[0].as_str() {
                "Committed 1" => answered += 1,
                other => assert_ne!(other, NOBODY),
            }
        }
    });
}
