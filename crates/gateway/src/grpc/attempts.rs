//! `Receive` repeated on another node than the first call (features A29): the nodes ask each other before one takes anything, and the answer
//! of the first is given again. Its messages stay leased there; receipts settle them anywhere. Not here: the call (`receive`), the table of
//! attempts (`leases`), the road between nodes (`warren-shard`).
//!
//! Two nodes may hear of an attempt at the same time. While both ask, the one with the lower number has it, and the other, which has given way,
//! asks it again.

use std::time::Duration;

use tokio::time::timeout;
use warren_proto::convert::error::ApiError;
use warren_proto::internal_v1 as wire;
use warren_proto::v1;
use warren_types::{NodeId, QueueId};

use super::leases::{Answer, AttemptKey, Leases};
use super::receive::not_answered;
use crate::gateway::Gateway;

/// The answer of an attempt that another node knows. `None`: none knows it; it begins here.
pub(super) async fn elsewhere(
    gateway: &Gateway,
    key: &AttemptKey,
    wait: Duration,
) -> Option<Result<v1::ReceiveResponse, ApiError>> {
    let broker = gateway.broker();
    let request = wire::FindAttemptRequest {
        queue: key.queue.0,
        consumer_tag: key.consumer_tag.clone(),
        attempt_id: key.attempt_id.clone(),
        wait_ms: 0,
        node: broker.node().0,
    };
    let found = broker.find_attempt(request, wait).await?;
    if let Some(answer) = found.answer {
        return Some(Ok(answer));
    }
    let error = found.error.as_ref().and_then(ApiError::from_status);
    Some(Err(error.unwrap_or_else(not_answered)))
}

/// What this node says of an attempt that another one asks for.
pub(crate) async fn answer(
    leases: Leases,
    own: NodeId,
    request: wire::FindAttemptRequest,
) -> wire::FindAttemptResponse {
    let key = AttemptKey {
        queue: QueueId(request.queue),
        consumer_tag: request.consumer_tag,
        attempt_id: request.attempt_id,
    };
    let Some(mut answer) = leases.known(&key, own < NodeId(request.node)) else {
        return wire::FindAttemptResponse::default();
    };
    let wait = Duration::from_millis(request.wait_ms);
    let answered: Answer = match timeout(wait, answer.wait_for(Option::is_some)).await {
        Ok(Ok(answer)) => answer.clone(),
        Ok(Err(_)) | Err(_) => None,
    };
    let mut response = wire::FindAttemptResponse {
        found: true,
        ..wire::FindAttemptResponse::default()
    };
    match answered {
        Some(Ok(answer)) => response.answer = Some(answer),
        Some(Err(error)) => response.error = Some(error.to_status()),
        None => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use super::super::leases::Attempt;
    use super::*;

    const OWN: NodeId = NodeId(2);

    fn key() -> AttemptKey {
        AttemptKey {
            queue: QueueId(7),
            consumer_tag: "tag".into(),
            attempt_id: "a".into(),
        }
    }

    fn asks(node: u64) -> wire::FindAttemptRequest {
        wire::FindAttemptRequest {
            queue: 7,
            consumer_tag: "tag".into(),
            attempt_id: "a".into(),
            wait_ms: 0,
            node,
        }
    }

    #[tokio::test]
    async fn of_two_nodes_that_ask_each_other_the_lower_one_has_the_attempt() {
        let leases = Leases::new(10);
        assert!(!answer(leases.clone(), OWN, asks(3)).await.found);
        let Ok(Attempt::New(sender, _)) = leases.attempt(&key()) else {
            panic!("it is the first")
        };
        assert!(answer(leases.clone(), OWN, asks(3)).await.found);
        assert!(!answer(leases.clone(), OWN, asks(1)).await.found);
        assert!(!leases.begins(&key()), "the lower one may have it by now");
        assert!(leases.begins(&key()));
        let told = answer(leases.clone(), OWN, asks(1)).await;
        assert_eq!((told.found, told.answer), (true, None));
        let response = v1::ReceiveResponse {
            ready_left: 5,
            ..v1::ReceiveResponse::default()
        };
        sender.send_replace(Some(Ok(response.clone())));
        let told = answer(leases.clone(), OWN, asks(1)).await;
        assert_eq!(told.answer, Some(response));
        leases.end_attempt(&key());
        assert!(!answer(leases, OWN, asks(3)).await.found);
    }
}
