//! Plants every kind of fault into histories of a broker that is right, and expects each to be named.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const PUBLISHERS: u32 = 4;
const CONSUMERS: u32 = 3;
const PER_PUBLISHER: u64 = 200;

fn id(publisher: u32, counter: u64) -> MessageId {
    MessageId { publisher, counter }
}

fn sight(consumer: u32, message: MessageId, redelivered: bool) -> Event {
    Event::Delivered(Delivered {
        consumer: ConsumerId(consumer),
        message: Some(message),
        redelivered,
    })
}

/// A run of a broker without faults: refusals, lost answers, redeliveries to the same and to other consumers.
fn sound_history(seed: u64) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut events = Vec::new();
    let mut queue = Vec::new();
    for counter in 1..=PER_PUBLISHER {
        for publisher in 0..PUBLISHERS {
            let id = id(publisher, counter);
            events.push(Event::PublishInvoked(id));
            let (outcome, enqueued) = match random.random_range(0..20) {
                0 => (PublishOutcome::Refused, false),
                1 => (PublishOutcome::Unknown, true),
                2 => (PublishOutcome::Unknown, false),
                _ => (PublishOutcome::Confirmed, true),
            };
            if enqueued {
                queue.push(id);
            }
            events.push(Event::PublishEnded(id, outcome));
        }
    }
    for id in queue {
        let mut consumer = random.random_range(0..CONSUMERS);
        events.push(sight(consumer, id, false));
        while random.random_range(0..10) == 0 {
            consumer = random.random_range(0..CONSUMERS);
            events.push(sight(consumer, id, true));
        }
        events.push(Event::Settled(ConsumerId(consumer), id));
    }
    events
}

/// Runs one planted fault over many seeds: `plant` changes a sound history, `found` says whether it was named.
fn planted(plant: impl Fn(&mut Vec<Event>), found: impl Fn(&Report) -> bool) {
    for seed in 0..50 {
        let mut events = sound_history(seed);
        assert!(check(&events).is_clean(), "seed {seed}");
        plant(&mut events);
        let report = check(&events);
        assert!(
            found(&report) && !report.is_clean(),
            "seed {seed}: {report}"
        );
    }
}

/// A message that was confirmed and delivered exactly once, from the middle of the run.
fn plain_message(events: &[Event]) -> MessageId {
    let fits = |wanted: MessageId| {
        let sights = events
            .iter()
            .filter(|event| is_sight_of(event, wanted))
            .count();
        sights == 1 && events.contains(&Event::PublishEnded(wanted, PublishOutcome::Confirmed))
    };
    (PER_PUBLISHER / 2..PER_PUBLISHER)
        .map(|counter| id(1, counter))
        .find(|wanted| fits(*wanted))
        .expect("most messages are plain")
}

fn is_sight_of(event: &Event, wanted: MessageId) -> bool {
    matches!(event, Event::Delivered(it) if it.message == Some(wanted))
}

fn first_sight(events: &[Event], wanted: MessageId) -> usize {
    events
        .iter()
        .position(|event| is_sight_of(event, wanted))
        .expect("it was delivered")
}

#[test]
fn sound_history_is_clean_and_counted() {
    let report = check(&sound_history(1));
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        report.invoked,
        usize::try_from(u64::from(PUBLISHERS) * PER_PUBLISHER).unwrap()
    );
    assert!(report.confirmed > 500 && report.refused > 0 && report.recovered > 0);
    assert!(report.redelivered > 0 && report.delivered > report.confirmed);
}

#[test]
fn empty_history_is_clean() {
    assert_eq!(check(&[]), Report::default());
}

#[test]
fn confirmed_message_never_delivered_is_lost_in_the_middle() {
    planted(
        |events| {
            let victim = plain_message(events);
            events.retain(|event| !is_sight_of(event, victim));
            events.retain(|event| !matches!(event, Event::Settled(_, id) if *id == victim));
        },
        |report| {
            report.lost.len() == 1
                && report.holes
                    == Holes {
                        middle: 1,
                        ..Holes::default()
                    }
        },
    );
}

#[test]
fn lost_beginning_and_end_are_told_apart() {
    let mut events = Vec::new();
    for counter in 1..=5 {
        events.push(Event::PublishInvoked(id(1, counter)));
        events.push(Event::PublishEnded(
            id(1, counter),
            PublishOutcome::Confirmed,
        ));
    }
    events.push(sight(0, id(1, 3), false));
    let report = check(&events);
    assert_eq!(report.lost.len(), 4);
    assert_eq!(
        report.holes,
        Holes {
            prefix: 2,
            middle: 0,
            postfix: 2
        }
    );
}

#[test]
fn message_never_published_is_unexpected() {
    planted(
        |events| events.push(sight(0, id(99, 1), false)),
        |report| report.unexpected == [id(99, 1)],
    );
}

#[test]
fn refused_message_delivered_is_unexpected() {
    planted(
        |events| {
            let refused = events.iter().find_map(|event| match event {
                Event::PublishEnded(id, PublishOutcome::Refused) => Some(*id),
                Event::PublishInvoked(_)
                | Event::PublishEnded(..)
                | Event::Delivered(_)
                | Event::Settled(..) => None,
            });
            events.push(sight(9, refused.expect("some are refused"), false));
        },
        |report| report.unexpected.len() == 1,
    );
}

#[test]
fn second_first_delivery_to_another_consumer_is_a_duplicate() {
    planted(
        |events| {
            let victim = plain_message(events);
            events.push(sight(77, victim, false));
        },
        |report| report.duplicates.len() == 1,
    );
}

#[test]
fn first_delivery_after_own_redelivery_is_a_duplicate() {
    planted(
        |events| {
            let victim = plain_message(events);
            let at = first_sight(events, victim);
            let Event::Delivered(seen) = events[at] else {
                panic!("a sight is a delivery");
            };
            events.insert(at, sight(seen.consumer.0, victim, true));
        },
        |report| report.duplicates.len() == 1,
    );
}

#[test]
fn first_delivery_recorded_after_anothers_redelivery_is_no_fault() {
    let mut events = sound_history(3);
    let victim = plain_message(&events);
    let at = first_sight(&events, victim);
    events.insert(at, sight(77, victim, true));
    assert!(check(&events).is_clean());
}

#[test]
fn first_deliveries_out_of_publish_order_are_a_breach() {
    planted(
        |events| {
            let (earlier, later) = (id(50, 1), id(50, 2));
            for id in [earlier, later] {
                events.push(Event::PublishInvoked(id));
                events.push(Event::PublishEnded(id, PublishOutcome::Confirmed));
            }
            events.push(sight(0, later, false));
            events.push(sight(0, earlier, false));
        },
        |report| {
            report.order_breaches
                == [OrderBreach {
                    consumer: ConsumerId(0),
                    before: id(50, 2),
                    after: id(50, 1),
                }]
        },
    );
}

#[test]
fn redelivery_or_another_consumer_out_of_order_is_no_breach() {
    let mut events = Vec::new();
    for counter in 1..=2 {
        events.push(Event::PublishInvoked(id(1, counter)));
        events.push(Event::PublishEnded(
            id(1, counter),
            PublishOutcome::Confirmed,
        ));
    }
    events.extend([
        sight(0, id(1, 2), false),
        sight(1, id(1, 1), false),
        sight(0, id(1, 1), true),
    ]);
    let report = check(&events);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn damaged_body_is_corrupted() {
    planted(
        |events| {
            let at = first_sight(events, plain_message(events));
            let damaged = Event::Delivered(Delivered {
                consumer: ConsumerId(0),
                message: None,
                redelivered: false,
            });
            events.insert(at, damaged);
        },
        |report| report.corrupted == 1,
    );
}

#[test]
fn delivery_after_committed_settle_is_returned() {
    planted(
        |events| {
            let victim = plain_message(events);
            let Event::Delivered(seen) = events[first_sight(events, victim)] else {
                panic!("a sight is a delivery");
            };
            events.push(sight(seen.consumer.0, victim, true));
        },
        |report| report.returned.len() == 1,
    );
}

#[test]
fn answers_without_a_question_are_malformed() {
    for planted in [
        vec![Event::PublishEnded(id(1, 1), PublishOutcome::Unknown)],
        vec![
            Event::PublishInvoked(id(1, 1)),
            Event::PublishInvoked(id(1, 1)),
        ],
        vec![Event::Settled(ConsumerId(1), id(1, 1))],
    ] {
        assert_eq!(check(&planted).malformed.len(), 1, "{planted:?}");
    }
}

#[test]
fn unknown_outcome_delivered_is_recovered_not_a_fault() {
    let events = [
        Event::PublishInvoked(id(1, 1)),
        Event::PublishEnded(id(1, 1), PublishOutcome::Unknown),
        Event::PublishInvoked(id(1, 2)),
        sight(0, id(1, 1), false),
        sight(0, id(1, 2), false),
    ];
    let report = check(&events);
    assert!(report.is_clean());
    assert_eq!(report.recovered, 2);
}
