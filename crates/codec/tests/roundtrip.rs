//! What is written is read back equal, and anything else is an error. Not here: the exact bytes (`golden.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message as _;
use support::*;
use warren_codec::*;
use warren_proto::stored_v1 as pb;
use warren_queue::{
    entry::{Command, ShardEntry},
    rows::{Row, RowKey},
};
use warren_types::{Position, Priority, QueueId, ShardTime};

/// The same message as prost writes it.
fn by_prost(message: &warren_types::Message, enqueued_at: u64) -> Vec<u8> {
    pb::StoredMessage {
        exchange: Bytes::copy_from_slice(message.exchange.as_str().as_bytes()),
        routing_key: Bytes::copy_from_slice(message.routing_key.as_str().as_bytes()),
        properties: message.properties.as_wire().clone(),
        body: message.body.clone(),
        enqueued_at_ms: enqueued_at,
        user: message.user.as_ref().map_or_else(Bytes::new, |it| {
            Bytes::copy_from_slice(it.as_str().as_bytes())
        }),
        trace: message.trace.clone(),
        died: u32::from(message.died),
    }
    .encode_to_vec()
}

/// Reads bytes as every kind there is; all that counts is that it ends.
fn read_as_everything(bytes: &Bytes) {
    let _ = StoredMessageView::open(bytes);
    let _ = decode_entry(bytes);
    let _ = decode_topology_entry(bytes);
    let _ = decode_reply(bytes);
    let _ = decode_topology(bytes);
    let _ = decode_key(bytes);
    let key = encode_key(&RowKey::Shard);
    let _ = decode_row(&key, bytes);
    let _ = decode_row(bytes, bytes);
}

fn flip(bytes: &Bytes, at: prop::sample::Index, bit: u8) -> Bytes {
    let mut changed = bytes.to_vec();
    let at = at.index(changed.len());
    changed[at] ^= 1 << (bit % 8);
    Bytes::from(changed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn message_is_written_like_prost_and_read_back(message in message(), at in any::<u64>()) {
        let mut out = BytesMut::from(&b"before"[..]);
        let sizes = encode_message(&mut out, &message, ShardTime(at));
        let written = out.freeze().slice(6..);
        prop_assert_eq!(&written[..], &by_prost(&message, at)[..]);
        prop_assert_eq!(usize::try_from(sizes.encoded).unwrap(), written.len());
        prop_assert_eq!(usize::try_from(sizes.body).unwrap(), message.body.len());

        let view = StoredMessageView::open(&written).unwrap();
        prop_assert_eq!(view.exchange(), message.exchange.as_str());
        prop_assert_eq!(view.routing_key(), message.routing_key.as_str());
        prop_assert_eq!(view.user(), message.user.as_ref().map(|it| it.as_str()));
        prop_assert_eq!(view.enqueued_at, ShardTime(at));
        prop_assert_eq!(&view.properties, &message.properties);
        prop_assert_eq!(&view.trace, &message.trace);
        prop_assert_eq!(&view.body, &message.body);
        if !view.body.is_empty() {
            prop_assert!(written.as_ptr_range().contains(&view.body.as_ptr()), "the body was copied");
        }
    }

    #[test]
    fn entry_is_read_back_with_its_payload_in_place(entry in entry()) {
        let bytes = encode_entry(&entry);
        let read: ShardEntry = decode_entry(&bytes).unwrap();
        for command in &read.commands {
            if let Command::Enqueue(it) = command && !it.payload.is_empty() {
                prop_assert!(bytes.as_ptr_range().contains(&it.payload.as_ptr()), "the payload was copied");
            }
        }
        prop_assert_eq!(read, entry);
    }

    #[test]
    fn row_is_read_back_with_its_payload_in_place((key, row) in row()) {
        let name = encode_key(&key);
        prop_assert_eq!(&decode_key(&name).unwrap(), &key);
        let value = encode_row(&name, &row);
        let read = decode_row(&name, &value).unwrap();
        if let Row::Block(it) = &read && !it.payload.is_empty() {
            prop_assert!(value.as_ptr_range().contains(&it.payload.as_ptr()), "the payload was copied");
        }
        prop_assert_eq!(read, row);
    }

    #[test]
    fn row_with_a_flipped_bit_is_found((_, row) in row().prop_map(|it| ((), it)), at in any::<prop::sample::Index>(), bit in any::<u8>()) {
        let name = encode_key(&row.0);
        let damaged = flip(&encode_row(&name, &row.1), at, bit);
        let found = matches!(decode_row(&name, &damaged), Err(CodecError::Checksum { .. }));
        prop_assert!(found);
    }

    #[test]
    fn row_under_another_key_is_found((key, row) in row(), other in key()) {
        prop_assume!(key != other);
        let value = encode_row(&encode_key(&key), &row);
        let found = matches!(decode_row(&encode_key(&other), &value), Err(CodecError::Checksum { .. }));
        prop_assert!(found);
    }

    #[test]
    fn keys_order_like_row_keys(one in key(), other in key()) {
        prop_assert_eq!(encode_key(&one).cmp(&encode_key(&other)), one.cmp(&other));
    }

    #[test]
    fn ranges_hold_exactly_what_they_name(key in key(), queue in prop_oneof![0..3_u64, Just(u64::MAX)], priority in priority(), at in 0..3_u64) {
        let (queue, at) = (QueueId(queue), Position(at));
        let name = encode_key(&key);
        let within = |range: &KeyRange| {
            range.table == table_of(&key) && range.from <= name && name < range.to
        };
        let of_level = |first: Option<&dyn Fn(Position) -> bool>| matches!(
            &key,
            RowKey::Block { queue: q, priority: p, first: f }
                if *q == queue && *p == priority && first.is_none_or(|it| it(*f))
        );
        prop_assert_eq!(within(&blocks_of(queue, priority)), of_level(None));
        prop_assert_eq!(within(&blocks_from(queue, priority, at)), of_level(Some(&|it| it >= at)));
        prop_assert_eq!(within(&block_holding_range(queue, priority, at)), of_level(Some(&|it| it <= at)));
        let of_queue = match &key {
            RowKey::Block { queue: q, .. } | RowKey::Settled { queue: q, .. }
            | RowKey::Counts { queue: q, .. } | RowKey::Producer { queue: q, .. }
            | RowKey::Marks { queue: q, .. } | RowKey::Timer { queue: q, .. }
            | RowKey::Memory { queue: q, .. } | RowKey::MemoryOrder { queue: q, .. } => *q == queue,
            RowKey::Shard | RowKey::Origin(_) | RowKey::Queue(_) | RowKey::Outgoing { .. } => false,
        };
        prop_assert_eq!(rows_of_queue(queue).iter().any(within), of_queue);
        prop_assert_eq!(within(&queue_rows()), matches!(key, RowKey::Queue(_)));
        prop_assert_eq!(within(&origin_rows()), matches!(key, RowKey::Origin(_)));
        prop_assert_eq!(within(&outgoing_rows()), matches!(key, RowKey::Outgoing { .. }));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in bytes(400)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn changed_entries_are_read_without_panic(entry in entry(), at in any::<prop::sample::Index>(), bit in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let bytes = encode_entry(&entry);
        read_as_everything(&flip(&bytes, at, bit));
        read_as_everything(&bytes.slice(..cut.index(bytes.len())));
    }

    #[test]
    fn changed_messages_are_read_without_panic(message in message(), at in any::<prop::sample::Index>(), bit in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut out = BytesMut::new();
        encode_message(&mut out, &message, ShardTime(1));
        let bytes = out.freeze();
        read_as_everything(&flip(&bytes, at, bit));
        read_as_everything(&bytes.slice(..cut.index(bytes.len())));
    }
}

#[test]
fn unknown_command_names_the_version_it_needs() {
    // format_version 1 = 3, finalized_version 2 = 9, commands 12 = [field 99, empty].
    let entry = Bytes::from_static(&[0x08, 3, 0x10, 9, 0x62, 3, 0x9a, 0x06, 0]);
    assert_eq!(
        decode_entry(&entry),
        Err(CodecError::UnknownCommand {
            number: 99,
            format_version: 3,
            finalized_version: 9,
        })
    );
    // A number that is set aside: move = 6.
    let entry = Bytes::from_static(&[0x08, 1, 0x62, 2, 0x32, 0]);
    assert!(matches!(
        decode_entry(&entry),
        Err(CodecError::UnknownCommand { number: 6, .. })
    ));
    let topology = Bytes::from_static(&[0x08, 1, 0x42, 2, 0x6a, 0]);
    assert!(matches!(
        decode_topology_entry(&topology),
        Err(CodecError::UnknownCommand { number: 13, .. })
    ));
}

#[test]
fn facts_that_do_not_fit_the_payload_are_refused() {
    let entry = pb::ShardEntry {
        format_version: 1,
        commands: vec![pb::ShardCommand {
            kind: Some(pb::shard_command::Kind::Enqueue(pb::Enqueue {
                facts: Some(pb::MessageFacts {
                    size: vec![u32::MAX],
                    body_size: vec![1],
                    ..pb::MessageFacts::default()
                }),
                payload: Bytes::from_static(b"abc"),
                priority: u32::from(Priority::DEFAULT.level()),
                ..pb::Enqueue::default()
            })),
        }],
        ..pb::ShardEntry::default()
    };
    let bytes = Bytes::from(entry.encode_to_vec());
    assert!(matches!(
        decode_entry(&bytes),
        Err(CodecError::Malformed { .. })
    ));
}

/// The next version's command is unknown to this one, which says what it needs.
#[test]
fn command_of_the_next_version_is_refused() {
    let note = pb::NextNote { queue: 1, note: 7 };
    let entry = pb::ShardEntry {
        format_version: 1,
        finalized_version: 3,
        commands: vec![pb::ShardCommand {
            kind: Some(pb::shard_command::Kind::NextNote(note)),
        }],
        ..pb::ShardEntry::default()
    };
    let error = decode_entry(&Bytes::from(entry.encode_to_vec())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "command 1000 is not known to this node: the entry has format version 1 and needs version 3 of the software"
    );
}
