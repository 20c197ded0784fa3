//! Tests of the conversions of `value`. Not here: the conversions themselves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::*;

/// Any AMQP value, tables with repeated names included.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let bytes = || vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<i64>().prop_map(Value::I64Upper),
        any::<u32>().prop_map(|it| Value::F32(Float32(it))),
        any::<u64>().prop_map(|it| Value::F64(Float64(it))),
        any::<(u8, u32)>()
            .prop_map(|(scale, unscaled)| Value::Decimal(Decimal { scale, unscaled })),
        bytes().prop_map(Value::LongString),
        ".{0,12}".prop_map(Value::from),
        any::<u64>().prop_map(Value::Timestamp),
        Just(Value::Void),
        bytes().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec(("[a-d]{0,3}", inner), 0..6).prop_map(|it| Value::Table(sorted(it))),
        ]
    })
}

/// Clients' tables have no order, so tables are compared in name order; the sort is stable, so repeated names stay apart.
fn sorted(mut entries: Vec<(String, Value)>) -> Table {
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let mut table = Table::new();
    for (name, value) in entries {
        table.push(&name, value).unwrap();
    }
    table
}

fn over_the_wire(value: &Value) -> Result<Value, ValueError> {
    let mut message = v1::Message::default();
    message
        .headers
        .insert("h".to_owned(), value_to_client(value));
    let delivery = v1::Delivery {
        message: Some(message),
        ..v1::Delivery::default()
    };
    let deliveries = v1::Deliveries {
        deliveries: vec![delivery],
    };
    let sent = v1::ConsumeResponse {
        frame: Some(v1::consume_response::Frame::Deliveries(deliveries)),
    };
    let received = v1::ConsumeResponse::decode(sent.encode_to_vec().as_slice()).unwrap();
    let Some(v1::consume_response::Frame::Deliveries(it)) = received.frame else {
        panic!("a frame of deliveries");
    };
    value_from_client(it.deliveries[0].message.as_ref().unwrap().headers["h"].clone())
}

proptest! {
    #[test]
    fn value_round_trip_over_the_wire_keeps_type_and_bits(value in any_value()) {
        prop_assert_eq!(over_the_wire(&value), Ok(value));
    }

    #[test]
    fn narrowed_float_of_any_double_is_nan_only_for_nan(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assert_eq!(narrow(value).get().is_nan(), value.is_nan());
    }

    #[test]
    fn integer_with_any_letter_is_kept_or_refused(letter in any::<u8>(), number in any::<i64>()) {
        let value = v1::Value { kind: Some(Kind::IntValue(number)), amqp_type: u32::from(letter) };
        if let Ok(it) = value_from_client(value) {
            prop_assert_eq!(it.as_int(), Some(number));
        }
    }

    #[test]
    fn arbitrary_bytes_as_table_or_list_never_panic(bytes in vec(any::<u8>(), 0..80), list in any::<bool>()) {
        let tag = if list { b'A' } else { b'F' };
        let value = v1::Value { kind: Some(Kind::BytesValue(Bytes::from(bytes))), amqp_type: u32::from(tag) };
        if let Ok(it) = value_from_client(value) {
            prop_assert_eq!(it.as_array().is_some(), list);
        }
    }
}

#[test]
fn table_at_the_deepest_amqp_nesting_reaches_a_client() {
    for nest_in_list in [false, true] {
        let mut value = Value::from("inmost");
        // The header table itself is the outermost level.
        for _ in 1..warren_types::TABLE_DEPTH_MAX {
            value = if nest_in_list {
                Value::Array(vec![value])
            } else {
                Value::Table(Table::new().with("k", value))
            };
        }
        assert_eq!(over_the_wire(&value), Ok(value));
    }
}

#[test]
fn table_with_a_repeated_name_is_sent_in_amqp_encoding() {
    let mut table = Table::new();
    table.push("a", Value::I64(1)).unwrap();
    table.push("a", Value::I64(2)).unwrap();
    assert_eq!(table_to_client(&table), None);
    let sent = value_to_client(&Value::Table(table.clone()));
    assert_eq!(sent.amqp_type, u32::from(b'F'));
    assert_eq!(value_from_client(sent), Ok(Value::Table(table)));
}

#[test]
fn value_without_letter_gets_the_widest_type() {
    let from = |kind| value_from_client(v1::Value { kind, amqp_type: 0 }).unwrap();
    assert_eq!(from(None), Value::Void);
    assert_eq!(from(Some(Kind::IntValue(-1))), Value::I64(-1));
    assert_eq!(from(Some(Kind::DoubleValue(0.5))), Value::from(0.5));
    assert_eq!(
        from(Some(Kind::StringValue("s".to_owned()))),
        Value::from("s")
    );
    assert_eq!(
        from(Some(Kind::BytesValue(Bytes::from_static(b"b")))),
        Value::Bytes(Bytes::from_static(b"b"))
    );
}

#[test]
fn letter_that_does_not_fit_is_refused() {
    let refused = |kind, letter: u8| {
        let value = v1::Value {
            kind: Some(kind),
            amqp_type: u32::from(letter),
        };
        value_from_client(value).unwrap_err()
    };
    assert_eq!(
        refused(Kind::IntValue(200), b'b'),
        ValueError::OutOfRange {
            letter: 'b',
            value: 200
        }
    );
    assert_eq!(
        refused(Kind::IntValue(2), b'S'),
        ValueError::WrongType {
            letter: 'S',
            kind: "int"
        }
    );
    assert_eq!(
        refused(Kind::BoolValue(true), b'I'),
        ValueError::WrongType {
            letter: 'I',
            kind: "bool"
        }
    );
    assert_eq!(
        refused(Kind::BytesValue(Bytes::from_static(b"abc")), b'D'),
        ValueError::BadDecimal { bytes: 3 }
    );
    assert!(matches!(
        refused(
            Kind::BytesValue(Bytes::from_static(b"\0\0\0\0\x01aV")),
            b'F'
        ),
        ValueError::Table(_)
    ));
}

#[test]
fn name_above_255_bytes_is_refused() {
    let fields = BTreeMap::from([("k".repeat(256), v1::Value::default())]);
    assert_eq!(
        fields_from_client(fields),
        Err(ValueError::Table(TableError::KeyTooLong { bytes: 256 }))
    );
}
