//! Consumers whose stream broke and whose clients come back, to the same node or to another (grpc-api.md rule 7, features A28).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use warren_api::{Bystander, Call, Consuming, in_band, runtime};
use warren_proto::v1;
use warren_proto::v1::consume_request::Frame;
use warren_testkit::process::{Cluster, NodeNumber, Options};

fn call(cluster: &Cluster, node: usize) -> Call {
    Call::to(&cluster.grpc_address(NodeNumber(node)))
}

fn open(prefetch: u32, resume_token: &Bytes) -> v1::ConsumeOpen {
    v1::ConsumeOpen {
        queue: "orders".to_owned(),
        prefetch,
        resume_token: resume_token.clone(),
        ..v1::ConsumeOpen::default()
    }
}

fn bodies(deliveries: &[v1::Delivery]) -> Vec<String> {
    let body = |it: &v1::Delivery| it.message.as_ref().unwrap().body.to_vec();
    let texts = deliveries.iter().map(|it| String::from_utf8(body(it)));
    texts.map(Result::unwrap).collect()
}

async fn acked(stream: &mut Consuming, receipts: &[Bytes]) -> Vec<String> {
    let settlements = receipts.iter().map(|receipt| v1::Settlement {
        target: Some(v1::settlement::Target::Receipt(receipt.clone())),
        action: Some(v1::settlement::Action::Ack(v1::Ack {})),
        ..v1::Settlement::default()
    });
    let batch = v1::SettleBatch {
        settle_ref: 1,
        settlements: settlements.collect(),
    };
    stream.send(Frame::Settle(batch)).await;
    let named = stream.settled(1).await.results;
    named.iter().map(|it| in_band(it.error.as_ref())).collect()
}

async fn is_empty(call: &Call) -> bool {
    call.receive("orders", 10).await.unwrap().is_empty()
}

/// Takes three of five on node `from`, leaves without a word, and comes back to node `to`.
fn comes_back(from: usize, to: usize) {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let bystander = Bystander::start(&cluster.servers_from(NodeNumber(2))).await;
        let (first, second) = (call(&cluster, from), call(&cluster, to));
        first.declare("orders").await.unwrap();
        first.fill("orders", &["a", "b", "c", "d", "e"]).await;
        let (mut stream, opened) = Consuming::open(&first, open(3, &Bytes::new())).await;
        assert_eq!(opened.resumed_receipts, Vec::<Bytes>::new());
        let held = stream.deliveries(3).await;
        assert_eq!(bodies(&held), ["a", "b", "c"]);
        stream.abandon();
        let token = opened.resume_token.clone();
        let (mut again, reopened) = Consuming::open(&second, open(5, &token)).await;
        let receipts: Vec<Bytes> = held.iter().map(|it| it.receipt.clone()).collect();
        assert_eq!(
            reopened.resumed_receipts, receipts,
            "what it holds stays its own"
        );
        assert_eq!(reopened.consumer_tag, opened.consumer_tag);
        // Nothing comes again; the rest comes as new, as far as the prefetch goes.
        let rest = again.deliveries(2).await;
        assert_eq!(bodies(&rest), ["d", "e"]);
        assert!(rest.iter().all(|it| !it.redelivered), "{rest:?}");
        let rest: Vec<Bytes> = rest.iter().map(|it| it.receipt.clone()).collect();
        assert_eq!(acked(&mut again, &receipts).await, Vec::<String>::new());
        assert_eq!(acked(&mut again, &rest).await, Vec::<String>::new());
        assert!(is_empty(&first).await);
        bystander.saw_nothing().await;
    });
}

#[test]
fn client_comes_back_to_its_node() {
    comes_back(1, 1);
}

#[test]
fn client_comes_back_to_another_node() {
    comes_back(1, 2);
    comes_back(2, 3);
}

#[test]
fn client_whose_token_is_of_no_use_gets_a_fresh_consumer() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let (first, second) = (call(&cluster, 1), call(&cluster, 2));
        first.declare("orders").await.unwrap();
        first.fill("orders", &["a"]).await;
        let (mut stream, opened) = Consuming::open(&first, open(1, &Bytes::new())).await;
        let held = stream.deliveries(1).await;
        let mut forged = opened.resume_token.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        for token in [&b"made up"[..], &forged, &[0; 41]] {
            let token = Bytes::copy_from_slice(token);
            let (_fresh, opened) = Consuming::open(&second, open(1, &token)).await;
            assert_eq!(opened.resumed_receipts, Vec::<Bytes>::new());
        }
        // The one it belongs to has noticed nothing.
        let receipt = [held[0].receipt.clone()];
        assert_eq!(acked(&mut stream, &receipt).await, Vec::<String>::new());
        assert!(is_empty(&first).await);
    });
}

#[test]
fn token_works_once_on_each_move_and_the_last_one_has_the_deliveries() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let first = call(&cluster, 1);
        first.declare("orders").await.unwrap();
        first.fill("orders", &["a"]).await;
        let (mut stream, opened) = Consuming::open(&first, open(1, &Bytes::new())).await;
        let held = stream.deliveries(1).await;
        let mut token = opened.resume_token;
        let mut last = stream;
        // The old stream is still there each time: a client that has lost its link cannot say so.
        for node in [2, 3, 1, 2] {
            let (next, opened) = Consuming::open(&call(&cluster, node), open(1, &token)).await;
            assert_eq!(opened.resumed_receipts, [held[0].receipt.clone()], "{node}");
            assert_eq!(last.end().await, None, "the old stream ends");
            (last, token) = (next, opened.resume_token);
        }
        let receipt = [held[0].receipt.clone()];
        assert_eq!(acked(&mut last, &receipt).await, Vec::<String>::new());
        assert!(is_empty(&first).await);
    });
}
