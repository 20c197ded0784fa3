//! Message groups (features X7): each key in order and with one consumer at a time, whoever comes, goes or leads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use warren_api::{Call, FIRST, message, one_node, queue_batch, reason_of, runtime, text};
use warren_proto::admin_v1;
use warren_proto::v1::settlement::{Action, Target};
use warren_proto::v1::{self, SettleOutcome};
use warren_testkit::process::{Cluster, NodeNumber, Options};

fn of_key(key: &str, body: &str) -> v1::Message {
    v1::Message {
        group_key: key.to_owned(),
        ..message(body)
    }
}

fn with_header(key: &str, body: &str) -> v1::Message {
    let mut message = message(body);
    message.headers.insert("x-group-key".to_owned(), text(key));
    message
}

fn bodies(deliveries: &[v1::Delivery]) -> Vec<String> {
    let bodies = deliveries.iter().map(|it| it.message.as_ref().unwrap());
    let bodies = bodies.map(|it| String::from_utf8(it.body.to_vec()).unwrap());
    bodies.collect()
}

fn keys(deliveries: &[v1::Delivery]) -> Vec<&str> {
    let messages = deliveries.iter().map(|it| it.message.as_ref().unwrap());
    messages.map(|it| it.group_key.as_str()).collect()
}

fn requeue_after(seconds: i64) -> Action {
    Action::Requeue(v1::Requeue {
        delay: Some(prost_types::Duration { seconds, nanos: 0 }),
        failed: true,
        ..v1::Requeue::default()
    })
}

#[test]
fn groups_argument_is_one_of_two() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        for mode in ["strict", "step-aside"] {
            let argument = ("x-message-groups", text(mode));
            call.declare_with(mode, &[argument]).await;
        }
        let fields = [("x-message-groups".to_owned(), text("loose"))];
        let queue = admin_v1::Queue {
            name: "loose".to_owned(),
            durable: true,
            arguments: Some(v1::Table {
                fields: fields.into_iter().collect(),
            }),
            ..admin_v1::Queue::default()
        };
        let request = admin_v1::CreateQueueRequest {
            queue: Some(queue),
            ..admin_v1::CreateQueueRequest::default()
        };
        let refused = call.topology().create_queue(request).await.unwrap_err();
        assert_eq!(reason_of(&refused), "InvalidArgument BAD_ARGUMENT");
    });
}

#[test]
fn groups_field_and_header_name_the_key_and_else_the_routing_key_does() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare_with("q", &[("x-message-groups", text("strict"))])
            .await;
        let all = [
            of_key("a", "a1"),
            with_header("a", "a2"),
            message("q1"),
            of_key("b", "b1"),
            message("q2"),
            of_key("b", "b2"),
        ];
        let stored = call.publish(queue_batch("q", all)).await.unwrap();
        assert_eq!(stored.len(), 6);
        let first = call.take("q", 1).await;
        assert_eq!(
            (bodies(&first), keys(&first)),
            (vec!["a1".to_owned()], vec!["a"])
        );
        // Each call is a consumer: what the next one takes is of other keys, several in a row, and so is what the last one misses.
        let second = call.take("q", 1).await;
        assert_eq!(bodies(&second), ["q1"]);
        let third = call.take("q", 1).await;
        assert_eq!(
            (bodies(&third), keys(&third)),
            (vec!["b1".to_owned()], vec!["b"])
        );
        assert_eq!(call.receive("q", 9).await.unwrap(), []);
        let receipts = first.iter().chain(&second).chain(&third);
        let receipts = receipts.map(|it| it.receipt.clone()).collect();
        for result in call.ack(receipts).await.unwrap() {
            assert_eq!(result.outcome(), SettleOutcome::Done);
        }
        let rest = call.take("q", 3).await;
        assert_eq!(bodies(&rest), ["a2", "q2", "b2"]);
        assert_eq!(keys(&rest), ["a", "", "b"]);
    });
}

#[test]
fn groups_failed_head_blocks_its_key_or_steps_aside() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        for (queue, goes_on) in [("strict", vec!["b1"]), ("step-aside", vec!["a2", "b1"])] {
            let mode = ("x-message-groups", text(queue));
            call.declare_with(queue, &[mode]).await;
            let all = [of_key("a", "a1"), of_key("a", "a2"), of_key("b", "b1")];
            call.publish(queue_batch(queue, all)).await.unwrap();
            let head = call.take(queue, 1).await;
            call.settle(head, requeue_after(600)).await;
            let taken = call.take(queue, goes_on.len()).await;
            assert_eq!(bodies(&taken), goes_on);
            assert_eq!(call.receive(queue, 9).await.unwrap(), []);
        }
    });
}

/// A message that was done: its key and number, from when to when its worker had it.
struct Done {
    key: String,
    number: usize,
    from: Instant,
    until: Instant,
}

const KEYS: usize = 12;
const EACH: usize = 12;

#[test]
fn groups_keys_stay_in_order_with_one_of_sixteen_while_the_leader_is_killed() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let any = Call::to(&cluster.grpc_address(FIRST));
        any.declare_with("q", &[("x-message-groups", text("strict"))])
            .await;
        let numbered = (0..EACH).flat_map(|number| (0..KEYS).map(move |key| (key, number)));
        let all = numbered.map(|(key, number)| of_key(&format!("k{key}"), &number.to_string()));
        any.publish(queue_batch("q", all)).await.unwrap();
        let shown = cluster.run(&["queue", "show", "q", "--output", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.unwrap()).unwrap();
        let leads = NodeNumber(usize::try_from(shown["leader_node"].as_u64().unwrap()).unwrap());
        let others: Vec<NodeNumber> = cluster.numbers();
        let others: Vec<NodeNumber> = others.into_iter().filter(|it| *it != leads).collect();
        let done: Arc<Mutex<Vec<Done>>> = Arc::default();
        let workers: Vec<_> = (0..16)
            .map(|worker| {
                let call = Call::to(&cluster.grpc_address(others[worker % others.len()]));
                tokio::spawn(work(call, worker, Arc::clone(&done)))
            })
            .collect();
        while done.lock().unwrap().len() < KEYS * EACH / 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cluster.kill(leads).unwrap();
        for worker in workers {
            worker.await.unwrap();
        }
        let mut by_key: BTreeMap<String, Vec<Done>> = BTreeMap::new();
        for it in std::mem::take(&mut *done.lock().unwrap()) {
            by_key.entry(it.key.clone()).or_default().push(it);
        }
        assert_eq!(by_key.len(), KEYS);
        for (key, mut all) in by_key {
            all.sort_by_key(|it| it.from);
            let numbers: Vec<usize> = all.iter().map(|it| it.number).collect();
            assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "{key}");
            let apart = all.windows(2).all(|pair| pair[0].until <= pair[1].from);
            assert!(apart, "{key} was with two at once");
        }
    });
}

/// Takes one message at a time until all are done; every fifth worker gives back what it has the first time.
async fn work(call: Call, worker: usize, done: Arc<Mutex<Vec<Done>>>) {
    let mut gives_back = worker.is_multiple_of(5);
    while done.lock().unwrap().len() < KEYS * EACH {
        let Ok(taken) = call.receive("q", 1).await else {
            continue;
        };
        let Some(delivery) = taken.first() else {
            continue;
        };
        let from = Instant::now();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let until = Instant::now();
        let action = if std::mem::take(&mut gives_back) {
            Action::Requeue(v1::Requeue::default())
        } else {
            Action::Ack(v1::Ack {})
        };
        let is_ack = matches!(action, Action::Ack(_));
        if settled(&call, delivery, action).await && is_ack {
            let body = bodies(&taken).swap_remove(0);
            done.lock().unwrap().push(Done {
                key: keys(&taken)[0].to_owned(),
                number: body.parse().unwrap(),
                from,
                until,
            });
        }
    }
}

/// Whether it is done; else it comes again. Asked until it is known.
async fn settled(call: &Call, delivery: &v1::Delivery, action: Action) -> bool {
    let settlement = v1::Settlement {
        target: Some(Target::Receipt(delivery.receipt.clone())),
        action: Some(action),
        ..v1::Settlement::default()
    };
    let mut again = false;
    loop {
        let request = v1::SettleRequest {
            settlements: vec![settlement.clone()],
            ..v1::SettleRequest::default()
        };
        let Ok(answer) = call.messaging().settle(request).await else {
            again = true;
            continue;
        };
        match answer.into_inner().results[0].outcome() {
            SettleOutcome::Done => return true,
            // The answer to the first time was lost.
            SettleOutcome::AlreadySettled if again => return true,
            SettleOutcome::Expired | SettleOutcome::NotOwner => return false,
            SettleOutcome::RetryLater | SettleOutcome::Refused => again = true,
            other @ (SettleOutcome::AlreadySettled | SettleOutcome::Unspecified) => {
                panic!("{other:?}")
            }
        }
    }
}
