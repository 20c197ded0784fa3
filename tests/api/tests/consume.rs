//! What a consumer may do wrong on its stream, and what it is told. Not here: receipts (`receipts`), coming back (`resume`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use warren_api::{Bystander, Call, Consuming, FIRST, number, one_node, reason_of, runtime};
use warren_proto::v1::consume_request::Frame;
use warren_proto::{admin_v1, v1};

const BAD: Option<&str> = Some("InvalidArgument BAD_ARGUMENT");

fn open(queue: &str) -> v1::ConsumeOpen {
    v1::ConsumeOpen {
        queue: queue.to_owned(),
        prefetch: 10,
        ..v1::ConsumeOpen::default()
    }
}

fn credit(messages: u32, bytes: u64) -> v1::Credit {
    v1::Credit { messages, bytes }
}

#[test]
fn consume_stream_that_opens_wrongly_is_told_why() {
    let cluster = one_node();
    runtime(async {
        let bystander = Bystander::start(&cluster.grpc_address(FIRST)).await;
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let unsupported = Some("Unimplemented UNSUPPORTED_FEATURE");
        let cases = [
            (open("no-such-queue"), Some("NotFound QUEUE_NOT_FOUND")),
            (open(""), BAD),
            (open(&"q".repeat(256)), BAD),
            (
                v1::ConsumeOpen {
                    vhost: "nowhere".to_owned(),
                    ..open("orders")
                },
                Some("NotFound VHOST_NOT_FOUND"),
            ),
            (
                v1::ConsumeOpen {
                    consumer_tag: "t".repeat(256),
                    ..open("orders")
                },
                BAD,
            ),
            (
                v1::ConsumeOpen {
                    features: vec!["teleport".to_owned()],
                    ..open("orders")
                },
                unsupported,
            ),
            (
                v1::ConsumeOpen {
                    prefetch: u32::MAX,
                    ..open("orders")
                },
                BAD,
            ),
            (
                v1::ConsumeOpen {
                    prefetch: 0,
                    credit: Some(credit(u32::MAX, u64::MAX)),
                    ..open("orders")
                },
                BAD,
            ),
        ];
        for (first, expected) in cases {
            let what = format!("{first:?}");
            let ended = Consuming::refused(&call, first).await;
            assert_eq!(ended.as_deref(), expected, "{what}");
        }
        for first in [
            None,
            Some(Frame::Ping(v1::Ping { nonce: 1 })),
            Some(Frame::Credit(credit(1, 1))),
            Some(Frame::Settle(v1::SettleBatch::default())),
        ] {
            let what = format!("{first:?}");
            let ended = Consuming::begin(&call, first).await.end().await;
            assert_eq!(ended.as_deref(), BAD, "{what}");
        }
        bystander.saw_nothing().await;
    });
}

#[test]
fn credit_of_nothing_or_of_too_much_ends_the_stream_and_returns_what_it_held() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        call.fill("orders", &["a"]).await;
        let wrong = [
            Frame::Credit(credit(0, 0)),
            Frame::Credit(credit(u32::MAX, 1)),
            Frame::Prefetch(0),
            Frame::Prefetch(u32::MAX),
            Frame::Open(open("orders")),
        ];
        for frame in wrong {
            let what = format!("{frame:?}");
            let (mut stream, _) = Consuming::open(&call, open("orders")).await;
            assert_eq!(
                stream.deliveries(1).await[0].message.as_ref().unwrap().body,
                "a"
            );
            stream.send(frame).await;
            assert_eq!(stream.end().await.as_deref(), BAD, "{what}");
        }
        let (mut stream, _) = Consuming::open(&call, open("orders")).await;
        let again = &stream.deliveries(1).await[0];
        assert!(again.redelivered && again.delivery_count == 5, "{again:?}");
    });
}

#[test]
fn nothing_comes_without_credit() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        call.fill("orders", &["a", "b"]).await;
        let none = v1::ConsumeOpen {
            prefetch: 0,
            ..open("orders")
        };
        let (mut stream, _) = Consuming::open(&call, none).await;
        stream.send(Frame::Credit(credit(1, 1 << 20))).await;
        assert_eq!(stream.deliveries(1).await.len(), 1);
        // The answer to a ping follows everything that could have been sent before.
        stream.send(Frame::Drain(v1::Drain {})).await;
        stream.send(Frame::Ping(v1::Ping { nonce: 9 })).await;
        let next = stream.next().await.unwrap();
        assert_eq!(
            next,
            v1::consume_response::Frame::Pong(v1::Pong { nonce: 9 })
        );
    });
}

#[test]
fn exclusive_consumer_keeps_others_out_and_they_are_told() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let exclusive = v1::ConsumeOpen {
            exclusive: true,
            ..open("orders")
        };
        let (_stream, _) = Consuming::open(&call, exclusive).await;
        let ended = Consuming::refused(&call, open("orders")).await;
        assert_eq!(ended.as_deref(), Some("FailedPrecondition IN_USE"));
    });
}

#[test]
fn receive_refuses_what_makes_no_sense() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let request = |queue: &str| v1::ReceiveRequest {
            queue: queue.to_owned(),
            max_messages: 1,
            ..v1::ReceiveRequest::default()
        };
        let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let cases = [
            (request("no-such-queue"), "NotFound QUEUE_NOT_FOUND"),
            (request(""), "InvalidArgument BAD_ARGUMENT"),
            (
                v1::ReceiveRequest {
                    max_messages: u32::MAX,
                    ..request("orders")
                },
                "InvalidArgument BAD_ARGUMENT",
            ),
            (
                v1::ReceiveRequest {
                    lease: span(-1),
                    ..request("orders")
                },
                "InvalidArgument BAD_ARGUMENT",
            ),
            (
                v1::ReceiveRequest {
                    lease: span(1 << 40),
                    ..request("orders")
                },
                "InvalidArgument BAD_ARGUMENT",
            ),
        ];
        for (request, expected) in cases {
            let what = format!("{request:?}");
            let refused = call.messaging().receive(request).await.unwrap_err();
            assert_eq!(reason_of(&refused), expected, "{what}");
        }
        // An empty queue is no error.
        assert_eq!(call.receive("orders", 1).await.unwrap(), vec![]);
    });
}

#[test]
fn queue_of_one_client_ends_when_that_client_consumes_no_more() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let declare = async |name: &str, arguments: &[(&str, v1::Value)]| {
            let fields = arguments
                .iter()
                .map(|(it, value)| ((*it).to_owned(), value.clone()));
            let queue = admin_v1::Queue {
                name: name.to_owned(),
                exclusive: true,
                owner: "me".to_owned(),
                arguments: Some(v1::Table {
                    fields: fields.collect(),
                }),
                ..admin_v1::Queue::default()
            };
            let request = admin_v1::CreateQueueRequest {
                queue: Some(queue),
                ..admin_v1::CreateQueueRequest::default()
            };
            let answer = call.topology().create_queue(request).await.unwrap();
            answer.into_inner().queue.unwrap().arguments.unwrap().fields
        };
        let arguments = declare("mine", &[]).await;
        assert_eq!(arguments["x-expires"], number(60_000));
        // Again, as a program that starts anew does.
        declare("mine", &[]).await;
        declare("brief", &[("x-expires", number(300))]).await;
        let of = |client: &str| v1::ConsumeOpen {
            client_id: client.to_owned(),
            ..open("brief")
        };
        let refused = Consuming::refused(&call, of("you")).await;
        assert_eq!(
            refused.as_deref(),
            Some("FailedPrecondition RESOURCE_LOCKED")
        );
        let (stream, _) = Consuming::open(&call, of("me")).await;
        drop(stream);
        let get = || admin_v1::GetQueueRequest {
            name: "brief".to_owned(),
            ..admin_v1::GetQueueRequest::default()
        };
        while call.topology().get_queue(get()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
}
