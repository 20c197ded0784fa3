//! Tests of the conversions of `hints`. Not here: the conversions themselves.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use warren_types::PropertiesBuilder;

use super::*;

fn read(headers: Table) -> Hints {
    let properties = PropertiesBuilder::new().headers(&headers).build().unwrap();
    Hints::read(&properties).unwrap()
}

#[test]
fn no_properties_ask_for_nothing() {
    let hints = Hints::read(&Properties::default()).unwrap();
    assert_eq!(
        hints,
        Hints {
            fairness_weight: 1,
            ..Hints::default()
        }
    );
    assert_eq!(hints.priority, Priority::DEFAULT);
}

#[test]
fn every_hint_is_read() {
    let headers = Table::new()
        .with(GROUP_KEY, "g")
        .with(FAIRNESS_KEY, "f")
        .with(FAIRNESS_WEIGHT, 7)
        .with(DEDUP_KEY, "d")
        .with(DELAY, 5)
        .with(TRACEPARENT, "00-aa")
        .with(TRACESTATE, "k=v");
    let properties = PropertiesBuilder::new()
        .headers(&headers)
        .priority(200)
        .expiration("60000")
        .message_id("m")
        .build()
        .unwrap();
    let hints = Hints::read(&properties).unwrap();
    assert_eq!(hints.priority, Priority::MAX);
    assert_eq!(hints.ttl_ms, Some(60_000));
    assert_eq!(hints.schedule, Schedule::AfterMs(5));
    assert_eq!(hints.group_key, Some(Bytes::from_static(b"g")));
    assert_eq!(hints.fairness_key, Some(Bytes::from_static(b"f")));
    assert_eq!(hints.fairness_weight, 7);
    assert_eq!(hints.dedup_key, Some(Bytes::from_static(b"d")));
    assert_eq!(hints.trace, Bytes::from_static(b"00-aa\nk=v"));
}

#[test]
fn message_id_is_the_deduplication_key_without_a_header() {
    let properties = PropertiesBuilder::new().message_id("m").build().unwrap();
    let hints = Hints::read(&properties).unwrap();
    assert_eq!(hints.dedup_key, Some(Bytes::from_static(b"m")));
}

#[test]
fn absolute_schedule_is_read_in_both_forms_and_wins() {
    let seconds = Table::new()
        .with(DELAY, 5)
        .with(DELIVER_AT, Value::Timestamp(3));
    assert_eq!(read(seconds).schedule, Schedule::AtMs(3000));
    assert_eq!(
        read(Table::new().with(DELIVER_AT, 1500i64)).schedule,
        Schedule::AtMs(1500)
    );
    assert_eq!(
        read(Table::new().with(DELIVER_AT, -1i64)).schedule,
        Schedule::AtMs(0)
    );
}

#[test]
fn delay_that_is_not_positive_or_not_a_number_is_none() {
    for delay in [Value::from(0), Value::from(-5), Value::from("5")] {
        assert_eq!(
            read(Table::new().with(DELAY, delay)).schedule,
            Schedule::Now
        );
    }
}

#[test]
fn expiration_that_is_not_a_number_is_refused() {
    for text in ["", "abc", "-1", "+1", "1.5", "99999999999999999999"] {
        let properties = PropertiesBuilder::new().expiration(text).build().unwrap();
        assert_eq!(
            Hints::read(&properties),
            Err(HintError::BadExpiration),
            "{text:?}"
        );
    }
}

proptest! {
    #[test]
    fn weight_is_always_in_range(weight in any::<i64>()) {
        let read = read(Table::new().with(FAIRNESS_WEIGHT, weight)).fairness_weight;
        prop_assert!((1..=FAIRNESS_WEIGHT_MAX).contains(&read));
    }
}
