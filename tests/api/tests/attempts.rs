//! What consumers say of deliveries is kept with the message and told where it ends (features A27, X6), also after its leader has changed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use warren_api::{Call, FIRST, message, one_node, queue_batch, runtime, text};
use warren_proto::admin_v1::{self, AttemptRecord};
use warren_proto::v1::settlement::Action;
use warren_proto::v1::{self, MessageState};
use warren_testkit::process::{Cluster, NodeNumber, Options};

fn requeue(reason: &str) -> Action {
    Action::Requeue(v1::Requeue {
        failed: true,
        reason: reason.to_owned(),
        ..v1::Requeue::default()
    })
}

fn reject(reason: &str, detail: &str, park: bool) -> Action {
    Action::Reject(v1::Reject {
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        park,
    })
}

async fn fail(call: &Call, queue: &str, action: Action) {
    let taken = call.take(queue, 1).await;
    assert_eq!(taken.len(), 1);
    call.settle(taken, action).await;
}

fn said(attempts: &[AttemptRecord]) -> Vec<(&str, &str, &str)> {
    let told = attempts.iter().map(|it| {
        assert!(it.at.is_some());
        (it.outcome.as_str(), it.reason.as_str(), it.detail.as_str())
    });
    told.collect()
}

async fn dead_letters(call: &Call, queue: &str, count: usize) -> Vec<admin_v1::DeadLetter> {
    loop {
        let request = admin_v1::ListDeadLettersRequest {
            queue: queue.to_owned(),
            ..admin_v1::ListDeadLettersRequest::default()
        };
        let listed = call.dead_letters().list_dead_letters(request).await;
        let listed = listed.unwrap().into_inner().dead_letters;
        if listed.len() == count {
            return listed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn parked(call: &Call, queue: &str) -> Vec<admin_v1::DeadLetter> {
    let request = admin_v1::ListParkedRequest {
        queue: queue.to_owned(),
        ..admin_v1::ListParkedRequest::default()
    };
    let listed = call.dead_letters().list_parked(request).await;
    listed.unwrap().into_inner().parked
}

/// Rejected to `dead`, three failures allowed.
async fn declare(call: &Call) {
    call.declare("dead").await.unwrap();
    let away = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    call.declare_with("orders", &away).await;
}

#[test]
fn dead_letter_tells_every_attempt_of_which_something_was_said_and_keeps_it_when_it_is_sent_back() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        declare(&call).await;
        call.publish(queue_batch("orders", [message("one")]))
            .await
            .unwrap();
        fail(&call, "orders", requeue("no answer")).await;
        fail(&call, "orders", requeue("")).await;
        let long = "x".repeat(5_000);
        fail(&call, "orders", reject("poison", &long, false)).await;

        let listed = dead_letters(&call, "dead", 1).await;
        let expected = [
            ("failed", "no answer", ""),
            ("rejected", "poison", &long[..1_024]),
        ];
        assert_eq!(said(&listed[0].attempts), expected);
        assert_eq!(listed[0].cause, "rejected");

        let back = admin_v1::RedriveRequest {
            queue: "dead".to_owned(),
            ..admin_v1::RedriveRequest::default()
        };
        call.dead_letters().redrive(back).await.unwrap();
        while call.stats("orders").await.ready != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fail(&call, "orders", reject("again", "", false)).await;
        let listed = dead_letters(&call, "dead", 1).await;
        let reasons: Vec<&str> = listed[0]
            .attempts
            .iter()
            .map(|it| it.reason.as_str())
            .collect();
        assert_eq!(reasons, ["no answer", "poison", "again"]);
        // It is part of the message: whoever consumes it reads it, too.
        let taken = call.take("dead", 1).await;
        let headers = &taken[0].message.as_ref().unwrap().headers;
        assert!(headers.contains_key("x-attempts"));
    });
}

#[test]
fn parked_message_tells_its_attempts_from_any_node_also_after_all_were_killed() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let second = NodeNumber(2);
        let [call, other] = [FIRST, second].map(|it| Call::to(&cluster.grpc_address(it)));
        call.declare("orders").await.unwrap();
        call.publish(queue_batch("orders", [message("one"), message("two")]))
            .await
            .unwrap();
        fail(&call, "orders", requeue("no answer")).await;
        fail(&call, "orders", reject("look at me", "line 7", true)).await;
        let expected = [
            ("failed", "no answer", ""),
            ("parked", "look at me", "line 7"),
        ];
        assert_eq!(said(&parked(&other, "orders").await[0].attempts), expected);

        for node in cluster.numbers() {
            cluster.kill(node).unwrap();
        }
        for node in cluster.numbers() {
            cluster.spawn(node).unwrap();
        }
        cluster.wait_all_ready().unwrap();
        let [call, other] = [FIRST, second].map(|it| Call::to(&cluster.grpc_address(it)));
        assert_eq!(said(&parked(&other, "orders").await[0].attempts), expected);
        let stats = call.stats("orders").await;
        assert_eq!((stats.ready, stats.parked), (1, 1));
    });
}

#[test]
fn purge_takes_dead_letters_that_nobody_takes_and_leaves_what_is_parked() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        // Nothing is bound to the exchange, and they are to be kept: they stay on their way.
        let stuck = [
            ("x-dead-letter-exchange", text("amq.direct")),
            ("x-dead-letter-strategy", text("at-least-once")),
        ];
        call.declare_with("orders", &stuck).await;
        call.fill("orders", &["one", "two", "three"]).await;
        fail(&call, "orders", reject("", "", true)).await;
        let taken = call.take("orders", 1).await;
        let settling = call.settle(taken, reject("poison", "", false));
        let wait = tokio::time::timeout(Duration::from_millis(500), settling).await;
        assert!(
            wait.is_err(),
            "a rejection is answered when its target has it"
        );
        assert_eq!(call.stats("orders").await.ready, 1);

        let only = admin_v1::PurgeQueueRequest {
            queue: "orders".to_owned(),
            states: vec![MessageState::DeadLettering.into()],
            ..admin_v1::PurgeQueueRequest::default()
        };
        let purged = call.topology().purge_queue(only).await.unwrap();
        assert_eq!(purged.into_inner().messages, 1);
        let stats = call.stats("orders").await;
        let counts = (stats.ready, stats.unacked, stats.parked, stats.purged_total);
        assert_eq!(counts, (1, 0, 1, 1));
    });
}
