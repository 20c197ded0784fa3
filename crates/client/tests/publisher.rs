//! The publisher against a service that the test answers frame by frame.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod fake;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use fake::{Node, PublishSession, connect};
use tonic::Status;
use warren_client::{
    Error, ErrorKind, Message, Outcome, Publication, PublishResult, PublisherOptions, Target,
};
use warren_proto::{
    convert::{error::ApiError, reason::Reason},
    v1::{
        self, PublishOutcome, publish_stream_request::Frame as Request,
        publish_stream_response::Frame as Response,
    },
};

fn answer(frame: Response) -> v1::PublishStreamResponse {
    v1::PublishStreamResponse { frame: Some(frame) }
}

/// Takes the open frame and answers it.
async fn open(session: &mut PublishSession, messages: u32, bytes: u64) -> v1::PublishOpen {
    let Some(Request::Open(open)) = session.recv().await.unwrap().frame else {
        panic!("the first frame is not Open");
    };
    let credit = Some(v1::Credit { messages, bytes });
    let opened = v1::Opened {
        credit,
        ..v1::Opened::default()
    };
    session.send(answer(Response::Opened(opened))).await;
    open
}

/// The next batch; pings are answered on the way.
async fn batch(session: &mut PublishSession) -> v1::PublishBatch {
    loop {
        match session.recv().await.expect("a frame").frame {
            Some(Request::Batch(batch)) => return batch,
            Some(Request::Ping(it)) => {
                let pong = v1::Pong { nonce: it.nonce };
                session.send(answer(Response::Pong(pong))).await;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

async fn confirm(session: &PublishSession, confirms: Vec<v1::BatchConfirm>) {
    let batches = confirms;
    let confirms = Response::Confirms(v1::Confirms { batches });
    session.send(answer(confirms)).await;
}

fn all_committed(batch: &v1::PublishBatch) -> v1::BatchConfirm {
    v1::BatchConfirm {
        batch_ref: batch.batch_ref,
        all_committed: true,
        results: Vec::new(),
    }
}

/// The batch's first message is refused.
fn first_refused(batch: &v1::PublishBatch, error: &ApiError) -> v1::BatchConfirm {
    let result = v1::PublishResult {
        index: 0,
        outcome: PublishOutcome::Refused.into(),
        error: Some(error.to_status()),
        ..v1::PublishResult::default()
    };
    v1::BatchConfirm {
        batch_ref: batch.batch_ref,
        all_committed: false,
        results: vec![result],
    }
}

fn body(number: u64) -> Message {
    Message::new(number.to_string())
}

fn publication(number: u64) -> Publication {
    Publication {
        target: Target::queue("q"),
        message: body(number),
        mandatory: false,
        token: number,
    }
}

fn sequences(batch: &v1::PublishBatch) -> Vec<u64> {
    batch.entries.iter().map(|it| it.sequence).collect()
}

/// Takes batches until so many messages have come.
async fn take(session: &mut PublishSession, messages: usize) -> Vec<v1::PublishBatch> {
    let mut batches = Vec::new();
    let mut seen = 0;
    while seen < messages {
        let it = batch(session).await;
        seen += it.entries.len();
        batches.push(it);
    }
    assert_eq!(seen, messages);
    batches
}

type Outcomes = Arc<Mutex<Vec<PublishResult>>>;

fn collecting(options: PublisherOptions) -> (PublisherOptions, Outcomes) {
    let outcomes = Outcomes::default();
    let kept = outcomes.clone();
    let sink = move |it: &[PublishResult]| kept.lock().unwrap().extend_from_slice(it);
    let options = PublisherOptions {
        sink: Some(Box::new(sink)),
        ..options
    };
    (options, outcomes)
}

#[tokio::test]
async fn broken_connection_resends_what_has_no_outcome_and_each_message_is_confirmed_once() {
    let (mut first, mut second) = (Node::start().await, Node::start().await);
    let connection = connect(&[&first, &second]);
    let (options, outcomes) = collecting(PublisherOptions::default());
    let publisher = connection.publisher(options);
    for number in 1..=50 {
        publisher.submit(publication(number)).await.unwrap();
    }
    let mut session = first.publish_session().await;
    let opened_first = open(&mut session, 1000, 1 << 20).await;
    let batches = take(&mut session, 50).await;
    // The first half of the first batch is confirmed, then the node dies.
    let half: Vec<v1::PublishResult> = (0..batches[0].entries.len() as u32 / 2)
        .map(|index| v1::PublishResult {
            index,
            outcome: PublishOutcome::Committed.into(),
            queues: 1,
            ..v1::PublishResult::default()
        })
        .collect();
    let confirmed = half.len();
    let part = v1::BatchConfirm {
        batch_ref: batches[0].batch_ref,
        all_committed: false,
        results: half,
    };
    confirm(&session, vec![part]).await;
    session.refuse(Status::unavailable("killed")).await;
    drop(first);

    let mut session = second.publish_session().await;
    let opened_second = open(&mut session, 1000, 1 << 20).await;
    assert_eq!(opened_first.producer, opened_second.producer);
    assert!(!opened_first.producer.unwrap().producer_id.is_empty());
    let again = take(&mut session, 50 - confirmed).await;
    let resent: Vec<u64> = again.iter().flat_map(sequences).collect();
    let expected: Vec<u64> = (confirmed as u64 + 1..=50).collect();
    assert_eq!(resent, expected, "in order, under their old sequences");
    let stats = publisher.stats();
    assert_eq!((stats.resent, stats.reconnects), (50 - confirmed as u64, 1));
    // Out of order, and one of them twice.
    for it in again.iter().rev() {
        confirm(&session, vec![all_committed(it), all_committed(it)]).await;
    }
    publisher.flush().await.unwrap();
    let mut tokens: BTreeMap<u64, u32> = BTreeMap::new();
    for result in outcomes.lock().unwrap().iter() {
        assert!(result.outcome.is_success());
        assert_eq!(result.token, result.sequence);
        *tokens.entry(result.token).or_default() += 1;
    }
    assert_eq!(tokens, (1..=50).map(|it| (it, 1)).collect());
}

#[tokio::test]
async fn confirms_out_of_order_and_in_parts_resolve_the_right_messages() {
    let mut node = Node::start().await;
    let publisher = connect(&[&node]).publisher(PublisherOptions::default());
    let mut session = node.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let target = Target::queue("q");
    let mut confirms = Vec::new();
    let mut batches = Vec::new();
    for number in 0..4 {
        confirms.push(publisher.publish(&target, body(number)).await.unwrap());
        batches.push(batch(&mut session).await);
    }
    let refused = v1::PublishResult {
        index: 0,
        outcome: PublishOutcome::Refused.into(),
        error: Some(ApiError::new(Reason::QueueFull, "queue q is full").to_status()),
        ..v1::PublishResult::default()
    };
    let unrouted = v1::PublishResult {
        index: 0,
        outcome: PublishOutcome::Unrouted.into(),
        ..v1::PublishResult::default()
    };
    let one = |batch: &v1::PublishBatch, result| v1::BatchConfirm {
        batch_ref: batch.batch_ref,
        all_committed: false,
        results: vec![result],
    };
    // The last first; `all_committed` does not reach what was named.
    let mut whole = one(&batches[3], refused);
    whole.all_committed = true;
    let unknown = v1::BatchConfirm {
        batch_ref: 99,
        all_committed: true,
        results: Vec::new(),
    };
    confirm(&session, vec![whole, one(&batches[1], unrouted), unknown]).await;
    confirm(&session, vec![all_committed(&batches[0])]).await;
    confirm(&session, vec![all_committed(&batches[2])]).await;
    let mut outcomes = Vec::new();
    for it in confirms {
        outcomes.push(it.await.unwrap());
    }
    assert_eq!(
        outcomes[0],
        Outcome::Committed {
            queues: None,
            schedule_handle: None
        }
    );
    assert_eq!(outcomes[1], Outcome::Unrouted);
    assert_eq!(
        outcomes[2],
        Outcome::Committed {
            queues: None,
            schedule_handle: None
        }
    );
    let Outcome::Refused(refusal) = &outcomes[3] else {
        panic!("{:?}", outcomes[3]);
    };
    assert_eq!(refusal.reason, "QUEUE_FULL");
    assert_eq!(refusal.kind, ErrorKind::Exhausted);
}

#[tokio::test]
async fn credit_is_never_exceeded_and_one_message_may_overdraw_the_bytes() {
    let mut node = Node::start().await;
    let (options, _) = collecting(PublisherOptions::default());
    let publisher = connect(&[&node]).publisher(options);
    let mut session = node.publish_session().await;
    open(&mut session, 3, 1 << 20).await;
    for number in 0..10 {
        publisher.submit(publication(number)).await.unwrap();
    }
    let first = take(&mut session, 3).await;
    // Two more messages, one of which uses up the bytes.
    let credit = |messages, bytes| answer(Response::Credit(v1::Credit { messages, bytes }));
    session.send(credit(2, 0)).await;
    let second = take(&mut session, 2).await;
    for it in first.iter().chain(&second) {
        confirm(&session, vec![all_committed(it)]).await;
    }
    // Bytes: what is left of the megabyte; then nothing but one overdraft.
    let large = Publication {
        message: Message::new(vec![0; 2 << 20]),
        ..publication(99)
    };
    session.send(credit(5, 0)).await;
    take(&mut session, 5).await;
    publisher.submit(large.clone()).await.unwrap();
    publisher.submit(large).await.unwrap();
    session.send(credit(10, 0)).await;
    let overdraft = batch(&mut session).await;
    assert_eq!(overdraft.entries.len(), 1);
    // Nothing more comes until bytes are granted beyond what was overdrawn: the next frame is a ping, not a batch.
    let next = session.recv().await.unwrap().frame;
    assert!(matches!(next, Some(Request::Ping(_))), "{next:?}");
    session
        .send(answer(Response::Pong(v1::Pong { nonce: 1 })))
        .await;
    session.send(credit(0, 2 << 20)).await;
    assert_eq!(batch(&mut session).await.entries.len(), 1);
}

#[tokio::test]
async fn window_holds_back_what_is_beyond_it() {
    let mut node = Node::start().await;
    let publisher = connect(&[&node]).publisher(PublisherOptions {
        window_messages: 2,
        ..PublisherOptions::default()
    });
    let target = Target::queue("q");
    let first = publisher.publish(&target, body(1)).await.unwrap();
    let _second = publisher.publish(&target, body(2)).await.unwrap();
    let third = publisher.publish(&target, body(3));
    tokio::pin!(third);
    let at_once = tokio::time::timeout(Duration::from_millis(50), &mut third).await;
    assert!(at_once.is_err(), "the third does not fit");
    let mut session = node.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let batches = take(&mut session, 2).await;
    confirm(&session, vec![all_committed(&batches[0])]).await;
    assert!(first.await.unwrap().is_success());
    third.await.unwrap();
}

#[tokio::test]
async fn transient_refusal_is_sent_again_before_anything_newer() {
    let mut node = Node::start().await;
    let publisher = connect(&[&node]).publisher(PublisherOptions::default());
    let mut session = node.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let target = Target::queue("q");
    let first = publisher.publish(&target, body(1)).await.unwrap();
    let refused = batch(&mut session).await;
    let second = publisher.publish(&target, body(2)).await.unwrap();
    let stored = batch(&mut session).await;
    let error = ApiError::new(Reason::NotReady, "no leader").retry_after(Duration::from_millis(50));
    let refusal = first_refused(&refused, &error);
    confirm(&session, vec![refusal, all_committed(&stored)]).await;
    assert!(
        second.await.unwrap().is_success(),
        "the refusal was read too"
    );
    let third = publisher.publish(&target, body(3)).await.unwrap();
    let batches = take(&mut session, 2).await;
    let order: Vec<u64> = batches.iter().flat_map(sequences).collect();
    assert_eq!(order, [1, 3]);
    for it in &batches {
        confirm(&session, vec![all_committed(it)]).await;
    }
    assert!(first.await.unwrap().is_success());
    assert!(third.await.unwrap().is_success());
}

#[tokio::test]
async fn refused_stream_ends_the_publisher_with_the_reason() {
    let mut node = Node::start().await;
    let publisher = connect(&[&node]).publisher(PublisherOptions::default());
    let target = Target::queue("q");
    let confirm = publisher.publish(&target, body(1)).await.unwrap();
    let session = node.publish_session().await;
    let refusal = ApiError::new(Reason::AccessRefused, "user u may not write to q");
    session.refuse(refusal.into()).await;
    let outcome = confirm.await.unwrap();
    let Outcome::Unknown(error) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(error.kind(), ErrorKind::Denied);
    let error = publisher.publish(&target, body(2)).await.unwrap_err();
    assert!(matches!(&error, Error::Closed { .. }), "{error:?}");
    assert_eq!(error.reason(), Some("ACCESS_REFUSED"));
    assert!(error.to_string().contains("may not write"), "{error}");
}

#[tokio::test]
async fn frozen_node_is_left_for_another() {
    let (mut frozen, mut other) = (Node::start().await, Node::start().await);
    let publisher = connect(&[&frozen, &other]).publisher(PublisherOptions {
        stall_timeout: Duration::from_millis(1300),
        ..PublisherOptions::default()
    });
    let confirm_of = publisher
        .publish(&Target::queue("q"), body(1))
        .await
        .unwrap();
    let mut silent = frozen.publish_session().await;
    open(&mut silent, 1000, 1 << 20).await;
    batch(&mut silent).await;
    // No pong and no confirm from here on; the stream stays open, and calls are not answered.
    frozen.frozen.store(true, Ordering::Relaxed);
    let mut session = other.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let again = batch(&mut session).await;
    assert_eq!(sequences(&again), [1]);
    confirm(&session, vec![all_committed(&again)]).await;
    assert!(confirm_of.await.unwrap().is_success());
}

#[tokio::test]
async fn node_without_a_majority_is_left_for_another() {
    let (mut cut_off, mut other) = (Node::start().await, Node::start().await);
    let publisher = connect(&[&cut_off, &other]).publisher(PublisherOptions::default());
    let target = Target::queue("q");
    let first = publisher.publish(&target, body(1)).await.unwrap();
    let mut session = cut_off.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let refused = batch(&mut session).await;
    let second = publisher.publish(&target, body(2)).await.unwrap();
    batch(&mut session).await;
    let error = ApiError::new(Reason::NoQuorum, "no majority").retry_after(Duration::from_secs(1));
    confirm(&session, vec![first_refused(&refused, &error)]).await;
    let mut session = other.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let batches = take(&mut session, 2).await;
    let order: Vec<u64> = batches.iter().flat_map(sequences).collect();
    assert_eq!(order, [1, 2]);
    for it in &batches {
        confirm(&session, vec![all_committed(it)]).await;
    }
    assert!(first.await.unwrap().is_success());
    assert!(second.await.unwrap().is_success());
}

#[tokio::test]
async fn node_that_holds_the_stream_back_but_answers_calls_is_waited_for() {
    let (mut slow, other) = (Node::start().await, Node::start().await);
    let publisher = connect(&[&slow, &other]).publisher(PublisherOptions {
        stall_timeout: Duration::from_millis(200),
        ..PublisherOptions::default()
    });
    let confirm_of = publisher
        .publish(&Target::queue("q"), body(1))
        .await
        .unwrap();
    let mut session = slow.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let it = batch(&mut session).await;
    // Silent for more than the stall timeout, twice.
    slow.settles.notified().await;
    slow.settles.notified().await;
    confirm(&session, vec![all_committed(&it)]).await;
    assert!(confirm_of.await.unwrap().is_success());
    assert_eq!(publisher.stats().reconnects, 0);
}

#[tokio::test]
async fn without_any_node_messages_get_an_unknown_outcome_in_time() {
    let node = Node::start().await;
    let connection = connect(&[&node]);
    drop(node);
    let publisher = connection.publisher(PublisherOptions {
        give_up_after: Duration::from_millis(300),
        ..PublisherOptions::default()
    });
    let confirm = publisher
        .publish(&Target::queue("q"), body(1))
        .await
        .unwrap();
    let outcome = confirm.await.unwrap();
    let Outcome::Unknown(error) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    publisher.flush().await.unwrap();
}

#[tokio::test]
async fn dropped_publisher_still_sends_what_it_accepted() {
    let mut node = Node::start().await;
    let connection = connect(&[&node]);
    let publisher = connection.publisher(PublisherOptions::default());
    let confirm_of = publisher
        .publish(&Target::queue("q"), body(1))
        .await
        .unwrap();
    drop(publisher);
    let mut session = node.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let it = batch(&mut session).await;
    confirm(&session, vec![all_committed(&it)]).await;
    assert!(confirm_of.await.unwrap().is_success());
    assert!(session.recv().await.is_none(), "the stream is ended");
    connection.closed().await;
}

#[tokio::test]
async fn messages_of_several_targets_name_what_differs_from_their_batch() {
    let mut node = Node::start().await;
    let publisher = connect(&[&node]).publisher(PublisherOptions::default());
    let targets = [
        Target::queue("a"),
        Target::queue("b"),
        Target::exchange("e", "a"),
    ];
    for target in &targets {
        drop(publisher.publish(target, body(1)).await.unwrap());
    }
    let mut session = node.publish_session().await;
    open(&mut session, 1000, 1 << 20).await;
    let mut seen = Vec::new();
    for batch in take(&mut session, 3).await {
        for entry in batch.entries {
            seen.push((
                entry.exchange.unwrap_or_else(|| batch.exchange.clone()),
                entry
                    .routing_key
                    .unwrap_or_else(|| batch.routing_key.clone()),
            ));
        }
    }
    let expected = [("", "a"), ("", "b"), ("e", "a")];
    assert_eq!(seen, expected.map(|(e, k)| (e.to_owned(), k.to_owned())));
}
