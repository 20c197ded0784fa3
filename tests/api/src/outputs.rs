//! Settlements with messages, and what is told of them. Not here: tests.

use warren_proto::v1::settlement::{Action, Target};
use warren_proto::v1::{self, SettleOutcome};

use crate::{Call, in_band, message};

pub fn entry(queue: &str, body: &str) -> v1::PublishEntry {
    v1::PublishEntry {
        message: Some(message(body)),
        routing_key: Some(queue.to_owned()),
        mandatory: true,
        ..v1::PublishEntry::default()
    }
}

pub fn ack_with(delivery: &v1::Delivery, entries: Vec<v1::PublishEntry>) -> v1::Settlement {
    v1::Settlement {
        target: Some(Target::Receipt(delivery.receipt.clone())),
        action: Some(Action::Ack(v1::Ack {})),
        then_publish: entries,
        ..v1::Settlement::default()
    }
}

pub async fn settle(call: &Call, settlement: v1::Settlement) -> v1::SettleResult {
    let request = v1::SettleRequest {
        settlements: vec![settlement],
        ..v1::SettleRequest::default()
    };
    let answer = call.messaging().settle(request).await.unwrap();
    answer.into_inner().results.swap_remove(0)
}

/// The outcome of the ack, and of what comes with it.
pub fn told(result: &v1::SettleResult) -> (String, Vec<String>) {
    let refused = result.outcome() == SettleOutcome::Refused;
    let own = if refused {
        in_band(result.error.as_ref())
    } else {
        format!("{:?}", result.outcome())
    };
    let published = result.published.iter().map(|it| match &it.error {
        Some(error) => in_band(Some(error)),
        None => format!("{:?}", it.outcome()),
    });
    (own, published.collect())
}

pub fn body(delivery: &v1::Delivery) -> String {
    let body = delivery.message.as_ref().unwrap().body.to_vec();
    String::from_utf8(body).unwrap()
}

pub async fn all_of(call: &Call, queue: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let taken = call.receive(queue, 1_000).await.unwrap();
        if taken.is_empty() {
            return bodies;
        }
        bodies.extend(taken.iter().map(body));
    }
}

pub fn first(settlement: v1::Settlement) -> v1::Settlement {
    v1::Settlement {
        allow_non_atomic: true,
        ..settlement
    }
}
