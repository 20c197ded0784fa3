//! A selection of a queue's messages is counted, moved and deleted (features X10): what matches goes once, everything else stays as it was.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use warren_api::{Call, FIRST, message, queue_batch, reason_of, runtime};
use warren_proto::admin_v1::{self, OperationState};
use warren_proto::v1::{self, MessageState};
use warren_testkit::process::{Cluster, NodeNumber, Options};

const MESSAGES: usize = 2_500;
const SECOND: NodeNumber = NodeNumber(2);

/// Every fifth is of another tenant.
async fn fill(call: &Call) {
    call.declare("orders").await.unwrap();
    call.declare("away").await.unwrap();
    let all: Vec<usize> = (0..MESSAGES).collect();
    for some in all.chunks(500) {
        let messages = some.iter().map(|it| {
            let tenant = if it % 5 == 0 { "gone" } else { "acme" };
            let headers = [("tenant".to_owned(), warren_api::text(tenant))];
            v1::Message {
                headers: headers.into(),
                ..message(&it.to_string())
            }
        });
        call.publish(queue_batch("orders", messages)).await.unwrap();
    }
}

fn of_tenant(tenant: &str) -> Option<admin_v1::MessageSelection> {
    Some(admin_v1::MessageSelection {
        filter: format!("headers.tenant = {tenant}"),
        ..admin_v1::MessageSelection::default()
    })
}

fn deletion(tenant: &str) -> admin_v1::DeleteMessagesRequest {
    admin_v1::DeleteMessagesRequest {
        queue: "orders".to_owned(),
        selection: of_tenant(tenant),
        ..admin_v1::DeleteMessagesRequest::default()
    }
}

fn removal(tenant: &str) -> admin_v1::MoveMessagesRequest {
    admin_v1::MoveMessagesRequest {
        queue: "orders".to_owned(),
        target_queue: "away".to_owned(),
        selection: of_tenant(tenant),
        ..admin_v1::MoveMessagesRequest::default()
    }
}

async fn ended(call: &Call, id: &str) -> admin_v1::Operation {
    loop {
        let request = admin_v1::GetOperationRequest { id: id.to_owned() };
        let answer = call.operations().get_operation(request).await.unwrap();
        let job = answer.into_inner().operation.unwrap();
        if job.ended_at.is_some() {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_ready(call: &Call, queue: &str, count: usize) {
    while call.stats(queue).await.ready != count as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn bodies(call: &Call, queue: &str, count: usize) -> Vec<usize> {
    let taken = call.take(queue, count).await.into_iter();
    let bodies = taken.map(|it| it.message.unwrap().body);
    let numbers = bodies.map(|it| std::str::from_utf8(&it).unwrap().parse().unwrap());
    numbers.collect()
}

#[test]
fn selection_is_counted_then_moved_or_deleted_and_the_rest_keeps_its_order() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let [call, second] = [FIRST, SECOND].map(|it| Call::to(&cluster.grpc_address(it)));
        fill(&call).await;
        let of_gone = MESSAGES / 5;
        // A consumer holds the first two, one of each tenant: they stay.
        let held = call.take("orders", 2).await;

        let count = admin_v1::DeleteMessagesRequest {
            validate_only: true,
            ..deletion("gone")
        };
        let counted = call.topology().delete_messages(count).await.unwrap();
        let counted = counted.into_inner();
        let expected = (String::new(), of_gone as u64 - 1);
        assert_eq!((counted.operation_id, counted.messages), expected);
        assert_eq!(call.stats("orders").await.ready, MESSAGES as u64 - 2);

        let started = second.topology().move_messages(removal("gone")).await;
        let id = started.unwrap().into_inner().operation_id;
        let job = ended(&call, &id).await;
        assert_eq!(job.state(), OperationState::Succeeded);
        assert_eq!((job.kind.as_str(), job.done), ("move", of_gone as u64 - 1));
        until_ready(&call, "away", of_gone - 1).await;
        let mut moved = bodies(&call, "away", of_gone - 1).await;
        moved.sort_unstable();
        let expected: Vec<usize> = (1..of_gone).map(|it| it * 5).collect();
        assert_eq!(moved, expected);

        let some = admin_v1::DeleteMessagesRequest {
            selection: Some(admin_v1::MessageSelection {
                filter: "position > 0".to_owned(),
                limit: 1_000,
                ..admin_v1::MessageSelection::default()
            }),
            ..deletion("")
        };
        let started = call.topology().delete_messages(some).await.unwrap();
        let job = ended(&second, &started.into_inner().operation_id).await;
        assert_eq!((job.kind.as_str(), job.done), ("delete", 1_000));
        let left = MESSAGES - of_gone - 1_000 - 1;
        until_ready(&call, "orders", left).await;
        let stats = call.stats("orders").await;
        assert_eq!((stats.unacked, stats.purged_total), (2, 1_000));
        let acked = held.into_iter().map(|it| it.receipt).collect();
        call.ack(acked).await.unwrap();
        let rest = bodies(&call, "orders", left).await;
        let expected = (2..MESSAGES).filter(|it| it % 5 != 0).skip(1_000);
        assert_eq!(rest, expected.collect::<Vec<_>>());
    });
}

#[test]
fn parked_messages_are_selected_and_wrong_selections_are_told() {
    let cluster = warren_api::one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        call.fill("orders", &["a", "b", "c"]).await;
        let taken = call.take("orders", 2).await;
        let action = v1::settlement::Action::Reject(v1::Reject {
            park: true,
            ..v1::Reject::default()
        });
        call.settle(taken, action).await;
        let parked = |filter: &str| admin_v1::DeleteMessagesRequest {
            queue: "orders".to_owned(),
            selection: Some(admin_v1::MessageSelection {
                states: vec![MessageState::Parked.into()],
                filter: filter.to_owned(),
                limit: 1,
            }),
            ..admin_v1::DeleteMessagesRequest::default()
        };
        let started = call
            .topology()
            .delete_messages(parked("body_bytes = 1"))
            .await;
        let job = ended(&call, &started.unwrap().into_inner().operation_id).await;
        assert_eq!(job.done, 1);
        while call.stats("orders").await.parked > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let stats = call.stats("orders").await;
        assert_eq!((stats.ready, stats.parked, stats.purged_total), (1, 1, 1));

        let unacked = admin_v1::DeleteMessagesRequest {
            selection: Some(admin_v1::MessageSelection {
                states: vec![MessageState::Unacked.into()],
                ..admin_v1::MessageSelection::default()
            }),
            ..parked("")
        };
        for wrong in [parked("body_bytes ="), unacked] {
            let refused = call.topology().delete_messages(wrong).await.unwrap_err();
            assert!(
                reason_of(&refused).starts_with("InvalidArgument"),
                "{refused}"
            );
        }
        let to_itself = admin_v1::MoveMessagesRequest {
            target_queue: "orders".to_owned(),
            ..removal("x")
        };
        let refused = call.topology().move_messages(to_itself).await.unwrap_err();
        assert_eq!(reason_of(&refused), "InvalidArgument BAD_ARGUMENT");
        let refused = call
            .topology()
            .move_messages(removal("x"))
            .await
            .unwrap_err();
        assert_eq!(reason_of(&refused), "NotFound QUEUE_NOT_FOUND");
    });
}

#[test]
fn selection_that_is_expired_becomes_dead_letters() {
    let cluster = warren_api::one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        let target = [
            ("x-dead-letter-exchange", warren_api::text("")),
            ("x-dead-letter-routing-key", warren_api::text("dead")),
        ];
        call.declare_with("orders", &target).await;
        call.fill("orders", &["a", "bb", "cc", "d"]).await;
        let expire = admin_v1::DeleteMessagesRequest {
            queue: "orders".to_owned(),
            expire: true,
            selection: Some(admin_v1::MessageSelection {
                filter: "body_bytes = 2".to_owned(),
                ..admin_v1::MessageSelection::default()
            }),
            ..admin_v1::DeleteMessagesRequest::default()
        };
        let started = call.topology().delete_messages(expire).await.unwrap();
        let job = ended(&call, &started.into_inner().operation_id).await;
        assert_eq!((job.kind.as_str(), job.done), ("expire", 2));
        until_ready(&call, "dead", 2).await;
        until_ready(&call, "orders", 2).await;
        for dead in call.take("dead", 2).await {
            let message = dead.message.unwrap();
            assert_eq!(
                message.headers["x-first-death-reason"],
                warren_api::text("expired")
            );
            assert!(["bb", "cc"].contains(&std::str::from_utf8(&message.body).unwrap()));
        }
    });
}

#[test]
fn commands_move_and_delete_what_matches() {
    let cluster = warren_api::one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        fill(&call).await;
        let of_gone = MESSAGES / 5;
        let json = |arguments: &[&str]| -> serde_json::Value {
            let arguments = [&["queue"], arguments, &["--output", "json"]].concat();
            serde_json::from_str(&cluster.run(&arguments).unwrap()).unwrap()
        };
        let filter = "headers.tenant = gone";
        let delete = ["delete-messages", "orders", "--filter", filter];
        let counted = json(&[&delete[..], &["--dry-run"]].concat());
        assert_eq!(
            (&counted["found"], &counted["done"]),
            (&of_gone.into(), &0.into())
        );
        let moved = json(&[
            "move", "orders", "--to", "away", "--filter", filter, "--limit", "100",
        ]);
        assert_eq!(
            (&moved["found"], &moved["done"]),
            (&100.into(), &100.into())
        );
        let deleted = json(&delete);
        assert_eq!(deleted["done"], of_gone - 100);
        until_ready(&call, "orders", MESSAGES - of_gone).await;
        until_ready(&call, "away", 100).await;
        let jobs = cluster.run(&["dlq", "jobs"]).unwrap();
        assert!(
            jobs.contains(" move ") && jobs.contains(" delete "),
            "{jobs}"
        );
    });
}

fn to_priority(priority: u32, tenant: &str) -> admin_v1::MoveMessagesRequest {
    admin_v1::MoveMessagesRequest {
        target_queue: String::new(),
        priority: Some(priority),
        ..removal(tenant)
    }
}

#[test]
fn selection_gets_another_priority_and_stays_as_it_was_otherwise() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let [call, second] = [FIRST, SECOND].map(|it| Call::to(&cluster.grpc_address(it)));
        fill(&call).await;
        let of_gone = MESSAGES / 5;
        let count = admin_v1::MoveMessagesRequest {
            validate_only: true,
            ..to_priority(9, "gone")
        };
        let counted = second.topology().move_messages(count).await.unwrap();
        assert_eq!(counted.into_inner().messages, of_gone as u64);

        let started = second
            .topology()
            .move_messages(to_priority(9, "gone"))
            .await;
        let job = ended(&call, &started.unwrap().into_inner().operation_id).await;
        assert_eq!(
            (job.kind.as_str(), job.done),
            ("reprioritise", of_gone as u64)
        );
        until_ready(&call, "orders", MESSAGES).await;
        let stats = call.stats("orders").await;
        let levels: Vec<(u32, u64)> = stats
            .priorities
            .iter()
            .map(|it| (it.priority, it.messages))
            .collect();
        assert_eq!(
            levels,
            [(9, of_gone as u64), (4, (MESSAGES - of_gone) as u64)]
        );

        // Who has it already is passed over; nothing goes round.
        let again = second
            .topology()
            .move_messages(to_priority(9, "gone"))
            .await;
        let job = ended(&call, &again.unwrap().into_inner().operation_id).await;
        assert_eq!((job.state(), job.done), (OperationState::Succeeded, 0));

        let first = call.take("orders", 1).await;
        let message = first[0].message.as_ref().unwrap();
        assert_eq!(message.properties.as_ref().unwrap().priority, Some(9));
        assert_eq!(
            (first[0].exchange.as_str(), first[0].routing_key.as_str()),
            ("", "orders")
        );
        let mut rest = bodies(&call, "orders", 1_000).await;
        rest.extend(bodies(&call, "orders", 1_000).await);
        rest.extend(bodies(&call, "orders", MESSAGES - 2_001).await);
        let moved: Vec<usize> = rest.drain(..of_gone - 1).collect();
        assert!(moved.iter().all(|it| it % 5 == 0));
        let expected: Vec<usize> = (0..MESSAGES).filter(|it| it % 5 != 0).collect();
        assert_eq!(rest, expected);
    });
}

#[test]
fn priority_beyond_what_can_be_named_or_with_another_queue_is_refused() {
    let cluster = warren_api::one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let beyond = to_priority(256, "acme");
        let refused = call.topology().move_messages(beyond).await.unwrap_err();
        assert_eq!(reason_of(&refused), "InvalidArgument BAD_ARGUMENT");
        call.declare("other").await.unwrap();
        let elsewhere = admin_v1::MoveMessagesRequest {
            priority: Some(3),
            target_queue: "other".to_owned(),
            ..removal("acme")
        };
        let refused = call.topology().move_messages(elsewhere).await.unwrap_err();
        assert_eq!(reason_of(&refused), "InvalidArgument BAD_ARGUMENT");
    });
}
