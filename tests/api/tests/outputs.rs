//! Settle-and-publish (features X4): an ack and the messages that come with it are done together or not at all, and whoever asks again after
//! a lost answer is told the same, also by the next leader.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use warren_api::outputs::{ack_with, all_of, body, entry, first, settle, told};
use warren_api::{Call, Consuming, FIRST, message, number, one_node, queue_batch, runtime, text};
use warren_proto::v1::consume_request::Frame as Consume;
use warren_proto::v1::consume_response::Frame as Consumed;
use warren_proto::v1::settlement::Action;
use warren_proto::v1::{self, SettleOutcome};
use warren_testkit::process::{Cluster, NodeNumber, Options};

#[test]
fn ack_and_its_messages_are_done_together_or_not_at_all() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let group = || ("x-placement-group", text("orders"));
        call.declare_with("in", &[group()]).await;
        call.declare_with("out", &[group()]).await;
        let full = ("x-overflow", text("reject-publish"));
        let limits = [group(), ("x-max-length", number(1)), full];
        call.declare_with("small", &limits).await;
        for other in ["away", "far"] {
            call.declare_with(other, &[]).await;
        }
        let batch = queue_batch("in", ["a", "b"].map(message));
        call.publish(batch).await.unwrap();
        let held = call.take("in", 2).await;
        let (a, b) = (&held[0], &held[1]);

        let aborted = "FailedPrecondition BATCH_ABORTED";
        let full = "ResourceExhausted QUEUE_FULL";
        let entries = [("out", "1"), ("small", "2"), ("small", "3")];
        let entries = entries.map(|(queue, body)| entry(queue, body)).to_vec();
        let refused = settle(&call, ack_with(a, entries)).await;
        let each = vec![aborted.to_owned(), aborted.to_owned(), full.to_owned()];
        assert_eq!(told(&refused), (full.to_owned(), each));

        let unroutable = settle(&call, ack_with(a, vec![entry("nowhere", "x")])).await;
        let why = "FailedPrecondition UNROUTABLE".to_owned();
        assert_eq!(told(&unroutable), (why.clone(), vec![why]));
        let mut crossed = 0;
        for other in ["away", "far"] {
            let away = settle(
                &call,
                ack_with(b, vec![entry("out", "4"), entry(other, "5")]),
            )
            .await;
            let why = "FailedPrecondition CROSS_SHARD".to_owned();
            crossed += usize::from(told(&away) == (why.clone(), vec![why.clone(), why]));
        }
        assert!(crossed > 0, "queues without a group share no shard with it");

        // Nothing has happened: it is held, and settled in another way.
        let entries = vec![entry("out", "6"), entry("small", "7")];
        let done = ("Done".to_owned(), vec!["Committed".to_owned(); 2]);
        let settlement = ack_with(a, entries);
        assert_eq!(told(&settle(&call, settlement.clone()).await), done);
        // The answer was lost: it is told again, and nothing is stored twice.
        assert_eq!(told(&settle(&call, settlement).await), done);
        let plain = call.ack(vec![a.receipt.clone()]).await.unwrap();
        assert_eq!(plain[0].outcome(), SettleOutcome::AlreadySettled);
        if crossed == 2 {
            call.ack(vec![b.receipt.clone()]).await.unwrap();
            let late = settle(&call, ack_with(b, vec![entry("out", "8")])).await;
            assert_eq!(late.outcome(), SettleOutcome::AlreadySettled);
            assert_eq!(all_of(&call, "out").await, ["6"]);
        }
        assert_eq!(all_of(&call, "small").await, ["7"]);
        assert_eq!(call.stats("in").await.ready, 0);
    });
}

#[test]
fn messages_come_once_with_each_ack_while_the_leader_is_killed() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let any = Call::to(&cluster.grpc_address(FIRST));
        for queue in ["in", "out"] {
            let group = ("x-placement-group", text("orders"));
            any.declare_with(queue, &[group]).await;
        }
        let bodies: Vec<String> = (0..200).map(|it| format!("m{it}")).collect();
        let messages = bodies.iter().map(|it| message(it));
        any.publish(queue_batch("in", messages)).await.unwrap();
        let shown = cluster.run(&["queue", "show", "in", "--output", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.unwrap()).unwrap();
        let leads = usize::try_from(shown["leader_node"].as_u64().unwrap()).unwrap();
        let leads = NodeNumber(leads);
        let done: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let others = cluster.numbers().into_iter().filter(|it| *it != leads);
        let workers = others.map(|node| {
            let call = Call::to(&cluster.grpc_address(node));
            let (done, all) = (Arc::clone(&done), bodies.len());
            tokio::spawn(async move {
                while done.lock().unwrap().len() < all {
                    let Ok(taken) = call.receive("in", 5).await else {
                        continue;
                    };
                    for delivery in taken {
                        work(&call, &delivery, &done).await;
                    }
                }
            })
        });
        let workers: Vec<_> = workers.collect();
        while done.lock().unwrap().len() < 40 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        cluster.kill(leads).unwrap();
        for worker in workers {
            worker.await.unwrap();
        }
        let other = cluster.numbers().into_iter().find(|it| *it != leads);
        let call = Call::to(&cluster.grpc_address(other.unwrap()));
        let (mut came, mut expected) = (all_of(&call, "out").await, bodies);
        came.sort_unstable();
        expected.sort_unstable();
        assert_eq!(came, expected);
    });
}

/// Settles one delivery, with a message of the same body, until it is known what became of it.
async fn work(call: &Call, delivery: &v1::Delivery, done: &Mutex<BTreeSet<String>>) {
    let settlement = ack_with(delivery, vec![entry("out", &body(delivery))]);
    loop {
        let request = v1::SettleRequest {
            settlements: vec![settlement.clone()],
            ..v1::SettleRequest::default()
        };
        let Ok(answer) = call.messaging().settle(request).await else {
            continue;
        };
        match answer.into_inner().results[0].outcome() {
            SettleOutcome::Done => {
                assert!(done.lock().unwrap().insert(body(delivery)), "done twice");
                return;
            }
            // It comes again.
            SettleOutcome::Expired | SettleOutcome::NotOwner => return,
            SettleOutcome::RetryLater | SettleOutcome::Refused => {}
            other @ (SettleOutcome::AlreadySettled | SettleOutcome::Unspecified) => {
                panic!("{other:?} {}", body(delivery))
            }
        }
    }
}

/// Queues of other shards than that of `in`: messages that come with an ack of it cannot be stored in the same entry.
async fn away_from_in(call: &Call) -> String {
    for nth in 0..20 {
        let name = format!("away-{nth}");
        call.declare_with(&name, &[("x-dedup-window", number(60_000))])
            .await;
        call.publish(queue_batch("in", [message("probe")]))
            .await
            .unwrap();
        let held = call.take("in", 1).await;
        let settled = settle(call, ack_with(&held[0], vec![entry(&name, "probe")])).await;
        if settled.outcome() == SettleOutcome::Refused {
            call.ack(vec![held[0].receipt.clone()]).await.unwrap();
            return name;
        }
    }
    panic!("twenty queues share a shard");
}

#[test]
fn messages_for_another_shard_are_stored_before_the_ack_where_that_is_allowed() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare_with("in", &[]).await;
        let away = away_from_in(&call).await;
        let small = [
            ("x-overflow", text("reject-publish")),
            ("x-max-length", number(0)),
        ];
        call.declare_with("small", &small).await;
        call.publish(queue_batch("in", ["a", "b"].map(message)))
            .await
            .unwrap();
        let held = call.take("in", 2).await;
        let (a, b) = (&held[0], &held[1]);

        // One message is refused: the ack is not asked for, and the other one is stored.
        let both = vec![entry(&away, "1"), entry("small", "2")];
        let refused = settle(&call, first(ack_with(a, both))).await;
        let full = "ResourceExhausted QUEUE_FULL".to_owned();
        let each = vec!["Committed".to_owned(), full.clone()];
        assert_eq!(told(&refused), (full, each));
        assert_eq!(call.stats("in").await.unacked, 2);

        // Asked again without it: the first is a duplicate of itself, and the ack is done.
        let again = first(ack_with(a, vec![entry(&away, "1")]));
        let done = |each: &str| ("Done".to_owned(), vec![each.to_owned()]);
        assert_eq!(told(&settle(&call, again.clone()).await), done("Duplicate"));
        let twice = settle(&call, again).await;
        assert_eq!(twice.outcome(), SettleOutcome::AlreadySettled);
        assert_eq!(twice.published.len(), 1);

        // Whoever has it next, with another result: what was stored first stays.
        let stored = first(ack_with(b, vec![entry(&away, "3"), entry("small", "4")]));
        settle(&call, stored).await;
        let requeue = v1::Settlement {
            action: Some(Action::Requeue(v1::Requeue::default())),
            ..ack_with(b, Vec::new())
        };
        settle(&call, requeue).await;
        let next = call.take("in", 1).await;
        let other = first(ack_with(&next[0], vec![entry(&away, "5")]));
        assert_eq!(told(&settle(&call, other).await), done("Duplicate"));
        assert_eq!(all_of(&call, &away).await, ["1", "3"]);
        assert_eq!(call.stats("in").await.ready, 0);
    });
}

#[test]
fn stream_goes_on_while_messages_of_its_acks_are_stored_elsewhere() {
    const MESSAGES: usize = 200;
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare_with("in", &[]).await;
        let away = away_from_in(&call).await;
        let bodies: Vec<String> = (0..MESSAGES).map(|it| it.to_string()).collect();
        let messages = bodies.iter().map(|it| message(it));
        call.publish(queue_batch("in", messages)).await.unwrap();
        let open = v1::ConsumeOpen {
            queue: "in".to_owned(),
            prefetch: 20,
            ..v1::ConsumeOpen::default()
        };
        let (mut stream, _) = Consuming::open(&call, open).await;
        let (mut sent, mut told_done) = (0, 0);
        while told_done < MESSAGES {
            match stream.next().await.unwrap() {
                Consumed::Deliveries(some) => {
                    for delivery in some.deliveries {
                        sent += 1;
                        let with = vec![entry(&away, &body(&delivery))];
                        let batch = v1::SettleBatch {
                            settle_ref: sent,
                            settlements: vec![first(ack_with(&delivery, with))],
                        };
                        stream.send(Consume::Settle(batch)).await;
                    }
                }
                Consumed::Settled(settled) => {
                    let done = ("Done".to_owned(), vec!["Committed".to_owned()]);
                    assert_eq!(told(&settled.results[0]), done);
                    told_done += 1;
                }
                Consumed::Opened(_) | Consumed::Notice(_) | Consumed::Pong(_) => {}
            }
        }
        let mut came = all_of(&call, &away).await;
        came.sort_unstable();
        let mut expected = bodies;
        expected.sort_unstable();
        assert_eq!(came, expected);
        assert_eq!(call.stats("in").await.unacked, 0);
    });
}
