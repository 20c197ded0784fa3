//! Single calls: repeated where that helps, on another node where there is one, and errors as values.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod fake;

use std::time::Duration;

use fake::{Node, connect, connect_with};
use warren_client::{ConnectionOptions, ErrorKind, Message, Outcome, RetryAdvice, Target};
use warren_proto::{
    convert::{error::ApiError, reason::Reason},
    v1::{self, PublishOutcome},
};

fn stored(outcomes: &[PublishOutcome]) -> v1::PublishResponse {
    let result = |(index, outcome): (usize, &PublishOutcome)| v1::PublishResult {
        index: index as u32,
        outcome: (*outcome).into(),
        ..v1::PublishResult::default()
    };
    v1::PublishResponse {
        results: outcomes.iter().enumerate().map(result).collect(),
    }
}

#[tokio::test]
async fn call_is_repeated_with_the_same_ids_until_a_node_answers() {
    let node = Node::start().await;
    node.answers.lock().extend([
        Err(ApiError::new(Reason::NotReady, "no leader yet").into()),
        Err(ApiError::new(Reason::OutcomeUnknown, "deadline").into()),
        Ok(stored(&[
            PublishOutcome::Duplicate,
            PublishOutcome::Committed,
        ])),
    ]);
    let messages = vec![Message::new("a"), Message::new("b")];
    let outcomes = connect(&[&node])
        .publish_now("", &Target::queue("q"), messages)
        .await
        .unwrap();
    assert_eq!(outcomes[0], Outcome::Duplicate);
    assert!(outcomes[1].is_success());
    let calls = node.calls.lock();
    assert_eq!(calls.len(), 3);
    assert!(
        calls.iter().all(|it| *it == calls[0]),
        "same producer and sequences"
    );
    assert!(!calls[0].producer.as_ref().unwrap().producer_id.is_empty());
}

#[tokio::test]
async fn dead_node_is_passed_over() {
    let (dead, node) = (Node::start().await, Node::start().await);
    node.answers
        .lock()
        .push_back(Ok(stored(&[PublishOutcome::Committed])));
    let connection = connect(&[&dead, &node]);
    drop(dead);
    let outcomes = connection
        .publish_now("", &Target::queue("q"), vec![Message::new("a")])
        .await;
    assert!(outcomes.unwrap()[0].is_success());
}

#[tokio::test]
async fn refusal_is_not_repeated_and_keeps_reason_kind_and_advice() {
    let node = Node::start().await;
    let refused = ApiError::new(Reason::ExchangeNotFound, "no exchange 'e' in vhost '/'");
    node.answers.lock().push_back(Err(refused.into()));
    let target = Target::exchange("e", "");
    let error = connect(&[&node])
        .publish_now("", &target, vec![Message::new("a")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.reason(), Some("EXCHANGE_NOT_FOUND"));
    let warren_client::Error::Refused(refusal) = error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.retry, RetryAdvice::No);
    assert_eq!(node.calls.lock().len(), 1);
}

#[tokio::test]
async fn unreachable_cluster_is_told_with_its_addresses_in_time() {
    let node = Node::start().await;
    let options = ConnectionOptions {
        request_timeout: Duration::from_millis(300),
        ..ConnectionOptions::default()
    };
    let connection = connect_with(&[&node], options);
    let address = node.address.to_string();
    drop(node);
    let error = connection
        .publish_now("", &Target::queue("q"), vec![Message::new("a")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains("check"), "{text}");
}
