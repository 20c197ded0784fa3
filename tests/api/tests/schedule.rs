//! Scheduled messages are taken back by the handle of their publish result: exact, answered after commit, the same when asked again,
//! whoever leads (features A30).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use warren_api::{Call, FIRST, in_band, message, one_node, queue_batch, reason_of, runtime, text};
use warren_proto::admin_v1;
use warren_proto::v1::{self, CancelOutcome, MessageState};
use warren_testkit::process::{Cluster, NodeNumber, Options};

fn after(body: &str, ms: i64) -> v1::Message {
    let mut message = message(body);
    message.schedule = Some(v1::message::Schedule::Delay(prost_types::Duration {
        seconds: ms / 1_000,
        nanos: i32::try_from(ms % 1_000).unwrap() * 1_000_000,
    }));
    message
}

const HOUR: i64 = 3_600_000;

/// Publishes to a queue; handles in the order of the messages.
async fn schedule(call: &Call, queue: &str, messages: Vec<v1::Message>) -> Vec<String> {
    let results = call.publish(queue_batch(queue, messages)).await.unwrap();
    let handle = |it: v1::PublishResult| {
        assert_eq!(it.outcome(), v1::PublishOutcome::Committed, "{it:?}");
        it.schedule_handle
    };
    results.into_iter().map(handle).collect()
}

async fn cancel(call: &Call, handles: &[String]) -> Vec<(CancelOutcome, String)> {
    let request = v1::CancelScheduledRequest {
        schedule_handles: handles.to_vec(),
        ..v1::CancelScheduledRequest::default()
    };
    let answer = call.messaging().cancel_scheduled(request).await.unwrap();
    let results = answer.into_inner().results;
    assert_eq!(
        results
            .iter()
            .map(|it| &it.schedule_handle)
            .collect::<Vec<_>>(),
        handles.iter().collect::<Vec<_>>()
    );
    let told = results
        .iter()
        .map(|it| (it.outcome(), in_band(it.error.as_ref())));
    told.collect()
}

/// The outcomes; none is an error.
async fn outcomes(call: &Call, handles: &[String]) -> Vec<CancelOutcome> {
    let told = cancel(call, handles).await.into_iter();
    told.map(|(outcome, error)| {
        assert_eq!(error, "no error");
        outcome
    })
    .collect()
}

async fn scheduled_bodies(call: &Call, queue: &str) -> Vec<String> {
    let request = v1::PeekRequest {
        queue: queue.to_owned(),
        states: vec![MessageState::Scheduled.into()],
        limit: 1_000,
        ..v1::PeekRequest::default()
    };
    let mut pages = call.messaging().peek(request).await.unwrap().into_inner();
    let mut bodies = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        bodies.extend(page.messages.into_iter().map(|it| {
            let body = it.delivery.unwrap().message.unwrap().body;
            String::from_utf8(body.to_vec()).unwrap()
        }));
    }
    bodies
}

#[test]
fn scheduled_message_is_taken_back_once_and_the_answer_stays() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let late = vec![after("a", HOUR), message("now"), after("b", HOUR)];
        let handles = schedule(&call, "orders", late).await;
        assert_eq!(handles[1], "", "only scheduled messages have a handle");
        assert_ne!(handles[0], handles[2]);
        let first = handles[..1].to_vec();
        assert_eq!(outcomes(&call, &first).await, [CancelOutcome::Cancelled]);
        assert_eq!(outcomes(&call, &first).await, [CancelOutcome::Cancelled]);
        assert_eq!(scheduled_bodies(&call, "orders").await, ["b"]);
        // The others are not touched.
        let rest = call.receive("orders", 10).await.unwrap();
        assert_eq!(rest.len(), 1);
    });
}

#[test]
fn message_that_came_due_is_too_late_ready_held_or_acked() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let handles = schedule(&call, "orders", vec![after("soon", 1)]).await;
        // It is delivered, so it came due.
        let held = call.receive("orders", 1).await.unwrap();
        assert_eq!(held.len(), 1);
        let late = [CancelOutcome::TooLate];
        assert_eq!(outcomes(&call, &handles).await, late);
        call.ack(vec![held[0].receipt.clone()]).await.unwrap();
        assert_eq!(outcomes(&call, &handles).await, late);
    });
}

#[test]
fn handles_that_name_nothing_are_not_found() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let handles = schedule(&call, "orders", vec![after("a", HOUR)]).await;
        let mut altered = handles[0].clone();
        let last = altered.pop().unwrap();
        altered.push(if last == 'A' { 'B' } else { 'A' });
        let wrong = [String::new(), "made up".to_owned(), altered];
        assert_eq!(outcomes(&call, &wrong).await, [CancelOutcome::NotFound; 3]);
        let request = admin_v1::DeleteQueueRequest {
            name: "orders".to_owned(),
            ..admin_v1::DeleteQueueRequest::default()
        };
        call.topology().delete_queue(request).await.unwrap();
        assert_eq!(outcomes(&call, &handles).await, [CancelOutcome::NotFound]);
        let none = v1::CancelScheduledRequest::default();
        let refused = call.messaging().cancel_scheduled(none).await.unwrap_err();
        assert_eq!(reason_of(&refused), "InvalidArgument BAD_ARGUMENT");
        let elsewhere = v1::CancelScheduledRequest {
            vhost: "nowhere".to_owned(),
            schedule_handles: handles,
        };
        let refused = call.messaging().cancel_scheduled(elsewhere).await;
        assert_eq!(reason_of(&refused.unwrap_err()), "NotFound VHOST_NOT_FOUND");
    });
}

#[test]
fn message_in_several_queues_is_taken_back_in_all() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        for queue in ["one", "two", "three"] {
            call.declare(queue).await.unwrap();
            let bind = admin_v1::CreateBindingRequest {
                binding: Some(admin_v1::Binding {
                    source: "amq.fanout".to_owned(),
                    destination: queue.to_owned(),
                    destination_kind: admin_v1::DestinationKind::Queue.into(),
                    ..admin_v1::Binding::default()
                }),
                ..admin_v1::CreateBindingRequest::default()
            };
            call.topology().create_binding(bind).await.unwrap();
        }
        let batch = v1::PublishBatch {
            exchange: "amq.fanout".to_owned(),
            entries: vec![v1::PublishEntry {
                message: Some(after("a", HOUR)),
                ..v1::PublishEntry::default()
            }],
            ..v1::PublishBatch::default()
        };
        let results = call.publish(batch).await.unwrap();
        assert_eq!(results[0].queues, 3);
        let handle = [results[0].schedule_handle.clone()];
        assert_eq!(outcomes(&call, &handle).await, [CancelOutcome::Cancelled]);
        for queue in ["one", "two", "three"] {
            assert_eq!(scheduled_bodies(&call, queue).await, Vec::<String>::new());
        }
    });
}

/// The node that leads a queue.
fn leader(cluster: &Cluster, queue: &str) -> NodeNumber {
    let shown = cluster.run(&["queue", "show", queue, "--output", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.unwrap()).unwrap();
    let node = shown["leader_node"].as_u64().unwrap();
    NodeNumber(usize::try_from(node).unwrap())
}

/// Asks until it is known: what was lost on the way is asked again.
async fn settled_outcomes(call: &Call, handles: &[String]) -> Vec<CancelOutcome> {
    loop {
        let told = cancel(call, handles).await;
        if told.iter().all(|(_, error)| error == "no error") {
            return told.into_iter().map(|(outcome, _)| outcome).collect();
        }
    }
}

#[test]
fn handles_and_cancels_are_exact_across_a_killed_leader() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let any = Call::to(&cluster.grpc_address(FIRST));
        any.declare("orders").await.unwrap();
        let leads = leader(&cluster, "orders");
        let other = cluster.numbers().into_iter().find(|it| *it != leads);
        let call = Call::to(&cluster.grpc_address(other.unwrap()));
        let bodies: Vec<String> = (0..200).map(|it| format!("m{it}")).collect();
        // Half is scheduled before, half while the leader is killed: their handles name the right messages all the same.
        let of = |bodies: &[String]| bodies.iter().map(|it| after(it, HOUR)).collect();
        let mut handles = schedule(&call, "orders", of(&bodies[..100])).await;
        let publisher = call.clone();
        let rest: Vec<Vec<v1::Message>> = bodies[100..].chunks(5).map(of).collect();
        let publishing = tokio::spawn(async move {
            let mut handles = Vec::new();
            for messages in rest {
                handles.extend(schedule(&publisher, "orders", messages).await);
            }
            handles
        });
        let canceller = call.clone();
        let first: Vec<String> = handles.iter().step_by(2).cloned().collect();
        let cancelling = tokio::spawn(async move {
            let mut told = Vec::new();
            for handles in first.chunks(5) {
                told.extend(settled_outcomes(&canceller, handles).await);
            }
            told
        });
        cluster.kill(leads).unwrap();
        handles.extend(publishing.await.unwrap());
        assert_eq!(cancelling.await.unwrap(), [CancelOutcome::Cancelled; 50]);
        assert!(handles.iter().all(|it| !it.is_empty()), "{handles:?}");
        let second: Vec<String> = handles[100..].iter().step_by(2).cloned().collect();
        let told = settled_outcomes(&call, &second).await;
        assert_eq!(told, [CancelOutcome::Cancelled; 50]);
        let even: Vec<String> = handles.iter().step_by(2).cloned().collect();
        assert_eq!(
            settled_outcomes(&call, &even).await,
            [CancelOutcome::Cancelled; 100],
            "asked again"
        );
        let left: Vec<String> = bodies.iter().skip(1).step_by(2).cloned().collect();
        assert_eq!(scheduled_bodies(&call, "orders").await, left);
    });
}

#[test]
fn vhost_that_ignores_delays_delays_on_delayed_exchanges_only() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let request = admin_v1::UpdateVhostRequest {
            vhost: Some(admin_v1::Vhost {
                name: "/".to_owned(),
                ignores_delays: true,
                ..admin_v1::Vhost::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["ignores_delays".to_owned()],
            }),
            ..admin_v1::UpdateVhostRequest::default()
        };
        let answer = call.topology().update_vhost(request).await.unwrap();
        assert!(answer.into_inner().vhost.unwrap().ignores_delays);
        let handles = schedule(&call, "orders", vec![after("at once", HOUR)]).await;
        assert_eq!(handles, [""]);
        assert_eq!(call.take("orders", 1).await.len(), 1);

        let delayed = admin_v1::Exchange {
            name: "later".to_owned(),
            r#type: "x-delayed-message".to_owned(),
            arguments: Some(v1::Table {
                fields: [("x-delayed-type".to_owned(), text("fanout"))].into(),
            }),
            ..admin_v1::Exchange::default()
        };
        let request = admin_v1::CreateExchangeRequest {
            exchange: Some(delayed),
            ..admin_v1::CreateExchangeRequest::default()
        };
        call.topology().create_exchange(request).await.unwrap();
        let binding = admin_v1::Binding {
            source: "later".to_owned(),
            destination: "orders".to_owned(),
            destination_kind: admin_v1::DestinationKind::Queue.into(),
            ..admin_v1::Binding::default()
        };
        let request = admin_v1::CreateBindingRequest {
            binding: Some(binding),
            ..admin_v1::CreateBindingRequest::default()
        };
        call.topology().create_binding(request).await.unwrap();
        let batch = v1::PublishBatch {
            exchange: "later".to_owned(),
            ..queue_batch("any", [after("later", 500), message("first")])
        };
        call.publish(batch).await.unwrap();
        let came = call.take("orders", 2).await;
        let bodies = came
            .iter()
            .map(|it| it.message.as_ref().unwrap().body.clone());
        assert_eq!(bodies.collect::<Vec<_>>(), ["first", "later"]);
    });
}
