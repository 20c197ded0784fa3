//! The consumer against a service that the test answers frame by frame.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod fake;

use std::time::Duration;

use bytes::Bytes;
use fake::{ConsumeSession, Node, connect, connect_with};
use tonic::Status;
use warren_client::{ConnectionOptions, ConsumerOptions, ErrorKind, Requeue, SettleOutcome};
use warren_proto::{
    convert::{error::ApiError, message::duration_to_client, reason::Reason},
    v1::{
        self,
        consume_request::Frame as Request,
        consume_response::Frame as Response,
        settlement::{Action, Target},
    },
};

const LEASE: Duration = Duration::from_millis(600);

fn answer(frame: Response) -> v1::ConsumeResponse {
    v1::ConsumeResponse { frame: Some(frame) }
}

fn opened(token: &'static str, resumed: &[&'static str]) -> Response {
    Response::Opened(v1::Opened {
        resume_token: Bytes::from_static(token.as_bytes()),
        lease: Some(duration_to_client(LEASE)),
        resumed_receipts: resumed.iter().map(|it| receipt(it)).collect(),
        ..v1::Opened::default()
    })
}

fn receipt(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn open(session: &mut ConsumeSession, answer_with: Response) -> v1::ConsumeOpen {
    let Some(Request::Open(open)) = session.recv().await.unwrap().frame else {
        panic!("the first frame is not Open");
    };
    session.send(answer(answer_with)).await;
    open
}

async fn deliver(session: &ConsumeSession, deliveries: &[(u64, &'static str)]) {
    let deliveries = deliveries.iter().map(|(tag, name)| v1::Delivery {
        delivery_tag: *tag,
        receipt: receipt(name),
        message: Some(v1::Message {
            body: receipt(name),
            ..v1::Message::default()
        }),
        ..v1::Delivery::default()
    });
    let deliveries = deliveries.collect();
    session
        .send(answer(Response::Deliveries(v1::Deliveries { deliveries })))
        .await;
}

/// The next frame that is no ping; pings are answered.
async fn frame(session: &mut ConsumeSession) -> Option<Request> {
    loop {
        match session.recv().await?.frame {
            Some(Request::Ping(ping)) => {
                let pong = v1::Pong { nonce: ping.nonce };
                session.send(answer(Response::Pong(pong))).await;
            }
            other => return other,
        }
    }
}

async fn settle_frame(session: &mut ConsumeSession) -> v1::SettleBatch {
    match frame(session).await {
        Some(Request::Settle(batch)) => batch,
        other => panic!("no settle but {other:?}"),
    }
}

async fn all_done(session: &ConsumeSession, batch: &v1::SettleBatch) {
    let results = v1::SettleResults {
        settle_ref: batch.settle_ref,
        all_done: true,
        results: Vec::new(),
    };
    session.send(answer(Response::Settled(results))).await;
}

fn options() -> ConsumerOptions {
    ConsumerOptions {
        prefetch: 10,
        ..ConsumerOptions::queue("q")
    }
}

#[tokio::test]
async fn acks_of_neighbours_go_out_as_one_range_and_are_answered_after_the_result() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let (consumer, mut session) = tokio::join!(connection.consume(options()), async {
        let mut session = node.consume_session().await;
        let open = open(&mut session, opened("t", &[])).await;
        assert_eq!((open.queue.as_str(), open.prefetch), ("q", 10));
        session
    });
    let mut consumer = consumer.unwrap();
    deliver(&session, &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let bodies: Vec<&[u8]> = batch.iter().map(|it| &*it.message.body).collect();
    assert_eq!(bodies, [b"a", b"b", b"c", b"d"]);
    let reject = consumer.reject(&batch[3], "bad").await.unwrap();
    let ack = consumer.ack_all(&batch[2]).await.unwrap();
    let mut settlements = Vec::new();
    while settlements.len() < 2 {
        let batch = settle_frame(&mut session).await;
        all_done(&session, &batch).await;
        settlements.extend(batch.settlements);
    }
    assert_eq!(settlements[0].target, Some(Target::DeliveryTag(4)));
    assert!(matches!(&settlements[0].action, Some(Action::Reject(it)) if it.reason == "bad"));
    let range = v1::TagRange { first: 1, last: 3 };
    assert_eq!(settlements[1].target, Some(Target::Tags(range)));
    assert_eq!(ack.await.unwrap(), SettleOutcome::Done);
    assert_eq!(reject.await.unwrap(), SettleOutcome::Done);
    let again = consumer.ack(&batch[0]).await.unwrap();
    assert_eq!(again.await.unwrap(), SettleOutcome::AlreadySettled);
}

#[tokio::test]
async fn part_of_a_range_that_fails_is_told_to_who_asked_for_it_only() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let (consumer, mut session) = tokio::join!(connection.consume(options()), async {
        let mut session = node.consume_session().await;
        open(&mut session, opened("t", &[])).await;
        session
    });
    let mut consumer = consumer.unwrap();
    deliver(&session, &[(1, "a"), (2, "b")]).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let ack = consumer.ack_all(&batch[1]).await.unwrap();
    let sent = settle_frame(&mut session).await;
    let expired = v1::SettleResult {
        index: 0,
        tags: Some(v1::TagRange { first: 2, last: 2 }),
        outcome: v1::SettleOutcome::Expired.into(),
        ..v1::SettleResult::default()
    };
    let results = v1::SettleResults {
        settle_ref: sent.settle_ref,
        all_done: true,
        results: vec![expired],
    };
    session.send(answer(Response::Settled(results))).await;
    assert_eq!(ack.await.unwrap(), SettleOutcome::Expired);
}

#[tokio::test]
async fn broken_stream_is_resumed_elsewhere_with_what_is_held_and_settles_are_said_again() {
    let (mut first, mut second) = (Node::start().await, Node::start().await);
    let connection = connect(&[&first, &second]);
    let (consumer, mut session) = tokio::join!(connection.consume(options()), async {
        let mut session = first.consume_session().await;
        let open = open(&mut session, opened("token-1", &[])).await;
        assert!(open.resume_token.is_empty());
        session
    });
    let mut consumer = consumer.unwrap();
    deliver(&session, &[(1, "a"), (2, "b"), (3, "c")]).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let ack = consumer.ack(&batch[0]).await.unwrap();
    settle_frame(&mut session).await;
    // The node dies before the result; one delivery was on its way and is lost with it.
    session.refuse(Status::unavailable("killed")).await;
    drop(first);

    let mut session = second.consume_session().await;
    let resumed = opened("token-2", &["a", "b", "c", "never-arrived"]);
    let opened_again = open(&mut session, resumed).await;
    assert_eq!(opened_again.resume_token, receipt("token-1"));
    let returned = settle_frame(&mut session).await;
    let target = Some(Target::Receipt(receipt("never-arrived")));
    assert_eq!(returned.settlements[0].target, target);
    assert!(matches!(&returned.settlements[0].action, Some(Action::Requeue(it)) if !it.failed));
    let again = settle_frame(&mut session).await;
    assert_eq!(again.settlements.len(), 1);
    assert_eq!(
        again.settlements[0].target,
        Some(Target::Receipt(receipt("a")))
    );
    // It had been done before the node died.
    let already = v1::SettleResult {
        index: 0,
        outcome: v1::SettleOutcome::AlreadySettled.into(),
        ..v1::SettleResult::default()
    };
    let results = v1::SettleResults {
        settle_ref: again.settle_ref,
        all_done: false,
        results: vec![already],
    };
    session.send(answer(Response::Settled(results))).await;
    assert_eq!(ack.await.unwrap(), SettleOutcome::Done);
    // What is held goes by receipt now; what comes on the new stream by its tag.
    deliver(&session, &[(1, "e")]).await;
    let new = consumer.next().await.unwrap().unwrap();
    assert_eq!(&*new.message.body, b"e");
    let _ = consumer.requeue(&batch[1], Requeue::default()).await;
    let by_receipt = settle_frame(&mut session).await;
    let target = Some(Target::Receipt(receipt("b")));
    assert_eq!(by_receipt.settlements[0].target, target);
    let _ = consumer.ack(&new).await;
    let by_tag = settle_frame(&mut session).await;
    assert_eq!(by_tag.settlements[0].target, Some(Target::DeliveryTag(1)));
    assert_eq!(consumer.reconnects(), 1);
}

#[tokio::test]
async fn settle_to_be_sent_again_is_sent_again() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let (consumer, mut session) = tokio::join!(connection.consume(options()), async {
        let mut session = node.consume_session().await;
        open(&mut session, opened("t", &[])).await;
        session
    });
    let mut consumer = consumer.unwrap();
    deliver(&session, &[(1, "a")]).await;
    let delivery = consumer.next().await.unwrap().unwrap();
    let ack = consumer.ack(&delivery).await.unwrap();
    let sent = settle_frame(&mut session).await;
    let later = v1::SettleResult {
        index: 0,
        outcome: v1::SettleOutcome::RetryLater.into(),
        ..v1::SettleResult::default()
    };
    let results = v1::SettleResults {
        settle_ref: sent.settle_ref,
        all_done: true,
        results: vec![later],
    };
    session.send(answer(Response::Settled(results))).await;
    let again = settle_frame(&mut session).await;
    assert_eq!(again.settlements, sent.settlements);
    all_done(&session, &again).await;
    assert_eq!(ack.await.unwrap(), SettleOutcome::Done);
}

#[tokio::test]
async fn idle_consumer_pings_within_a_third_of_its_lease() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let (consumer, mut session) = tokio::join!(connection.consume(options()), async {
        let mut session = node.consume_session().await;
        open(&mut session, opened("t", &[])).await;
        session
    });
    let _consumer = consumer.unwrap();
    let started = tokio::time::Instant::now();
    for _ in 0..3 {
        let ping = session.recv().await.unwrap().frame;
        assert!(matches!(ping, Some(Request::Ping(_))), "{ping:?}");
        session
            .send(answer(Response::Pong(v1::Pong { nonce: 1 })))
            .await;
    }
    assert!(
        started.elapsed() >= LEASE / 3,
        "pings are not sent in a row"
    );
}

#[tokio::test]
async fn drained_consumer_yields_what_arrived_and_then_ends_but_still_settles() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let (consumer, mut session) = tokio::join!(connection.consume(options()), async {
        let mut session = node.consume_session().await;
        open(&mut session, opened("t", &[])).await;
        session
    });
    let mut consumer = consumer.unwrap();
    deliver(&session, &[(1, "a")]).await;
    let first = consumer.next().await.unwrap().unwrap();
    consumer.drain().await.unwrap();
    assert!(matches!(frame(&mut session).await, Some(Request::Drain(_))));
    let server = tokio::spawn(async move {
        // The pong that `frame` sends ends the drain.
        let settle = settle_frame(&mut session).await;
        all_done(&session, &settle).await;
        assert!(frame(&mut session).await.is_none(), "closed by the client");
    });
    assert!(consumer.next().await.unwrap().is_none());
    let ack = consumer.ack(&first).await.unwrap();
    assert_eq!(ack.await.unwrap(), SettleOutcome::Done);
    consumer.close(Duration::from_secs(10)).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn closing_waits_for_the_results_of_settles_and_ends_the_stream() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let (consumer, mut session) = tokio::join!(connection.consume(options()), async {
        let mut session = node.consume_session().await;
        open(&mut session, opened("t", &[])).await;
        session
    });
    let mut consumer = consumer.unwrap();
    deliver(&session, &[(1, "a"), (2, "b")]).await;
    let first = consumer.next().await.unwrap().unwrap();
    let ack = consumer.ack(&first).await.unwrap();
    let closing = tokio::spawn(consumer.close(Duration::from_secs(10)));
    let mut settles = 0;
    let mut drains = 0;
    while settles == 0 || drains == 0 {
        match frame(&mut session).await {
            Some(Request::Settle(batch)) => {
                assert!(!closing.is_finished(), "the result is still to come");
                all_done(&session, &batch).await;
                settles += 1;
            }
            Some(Request::Drain(_)) => drains += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(
        frame(&mut session).await.is_none(),
        "the client ends its side"
    );
    drop(session);
    closing.await.unwrap().unwrap();
    assert_eq!(ack.await.unwrap(), SettleOutcome::Done);
}

#[tokio::test]
async fn missing_queue_is_an_error_that_says_what_to_do() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let refuse = async {
        let session = node.consume_session().await;
        let error = ApiError::new(Reason::QueueNotFound, "no queue 'q' in vhost '/'");
        session.refuse(error.into()).await;
    };
    let (consumer, ()) = tokio::join!(connection.consume(options()), refuse);
    let error = consumer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("warren queue declare"),
        "{error}"
    );
}

#[tokio::test]
async fn deleted_queue_ends_the_consumer_with_the_reason() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let (consumer, session) = tokio::join!(connection.consume(options()), async {
        let mut session = node.consume_session().await;
        open(&mut session, opened("t", &[])).await;
        session
    });
    let mut consumer = consumer.unwrap();
    let notice = v1::Notice {
        kind: v1::NoticeKind::ConsumerCancelled.into(),
        status: Some(ApiError::new(Reason::QueueNotFound, "queue q was deleted").to_status()),
        ..v1::Notice::default()
    };
    session.send(answer(Response::Notice(notice))).await;
    let error = consumer.next().await.unwrap_err();
    assert_eq!(error.reason(), Some("QUEUE_NOT_FOUND"));
}

#[tokio::test]
async fn leader_hint_is_followed_once_per_term_when_asked_for() {
    let (mut first, mut second) = (Node::start().await, Node::start().await);
    let connection = connect_with(
        &[&first, &second],
        ConnectionOptions {
            follow_leader_hints: true,
            ..ConnectionOptions::default()
        },
    );
    let (consumer, mut session) = tokio::join!(connection.consume(options()), async {
        let mut session = first.consume_session().await;
        open(&mut session, opened("t", &[])).await;
        session
    });
    let _consumer = consumer.unwrap();
    let notice = v1::Notice {
        kind: v1::NoticeKind::LeaderMoved.into(),
        leader: Some(v1::LeaderHint {
            node: "two".to_owned(),
            endpoint: second.address.to_string(),
            term: 3,
        }),
        ..v1::Notice::default()
    };
    session.send(answer(Response::Notice(notice))).await;
    let mut moved = second.consume_session().await;
    let open = open(&mut moved, opened("t2", &[])).await;
    assert_eq!(open.resume_token, receipt("t"));
    assert!(frame(&mut session).await.is_none());
}
