//! Looking at messages: every state is seen, nothing happens to what is looked at, pages join (features A31).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use warren_api::{Call, FIRST, message, number, one_node, queue_batch, reason_of, runtime, text};
use warren_proto::v1::{self, MessageState};

fn request(queue: &str) -> v1::PeekRequest {
    v1::PeekRequest {
        queue: queue.to_owned(),
        ..v1::PeekRequest::default()
    }
}

/// Bodies and states, and the cursor of the last page.
async fn peek(call: &Call, request: v1::PeekRequest) -> (Vec<(String, MessageState)>, String) {
    let mut pages = call.messaging().peek(request).await.unwrap().into_inner();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    while let Some(page) = pages.message().await.unwrap() {
        for it in page.messages {
            let state = it.state();
            let delivery = it.delivery.unwrap();
            assert!(delivery.receipt.is_empty(), "nothing to settle");
            let body = delivery.message.unwrap().body;
            seen.push((String::from_utf8(body.to_vec()).unwrap(), state));
        }
        cursor = page.next_cursor;
    }
    (seen, cursor)
}

#[test]
fn peek_shows_messages_of_every_state_and_changes_nothing() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        call.fill("orders", &["a", "b", "c"]).await;
        let mut late = message("later");
        late.schedule = Some(v1::message::Schedule::Delay(prost_types::Duration {
            seconds: 3_600,
            nanos: 0,
        }));
        call.publish(queue_batch("orders", [late])).await.unwrap();
        let held = call.receive("orders", 1).await.unwrap();
        let expected = [
            ("a", MessageState::Unacked),
            ("b", MessageState::Ready),
            ("c", MessageState::Ready),
            ("later", MessageState::Scheduled),
        ];
        let expected = expected.map(|(body, state)| (body.to_owned(), state));
        for _ in 0..2 {
            let (seen, cursor) = peek(&call, request("orders")).await;
            assert_eq!(
                (seen.as_slice(), cursor.as_str()),
                (expected.as_slice(), "")
            );
        }
        let only = v1::PeekRequest {
            states: vec![MessageState::Scheduled.into()],
            no_body: true,
            ..request("orders")
        };
        let (seen, _) = peek(&call, only).await;
        assert_eq!(seen, [(String::new(), MessageState::Scheduled)]);
        // What was looked at is delivered as if it had not been.
        let rest = call.receive("orders", 10).await.unwrap();
        assert_eq!((held.len(), rest.len()), (1, 2));
        assert!(
            rest.iter()
                .all(|it| !it.redelivered && it.acquired_count == 0)
        );
    });
}

#[test]
fn peek_in_pages_sees_each_message_once_and_in_order() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let bodies: Vec<String> = (0..250).map(|it| it.to_string()).collect();
        for some in bodies.chunks(50) {
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            call.fill("orders", &some).await;
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = v1::PeekRequest {
                cursor: cursor.clone(),
                limit: 120,
                ..request("orders")
            };
            let (some, next) = peek(&call, page).await;
            assert!(some.len() <= 120);
            seen.extend(some.into_iter().map(|it| it.0));
            if next.is_empty() {
                break;
            }
            cursor = next;
        }
        assert_eq!(seen, bodies);
    });
}

#[test]
fn peek_with_a_filter_shows_what_matches_and_goes_on_where_it_stopped_looking() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        for first in (0..3_000).step_by(500) {
            let some = (first..first + 500).map(|it| {
                let mut it = (it, message(&it.to_string()));
                let headers = &mut it.1.headers;
                headers.insert("nr".to_owned(), number(it.0));
                if it.0 % 1_499 == 0 {
                    headers.insert("tenant".to_owned(), text("acme"));
                }
                it.1
            });
            let batch = queue_batch("orders", some.collect::<Vec<_>>());
            call.publish(batch).await.unwrap();
        }
        let filtered = |filter: &str, limit| v1::PeekRequest {
            filter: filter.to_owned(),
            limit,
            ..request("orders")
        };
        let bodies = |seen: Vec<(String, MessageState)>| -> Vec<String> {
            seen.into_iter().map(|it| it.0).collect()
        };
        let (seen, cursor) = peek(&call, filtered("headers.tenant = acme", 10)).await;
        assert_eq!(
            (bodies(seen), cursor.as_str()),
            (
                vec!["0".to_owned(), "1499".to_owned(), "2998".to_owned()],
                ""
            )
        );
        // Pages of matches join.
        let (first, cursor) = peek(&call, filtered("headers.nr >= 1200", 700)).await;
        assert_eq!(first.len(), 700);
        let rest = v1::PeekRequest {
            cursor,
            ..filtered("headers.nr >= 1200", 0)
        };
        let (rest, cursor) = peek(&call, rest).await;
        let all = bodies(first.into_iter().chain(rest).collect());
        let expected: Vec<String> = (1_200..2_900).map(|it| it.to_string()).collect();
        assert_eq!(all, expected, "up to 1,000 in one call");
        assert!(!cursor.is_empty());
        let (seen, cursor) = peek(&call, filtered("headers.tenant = other", 0)).await;
        assert_eq!((seen, cursor.as_str()), (Vec::new(), ""));
    });
}

#[test]
fn peek_that_asks_wrongly_is_told_why() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let cases = [
            (request("nowhere"), "NotFound QUEUE_NOT_FOUND"),
            (
                v1::PeekRequest {
                    cursor: "x".to_owned(),
                    ..request("orders")
                },
                "InvalidArgument BAD_ARGUMENT",
            ),
            (
                v1::PeekRequest {
                    states: vec![99],
                    ..request("orders")
                },
                "InvalidArgument BAD_ARGUMENT",
            ),
            (
                v1::PeekRequest {
                    filter: "color = red".to_owned(),
                    ..request("orders")
                },
                "InvalidArgument BAD_FILTER",
            ),
        ];
        for (wrong, expected) in cases {
            let told = call.messaging().peek(wrong.clone()).await.map(|_| ());
            assert_eq!(
                told.map_err(|it| reason_of(&it)),
                Err(expected.to_owned()),
                "{wrong:?}"
            );
        }
    });
}
