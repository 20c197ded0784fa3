//! What filters match, and what is none. Not here: filters on their way (`tests/api`).

use proptest::prelude::*;

use super::*;
use crate::properties::PropertiesBuilder;
use crate::table::Table;

fn properties() -> Properties {
    let headers = Table::new()
        .with("tenant", "acme")
        .with("two words", "yes")
        .with("tries", Value::I32(3))
        .with("urgent", true)
        .with("made", Value::Timestamp(1_700_000_000))
        .with("nested", Value::Table(Table::new()))
        .with("x-last-death-queue", "orders")
        .with("x-last-death-reason", "rejected");
    PropertiesBuilder::new()
        .headers(&headers)
        .message_id("m-17")
        .timestamp(1_700_000_000)
        .build()
        .unwrap()
}

fn holds(filter: &str) -> bool {
    holds_of(filter, true, None)
}

fn holds_of(filter: &str, died: bool, parked: Option<&str>) -> bool {
    let properties = properties();
    let message = Filtered {
        position: Position(42),
        priority: Priority::clamped(5),
        delivery_count: 2,
        enqueued_at: ShardTime(1_767_225_600_000),
        exchange: "shop",
        routing_key: "orders.new",
        properties: &properties,
        body_bytes: 1_024,
        died,
        parked,
    };
    filter.parse::<Filter>().unwrap().matches(&message)
}

#[test]
fn filter_that_holds_matches() {
    for filter in [
        "position = 42",
        "position >= 42 and position<=42",
        "position > 41 AND position < 43",
        "priority = 5",
        "delivery_count != 0",
        "body_bytes>=1024",
        "exchange = shop",
        "routing_key ^= orders.",
        "routing_key = \"orders.new\"",
        "message_id = m-17",
        "message_id",
        "!correlation_id",
        "correlation_id != m-17",
        "headers.tenant = acme",
        "headers.tenant > a",
        "headers.\"two words\" = yes",
        "headers.tries = 3",
        "headers.tries < 10",
        "headers.tries != three",
        "headers.urgent = true",
        "headers.nested",
        "headers.nested != x",
        "!headers.none",
        "source_queue = orders and cause = rejected",
        "enqueued_at = 2026-01-01",
        "died_at < 2026-01-01T00:00:00.001Z",
        "enqueued_at >= 2026-01-01T01:00:00+01:00",
        "enqueued_at = 1767225600000",
        "timestamp = 2023-11-14T22:13:20Z",
        "headers.made = 2023-11-14T22:13:20Z",
    ] {
        assert!(holds(filter), "{filter}");
    }
}

#[test]
fn filter_that_does_not_hold_does_not_match() {
    for filter in [
        "position != 42",
        "position > 42",
        "priority < 5",
        "routing_key ^= orders.x",
        "correlation_id",
        "!message_id",
        "correlation_id = m-17",
        "correlation_id < zzz",
        "headers.tenant = acm",
        "headers.tries = three",
        "headers.tries ^= 3",
        "headers.tries < 3",
        "headers.urgent = false",
        "headers.urgent = yes",
        "headers.nested = x",
        "headers.none = x",
        "source_queue = bills",
        "position = 42 and priority = 4",
        "enqueued_at > 2026-01-01",
    ] {
        assert!(!holds(filter), "{filter}");
    }
}

#[test]
fn death_that_a_publisher_wrote_is_none() {
    assert!(!holds_of("source_queue", false, None));
    assert!(!holds_of("cause", false, None));
    assert!(holds_of("headers.x-last-death-queue = orders", false, None));
    assert!(holds_of("cause = cycle", true, Some("cycle")));
}

#[test]
fn filter_that_makes_no_sense_is_told_why() {
    let cases = [
        ("", "a field is expected, not \"\""),
        ("= 3", "a field is expected, not \"=\""),
        ("color = red", "there is no field \"color\""),
        ("headers. = 3", "a field is expected, not \"=\""),
        ("position =", "a value is expected after \"=\""),
        ("position < = 3", "a value is expected after \"<\""),
        (
            "message_id = a b",
            "\"and\" or the end is expected, not \"b\"",
        ),
        ("message_id = \"a", "a quoted text does not end"),
        ("message_id = a and", "a field is expected, not \"\""),
        (
            "position = first",
            "field \"position\" is compared with a number, not with \"first\"",
        ),
        (
            "enqueued_at < 2026-02-30",
            "field \"enqueued_at\" is compared with a time, not with \"2026-02-30\"",
        ),
        (
            "position ^= 4",
            "field \"position\" is no text: it cannot start with one",
        ),
    ];
    for (text, why) in cases {
        let told = text.parse::<Filter>().map_err(|it| it.to_string());
        assert_eq!(told, Err(why.to_owned()), "{text}");
    }
    let long = format!("message_id = {}", "x".repeat(FILTER_BYTES_MAX));
    assert!(matches!(
        long.parse::<Filter>(),
        Err(FilterError::TooLong { .. })
    ));
    let many = vec!["type"; FILTER_TERMS_MAX + 1].join(" and ");
    assert_eq!(many.parse::<Filter>(), Err(FilterError::TooManyTerms));
    let most = vec!["type"; FILTER_TERMS_MAX].join(" and ");
    assert!(most.parse::<Filter>().is_ok());
}

#[test]
fn times_are_read_as_rfc_3339_writes_them() {
    let cases = [
        ("1970-01-01", Some(0)),
        ("1969-12-31T23:59:59Z", Some(-1_000)),
        ("2000-02-29T12:00:00.5Z", Some(951_825_600_500)),
        ("2026-11-26T14:30:00-05:30", Some(1_795_723_200_000)),
        ("2024-12-31 23:59:60z", Some(1_735_689_599_000)),
        ("2026-13-01", None),
        ("2026-00-01", None),
        ("2025-02-29", None),
        ("2026-01-01T24:00:00Z", None),
        ("2026-01-01T00:00:00", None),
        ("2026-01-01T00:00:00.Z", None),
        ("2026-01-01T00:00:00+25:00", None),
        ("2026-1-1", None),
        ("tomorrow", None),
        ("äöüäöüäö", None),
    ];
    for (text, expected) in cases {
        assert_eq!(time::parse(text), expected, "{text}");
    }
}

#[test]
fn each_day_follows_the_one_before() {
    let mut expected = time::parse("1899-12-31").unwrap();
    let mut days = 0;
    for year in 1900..2101 {
        for (month, day) in (1..13).flat_map(|month| (1..32).map(move |day| (month, day))) {
            if let Some(ms) = time::parse(&format!("{year}-{month:02}-{day:02}")) {
                expected += 86_400_000;
                days += 1;
                assert_eq!(ms, expected, "{year}-{month}-{day}");
            }
        }
    }
    // 201 years, 49 of them leap years: 1900 and 2100 are none.
    assert_eq!(days, 201 * 365 + 49);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.text(), text.as_str());
            let again: Filter = filter.text().parse().unwrap();
            prop_assert_eq!(again, filter);
        }
    }

    /// Whatever the value, quoted it is compared as it is.
    #[test]
    fn quoted_values_are_kept(value in "\\PC{0,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let filter: Filter = format!("message_id = \"{quoted}\"").parse().unwrap();
        let properties = PropertiesBuilder::new().message_id(&value).build();
        prop_assume!(properties.is_ok());
        let properties = properties.unwrap();
        let message = Filtered {
            position: Position(1),
            priority: Priority::clamped(0),
            delivery_count: 0,
            enqueued_at: ShardTime(0),
            exchange: "",
            routing_key: "",
            properties: &properties,
            body_bytes: 0,
            died: false,
            parked: None,
        };
        prop_assert!(filter.matches(&message));
    }
}
