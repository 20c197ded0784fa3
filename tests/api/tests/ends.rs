//! Settle-and-publish of more than one ack (features X4): several deliveries, rejects, parks and requeues end with their messages in one, or not
//! at all. Not here: one ack with its messages (`outputs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use warren_api::outputs::{ack_with, all_of, body, entry, settle, told};
use warren_api::{Call, Consuming, FIRST, number, one_node, runtime, text};
use warren_proto::v1::consume_request::Frame as Consume;
use warren_proto::v1::consume_response::Frame as Consumed;
use warren_proto::v1::settlement::{Action, Target};
use warren_proto::v1::{self, SettleOutcome};
use warren_testkit::process::{Cluster, Options};

const ACK: Action = Action::Ack(v1::Ack {});

fn settlement(
    deliveries: &[v1::Delivery],
    action: Action,
    entries: Vec<v1::PublishEntry>,
) -> v1::Settlement {
    let tags = deliveries.iter().map(|it| it.delivery_tag);
    let range = v1::TagRange {
        first: tags.clone().min().unwrap(),
        last: tags.max().unwrap(),
    };
    v1::Settlement {
        target: Some(Target::Tags(range)),
        action: Some(action),
        then_publish: entries,
        ..v1::Settlement::default()
    }
}

/// The only result of a batch with one settlement.
async fn only(stream: &mut Consuming, settlement: v1::Settlement) -> v1::SettleResult {
    let batch = v1::SettleBatch {
        settle_ref: 1,
        settlements: vec![settlement],
    };
    stream.send(Consume::Settle(batch)).await;
    loop {
        if let Consumed::Settled(mut it) = stream.next().await.unwrap() {
            assert_eq!(it.results.len(), 1, "{:?}", it.results);
            return it.results.swap_remove(0);
        }
    }
}

/// Queues of one shard: one with these messages, one that takes all, one that takes a single message.
async fn queues(call: &Call, bodies: &[&str]) {
    queues_with(call, bodies, &[]).await;
}

/// The same, and more is said of the first one.
async fn queues_with(call: &Call, bodies: &[&str], more: &[(&str, v1::Value)]) {
    let group = || ("x-placement-group", text("orders"));
    let mut arguments = vec![group()];
    arguments.extend_from_slice(more);
    call.declare_with("in", &arguments).await;
    call.declare_with("out", &[group()]).await;
    let full = ("x-overflow", text("reject-publish"));
    let limit = ("x-max-length", number(1));
    call.declare_with("small", &[group(), limit, full]).await;
    call.fill("in", bodies).await;
}

async fn holding(call: &Call, count: usize) -> (Consuming, Vec<v1::Delivery>) {
    let open = v1::ConsumeOpen {
        queue: "in".to_owned(),
        prefetch: u32::try_from(count).unwrap(),
        ..v1::ConsumeOpen::default()
    };
    let (mut stream, _) = Consuming::open(call, open).await;
    let held = stream.deliveries(count).await;
    (stream, held)
}

fn done(count: usize) -> (String, Vec<String>) {
    ("Done".to_owned(), vec!["Committed".to_owned(); count])
}

#[test]
fn several_acks_and_their_messages_are_done_together_or_not_at_all() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        queues(&call, &["a", "b", "c", "d"]).await;
        let (mut stream, held) = holding(&call, 4).await;
        // One message finds no room: all are held as before.
        let all = vec![entry("out", "1"), entry("small", "2"), entry("small", "3")];
        let refused = only(&mut stream, settlement(&held[..3], ACK, all)).await;
        let full = "ResourceExhausted QUEUE_FULL";
        let aborted = "FailedPrecondition BATCH_ABORTED";
        let each = [aborted, aborted, full].map(str::to_owned).to_vec();
        assert_eq!(told(&refused), (full.to_owned(), each));
        assert_eq!(call.stats("in").await.unacked, 4);
        let both = || vec![entry("out", "4"), entry("small", "5")];
        let acked = only(&mut stream, settlement(&held[..3], ACK, both())).await;
        assert_eq!(told(&acked), done(2));
        // What was settled takes the other one along: nothing is done, and it is held as before.
        let late = v1::SettleBatch {
            settle_ref: 2,
            settlements: vec![settlement(&held[3..], ACK, Vec::new())],
        };
        stream.send(Consume::Settle(late)).await;
        assert!(stream.settled(2).await.all_done);
        let receipt = ack_with(&held[3], vec![entry("out", "6")]);
        let again = settle(&call, receipt).await;
        assert_eq!(again.outcome(), SettleOutcome::AlreadySettled);
        assert_eq!(all_of(&call, "out").await, ["4"]);
        assert_eq!(all_of(&call, "small").await, ["5"]);
        let stats = call.stats("in").await;
        assert_eq!((stats.unacked, stats.ready, stats.acked_total), (0, 0, 4));
    });
}

#[test]
fn rejects_parks_and_requeues_end_with_their_messages() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        queues(&call, &["a", "b", "c"]).await;
        let (mut stream, held) = holding(&call, 3).await;
        let reject = |park| {
            Action::Reject(v1::Reject {
                park,
                reason: "broken".to_owned(),
                ..v1::Reject::default()
            })
        };
        let requeue = || {
            Action::Requeue(v1::Requeue {
                failed: true,
                ..v1::Requeue::default()
            })
        };
        let ends = [reject(true), reject(false), requeue()];
        for (at, action) in ends.into_iter().enumerate() {
            let with = vec![entry("out", &at.to_string())];
            let ended = settlement(&held[at..=at], action, with);
            assert_eq!(told(&only(&mut stream, ended).await), done(1));
        }
        let again = stream.deliveries(1).await;
        assert_eq!(
            (body(&again[0]), again[0].delivery_count),
            ("c".to_owned(), 1)
        );
        // Asked again, with the delivery as it was: it is told of the first.
        let repeated = v1::Settlement {
            action: Some(requeue()),
            ..ack_with(&held[2], vec![entry("out", "2")])
        };
        assert_eq!(told(&settle(&call, repeated).await), done(1));
        let stats = call.stats("in").await;
        assert_eq!((stats.unacked, stats.parked, stats.ready), (1, 1, 0));
        assert_eq!(stats.rejected_total, 1);
        assert_eq!(all_of(&call, "out").await, ["0", "1", "2"]);
    });
}

#[test]
fn dead_letters_begin_their_way_with_the_messages_or_are_held_as_before() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare_with("dead", &[]).await;
        let dies = ("x-dead-letter-exchange", text(""));
        let to = ("x-dead-letter-routing-key", text("dead"));
        queues_with(&call, &["a", "b", "c"], &[dies, to]).await;
        let (mut stream, held) = holding(&call, 3).await;
        let reject = || Action::Reject(v1::Reject::default());
        let too_many = vec![entry("out", "1"), entry("small", "2"), entry("small", "3")];
        let refused = only(&mut stream, settlement(&held[..2], reject(), too_many)).await;
        assert_eq!(refused.outcome(), SettleOutcome::Refused);
        let stats = call.stats("in").await;
        assert_eq!((stats.unacked, call.stats("out").await.ready), (3, 0));
        let with = vec![entry("out", "1"), entry("small", "2")];
        let ended = settlement(&held[..2], reject(), with);
        assert_eq!(told(&only(&mut stream, ended).await), done(2));
        assert_eq!(all_of(&call, "out").await, ["1"]);
        assert_eq!(all_of(&call, "dead").await, ["a", "b"]);
        let stats = call.stats("in").await;
        assert_eq!((stats.unacked, stats.dead_lettered_total), (1, 2));
    });
}

#[test]
fn dead_letter_that_must_be_kept_and_goes_nowhere_holds_the_messages_back() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let group = || ("x-placement-group", text("orders"));
        let arguments = [
            group(),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("nobody")),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ];
        call.declare_with("dies", &arguments).await;
        call.declare_with("out", &[group()]).await;
        call.fill("dies", &["x"]).await;
        let held = call.take("dies", 1).await;
        let rejected = v1::Settlement {
            action: Some(Action::Reject(v1::Reject::default())),
            ..ack_with(&held[0], vec![entry("out", "1")])
        };
        let refused = settle(&call, rejected.clone()).await;
        assert!(told(&refused).0.ends_with("BATCH_ABORTED"), "{refused:?}");
        let stats = call.stats("dies").await;
        assert_eq!((stats.unacked, call.stats("out").await.ready), (1, 0));
        call.declare_with("nobody", &[]).await;
        let done = settle(&call, rejected).await;
        assert_eq!(done.outcome(), SettleOutcome::Done);
        assert_eq!(all_of(&call, "nobody").await, ["x"]);
        assert_eq!(all_of(&call, "out").await, ["1"]);
    });
}

/// A queue remembers its last 16,384 ends: whoever waits for the answer of an earlier one must not depend on that.
#[test]
fn end_whose_dead_letter_waits_for_room_is_told_done_after_thousands_of_others() {
    const OTHERS: usize = 17_000;
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let refuses = || ("x-overflow", text("reject-publish"));
        let limit = ("x-max-length", number(1));
        call.declare_with("dead", &[limit, refuses()]).await;
        call.fill("dead", &["full"]).await;
        let dies = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
            ("x-dead-letter-strategy", text("at-least-once")),
            refuses(),
        ];
        queues_with(&call, &["a"], &dies).await;
        for _ in 0..OTHERS / 1_000 {
            call.fill("in", &["b"; 1_000]).await;
        }
        let (mut stream, held) = holding(&call, OTHERS + 1).await;
        let settles = |settle_ref, settlement| {
            let settlements = vec![settlement];
            Consume::Settle(v1::SettleBatch {
                settle_ref,
                settlements,
            })
        };
        let reject = Action::Reject(v1::Reject::default());
        let rejected = settlement(&held[..1], reject, vec![entry("out", "1")]);
        stream.send(settles(1, rejected)).await;
        while call.stats("out").await.ready == 0 {}
        for (settle_ref, others) in (2..).zip(held[1..].chunks(1_000)) {
            let acked = settlement(others, ACK, vec![entry("out", "2")]);
            stream.send(settles(settle_ref, acked)).await;
            let told_of = stream.settled(settle_ref).await;
            assert_eq!(told(&told_of.results[0]), done(1));
        }
        let stats = call.stats("in").await;
        assert_eq!((stats.ready, stats.dead_lettered_total), (0, 0), "it waits");
        let full = call.take("dead", 1).await;
        call.settle(full, ACK).await;
        let told_of = stream.settled(1).await;
        assert_eq!(told(&told_of.results[0]), done(1));
        assert_eq!(all_of(&call, "dead").await, ["a"]);
        assert_eq!(call.stats("out").await.ready, 18);
    });
}

#[test]
fn messages_of_a_settlement_are_bounded_by_what_an_entry_may_have() {
    let mut cluster = Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    cluster.set_environment(FIRST, "WARREN_LIMITS_MAX_MESSAGE_SIZE", "1 MiB");
    cluster.spawn(FIRST).unwrap();
    cluster.wait_all_ready().unwrap();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        queues(&call, &["a"]).await;
        let held = call.take("in", 1).await;
        let large = "x".repeat(64 << 10);
        let entries = |count| vec![entry("out", &large); count];
        let refused = settle(&call, ack_with(&held[0], entries(17))).await;
        assert_eq!(told(&refused).0, "InvalidArgument MESSAGE_TOO_LARGE");
        let taken = settle(&call, ack_with(&held[0], entries(15))).await;
        assert_eq!(taken.outcome(), SettleOutcome::Done);
        assert_eq!(call.stats("out").await.ready, 15);
    });
}
