//! Field tables that clients send (features C14; guarantees section 3): what is taken, what is 502, and that none costs more than it
//! has bytes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use bytes::{BufMut, BytesMut};
use common::*;
use warren_amqp::{Event, Request, method::queue};
use warren_types::{Table, Value};

/// queue.declare with these bytes as its arguments, length bytes and all.
fn declare_with(table: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    payload.extend_from_slice(table);
    frame(1, CHANNEL.0, &payload)
}

fn sized(fields: &[u8]) -> Vec<u8> {
    let mut table = Vec::new();
    table.put_u32(u32::try_from(fields.len()).unwrap());
    table.extend_from_slice(fields);
    table
}

fn arguments(fields: &[u8]) -> Table {
    let events = Peer::running().feed(&declare_with(&sized(fields)));
    match &events[..] {
        [
            Event::Request {
                request: Request::QueueDeclare(queue::Declare { arguments, .. }),
                ..
            },
        ] => arguments.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_type_of_rabbitmq_comes_back_byte_for_byte() {
    let fields: Vec<u8> = [
        &b"\x01at\x01"[..],
        b"\x01bb\xff",
        b"\x01cB\xff",
        b"\x01ds\xff\xfe",
        b"\x01eu\xff\xfe",
        b"\x01fI\xff\xff\xff\xfe",
        b"\x01gi\xff\xff\xff\xfe",
        b"\x01hL\xff\xff\xff\xff\xff\xff\xff\xfe",
        b"\x01jl\xff\xff\xff\xff\xff\xff\xff\xfe",
        b"\x01kf\x7f\x80\x00\x00",
        b"\x01md\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\x01nD\xff\xff\xff\xff\xff",
        b"\x01oS\x00\x00\x00\x02\xff\xfe",
        b"\x01pA\x00\x00\x00\x03t\x01V",
        b"\x01qT\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x01rT\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x01sF\x00\x00\x00\x03\x01xV",
        b"\x01uV",
        b"\x01vx\x00\x00\x00\x01\x00",
    ]
    .concat();
    let table = arguments(&fields);
    assert_eq!(table.len(), 19);
    let mut again = BytesMut::new();
    table.encode(&mut again);
    assert_eq!(&again[..], &sized(&fields)[..]);
    assert_eq!(table.get_int("h"), Some(-2));
    assert_eq!(table.get_int("j"), Some(-2), "l is signed, as L is");
}

#[test]
fn names_of_255_bytes_and_equal_names_are_taken() {
    let long = [&[255][..], &[b'k'; 255], b"V"].concat();
    let table = arguments(
        &[
            &long[..],
            b"\x01kI\x00\x00\x00\x01",
            b"\x01kI\x00\x00\x00\x02",
        ]
        .concat(),
    );
    assert_eq!(table.len(), 3);
    assert_eq!(
        table.get_int("k"),
        Some(1),
        "the first of equal names counts"
    );
}

#[test]
fn tens_of_thousands_of_fields_are_taken_if_the_frame_is_not_too_long() {
    let fields = b"\x00V".repeat(65_000);
    assert_eq!(arguments(&fields).len(), 65_000);
    // One frame of 131,072 bytes has room for no more.
    assert_eq!(
        cost(&declare_with(&sized(&b"\x00V".repeat(65_536)))),
        (0, 501)
    );
}

#[test]
fn nesting_is_taken_up_to_64_and_10_000_levels_are_502() {
    let nested = |levels: usize| {
        let mut table = sized(b"");
        for _ in 1..levels {
            table = sized(&[b"\x00F", &table[..]].concat());
        }
        table
    };
    assert_eq!(Peer::running().feed(&declare_with(&nested(64))).len(), 1);
    assert_eq!(cost(&declare_with(&nested(66))), (0, 502));
    assert_eq!(cost(&declare_with(&nested(10_000))), (0, 502));
    let arrays = |levels: usize| {
        let mut array = b"A\x00\x00\x00\x00".to_vec();
        for _ in 1..levels {
            array = [b"A", &sized(&array)[..]].concat();
        }
        sized(&[b"\x00", &array[..]].concat())
    };
    assert_eq!(cost(&declare_with(&arrays(10_000))), (0, 502));
}

#[test]
fn malformed_fields_are_502_and_other_connections_hear_nothing() {
    let mut other = Peer::running();
    for fields in [
        &b"\x01k?"[..],
        b"\x01kS\xff\xff\xff\xff",
        b"\x01kF\x00\x00\x00\x09\x01",
        b"\x01kA\x00\x00\x00\x02t",
        b"\x01kI\x00",
        b"\xffk",
        b"\x02\xff\xfeV",
        b"\x01kD\x00",
    ] {
        assert_eq!(cost(&declare_with(&sized(fields))), (0, 502), "{fields:?}");
    }
    assert_eq!(cost(&declare_with(b"\xff\xff\xff\xff")), (0, 502));
    assert_eq!(other.feed(&declare_with(&sized(b""))).len(), 1);
}

#[test]
fn longest_names_of_methods_are_taken_and_bytes_that_are_no_utf8_are_502() {
    let named = |name: &[u8]| {
        let mut payload = vec![0, 50, 0, 10, 0, 0, u8::try_from(name.len()).unwrap()];
        payload.extend_from_slice(name);
        payload.extend_from_slice(b"\x00\x00\x00\x00\x00");
        frame(1, CHANNEL.0, &payload)
    };
    assert_eq!(Peer::running().feed(&named(&[b'n'; 255])).len(), 1);
    assert_eq!(cost(&named(b"\xc3\x28")), (0, 502));
}

#[test]
fn values_keep_their_types_for_headers_that_are_compared_by_type() {
    let table = arguments(b"\x01ab\x05\x01bI\x00\x00\x00\x05");
    assert_ne!(table.get("a"), table.get("b"));
    assert_eq!(table.get("a"), Some(&Value::I8(5)));
}
