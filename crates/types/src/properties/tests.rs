//! Laws and cases of `properties`. Not here: other modules'.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::{collection::vec, option, prelude::*};

use super::*;

fn full() -> Properties {
    PropertiesBuilder::new()
        .content_type("text/plain")
        .content_encoding("gzip")
        .headers(&Table::new().with("x-delay", 5).with("name", "value"))
        .persistent()
        .priority(9)
        .correlation_id("c")
        .reply_to("r")
        .expiration("60000")
        .message_id("m")
        .timestamp(1_700_000_000)
        .message_type("t")
        .user_id("guest")
        .app_id("app")
        .cluster_id("cl")
        .build()
        .unwrap()
}

#[test]
fn all_properties_round_trip() {
    let it = Properties::from_wire(full().as_wire().clone()).unwrap();
    assert_eq!(it.content_type(), Some("text/plain"));
    assert_eq!(it.content_encoding(), Some("gzip"));
    assert_eq!(
        it.headers().unwrap(),
        Table::new().with("x-delay", 5).with("name", "value")
    );
    assert_eq!(it.header("name").unwrap().as_str(), Some("value"));
    assert_eq!(it.header("other"), None);
    assert_eq!(it.delivery_mode(), Some(2));
    assert!(it.is_persistent());
    assert_eq!(it.priority(), Some(9));
    assert_eq!(it.correlation_id(), Some("c"));
    assert_eq!(it.reply_to(), Some("r"));
    assert_eq!(it.expiration(), Some("60000"));
    assert_eq!(it.message_id(), Some("m"));
    assert_eq!(it.timestamp(), Some(1_700_000_000));
    assert_eq!(it.message_type(), Some("t"));
    assert_eq!(it.user_id(), Some("guest"));
    assert_eq!(it.app_id(), Some("app"));
    assert_eq!(it.cluster_id(), Some("cl"));
}

#[test]
fn no_properties_are_two_zero_bytes() {
    assert_eq!(
        PropertiesBuilder::new().build().unwrap(),
        Properties::default()
    );
    assert_eq!(&Properties::default().as_wire()[..], [0, 0]);
    assert!(Properties::default().is_empty());
    assert!(!full().is_empty());
    for property in Property::ALL {
        assert_eq!(Properties::default().raw(property), None);
    }
}

#[test]
fn wire_bytes_are_as_in_the_standard() {
    let it = PropertiesBuilder::new()
        .content_type("a/b")
        .persistent()
        .build()
        .unwrap();
    assert_eq!(&it.as_wire()[..], b"\x90\x00\x03a/b\x02");
}

#[test]
fn text_that_is_not_utf8_is_kept_and_has_no_text_view() {
    let wire = Bytes::from_static(b"\x04\x00\x02\xff\xfe");
    let it = Properties::from_wire(wire.clone()).unwrap();
    assert_eq!(it.as_wire(), &wire);
    assert_eq!(it.correlation_id(), None);
    assert_eq!(
        it.raw(Property::CorrelationId).unwrap(),
        Bytes::from_static(b"\xff\xfe")
    );
    assert_eq!(PropertiesBuilder::from(&it).build().unwrap(), it);
}

#[test]
fn malformed_lists_are_refused() {
    let refused =
        |wire: &'static [u8]| Properties::from_wire(Bytes::from_static(wire)).unwrap_err();
    assert_eq!(
        refused(b""),
        PropertiesError::Truncated {
            needed: 2,
            available: 0
        }
    );
    assert_eq!(
        refused(b"\x00\x01"),
        PropertiesError::UnknownFlags { flags: 1 }
    );
    assert_eq!(
        refused(b"\x00\x02"),
        PropertiesError::UnknownFlags { flags: 2 }
    );
    assert_eq!(
        refused(b"\x80\x00\x05ab"),
        PropertiesError::Truncated {
            needed: 5,
            available: 2
        }
    );
    assert_eq!(
        refused(b"\x00\x00\x00"),
        PropertiesError::TrailingBytes { bytes: 1 }
    );
    assert_eq!(
        refused(b"\x20\x00\x00\x00\x00\x03\x01aZ"),
        PropertiesError::Headers(TableError::UnknownType { tag: b'Z' })
    );
}

#[test]
fn text_of_255_bytes_fits_and_256_is_refused() {
    let build = |bytes: usize| PropertiesBuilder::new().app_id(&"a".repeat(bytes)).build();
    assert_eq!(build(255).unwrap().app_id().unwrap().len(), 255);
    assert_eq!(
        build(256),
        Err(PropertiesError::TooLong {
            property: "app-id",
            bytes: 256
        })
    );
}

#[test]
fn headers_too_deep_are_refused_by_the_builder() {
    let mut table = Table::new();
    for _ in 0..TABLE_DEPTH_MAX {
        table = Table::new().with("inner", table);
    }
    let refused = PropertiesBuilder::new().headers(&table).build();
    assert_eq!(refused, Err(PropertiesError::Headers(TableError::TooDeep)));
}

#[test]
fn edit_changes_one_property_and_keeps_the_others() {
    let edited = PropertiesBuilder::from(&full())
        .remove(Property::Expiration)
        .priority(1)
        .build()
        .unwrap();
    assert_eq!(edited.expiration(), None);
    assert_eq!(edited.priority(), Some(1));
    for property in Property::ALL {
        if !matches!(property, Property::Expiration | Property::Priority) {
            assert_eq!(edited.raw(property), full().raw(property), "{property:?}");
        }
    }
}

proptest! {
    #[test]
    fn accepted_bytes_come_back_unchanged_and_survive_an_edit(
        flags in any::<u16>(), rest in vec(0u8..6, 0..60),
    ) {
        let mut bytes = (flags & !3).to_be_bytes().to_vec();
        bytes.extend(rest);
        let wire = Bytes::from(bytes);
        if let Ok(it) = Properties::from_wire(wire.clone()) {
            prop_assert_eq!(it.as_wire(), &wire);
            prop_assert_eq!(PropertiesBuilder::from(&it).build().unwrap(), it);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..100)) {
        let _either_way_is_fine = Properties::from_wire(Bytes::from(bytes));
    }

    #[test]
    fn any_subset_round_trips(
        text in option::of(".{0,20}"), mode in option::of(any::<u8>()), time in option::of(any::<u64>()),
        number in option::of(any::<i64>()),
    ) {
        let mut builder = PropertiesBuilder::new();
        if let Some(it) = &text { builder = builder.message_id(it); }
        if let Some(it) = mode { builder = builder.delivery_mode(it); }
        if let Some(it) = time { builder = builder.timestamp(it); }
        if let Some(it) = number { builder = builder.headers(&Table::new().with("n", it)); }
        let it = Properties::from_wire(builder.build().unwrap().as_wire().clone()).unwrap();
        prop_assert_eq!(it.message_id(), text.as_deref());
        prop_assert_eq!(it.delivery_mode(), mode);
        prop_assert_eq!(it.timestamp(), time);
        prop_assert_eq!(it.headers().and_then(|it| it.get_int("n")), number);
    }
}
