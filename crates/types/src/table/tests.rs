//! Laws and cases of `table`. Not here: other modules'.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::{collection::vec, prelude::*};

use super::*;

fn encoded(table: &Table) -> Bytes {
    let mut out = BytesMut::new();
    table.encode(&mut out);
    out.freeze()
}

fn any_value() -> impl Strategy<Value = Value> {
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
        any::<u64>().prop_map(Value::Timestamp),
        Just(Value::Void),
        bytes().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec(("[a-c]{0,3}", inner), 0..6).prop_map(|it| Value::Table(of(it))),
        ]
    })
}

fn of(entries: Vec<(String, Value)>) -> Table {
    let mut table = Table::new();
    for (key, value) in entries {
        table.push(&key, value).unwrap();
    }
    table
}

fn any_table() -> impl Strategy<Value = Table> {
    vec(("[a-c]{0,3}", any_value()), 0..8).prop_map(of)
}

/// `levels` tables, each the only field of the one around it.
fn nested(levels: usize) -> Bytes {
    let mut inner = vec![0, 0, 0, 0];
    for _ in 1..levels {
        let mut outer = u32::try_from(inner.len() + 3)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        outer.extend_from_slice(b"\x01kF");
        outer.extend_from_slice(&inner);
        inner = outer;
    }
    Bytes::from(inner)
}

proptest! {
    #[test]
    fn table_round_trip_keeps_order_types_and_duplicates(table in any_table()) {
        prop_assert_eq!(Table::decode(&encoded(&table)), Ok(table));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_validate_agrees(bytes in vec(any::<u8>(), 0..200)) {
        let wire = Bytes::from(bytes);
        let mut rest: &[u8] = &wire;
        let validated = validate_wire(&mut rest, TABLE_DEPTH_MAX).is_ok() && rest.is_empty();
        prop_assert_eq!(Table::decode(&wire).is_ok(), validated);
    }

    #[test]
    fn damaged_table_never_panics_and_validate_agrees(
        table in any_table(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&table).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        bytes.truncate(cut.index(bytes.len() * 4).max(4));
        let wire = Bytes::from(bytes);
        let mut rest: &[u8] = &wire;
        let validated = validate_wire(&mut rest, TABLE_DEPTH_MAX).is_ok() && rest.is_empty();
        prop_assert_eq!(Table::decode(&wire).is_ok(), validated);
    }

    #[test]
    fn find_agrees_with_decode(table in any_table(), key in "[a-c]{0,3}") {
        let found = find_in_wire(&encoded(&table), &key, TABLE_DEPTH_MAX).unwrap();
        prop_assert_eq!(found.as_ref(), table.get(&key));
    }
}

#[test]
fn nesting_at_the_limit_decodes_and_one_more_is_refused() {
    assert!(Table::decode(&nested(TABLE_DEPTH_MAX)).is_ok());
    assert_eq!(
        Table::decode(&nested(TABLE_DEPTH_MAX + 1)),
        Err(TableError::TooDeep)
    );
    assert_eq!(Table::decode(&nested(10_000)), Err(TableError::TooDeep));
}

#[test]
fn declared_length_beyond_the_input_is_refused() {
    let wire = Bytes::from_static(b"\xff\xff\xff\xff\x01a");
    assert_eq!(
        Table::decode(&wire),
        Err(TableError::Truncated {
            needed: 0xFFFF_FFFF,
            available: 2
        })
    );
    let string = Bytes::from_static(b"\x00\x00\x00\x07\x01aS\xff\xff\xff\xff");
    assert_eq!(
        Table::decode(&string),
        Err(TableError::Truncated {
            needed: 0xFFFF_FFFF,
            available: 0
        })
    );
}

#[test]
fn unknown_type_bad_name_and_trailing_bytes_are_refused() {
    let unknown = Bytes::from_static(b"\x00\x00\x00\x03\x01aZ");
    assert_eq!(
        Table::decode(&unknown),
        Err(TableError::UnknownType { tag: b'Z' })
    );
    let not_utf8 = Bytes::from_static(b"\x00\x00\x00\x03\x01\xffV");
    assert_eq!(Table::decode(&not_utf8), Err(TableError::KeyNotUtf8));
    let trailing = Bytes::from_static(b"\x00\x00\x00\x00\x00");
    assert_eq!(
        Table::decode(&trailing),
        Err(TableError::TrailingBytes { bytes: 1 })
    );
}

#[test]
fn many_keys_decode_in_proportion_to_the_input() {
    let mut body = BytesMut::new();
    for _ in 0..65_536 {
        body.put_slice(b"\x00V");
    }
    let mut wire = BytesMut::new();
    wire.put_u32(u32::try_from(body.len()).unwrap());
    wire.put_slice(&body);
    assert_eq!(Table::decode(&wire.freeze()).unwrap().len(), 65_536);
}

#[test]
fn name_of_255_bytes_fits_and_256_is_refused() {
    let mut table = Table::new();
    table.insert(&"k".repeat(255), 1).unwrap();
    assert_eq!(
        table.insert(&"k".repeat(256), 1),
        Err(TableError::KeyTooLong { bytes: 256 })
    );
    assert_eq!(Table::decode(&encoded(&table)), Ok(table));
}

#[test]
fn getters_read_every_integer_width_and_the_first_of_a_name() {
    let mut table = Table::new()
        .with("a", -1)
        .with("text", "hello")
        .with("flag", true);
    table.push("a", Value::U8(7)).unwrap();
    assert_eq!(table.get_int("a"), Some(-1));
    for (value, want) in [
        (Value::I8(-8), -8),
        (Value::U8(8), 8),
        (Value::I16(-16), -16),
        (Value::U16(16), 16),
        (Value::U32(32), 32),
        (Value::I64(i64::MIN), i64::MIN),
        (Value::I64Upper(i64::MAX), i64::MAX),
    ] {
        table.insert("n", value).unwrap();
        assert_eq!(table.get_int("n"), Some(want));
    }
    assert_eq!(table.get_str("text"), Some("hello"));
    assert_eq!(table.get_bool("flag"), Some(true));
    assert_eq!(table.get_int("text"), None);
    assert_eq!(table.remove("a"), Some(Value::I32(-1)));
    assert_eq!(table.get("a"), None);
}
