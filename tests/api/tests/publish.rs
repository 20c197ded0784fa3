//! What a publisher may do wrong, and what it is told: each entry for itself, and no other client notices.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use warren_api::{
    Bystander, Call, FIRST, Publishing, in_band, message, one_node, queue_batch, reason_of, runtime,
};
use warren_proto::v1;
use warren_proto::v1::publish_stream_request::Frame;

fn to_exchange(exchange: &str, key: &str, mandatory: bool) -> v1::PublishEntry {
    v1::PublishEntry {
        message: Some(message("x")),
        exchange: Some(exchange.to_owned()),
        routing_key: Some(key.to_owned()),
        mandatory,
        ..v1::PublishEntry::default()
    }
}

fn sized(bytes: usize) -> v1::PublishEntry {
    v1::PublishEntry {
        message: Some(v1::Message {
            body: Bytes::from(vec![b'x'; bytes]),
            ..v1::Message::default()
        }),
        routing_key: Some("orders".to_owned()),
        ..v1::PublishEntry::default()
    }
}

/// Good and bad entries in turn; what is expected of each.
fn mixed() -> (Vec<v1::PublishEntry>, Vec<&'static str>) {
    let long = "n".repeat(256);
    let good = || to_exchange("", "orders", true);
    let cases = [
        (good(), "Committed"),
        (
            to_exchange("nowhere", "k", false),
            "NotFound EXCHANGE_NOT_FOUND",
        ),
        (
            to_exchange("", "no-such-queue", true),
            "FailedPrecondition UNROUTABLE",
        ),
        (to_exchange("", "no-such-queue", false), "Unrouted"),
        (good(), "Committed"),
        (
            to_exchange(&long, "k", false),
            "InvalidArgument BAD_ARGUMENT",
        ),
        (
            to_exchange("", &long, false),
            "InvalidArgument BAD_ARGUMENT",
        ),
        (sized((16 << 20) + 1), "InvalidArgument MESSAGE_TOO_LARGE"),
        (
            v1::PublishEntry {
                need_consumer: true,
                ..good()
            },
            "FailedPrecondition NO_RESPONDERS",
        ),
        (good(), "Committed"),
    ];
    cases.into_iter().unzip()
}

fn said(result: &v1::PublishResult) -> String {
    if result.outcome() == v1::PublishOutcome::Refused {
        in_band(result.error.as_ref())
    } else {
        format!("{:?}", result.outcome())
    }
}

async fn bodies_left(call: &Call, queue: &str) -> usize {
    let mut count = 0;
    loop {
        let taken = call.receive(queue, 100).await.unwrap();
        if taken.is_empty() {
            return count;
        }
        count += taken.len();
        call.ack(taken.into_iter().map(|it| it.receipt).collect())
            .await
            .unwrap();
    }
}

#[test]
fn frame_with_bad_messages_among_good_ones_refuses_only_those() {
    let cluster = one_node();
    runtime(async {
        let bystander = Bystander::start(&cluster.grpc_address(FIRST)).await;
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let (mut stream, opened) = Publishing::open(&call, v1::PublishOpen::default()).await;
        assert_eq!(opened.limits.unwrap().max_message_bytes, 16 << 20);
        let (entries, expected) = mixed();
        let batch = v1::PublishBatch {
            batch_ref: 7,
            entries,
            ..v1::PublishBatch::default()
        };
        stream.send(Frame::Batch(batch)).await;
        let results = stream.results(7, expected.len()).await;
        let told: Vec<String> = results.iter().map(said).collect();
        assert_eq!(told, expected);
        // The stream goes on.
        stream
            .send(Frame::Batch(v1::PublishBatch {
                batch_ref: 8,
                entries: vec![to_exchange("", "orders", true)],
                ..v1::PublishBatch::default()
            }))
            .await;
        assert_eq!(said(&stream.results(8, 1).await[0]), "Committed");
        assert_eq!(bodies_left(&call, "orders").await, 4);
        bystander.saw_nothing().await;
    });
}

#[test]
fn unary_publish_tells_each_entry_the_same_as_a_stream_does() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let (entries, expected) = mixed();
        let batch = v1::PublishBatch {
            entries,
            ..v1::PublishBatch::default()
        };
        let told: Vec<String> = call
            .publish(batch)
            .await
            .unwrap()
            .iter()
            .map(said)
            .collect();
        assert_eq!(told, expected);
        assert_eq!(bodies_left(&call, "orders").await, 3);
        let empty = call.publish(v1::PublishBatch::default()).await;
        assert_eq!(
            reason_of(&empty.unwrap_err()),
            "InvalidArgument BAD_ARGUMENT"
        );
        let many = queue_batch("orders", (0..1_001).map(|_| message("x")));
        let many = call.publish(many).await.unwrap_err();
        assert_eq!(reason_of(&many), "InvalidArgument BAD_ARGUMENT");
        assert!(many.message().contains("1001") && many.message().contains("1000"));
    });
}

#[test]
fn publish_stream_that_opens_wrongly_is_told_why() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let open = |open| Some(Frame::Open(open));
        let cases = [
            (None, "InvalidArgument BAD_ARGUMENT"),
            (
                Some(Frame::Ping(v1::Ping { nonce: 1 })),
                "InvalidArgument BAD_ARGUMENT",
            ),
            (
                Some(Frame::Batch(v1::PublishBatch::default())),
                "InvalidArgument BAD_ARGUMENT",
            ),
            (
                open(v1::PublishOpen {
                    vhost: "nowhere".to_owned(),
                    ..v1::PublishOpen::default()
                }),
                "NotFound VHOST_NOT_FOUND",
            ),
            (
                open(v1::PublishOpen {
                    features: vec!["teleport".to_owned()],
                    ..v1::PublishOpen::default()
                }),
                "Unimplemented UNSUPPORTED_FEATURE",
            ),
            (
                open(v1::PublishOpen {
                    producer: Some(v1::Producer {
                        producer_id: "p".repeat(256),
                        producer_epoch: 0,
                    }),
                    ..v1::PublishOpen::default()
                }),
                "InvalidArgument BAD_ARGUMENT",
            ),
        ];
        for (first, expected) in cases {
            let what = format!("{first:?}");
            let ended = Publishing::begin(&call, first).await.end().await;
            assert_eq!(ended.as_deref(), Some(expected), "{what}");
        }
        let (stream, _) = Publishing::open(&call, v1::PublishOpen::default()).await;
        stream.send(Frame::Open(v1::PublishOpen::default())).await;
        assert_eq!(
            stream.end().await.as_deref(),
            Some("InvalidArgument BAD_ARGUMENT")
        );
    });
}

#[test]
fn repeated_sequence_is_stored_once() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let open = v1::PublishOpen {
            producer: Some(v1::Producer {
                producer_id: "p".to_owned(),
                producer_epoch: 1,
            }),
            ..v1::PublishOpen::default()
        };
        for expected in ["Committed", "Duplicate"] {
            let (mut stream, _) = Publishing::open(&call, open.clone()).await;
            let entry = v1::PublishEntry {
                sequence: 1,
                ..to_exchange("", "orders", true)
            };
            stream
                .send(Frame::Batch(v1::PublishBatch {
                    batch_ref: 1,
                    entries: vec![entry],
                    ..v1::PublishBatch::default()
                }))
                .await;
            assert_eq!(said(&stream.results(1, 1).await[0]), expected);
        }
        assert_eq!(bodies_left(&call, "orders").await, 1);
    });
}

#[test]
fn more_than_the_granted_credit_is_refused_in_band() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let (mut stream, opened) = Publishing::open(&call, v1::PublishOpen::default()).await;
        let granted = opened.credit.unwrap().messages as usize;
        let (mut committed, mut over) = (0, 0);
        let batches = granted / 1_000 + 10;
        for batch_ref in 0..batches as u64 {
            let batch = queue_batch("orders", (0..1_000).map(|_| message("x")));
            stream
                .send(Frame::Batch(v1::PublishBatch { batch_ref, ..batch }))
                .await;
        }
        let mut left = vec![1_000; batches];
        while left.iter().any(|it| *it > 0) {
            let frame = stream.next().await.unwrap();
            let v1::publish_stream_response::Frame::Confirms(confirms) = frame else {
                continue;
            };
            for confirm in confirms.batches {
                let left = &mut left[confirm.batch_ref as usize];
                for result in &confirm.results {
                    *left -= 1;
                    match said(result).as_str() {
                        "Committed" => committed += 1,
                        "ResourceExhausted OVER_CREDIT" => over += 1,
                        other => panic!("{other}"),
                    }
                }
                if confirm.all_committed {
                    committed += std::mem::take(left);
                }
            }
        }
        assert_eq!(committed + over, batches * 1_000);
        assert!(committed >= granted, "{committed} of {granted} granted");
        let stats = call
            .topology()
            .get_queue_stats(warren_proto::admin_v1::GetQueueStatsRequest {
                queues: vec!["orders".to_owned()],
                ..Default::default()
            })
            .await
            .unwrap();
        assert_eq!(
            stats.into_inner().stats[0].ready as usize,
            committed,
            "what was refused is not stored"
        );
    });
}
