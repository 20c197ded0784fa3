//! Tests of the conversions of `message`. Not here: the conversions themselves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;

use super::*;
use crate::convert::value::tests::any_value;

fn any_text() -> impl Strategy<Value = Option<Bytes>> {
    option::of(prop_oneof![
        "[a-zé]{0,12}".prop_map(Bytes::from),
        vec(any::<u8>(), 0..12).prop_map(Bytes::from),
    ])
}

fn any_expiration() -> impl Strategy<Value = Option<Bytes>> {
    option::of(prop_oneof![
        any::<u64>().prop_map(|it| Bytes::from(it.to_string())),
        "0[0-9]{0,3}".prop_map(Bytes::from),
        vec(any::<u8>(), 0..6).prop_map(Bytes::from),
    ])
}

fn any_header_name() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "[a-c]{0,3}".prop_map(String::from),
        1 => prop::sample::select(vec![
            GROUP_KEY, FAIRNESS_KEY, FAIRNESS_WEIGHT, DEDUP_KEY, DELAY, DELIVER_AT, TRACEPARENT, TRACESTATE,
        ])
        .prop_map(String::from),
    ]
}

prop_compose! {
    /// Any canonical properties; header names do not repeat, since a client's headers cannot say that.
    fn any_properties()(
        texts in vec(any_text(), TEXT_PROPERTIES.len()), expiration in any_expiration(),
        mode in option::of(any::<u8>()), priority in option::of(any::<u8>()), time in option::of(any::<u64>()),
        headers in prop::collection::btree_map(any_header_name(), any_value(), 0..6),
    ) -> Properties {
        let mut builder = PropertiesBuilder::new();
        for ((property, _), text) in TEXT_PROPERTIES.iter().zip(texts) {
            if let Some(it) = text { builder = builder.raw(*property, it); }
        }
        if let Some(it) = expiration { builder = builder.raw(Property::Expiration, it); }
        if let Some(it) = mode { builder = builder.delivery_mode(it); }
        if let Some(it) = priority { builder = builder.priority(it); }
        if let Some(it) = time { builder = builder.timestamp(it); }
        if !headers.is_empty() { builder = builder.headers(&table(headers)); }
        builder.build().unwrap()
    }
}

fn table(headers: BTreeMap<String, Value>) -> Table {
    let mut table = Table::new();
    for (name, value) in headers {
        table.push(&name, value).unwrap();
    }
    table
}

/// Header order carries no meaning and is not kept.
fn comparable(properties: &Properties) -> (Vec<Option<Bytes>>, BTreeMap<String, Value>) {
    let others = Property::ALL
        .into_iter()
        .filter(|it| *it != Property::Headers);
    let headers = properties.headers().unwrap_or_default();
    (
        others.map(|it| properties.raw(it)).collect(),
        headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect(),
    )
}

prop_compose! {
    fn any_client_message()(
        body in vec(any::<u8>(), 0..20),
        texts in vec(option::of("[a-zé]{0,12}"), 9), mode in option::of(0u32..256), priority in option::of(0u32..256),
        seconds in option::of(any::<i64>()), ttl_ms in option::of(0u64..1 << 50),
        headers in prop::collection::btree_map("[a-c]{1,3}", any_value(), 0..6),
        keys in vec("[a-z]{0,8}", 5), weight in 0u32..2000,
        schedule in option::of((any::<bool>(), 0i64..1 << 50)),
    ) -> v1::Message {
        let mut properties = v1::Properties {
            delivery_mode: mode,
            priority,
            timestamp: seconds.map(|seconds| Timestamp { seconds, nanos: 0 }),
            ..v1::Properties::default()
        };
        for ((_, place), text) in TEXT_PROPERTIES.iter().zip(texts) {
            *place(&mut properties) = text;
        }
        let schedule = schedule.map(|(at, ms)| match at {
            true => Schedule::DeliverAt(time_ms_to_client(ms.cast_unsigned())),
            false => Schedule::Delay(duration_to_client(Duration::from_millis(ms.cast_unsigned()))),
        });
        v1::Message {
            body: Bytes::from(body),
            properties: (properties != v1::Properties::default()).then_some(properties),
            headers: headers.iter().map(|(name, value)| (name.clone(), value_to_client(value))).collect(),
            ttl: ttl_ms.map(|ms| duration_to_client(Duration::from_millis(ms))),
            schedule,
            group_key: keys[0].clone(),
            fairness_key: keys[1].clone(),
            fairness_weight: weight,
            dedup_key: keys[2].clone(),
            traceparent: keys[3].clone(),
            tracestate: keys[4].clone(),
        }
    }
}

proptest! {
    #[test]
    fn canonical_properties_survive_a_client_round_trip(properties in any_properties(), body in vec(any::<u8>(), 0..20)) {
        let body = Bytes::from(body);
        let sent = message_to_client(&properties, body.clone());
        let received = v1::Message::decode(sent.encode_to_vec().as_slice()).unwrap();
        let (back, same_body) = message_from_client(received).unwrap();
        prop_assert_eq!(same_body, body);
        prop_assert_eq!(comparable(&back), comparable(&properties));
    }

    #[test]
    fn client_message_survives_the_canonical_form(message in any_client_message()) {
        let (properties, body) = message_from_client(message.clone()).unwrap();
        // By their bytes, since a NaN does not equal itself.
        prop_assert_eq!(message_to_client(&properties, body).encode_to_vec(), message.encode_to_vec());
    }

    #[test]
    fn rounded_up_milliseconds_are_never_earlier(seconds in -10i64..10, nanos in 0i32..1_000_000_000) {
        let ms = time_ms_from_client(&Timestamp { seconds, nanos }).unwrap();
        let exact = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let rounded = i128::from(ms) * 1_000_000;
        prop_assert!(rounded >= exact && rounded - exact < 1_000_000);
    }
}

#[test]
fn bare_message_has_no_properties() {
    let message = v1::Message {
        body: Bytes::from_static(b"b"),
        ..v1::Message::default()
    };
    let (properties, body) = message_from_client(message.clone()).unwrap();
    assert!(properties.is_empty());
    assert_eq!(body, Bytes::from_static(b"b"));
    assert_eq!(message_to_client(&properties, body), message);
}

#[test]
fn longest_time_to_live_is_a_duration_and_a_longer_one_is_not() {
    let sent = |ms: u64| {
        let properties = PropertiesBuilder::new()
            .expiration(&ms.to_string())
            .build()
            .unwrap();
        message_to_client(&properties, Bytes::new())
    };
    let longest = sent(DURATION_MS_MAX);
    assert_eq!(longest.ttl.unwrap().seconds, 315_576_000_000);
    assert_eq!(longest.properties, None);
    let longer = sent(DURATION_MS_MAX + 1);
    assert_eq!(longer.ttl, None);
    assert!(
        longer
            .properties
            .unwrap()
            .not_text
            .contains_key("expiration")
    );
}

#[test]
fn fields_become_the_headers_that_amqp_clients_know() {
    let message = v1::Message {
        ttl: Some(prost_types::Duration {
            seconds: 1,
            nanos: 1,
        }),
        schedule: Some(Schedule::Delay(prost_types::Duration {
            seconds: 2,
            nanos: 0,
        })),
        group_key: "g".to_owned(),
        traceparent: "00-aa".to_owned(),
        ..v1::Message::default()
    };
    let (properties, _) = message_from_client(message).unwrap();
    assert_eq!(properties.expiration(), Some("1001"));
    assert_eq!(properties.header("x-delay"), Some(Value::I64(2000)));
    assert_eq!(properties.header("x-group-key"), Some(Value::from("g")));
    assert_eq!(properties.header("traceparent"), Some(Value::from("00-aa")));
}

#[test]
fn field_wins_over_a_header_of_its_name() {
    let mut message = v1::Message {
        group_key: "field".to_owned(),
        ..v1::Message::default()
    };
    message.headers.insert(
        GROUP_KEY.to_owned(),
        value_to_client(&Value::from("header")),
    );
    let (properties, _) = message_from_client(message).unwrap();
    let headers = properties.headers().unwrap();
    assert_eq!(headers.len(), 1);
    assert_eq!(headers.get_str(GROUP_KEY), Some("field"));
}

#[test]
fn header_of_another_type_stays_a_header() {
    let properties = PropertiesBuilder::new()
        .headers(&Table::new().with(DELAY, 5))
        .build()
        .unwrap();
    let message = message_to_client(&properties, Bytes::new());
    assert_eq!(message.schedule, None);
    assert_eq!(message.headers[DELAY].amqp_type, u32::from(b'I'));
}

#[test]
fn impossible_fields_are_refused_by_name() {
    let with = |properties| v1::Message {
        properties: Some(properties),
        ..v1::Message::default()
    };
    let refused = |message| ApiError::from(&message_from_client(message).unwrap_err());
    let priority = refused(with(v1::Properties {
        priority: Some(256),
        ..Default::default()
    }));
    assert_eq!(priority.reason(), Reason::BadArgument);
    assert!(priority.message().contains("properties.priority"));

    let long = Some("a".repeat(256));
    let app_id = refused(with(v1::Properties {
        app_id: long,
        ..Default::default()
    }));
    assert!(app_id.message().contains("app-id"));

    let not_text = BTreeMap::from([("priority".to_owned(), Bytes::new())]);
    let unknown = refused(with(v1::Properties {
        not_text,
        ..Default::default()
    }));
    assert!(unknown.message().contains("\"priority\""));

    for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
        let ttl = Some(prost_types::Duration { seconds, nanos });
        assert!(
            refused(v1::Message {
                ttl,
                ..Default::default()
            })
            .message()
            .starts_with("ttl")
        );
    }
    let far = Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    let schedule = Some(Schedule::DeliverAt(far));
    assert!(
        refused(v1::Message {
            schedule,
            ..Default::default()
        })
        .message()
        .starts_with("deliver_at")
    );
}
