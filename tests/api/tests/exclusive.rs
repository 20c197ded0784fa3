//! Exclusive queues of gRPC clients (features A32): every call that names their owner is let in, every other is refused alike. Not here: when
//! they are deleted (`consume`), those of AMQP connections (`tests/pika`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tonic::Status;
use warren_api::{Call, Consuming, FIRST, one_node, reason_of, runtime};
use warren_proto::admin_v1::topology_service_client::TopologyServiceClient;
use warren_proto::v1::settlement::Action;
use warren_proto::{admin_v1, v1};

const LOCKED: &str = "FailedPrecondition RESOURCE_LOCKED";

async fn declare(call: &Call, name: &str, owner: &str) {
    let queue = admin_v1::Queue {
        name: name.to_owned(),
        exclusive: true,
        owner: owner.to_owned(),
        ..admin_v1::Queue::default()
    };
    let request = admin_v1::CreateQueueRequest {
        queue: Some(queue),
        ..admin_v1::CreateQueueRequest::default()
    };
    call.topology().create_queue(request).await.unwrap();
}

fn receive(client_id: &str) -> v1::ReceiveRequest {
    v1::ReceiveRequest {
        queue: "mine".to_owned(),
        max_messages: 1,
        wait: Some(prost_types::Duration {
            seconds: 2,
            nanos: 0,
        }),
        client_id: client_id.to_owned(),
        ..v1::ReceiveRequest::default()
    }
}

fn peek(client_id: &str) -> v1::PeekRequest {
    v1::PeekRequest {
        queue: "mine".to_owned(),
        client_id: client_id.to_owned(),
        ..v1::PeekRequest::default()
    }
}

fn purge(client_id: &str) -> admin_v1::PurgeQueueRequest {
    admin_v1::PurgeQueueRequest {
        queue: "mine".to_owned(),
        client_id: client_id.to_owned(),
        ..admin_v1::PurgeQueueRequest::default()
    }
}

fn delete(client_id: &str) -> admin_v1::DeleteQueueRequest {
    admin_v1::DeleteQueueRequest {
        name: "mine".to_owned(),
        client_id: client_id.to_owned(),
        ..admin_v1::DeleteQueueRequest::default()
    }
}

fn binding() -> admin_v1::Binding {
    admin_v1::Binding {
        source: "amq.direct".to_owned(),
        destination: "mine".to_owned(),
        routing_key: "key".to_owned(),
        ..admin_v1::Binding::default()
    }
}

fn bind(client_id: &str) -> admin_v1::CreateBindingRequest {
    admin_v1::CreateBindingRequest {
        binding: Some(binding()),
        client_id: client_id.to_owned(),
        ..admin_v1::CreateBindingRequest::default()
    }
}

fn unbind(client_id: &str) -> admin_v1::DeleteBindingRequest {
    admin_v1::DeleteBindingRequest {
        binding: Some(binding()),
        client_id: client_id.to_owned(),
        ..admin_v1::DeleteBindingRequest::default()
    }
}

fn locked<T: std::fmt::Debug>(answer: Result<T, Status>, what: &str) {
    let refused = answer.expect_err(what);
    assert_eq!(reason_of(&refused), LOCKED, "{what}");
}

#[test]
fn exclusive_queue_is_used_by_its_owner_in_every_way() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let mut topology: TopologyServiceClient<_> = call.topology();
        declare(&call, "mine", "me").await;
        call.fill("mine", &["a", "b", "c"]).await;

        // Taken by a call, extended and settled by receipt, which names no client.
        let answer = call.messaging().receive(receive("me")).await.unwrap();
        let taken = answer.into_inner().deliveries;
        assert_eq!(taken[0].message.as_ref().unwrap().body, "a");
        let back = v1::Requeue {
            failed: true,
            ..v1::Requeue::default()
        };
        call.settle(taken, Action::Requeue(back)).await;
        let answer = call.messaging().receive(receive("me")).await.unwrap();
        let again = answer.into_inner().deliveries;
        assert_eq!(again[0].message.as_ref().unwrap().body, "a");
        assert!(again[0].redelivered && again[0].delivery_count == 1);
        call.settle(again, Action::Ack(v1::Ack {})).await;

        let mut pages = call
            .messaging()
            .peek(peek("me"))
            .await
            .unwrap()
            .into_inner();
        let page = pages.message().await.unwrap().unwrap();
        assert_eq!(page.messages.len(), 2);
        topology.create_binding(bind("me")).await.unwrap();
        topology.delete_binding(unbind("me")).await.unwrap();
        let purged = topology.purge_queue(purge("me")).await.unwrap();
        assert_eq!(purged.into_inner().messages, 2);
        // Figures are for whoever may see the queue.
        assert_eq!(call.stats("mine").await.ready, 0);
        topology.delete_queue(delete("me")).await.unwrap();
        let refused = call.messaging().receive(receive("me")).await.unwrap_err();
        assert_eq!(reason_of(&refused), "NotFound QUEUE_NOT_FOUND");
    });
}

#[test]
fn exclusive_queue_is_locked_for_every_call_that_does_not_name_its_owner() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let mut topology = call.topology();
        declare(&call, "mine", "me").await;
        call.fill("mine", &["a"]).await;
        for other in ["", "you"] {
            locked(call.messaging().receive(receive(other)).await, "receive");
            locked(call.messaging().peek(peek(other)).await, "peek");
            locked(topology.purge_queue(purge(other)).await, "purge");
            locked(topology.create_binding(bind(other)).await, "bind");
            locked(topology.delete_binding(unbind(other)).await, "unbind");
            locked(topology.delete_queue(delete(other)).await, "delete");
            let open = v1::ConsumeOpen {
                queue: "mine".to_owned(),
                prefetch: 1,
                client_id: other.to_owned(),
                ..v1::ConsumeOpen::default()
            };
            let ended = Consuming::refused(&call, open).await;
            assert_eq!(ended.as_deref(), Some(LOCKED), "consume");
        }
        assert_eq!(call.stats("mine").await.ready, 1);
    });
}
