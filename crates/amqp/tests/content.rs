//! Messages on their way in: what is taken as it came, and what malformed, oversize and misplaced content costs (features
//! C15, C36; guarantees section 3, "AMQP content").

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::*;
use warren_amqp::{
    AmqpError, Code, Config, Event,
    method::{basic, channel},
};
use warren_types::{Properties, PropertiesBuilder, Table};

#[test]
fn oversize_message_is_406_at_its_header_and_the_connection_goes_on() {
    for size in [16 * 1024 * 1024 + 1, 1 << 63, u64::MAX] {
        let mut peer = Peer::running();
        let events = peer.feed(&[publish_method(), content_header(size, &[0, 0])].concat());
        assert!(
            matches!(&events[..], [Event::ChannelFailed { channel: CHANNEL, error }]
            if error.code() == Code::PreconditionFailed && error.method() == basic::Publish::ID)
        );
        assert_eq!(peer.closed(), (1, 406));
        assert_eq!(
            peer.feed(&frame(3, 1, &[0; 100])),
            [],
            "what follows on the channel is ignored"
        );
        assert_eq!(peer.feed(&on_channel(channel::CloseOk {})), []);
        assert_eq!(
            peer.feed(&on_channel(channel::Open {})),
            [Event::ChannelOpened { channel: CHANNEL }]
        );
    }
}

#[test]
fn malformed_content_is_501() {
    let after_publish = |bytes: Vec<u8>| cost(&[publish_method(), bytes].concat());
    assert_eq!(
        after_publish(frame(2, 1, b"\x00\x3c")),
        (0, 501),
        "short header"
    );
    assert_eq!(
        after_publish(frame(2, 1, b"\x00\x32\x00\x00\0\0\0\0\0\0\0\0\0\0")),
        (0, 501),
        "wrong class"
    );
    assert_eq!(
        after_publish(frame(2, 1, b"\x00\x3c\x00\x01\0\0\0\0\0\0\0\0\0\0")),
        (0, 501),
        "weight"
    );
    assert_eq!(
        after_publish(content_header(0, b"\x80\x00\x05ab")),
        (0, 501),
        "property cut off"
    );
    assert_eq!(
        after_publish(content_header(0, b"\x00\x01")),
        (0, 501),
        "flags that are not there"
    );
    let longer = [content_header(3, &[0, 0]), frame(3, 1, b"four")].concat();
    assert_eq!(
        after_publish(longer),
        (0, 501),
        "body longer than announced"
    );
}

#[test]
fn running_sum_is_checked_over_many_frames() {
    let mut bytes = [publish_method(), content_header(10_000, &[0, 0])].concat();
    for _ in 0..100 {
        bytes.extend(frame(3, 1, &[7; 100]));
    }
    assert!(
        matches!(&Peer::running().feed(&bytes)[..], [Event::Publish { publish, .. }]
        if publish.body.len() == 10_000)
    );
    let mut peer = Peer::running();
    let more = [&bytes[..bytes.len() - 108], &frame(3, 1, &[7; 101])].concat();
    assert!(matches!(&peer.feed(&more)[..], [Event::Failed { .. }]));
    assert_eq!(peer.closed(), (0, 501));
}

#[test]
fn empty_body_frames_are_501_at_the_first() {
    assert_eq!(
        cost(
            &[
                publish_method(),
                content_header(1, &[0, 0]),
                frame(3, 1, b"")
            ]
            .concat()
        ),
        (0, 501)
    );
}

#[test]
fn publish_keeps_properties_and_body_as_they_came() {
    let headers = Table::new().with("n", 1);
    let properties = PropertiesBuilder::new()
        .persistent()
        .headers(&headers)
        .build()
        .unwrap();
    for size in [0, 1, 4088, 4089, 100_000] {
        let body = vec![5; size];
        let events = Peer::running().feed(&publish("ex", "key", &properties, &body, 4096));
        let [
            Event::Publish {
                channel: CHANNEL,
                publish,
            },
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!((&*publish.exchange, &*publish.routing_key), ("ex", "key"));
        assert_eq!(publish.properties.as_wire(), properties.as_wire());
        assert_eq!(publish.body.clone().into_bytes(), Bytes::from(body));
    }
}

#[test]
fn message_limit_is_the_configured_one() {
    let config = Config {
        message_bytes_max: 10,
        ..Config::default()
    };
    let mut peer = Peer::running_with(config);
    assert_eq!(
        peer.feed(&publish("", "q", &Properties::default(), &[0; 10], 4096))
            .len(),
        1
    );
    peer.feed(&[publish_method(), content_header(11, &[0, 0])].concat());
    assert_eq!(peer.closed(), (1, 406));
}

#[test]
fn frames_out_of_turn_are_505() {
    assert_eq!(cost(&content_header(0, &[0, 0])), (0, 505));
    assert_eq!(cost(&frame(3, 1, b"body")), (0, 505));
    assert_eq!(cost(&frame(3, 0, b"body")), (0, 505));
    assert_eq!(
        cost(&[publish_method(), frame(3, 1, b"body")].concat()),
        (0, 505)
    );
    assert_eq!(
        cost(&[publish_method(), publish_method()].concat()),
        (0, 505)
    );
    let header = content_header(10, &[0, 0]);
    assert_eq!(
        cost(&[publish_method(), header.clone(), publish_method()].concat()),
        (0, 505)
    );
    assert_eq!(
        cost(&[publish_method(), header.clone(), header].concat()),
        (0, 505)
    );
}

#[test]
fn bodies_under_way_are_counted_until_they_are_whole_or_their_channel_is_gone() {
    let mut peer = Peer::running();
    peer.feed(
        &[
            publish_method(),
            content_header(30, &[0, 0]),
            frame(3, 1, &[7; 20]),
        ]
        .concat(),
    );
    assert_eq!(peer.connection.incoming_bytes(), 20);
    peer.feed(&frame(3, 1, &[7; 10]));
    assert_eq!(peer.connection.incoming_bytes(), 0);
    peer.feed(
        &[
            publish_method(),
            content_header(30, &[0, 0]),
            frame(3, 1, &[7; 20]),
        ]
        .concat(),
    );
    peer.connection
        .fail(CHANNEL, AmqpError::not_found("no exchange"), peer.now);
    assert_eq!(peer.connection.incoming_bytes(), 0);
}
