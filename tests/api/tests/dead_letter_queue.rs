//! `x-dead-letter-queue` = `auto`: a queue's dead letters have a queue of their own, made with it (features X6).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use warren_api::{Call, FIRST, one_node, reason_of, runtime, text};
use warren_proto::{admin_v1, v1};

fn queue(name: &str, arguments: &[(&str, v1::Value)]) -> admin_v1::Queue {
    let fields = arguments.iter().cloned();
    admin_v1::Queue {
        name: name.to_owned(),
        durable: true,
        arguments: Some(v1::Table {
            fields: fields.map(|(name, it)| (name.to_owned(), it)).collect(),
        }),
        ..admin_v1::Queue::default()
    }
}

async fn declare(call: &Call, queue: admin_v1::Queue) -> Result<(), String> {
    let request = admin_v1::CreateQueueRequest {
        queue: Some(queue),
        ..admin_v1::CreateQueueRequest::default()
    };
    let answer = call.topology().create_queue(request).await;
    answer.map(|_| ()).map_err(|error| reason_of(&error))
}

async fn get(call: &Call, name: &str) -> Option<admin_v1::Queue> {
    let request = admin_v1::GetQueueRequest {
        name: name.to_owned(),
        ..admin_v1::GetQueueRequest::default()
    };
    let answer = call.topology().get_queue(request).await.ok()?;
    answer.into_inner().queue
}

async fn reject_all(call: &Call, queue: &str, count: usize) {
    let taken = call.take(queue, count).await;
    let action = v1::settlement::Action::Reject(v1::Reject::default());
    call.settle(taken, action).await;
}

async fn until_ready(call: &Call, queue: &str, count: u64) {
    while call.stats(queue).await.ready != count {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[test]
fn own_dead_letter_queue_is_made_with_the_queue_and_outlives_it() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let auto = [
            ("x-dead-letter-queue", text("auto")),
            ("x-queue-type", text("quorum")),
        ];
        declare(&call, queue("orders", &auto)).await.unwrap();
        // Again, as every program does at its start.
        declare(&call, queue("orders", &auto)).await.unwrap();
        let dead = get(&call, "orders.dlq").await.unwrap();
        assert!(dead.durable && !dead.auto_delete && !dead.exclusive);
        let of = &dead.arguments.unwrap().fields["x-queue-type"];
        assert_eq!(of, &text("quorum"));
        call.fill("orders", &["a", "b"]).await;
        reject_all(&call, "orders", 2).await;
        until_ready(&call, "orders.dlq", 2).await;
        // What is rejected there has nowhere to go.
        reject_all(&call, "orders.dlq", 1).await;
        assert_eq!(get(&call, "orders.dlq.dlq").await, None);
        let request = admin_v1::RedriveRequest {
            queue: "orders.dlq".to_owned(),
            ..admin_v1::RedriveRequest::default()
        };
        let sent = call.dead_letters().redrive(request).await.unwrap();
        assert_eq!(sent.into_inner().messages, 1);
        until_ready(&call, "orders", 1).await;
        reject_all(&call, "orders", 1).await;
        until_ready(&call, "orders.dlq", 1).await;
        let gone = admin_v1::DeleteQueueRequest {
            name: "orders".to_owned(),
            ..admin_v1::DeleteQueueRequest::default()
        };
        call.topology().delete_queue(gone).await.unwrap();
        assert_eq!(call.stats("orders.dlq").await.ready, 1);
    });
}

#[test]
fn own_dead_letter_queue_that_cannot_be_made_is_told_and_the_queue_is_not_made() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let auto = || ("x-dead-letter-queue", text("auto"));
        let taken = admin_v1::Queue {
            durable: false,
            ..queue("orders.dlq", &[])
        };
        declare(&call, taken).await.unwrap();
        let long = "x".repeat(252);
        let both = [auto(), ("x-dead-letter-exchange", text(""))];
        let cases = [
            (
                queue("orders", &[auto()]),
                "FailedPrecondition INEQUIVALENT_ARGUMENT",
            ),
            (queue(&long, &[auto()]), "InvalidArgument BAD_ARGUMENT"),
            (queue("bills", &both), "InvalidArgument BAD_ARGUMENT"),
            (
                queue("bills", &[("x-dead-letter-queue", text("mine"))]),
                "InvalidArgument BAD_ARGUMENT",
            ),
        ];
        for (wrong, expected) in cases {
            let name = wrong.name.clone();
            assert_eq!(declare(&call, wrong).await, Err(expected.to_owned()));
            assert_eq!(get(&call, &name).await, None);
        }
        assert_eq!(get(&call, "bills.dlq").await, None);
    });
}

#[test]
fn own_dead_letter_queue_by_policy_is_made_when_a_queue_is_declared() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        declare(&call, queue("orders", &[])).await.unwrap();
        let policy = [
            "policy",
            "set",
            "dead",
            "",
            "--define",
            "dead-letter-queue=auto",
        ];
        cluster.run(&policy).unwrap();
        assert_eq!(get(&call, "orders.dlq").await, None);
        // The queue was there; its program starts again.
        declare(&call, queue("orders", &[])).await.unwrap();
        assert!(get(&call, "orders.dlq").await.is_some());
        call.fill("orders", &["a"]).await;
        reject_all(&call, "orders", 1).await;
        until_ready(&call, "orders.dlq", 1).await;
        // Queues that go with their clients leave none behind.
        let passing = admin_v1::Queue {
            auto_delete: true,
            ..queue("passing", &[])
        };
        declare(&call, passing).await.unwrap();
        assert_eq!(get(&call, "passing.dlq").await, None);
    });
}

/// An export has both queues, in the order of their names, and the second may differ from what would be made.
#[test]
fn import_keeps_a_dead_letter_queue_of_the_file_and_makes_one_that_is_not_there() {
    let cluster = one_node();
    let queue = |name: &str, arguments: serde_json::Value| serde_json::json!({"name": name, "vhost": "/", "durable": true, "auto_delete": false, "arguments": arguments});
    let auto = serde_json::json!({"x-dead-letter-queue": "auto"});
    let definitions = serde_json::json!({"queues": [
        queue("a.orders", auto.clone()),
        queue("a.orders.dlq", serde_json::json!({"x-max-length": 7})),
        queue("bills", auto),
    ]});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), definitions.to_string()).unwrap();
    let import = ["definitions", "import", file.path().to_str().unwrap()];
    cluster.run(&import).unwrap();
    cluster.run(&import).unwrap();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let own = get(&call, "a.orders.dlq").await.unwrap().arguments.unwrap();
        let length = warren_api::number(7);
        assert_eq!(own.fields.get("x-max-length"), Some(&length));
        assert!(get(&call, "bills.dlq").await.is_some());
        for queue in ["a.orders", "bills"] {
            call.fill(queue, &["x"]).await;
            reject_all(&call, queue, 1).await;
            until_ready(&call, &format!("{queue}.dlq"), 1).await;
        }
    });
}
