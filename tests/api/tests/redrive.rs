//! Dead letters are listed and sent back: each once, to where it came from or elsewhere; what cannot go stays (features X6).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use warren_api::{Call, FIRST, message, number, one_node, queue_batch, reason_of, runtime, text};
use warren_proto::admin_v1::{self, RedriveRequest};
use warren_proto::v1;

/// Takes so many and rejects them.
async fn reject(call: &Call, queue: &str, count: usize) {
    let taken = call.take(queue, count).await;
    let action = v1::settlement::Action::Reject(v1::Reject::default());
    call.settle(taken, action).await;
}

async fn redrive(call: &Call, request: RedriveRequest) -> Result<u64, String> {
    let answer = call.dead_letters().redrive(request).await;
    let answer = answer.map_err(|error| reason_of(&error))?;
    Ok(answer.into_inner().messages)
}

fn from(queue: &str) -> RedriveRequest {
    RedriveRequest {
        queue: queue.to_owned(),
        ..RedriveRequest::default()
    }
}

fn bodies(deliveries: &[v1::Delivery]) -> Vec<String> {
    let body = |it: &v1::Delivery| it.message.as_ref().unwrap().body.to_vec();
    deliveries
        .iter()
        .map(|it| String::from_utf8(body(it)).unwrap())
        .collect()
}

async fn until_ready(call: &Call, queue: &str, count: u64) {
    while call.stats(queue).await.ready != count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn redrive_sends_each_dead_letter_back_to_the_queue_it_came_from() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        let away = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        for queue in ["orders", "bills"] {
            call.declare_with(queue, &away).await;
            call.fill(queue, &[queue, queue]).await;
            reject(&call, queue, 2).await;
        }
        // Nothing tells where this one came from: it stays.
        call.publish(queue_batch("dead", [message("stranger")]))
            .await
            .unwrap();
        until_ready(&call, "dead", 5).await;
        let request = admin_v1::ListDeadLettersRequest {
            queue: "dead".to_owned(),
            ..admin_v1::ListDeadLettersRequest::default()
        };
        let listed = call
            .dead_letters()
            .list_dead_letters(request)
            .await
            .unwrap();
        let listed = listed.into_inner().dead_letters;
        let sources: Vec<&str> = listed.iter().map(|it| it.source_queue.as_str()).collect();
        assert_eq!(sources, ["orders", "orders", "bills", "bills", ""]);
        assert!(listed[..4].iter().all(|it| it.cause == "rejected"));

        let dry = RedriveRequest {
            dry_run: true,
            ..from("dead")
        };
        assert_eq!(redrive(&call, dry).await, Ok(4));
        let one = RedriveRequest {
            limit: 1,
            ..from("dead")
        };
        assert_eq!(redrive(&call, one).await, Ok(1));
        assert_eq!(redrive(&call, from("dead")).await, Ok(3));
        assert_eq!(redrive(&call, from("dead")).await, Ok(0));
        for queue in ["orders", "bills"] {
            until_ready(&call, queue, 2).await;
            let back = call.take(queue, 2).await;
            assert_eq!(bodies(&back), [queue, queue]);
            assert!(
                back.iter()
                    .all(|it| !it.redelivered && it.delivery_count == 0)
            );
            let headers = &back[0].message.as_ref().unwrap().headers;
            assert!(headers.contains_key("x-death"), "its story stays");
        }
        until_ready(&call, "dead", 1).await;
        assert_eq!(bodies(&call.take("dead", 1).await), ["stranger"]);
    });
}

#[test]
fn redrive_with_a_filter_counts_and_sends_only_what_matches() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        let away = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        for queue in ["orders", "bills"] {
            call.declare_with(queue, &away).await;
            call.fill(queue, &["a", "b", "c"]).await;
            reject(&call, queue, 3).await;
        }
        until_ready(&call, "dead", 6).await;
        let filtered = |filter: &str| RedriveRequest {
            filter: filter.to_owned(),
            ..from("dead")
        };
        for (filter, count) in [
            ("source_queue = bills", 3),
            ("source_queue = bills and cause = expired", 0),
            ("source_queue = bills and died_at > 2020-01-01T00:00:00Z", 3),
            ("headers.x-first-death-queue = orders", 3),
            ("position > 4", 2),
        ] {
            let dry = RedriveRequest {
                dry_run: true,
                ..filtered(filter)
            };
            assert_eq!(redrive(&call, dry).await, Ok(count), "{filter}");
        }
        assert_eq!(
            redrive(&call, filtered("source_queue = bills")).await,
            Ok(3)
        );
        until_ready(&call, "bills", 3).await;
        until_ready(&call, "dead", 3).await;
        assert_eq!(call.stats("orders").await.ready, 0);
        // The end of a part is where the next call begins.
        let some = RedriveRequest {
            limit: 2,
            ..filtered("source_queue = orders")
        };
        let answer = call.dead_letters().redrive(some.clone()).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!(answer.messages, 2);
        let rest = RedriveRequest {
            cursor: answer.next_cursor,
            ..some
        };
        let answer = call.dead_letters().redrive(rest).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!((answer.messages, answer.next_cursor.as_str()), (1, ""));
        until_ready(&call, "orders", 3).await;
        assert_eq!(bodies(&call.take("orders", 3).await), ["a", "b", "c"]);
    });
}

#[test]
fn redrive_to_a_named_queue_that_is_full_leaves_the_rest_where_it_is() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        call.fill("dead", &["a", "b", "c"]).await;
        let limits = [
            ("x-max-length", number(2)),
            ("x-overflow", text("reject-publish")),
        ];
        call.declare_with("repair", &limits).await;
        let request = RedriveRequest {
            target_queue: "repair".to_owned(),
            ..from("dead")
        };
        assert_eq!(redrive(&call, request).await, Ok(3));
        until_ready(&call, "repair", 2).await;
        until_ready(&call, "dead", 1).await;
        assert_eq!(bodies(&call.take("repair", 2).await), ["a", "b"]);
        assert_eq!(bodies(&call.take("dead", 1).await), ["c"]);
    });
}

#[test]
fn redrive_that_asks_wrongly_is_told_why() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        let to = |target: &str| RedriveRequest {
            target_queue: target.to_owned(),
            ..from("dead")
        };
        let filtered = RedriveRequest {
            filter: "cause > ".to_owned(),
            ..from("dead")
        };
        let cases = [
            (from("nowhere"), "NotFound QUEUE_NOT_FOUND"),
            (to("nowhere"), "NotFound QUEUE_NOT_FOUND"),
            (to("dead"), "InvalidArgument BAD_ARGUMENT"),
            (filtered, "InvalidArgument BAD_FILTER"),
        ];
        for (wrong, expected) in cases {
            assert_eq!(redrive(&call, wrong).await, Err(expected.to_owned()));
        }
    });
}

#[test]
fn redrive_of_what_is_parked_makes_it_ready_again_as_if_new_or_leaves_it() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let limits = [
            ("x-delivery-limit", number(0)),
            ("x-max-length", number(2)),
            ("x-overflow", text("reject-publish")),
        ];
        call.declare_with("orders", &limits).await;
        for body in ["a", "b", "c"] {
            call.fill("orders", &[body]).await;
            let failed = v1::settlement::Action::Requeue(v1::Requeue {
                failed: true,
                ..v1::Requeue::default()
            });
            let taken = call.take("orders", 1).await;
            call.settle(taken, failed).await;
        }
        assert_eq!(call.stats("orders").await.parked, 3);
        let parked = RedriveRequest {
            parked: true,
            ..from("orders")
        };
        let dry = RedriveRequest {
            dry_run: true,
            ..parked.clone()
        };
        assert_eq!(redrive(&call, dry).await, Ok(3));
        // There is room for two; the third stays set aside.
        assert_eq!(redrive(&call, parked.clone()).await, Ok(3));
        until_ready(&call, "orders", 2).await;
        while call.stats("orders").await.dead_lettering > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let stats = call.stats("orders").await;
        assert_eq!((stats.ready, stats.parked), (2, 1));
        let back = call.take("orders", 2).await;
        assert_eq!(bodies(&back), ["a", "b"]);
        let is_new = |it: &v1::Delivery| !it.redelivered && it.delivery_count == 0;
        assert!(back.iter().all(is_new));
        // To another queue.
        call.declare("repair").await.unwrap();
        let elsewhere = RedriveRequest {
            target_queue: "repair".to_owned(),
            ..parked
        };
        assert_eq!(redrive(&call, elsewhere).await, Ok(1));
        until_ready(&call, "repair", 1).await;
        assert_eq!(bodies(&call.take("repair", 1).await), ["c"]);
        while call.stats("orders").await.parked > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}
