//! Receipts and tags that are forged, repeated, late or another's: each affects only itself (grpc-api.md rule 5).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use warren_api::{Bystander, Call, Consuming, FIRST, in_band, one_node, runtime};
use warren_proto::v1;
use warren_proto::v1::consume_request::Frame;
use warren_proto::v1::settlement::{Action, Target};

fn said(result: &v1::SettleResult) -> String {
    format!("{:?}: {}", result.outcome(), in_band(result.error.as_ref()))
}

const DONE: &str = "Done: no error";
const FORGED: &str = "Refused: InvalidArgument BAD_RECEIPT";

async fn ack(call: &Call, receipts: &[&Bytes]) -> Vec<String> {
    let receipts = receipts.iter().map(|it| (*it).clone()).collect();
    let results = call.ack(receipts).await.unwrap();
    results.iter().map(said).collect()
}

#[test]
fn forged_repeated_and_good_receipts_in_one_call_are_told_apart() {
    let cluster = one_node();
    let foreign = one_node();
    runtime(async {
        let bystander = Bystander::start(&cluster.grpc_address(FIRST)).await;
        let call = Call::to(&cluster.grpc_address(FIRST));
        let other = Call::to(&foreign.grpc_address(FIRST));
        for call in [&call, &other] {
            call.declare("orders").await.unwrap();
            call.fill("orders", &["a", "b", "c"]).await;
        }
        let taken = call.receive("orders", 3).await.unwrap();
        let theirs = other.receive("orders", 3).await.unwrap();
        let receipts: Vec<Bytes> = taken.iter().map(|it| it.receipt.clone()).collect();
        let mut flipped = receipts[1].to_vec();
        flipped[10] ^= 1;
        let (flipped, cut) = (Bytes::from(flipped), receipts[1].slice(..20));
        let (empty, foreign) = (Bytes::new(), theirs[1].receipt.clone());
        let asked = [&receipts[0], &flipped, &cut, &empty, &foreign, &receipts[2]];
        let told = ack(&call, &asked).await;
        assert_eq!(told, [DONE, FORGED, FORGED, FORGED, FORGED, DONE]);
        // Repeated.
        assert_eq!(
            ack(&call, &[&receipts[0], &receipts[1]]).await,
            ["AlreadySettled: AlreadyExists ALREADY_SETTLED", DONE]
        );
        assert_eq!(call.receive("orders", 3).await.unwrap(), vec![]);
        bystander.saw_nothing().await;
    });
}

#[test]
fn late_receipt_is_expired_and_one_of_an_older_attempt_is_not_the_owners() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        call.fill("orders", &["a"]).await;
        let request = v1::ReceiveRequest {
            queue: "orders".to_owned(),
            max_messages: 1,
            lease: Some(prost_types::Duration {
                seconds: 0,
                nanos: 200_000_000,
            }),
            ..v1::ReceiveRequest::default()
        };
        let first = call.messaging().receive(request).await.unwrap();
        let first = first.into_inner().deliveries.remove(0);
        // It comes again when the lease is over.
        let again = call.receive("orders", 1).await.unwrap().remove(0);
        assert!(again.redelivered && again.delivery_count == 1, "{again:?}");
        assert_eq!(
            ack(&call, &[&first.receipt]).await,
            ["NotOwner: FailedPrecondition NOT_OWNER"]
        );
        let requeue = v1::SettleRequest {
            settlements: vec![v1::Settlement {
                target: Some(Target::Receipt(again.receipt.clone())),
                action: Some(Action::Requeue(v1::Requeue::default())),
                ..v1::Settlement::default()
            }],
            ..v1::SettleRequest::default()
        };
        let returned = call.messaging().settle(requeue).await.unwrap();
        assert_eq!(said(&returned.into_inner().results[0]), DONE);
        assert_eq!(
            ack(&call, &[&again.receipt]).await,
            ["Expired: FailedPrecondition EXPIRED"]
        );
        // Nothing is lost by it.
        let last = call.receive("orders", 1).await.unwrap().remove(0);
        assert_eq!(ack(&call, &[&last.receipt]).await, [DONE]);
    });
}

#[test]
fn bad_settlements_on_a_stream_affect_only_themselves() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        call.fill("orders", &["a", "b"]).await;
        let open = v1::ConsumeOpen {
            queue: "orders".to_owned(),
            prefetch: 10,
            ..v1::ConsumeOpen::default()
        };
        let (mut stream, _) = Consuming::open(&call, open).await;
        let taken = stream.deliveries(2).await;
        assert_eq!((taken[0].delivery_tag, taken[1].delivery_tag), (1, 2));
        let settlement = |target, action| v1::Settlement {
            target,
            action,
            ..v1::Settlement::default()
        };
        let acked = || Some(Action::Ack(v1::Ack {}));
        let range = |first, last| Some(Target::Tags(v1::TagRange { first, last }));
        let settlements = vec![
            settlement(Some(Target::DeliveryTag(0)), acked()),
            settlement(Some(Target::DeliveryTag(3)), acked()),
            settlement(None, acked()),
            settlement(Some(Target::DeliveryTag(1)), None),
            settlement(range(2, 1), acked()),
            settlement(
                Some(Target::Receipt(Bytes::from_static(b"made up"))),
                acked(),
            ),
            settlement(Some(Target::DeliveryTag(1)), acked()),
            settlement(Some(Target::DeliveryTag(1)), acked()),
            settlement(range(2, u64::MAX), acked()),
        ];
        let batch = v1::SettleBatch {
            settle_ref: 5,
            settlements,
        };
        stream.send(Frame::Settle(batch)).await;
        let results = stream.settled(5).await;
        assert!(results.all_done);
        let mut told: Vec<(u32, String)> = results
            .results
            .iter()
            .map(|it| (it.index, said(it)))
            .collect();
        told.sort();
        let bad = "Refused: InvalidArgument BAD_ARGUMENT";
        let expected = [
            (0, bad),
            (1, bad),
            (2, bad),
            (3, bad),
            (4, bad),
            (5, FORGED),
            (7, "AlreadySettled: AlreadyExists ALREADY_SETTLED"),
        ];
        assert_eq!(told, expected.map(|(index, it)| (index, it.to_owned())));
        drop(stream);
        assert_eq!(call.receive("orders", 1).await.unwrap(), vec![]);
    });
}
