//! Settlements of every form against a book of held deliveries.

use warren_types::{Attempt, Position, QueueId, ShardId, Term};

use warren_shard::api::RequestToken;

use super::*;

const CLUSTER: ClusterId = ClusterId(7);
const OWN: Target = Target {
    queue: QueueId(1),
    shard: ShardId(1),
};
const OTHER: Target = Target {
    queue: QueueId(2),
    shard: ShardId(3),
};

fn context() -> Context<'static> {
    Context {
        cluster: CLUSTER,
        own: Some(OWN),
        now_ms: 1_000,
        now: tokio::time::Instant::now(),
        consumer: "worker",
    }
}

fn held(position: u64) -> Held {
    Held {
        position: Position(position),
        attempt: Attempt {
            term: Term(1),
            number: 1,
        },
    }
}

fn book(count: u64) -> HeldBook {
    let mut book = HeldBook::default();
    for position in 1..=count {
        book.add(held(position), 10, None);
    }
    book
}

fn settlement(target: Named, action: Action) -> v1::Settlement {
    v1::Settlement {
        target: Some(target),
        action: Some(action),
        ..v1::Settlement::default()
    }
}

fn ack(target: Named) -> v1::Settlement {
    settlement(target, Action::Ack(v1::Ack {}))
}

fn receipt(target: Target, position: u64) -> Named {
    Named::Receipt(
        Receipt {
            target,
            held: held(position),
        }
        .to_bytes(CLUSTER),
    )
}

fn tags(first: u64, last: u64) -> Named {
    Named::Tags(v1::TagRange { first, last })
}

fn tokens() -> impl FnMut() -> RequestToken {
    let mut last = 0;
    move || {
        last += 1;
        RequestToken(last)
    }
}

fn reason(result: &v1::SettleResult) -> Reason {
    ApiError::from_status(result.error.as_ref().unwrap())
        .unwrap()
        .reason()
}

#[test]
fn acks_by_tag_range_and_receipt_are_one_ask() {
    let mut book = book(5);
    let settlements = vec![
        ack(Named::DeliveryTag(1)),
        ack(tags(2, 3)),
        ack(receipt(OWN, 5)),
    ];
    let plan = plan(settlements, context(), &mut book);
    assert!(plan.results.is_empty());
    assert_eq!(plan.asks.len(), 1);
    let spec = plan.asks[0].spec(AnswerTime::Soon);
    assert_eq!(spec.target, OWN);
    assert_eq!(spec.action, SettleAction::Settle(SettleReason::Acked));
    assert_eq!(spec.items, vec![held(1), held(2), held(3), held(5)]);
    assert_eq!(book.len(), 1);
}

#[test]
fn range_with_a_lost_delivery_is_told_of_it_and_does_the_rest() {
    let mut book = book(4);
    book.lose(Position(2));
    let plan = plan(vec![ack(tags(1, 3))], context(), &mut book);
    let lost: Vec<_> = plan
        .results
        .iter()
        .map(|it| (it.tags, reason(it)))
        .collect();
    let second = Some(v1::TagRange { first: 2, last: 2 });
    assert_eq!(lost, [(second, Reason::Expired)]);
    let asked: Vec<_> = plan.asks[0].items.iter().map(|it| it.held).collect();
    assert_eq!(asked, [held(1), held(3)]);
    assert_eq!(book.all().collect::<Vec<_>>(), [held(4)]);
}

#[test]
fn receipt_of_another_queue_is_asked_there() {
    let mut book = book(1);
    let plan = plan(
        vec![ack(receipt(OTHER, 1)), ack(receipt(OWN, 1))],
        context(),
        &mut book,
    );
    let targets: Vec<Target> = plan.asks.iter().map(|it| it.target).collect();
    assert_eq!(targets, vec![OTHER, OWN]);
    assert!(plan.asks[0].items[0].taken.is_none() && plan.asks[1].items[0].taken.is_some());
}

#[test]
fn every_action_becomes_its_fact() {
    let delay = Some(prost_types::Duration {
        seconds: 2,
        nanos: 0,
    });
    let cases = [
        (
            Action::Reject(v1::Reject::default()),
            SettleAction::Settle(SettleReason::Rejected),
        ),
        (
            Action::Reject(v1::Reject {
                park: true,
                ..v1::Reject::default()
            }),
            SettleAction::Return {
                kind: ReturnKind::Untouched,
                wait: ReturnWait::Parked,
            },
        ),
        (
            Action::Requeue(v1::Requeue {
                failed: true,
                ..v1::Requeue::default()
            }),
            SettleAction::Return {
                kind: ReturnKind::Failed,
                wait: ReturnWait::Not,
            },
        ),
        (
            Action::Requeue(v1::Requeue {
                delay,
                ..v1::Requeue::default()
            }),
            SettleAction::Return {
                kind: ReturnKind::Untouched,
                wait: ReturnWait::Ms(2_000),
            },
        ),
    ];
    for (action, fact) in cases {
        let plan = plan(
            vec![settlement(Named::DeliveryTag(1), action)],
            context(),
            &mut book(1),
        );
        assert_eq!(plan.asks[0].wished.action, fact);
    }
}

#[test]
fn one_bad_settlement_affects_only_itself() {
    let mut book = book(4);
    let forged = Named::Receipt(Bytes::from_static(b"forged"));
    let settlements = vec![
        ack(forged),
        ack(Named::DeliveryTag(1)),
        ack(Named::DeliveryTag(99)),
        ack(Named::DeliveryTag(1)),
        v1::Settlement::default(),
        ack(tags(4, 2)),
    ];
    let plan = plan(settlements, context(), &mut book);
    assert_eq!(plan.asks.len(), 1);
    assert_eq!(plan.asks[0].items.len(), 1);
    let named: Vec<(u32, Reason)> = plan
        .results
        .iter()
        .map(|it| (it.index, reason(it)))
        .collect();
    assert_eq!(
        named,
        vec![
            (0, Reason::BadReceipt),
            (2, Reason::BadArgument),
            (3, Reason::AlreadySettled),
            (4, Reason::BadArgument),
            (5, Reason::BadArgument),
        ]
    );
    assert_eq!(book.len(), 3);
}

fn with(settlement: v1::Settlement) -> v1::Settlement {
    v1::Settlement {
        then_publish: vec![v1::PublishEntry::default()],
        ..settlement
    }
}

#[test]
fn settlement_with_messages_stands_alone_whatever_it_is() {
    let mut book = book(6);
    let reject = v1::Settlement {
        action: Some(Action::Reject(v1::Reject::default())),
        ..ack(Named::DeliveryTag(6))
    };
    let extend = v1::Settlement {
        action: Some(Action::Extend(v1::Extend::default())),
        ..ack(Named::DeliveryTag(1))
    };
    let settlements = vec![
        ack(Named::DeliveryTag(1)),
        with(ack(Named::DeliveryTag(2))),
        ack(Named::DeliveryTag(3)),
        with(ack(tags(4, 5))),
        with(reject),
        with(extend),
    ];
    let plan = plan(settlements, context(), &mut book);
    let asks = plan.asks.iter();
    let asks: Vec<_> = asks
        .map(|it| {
            (
                it.index(),
                it.items.len(),
                it.outputs.is_some(),
                it.is_more(),
            )
        })
        .collect();
    let expected = [
        (0, 2, false, true),
        (1, 1, true, false),
        (3, 2, true, true),
        (4, 1, true, true),
    ];
    assert_eq!(asks, expected);
    assert_eq!(reason(&plan.results[0]), Reason::BadArgument);
    assert_eq!(book.len(), 0);
}

#[test]
fn range_with_messages_is_refused_when_one_of_it_is_lost() {
    let mut book = book(3);
    book.lose(Position(2));
    let plan = plan(vec![with(ack(tags(1, 3)))], context(), &mut book);
    assert!(plan.asks.is_empty());
    assert_eq!(reason(&plan.results[0]), Reason::Expired);
    assert_eq!((plan.results.len(), book.len()), (1, 2));
}

#[test]
fn what_ends_in_one_has_one_result_and_is_held_unless_it_is_done() {
    for (result, kept, freed) in [(SettleResult::Done, 0, 2), (SettleResult::Expired, 2, 0)] {
        let mut plan = plan(vec![with(ack(tags(1, 2)))], context(), &mut book(2));
        for ask in &mut plan.asks {
            ask.ends = Ends::Together;
        }
        let mut results = SettleResults::default();
        let asked = results.open(1, plan.results, &mut plan.asks, tokens());
        let answered = results.settled(asked[0], &[result]).unwrap();
        assert_eq!((answered.kept.len(), answered.freed.len()), (kept, freed));
        let done = results.take_done().unwrap();
        assert_eq!((done.results.len(), done.results[0].tags), (1, None));
    }
}

#[test]
fn delivery_that_is_lost_while_it_is_to_end_with_others_is_kept_by_nobody() {
    let mut plan = plan(vec![with(ack(tags(1, 2)))], context(), &mut book(2));
    plan.asks[0].ends = Ends::Together;
    let mut results = SettleResults::default();
    let asked = results.open(1, plan.results, &mut plan.asks, tokens());
    let lost = plan.asks[0].items[0].held.position;
    assert!(results.lose(lost).is_some());
    let answered = results.settled(asked[0], &[SettleResult::Expired]).unwrap();
    assert_eq!((answered.kept.len(), answered.items), (1, 0));
}

#[test]
fn tags_mean_nothing_outside_streams() {
    let context = Context {
        own: None,
        ..context()
    };
    let plan = plan(
        vec![ack(Named::DeliveryTag(1)), ack(receipt(OWN, 1))],
        context,
        &mut HeldBook::default(),
    );
    assert_eq!(reason(&plan.results[0]), Reason::BadArgument);
    assert_eq!(plan.asks.len(), 1);
}

#[test]
fn results_name_only_what_was_not_done() {
    let mut plan = plan(
        vec![ack(tags(1, 3)), ack(receipt(OTHER, 1))],
        context(),
        &mut book(3),
    );
    let mut results = SettleResults::default();
    let asked = results.open(42, plan.results, &mut plan.asks, tokens());
    assert_eq!((asked.len(), results.unanswered()), (2, 4));
    let own = [
        SettleResult::Done,
        SettleResult::NotOwner,
        SettleResult::Done,
    ];
    let answered = results.settled(asked[0], &own).unwrap();
    assert_eq!((answered.items, answered.freed.len()), (3, 0));
    assert_eq!(results.take_done(), None);
    let answered = results.settled(asked[1], &[SettleResult::Done]);
    assert_eq!(answered.unwrap().items, 1);
    let done = results.take_done().unwrap();
    assert_eq!(
        (done.settle_ref, done.all_done, done.results.len()),
        (42, true, 1)
    );
    assert_eq!(
        done.results[0].tags,
        Some(v1::TagRange { first: 2, last: 2 })
    );
    assert_eq!(reason(&done.results[0]), Reason::NotOwner);
    assert!(results.is_idle());
    assert!(results.settled(asked[1], &[]).is_none());
}

#[test]
fn ask_that_could_not_be_made_gives_its_items_back() {
    let mut book = book(1);
    let mut plan = plan(vec![ack(Named::DeliveryTag(1))], context(), &mut book);
    let mut results = SettleResults::default();
    let asked = results.open(1, plan.results, &mut plan.asks, tokens());
    for item in results.not_asked(asked[0], Unavailable::NotReady) {
        book.put_back(item.taken.unwrap());
    }
    let done = results.take_done().unwrap();
    assert_eq!(done.results[0].outcome(), v1::SettleOutcome::RetryLater);
    assert!(book.take_tag(1).is_ok());
}

#[test]
fn batch_that_waits_does_not_hold_up_the_next() {
    let mut results = SettleResults::default();
    let mut plan = plan(vec![ack(Named::DeliveryTag(1))], context(), &mut book(1));
    results.open(1, Vec::new(), &mut plan.asks, tokens());
    results.open(2, Vec::new(), &mut [], tokens());
    assert_eq!(results.take_done().unwrap().settle_ref, 2);
    assert_eq!(results.take_done(), None);
}

#[test]
fn extension_on_a_stream_is_the_lease() {
    let by = Some(prost_types::Duration {
        seconds: 5,
        nanos: 0,
    });
    let extend = Action::Extend(v1::Extend { by });
    let settlements = vec![
        settlement(Named::DeliveryTag(1), extend.clone()),
        settlement(receipt(OTHER, 1), extend),
    ];
    let plan = plan(settlements, context(), &mut book(1));
    assert_eq!(plan.results[0].lease_until, Some(time_ms_to_client(6_000)));
    assert_eq!(plan.extensions.len(), 1);
}
