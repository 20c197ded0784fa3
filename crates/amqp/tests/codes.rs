//! Byte sequence -> code: what a client may do wrong on an open connection, and what it costs (features C4 to C15, C20,
//! C.4; guarantees section 3).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use bytes::BufMut;
use common::*;
use warren_amqp::{
    AmqpError, ChannelId, Code, EndReason, Event, Method, Request,
    method::{access, basic, channel, connection, queue, tx},
};
use warren_types::{Properties, Table};

#[test]
fn bytes_that_are_no_frame_are_501() {
    for kind in [0, 4, 9, 255] {
        assert_eq!(cost(&frame(kind, 1, b"")), (0, 501), "type {kind}");
    }
    let mut wrong_end = frame(8, 0, b"");
    wrong_end[7] = 0xCD;
    assert_eq!(cost(&wrong_end), (0, 501));
    assert_eq!(cost(b"\x01\x00\x01\xff\xff\xff\xff"), (0, 501));
    assert_eq!(cost(&frame(8, 0, b"x")), (0, 501));
    assert_eq!(cost(&frame(1, 1, b"\x00\x3c")), (0, 501));
}

#[test]
fn frame_above_the_negotiated_size_is_501_with_eight_bytes_tolerated() {
    let with_body = |payload: usize| {
        [
            publish_method(),
            content_header(200_000, &[0, 0]),
            frame(3, 1, &vec![0; payload]),
        ]
        .concat()
    };
    assert_eq!(Peer::running().feed(&with_body(131_072)), []);
    assert_eq!(cost(&with_body(131_073)), (0, 501));
}

#[test]
fn after_a_framing_error_nothing_is_read_and_the_socket_ends_after_the_grace() {
    let mut peer = Peer::running();
    let events = peer.feed(&frame(9, 0, b""));
    assert!(matches!(&events[..], [Event::Failed { error }] if error.code() == Code::FrameError));
    assert_eq!(
        peer.feed(&method(ChannelId::CONNECTION, connection::CloseOk {})),
        []
    );
    assert!(peer.input.is_empty());
    assert_eq!(
        peer.wait_ms(3_000),
        Some(Event::Ended {
            reason: EndReason::CloseTimeout
        })
    );
}

#[test]
fn heartbeat_on_a_channel_is_505() {
    assert_eq!(cost(&frame(8, 1, b"")), (0, 505));
    assert_eq!(cost(&frame(8, 9, b"")), (0, 505));
}

#[test]
fn unknown_class_or_method_is_503_on_any_channel() {
    for channel in [0, 1] {
        assert_eq!(cost(&frame(1, channel, b"\x00\x63\x00\x01")), (0, 503));
        assert_eq!(cost(&frame(1, channel, b"\x00\x3c\x00\x01")), (0, 503));
    }
}

#[test]
fn method_for_clients_to_receive_is_503() {
    assert_eq!(cost(&on_channel(basic::Deliver::default())), (0, 503));
    assert_eq!(cost(&on_channel(queue::DeclareOk::default())), (0, 503));
    assert_eq!(cost(&on_channel(tx::SelectOk {})), (0, 503));
    assert_eq!(
        cost(&method(ChannelId::CONNECTION, connection::Tune::default())),
        (0, 503)
    );
}

#[test]
fn connection_method_on_a_channel_is_503_and_channel_method_on_the_connection_504() {
    assert_eq!(cost(&on_channel(connection::CloseOk {})), (0, 503));
    assert_eq!(
        cost(&method(ChannelId(5), connection::CloseOk {})),
        (0, 503)
    );
    assert_eq!(
        cost(&method(ChannelId::CONNECTION, channel::Open {})),
        (0, 504)
    );
    assert_eq!(
        cost(&method(ChannelId::CONNECTION, connection::Open::default())),
        (0, 504)
    );
}

#[test]
fn channel_not_open_or_opened_twice_is_504() {
    assert_eq!(cost(&method(ChannelId(2), basic::Ack::default())), (0, 504));
    assert_eq!(cost(&frame(3, 2, b"body")), (0, 504));
    assert_eq!(cost(&on_channel(channel::Open {})), (0, 504));
    assert_eq!(cost(&on_channel(channel::CloseOk {})), (0, 504));
}

#[test]
fn channel_beyond_the_room_there_is_is_530_with_the_sessions_text() {
    let mut peer = Peer::running();
    let room = Some((1, "no more".into()));
    peer.connection.set_channel_room(room);
    peer.feed(&method(ChannelId(2), channel::Open {}));
    assert!(peer.connection.is_open(ChannelId(2)));
    peer.said.clear();
    peer.feed(&method(ChannelId(3), channel::Open {}));
    assert!(peer.said.windows(7).any(|it| it == b"no more"));
    assert_eq!(peer.closed(), (0, 530));
}

#[test]
fn channel_above_channel_max_is_530_to_open_and_504_to_use() {
    assert_eq!(cost(&method(ChannelId(2048), channel::Open {})), (0, 530));
    assert_eq!(
        cost(&method(ChannelId(2048), basic::Ack::default())),
        (0, 504)
    );
    assert!(matches!(
        Peer::running().feed(&method(ChannelId(2047), channel::Open {}))[..],
        [Event::ChannelOpened {
            channel: ChannelId(2047)
        }]
    ));
}

#[test]
fn malformed_tables_are_502() {
    let declare = |table: &[u8]| {
        let mut payload = b"\x00\x32\x00\x0a\x00\x00\x01q\x00".to_vec();
        payload.put_slice(table);
        cost(&frame(1, 1, &payload))
    };
    assert_eq!(
        declare(b"\xff\xff\xff\xff"),
        (0, 502),
        "length beyond the frame"
    );
    assert_eq!(declare(b"\x00\x00\x00\x03\x01kZ"), (0, 502), "type");
    assert_eq!(declare(b"\x00\x00\x00\x03\x01\xffV"), (0, 502), "name");
    let mut nested = vec![0; 4];
    for _ in 0..10_000 {
        let length = u32::try_from(nested.len() + 3).unwrap();
        nested = [&length.to_be_bytes()[..], b"\x01kF", &nested].concat();
    }
    assert_eq!(declare(&nested), (0, 502), "depth");
    let header = [&b"\x20\x00"[..], b"\x00\x00\x00\x03\x01kZ"].concat();
    assert_eq!(
        cost(&[publish_method(), content_header(0, &header)].concat()),
        (0, 502),
        "in the headers"
    );
}

#[test]
fn malformed_arguments_are_502() {
    assert_eq!(
        cost(&frame(1, 1, b"\x00\x3c\x00\x50\x00")),
        (0, 502),
        "cut off"
    );
    assert_eq!(
        cost(&frame(1, 1, b"\x00\x5a\x00\x0a\x00")),
        (0, 502),
        "bytes behind"
    );
    assert_eq!(
        cost(&frame(1, 1, b"\x00\x3c\x00\x1e\x02\xff\xfe\x00")),
        (0, 502),
        "name not UTF-8"
    );
}

#[test]
fn what_is_not_implemented_is_540() {
    assert_eq!(
        cost(&on_channel(basic::Publish {
            immediate: true,
            ..Default::default()
        })),
        (0, 540)
    );
    assert_eq!(
        cost(&on_channel(basic::Qos {
            prefetch_size: 1,
            ..Default::default()
        })),
        (0, 540)
    );
    assert_eq!(
        cost(&on_channel(basic::Recover { requeue: false })),
        (0, 540)
    );
    assert_eq!(
        cost(&on_channel(basic::RecoverAsync { requeue: false })),
        (0, 540)
    );
    assert_eq!(cost(&on_channel(channel::Flow { active: false })), (0, 540));
}

#[test]
fn what_the_connection_answers_itself_makes_no_event() {
    let mut peer = Peer::running();
    assert_eq!(peer.feed(&on_channel(channel::Flow { active: true })), []);
    assert_eq!(peer.feed(&on_channel(access::Request::default())), []);
    assert_eq!(peer.feed(&on_channel(basic::CancelOk::default())), []);
    let said: Vec<Method> = peer.methods().into_iter().map(|(_, it)| it).collect();
    assert_eq!(
        said,
        [
            channel::FlowOk { active: true }.into(),
            access::RequestOk { ticket: 1 }.into()
        ]
    );
}

#[test]
fn requests_come_in_order_with_their_arguments() {
    let mut peer = Peer::running();
    let declare = queue::Declare {
        queue: short("q"),
        durable: true,
        arguments: Table::new().with("x-queue-type", "quorum"),
        ..Default::default()
    };
    let ack = basic::Ack {
        delivery_tag: warren_amqp::DeliveryTag(3),
        multiple: true,
    };
    let bytes = [
        on_channel(declare.clone()),
        on_channel(ack.clone()),
        on_channel(basic::Recover { requeue: true }),
        on_channel(basic::RecoverAsync { requeue: true }),
        on_channel(tx::Select {}),
    ];
    let want = [
        Request::QueueDeclare(declare),
        Request::Ack(ack),
        Request::Recover { reply: true },
        Request::Recover { reply: false },
        Request::TxSelect,
    ];
    assert_eq!(
        peer.feed(&bytes.concat()),
        want.map(|request| Event::Request {
            channel: CHANNEL,
            request
        })
    );
}

#[test]
fn refused_method_silences_its_channel_only() {
    let mut peer = Peer::running();
    let second = ChannelId(2);
    peer.feed(&method(second, channel::Open {}));
    peer.said.clear();
    peer.input
        .extend_from_slice(&publish("no such", "", &Properties::default(), b"x", 4096));
    peer.input
        .extend_from_slice(&publish("", "q", &Properties::default(), b"y", 4096));
    peer.input
        .extend_from_slice(&method(second, basic::Get::default()));
    assert!(matches!(
        peer.connection.next_event(&mut peer.input, peer.now),
        Some(Event::Publish { .. })
    ));
    let error =
        AmqpError::not_found("no exchange 'no such' in vhost '/'").for_method(basic::Publish::ID);
    peer.connection.fail(CHANNEL, error.clone(), peer.now);
    peer.connection.fail(CHANNEL, error, peer.now);
    assert!(matches!(
        peer.feed(b"")[..],
        [Event::Request {
            channel: ChannelId(2),
            request: Request::Get(_)
        }]
    ));
    assert_eq!(peer.closed(), (1, 404), "said once");
    assert!(!peer.connection.send(CHANNEL, basic::QosOk {}));
    assert!(peer.connection.send(second, basic::GetEmpty {}));
}

#[test]
fn closes_that_cross_free_the_channel_with_or_without_the_clients_answer() {
    for client_answers in [true, false] {
        let mut peer = Peer::running();
        peer.connection
            .fail(CHANNEL, AmqpError::not_found("x"), peer.now);
        assert_eq!(peer.closed(), (1, 404));
        assert_eq!(peer.feed(&on_channel(channel::Close::default())), []);
        assert!(matches!(
            peer.methods()[..],
            [(CHANNEL, Method::Channel(channel::Method::CloseOk(_)))]
        ));
        if client_answers {
            assert_eq!(peer.feed(&on_channel(channel::CloseOk {})), []);
        }
        assert_eq!(
            peer.feed(&on_channel(channel::Open {})),
            [Event::ChannelOpened { channel: CHANNEL }]
        );
    }
}

#[test]
fn channel_close_waits_for_the_session_and_frees_the_number() {
    let mut peer = Peer::running();
    peer.agreeable = false;
    let events = peer.feed(&on_channel(channel::Close {
        reply_code: 200,
        ..Default::default()
    }));
    assert!(matches!(
        events[..],
        [Event::ChannelClose {
            channel: CHANNEL,
            reply_code: 200,
            ..
        }]
    ));
    assert!(peer.said.is_empty());
    assert!(!peer.connection.is_open(CHANNEL));
    peer.connection.channel_close_ok(CHANNEL);
    assert!(matches!(
        peer.methods()[..],
        [(CHANNEL, Method::Channel(channel::Method::CloseOk(_)))]
    ));
    assert_eq!(
        peer.feed(&on_channel(channel::Open {})),
        [Event::ChannelOpened { channel: CHANNEL }]
    );
}

#[test]
fn blocked_and_cancel_are_told_once_and_only_to_who_understands() {
    let mut peer = Peer::running();
    peer.connection.unblock();
    peer.connection.block("memory");
    peer.connection.block("memory");
    peer.connection.unblock();
    assert!(peer.connection.cancel_consumer(CHANNEL, "tag"));
    let said: Vec<Method> = peer.methods().into_iter().map(|(_, it)| it).collect();
    let cancel = basic::Cancel {
        consumer_tag: short("tag"),
        no_wait: true,
    };
    let want: [Method; 3] = [
        connection::Blocked {
            reason: short("memory"),
        }
        .into(),
        connection::Unblocked {}.into(),
        cancel.into(),
    ];
    assert_eq!(said, want);
}
