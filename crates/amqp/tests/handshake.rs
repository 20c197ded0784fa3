//! From the first byte to an open connection, and back to its end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::*;
use warren_amqp::{
    AmqpError, ChannelId, Code, Config, Credentials, EndReason, Event, Method, Opening, Time,
    method::connection,
};

const ON_CONNECTION: ChannelId = ChannelId::CONNECTION;

/// A client at tune-ok.
fn tuning() -> Peer {
    let mut peer = Peer::new(Config::default());
    peer.feed(HEADER);
    peer.feed(&method(
        ON_CONNECTION,
        start_ok("PLAIN", b"\0guest\0guest", true),
    ));
    peer.said.clear();
    peer
}

/// `>` is what the client sends, `<` what the server must say to it, byte for byte.
#[test]
fn handshake_transcript_is_golden() {
    let config = Config {
        product: "P".to_owned(),
        version: "1".to_owned(),
        platform: "L".to_owned(),
        copyright: "C".to_owned(),
        information: "I".to_owned(),
        cluster_name: "N".to_owned(),
        ..Config::default()
    };
    let mut peer = Peer::new(config);
    let mut lines = include_str!("golden/handshake.txt")
        .lines()
        .filter(|it| !it.starts_with('#'))
        .peekable();
    while let Some(line) = lines.next() {
        let sent = unescape(line.strip_prefix("> ").expect("the client speaks first"));
        peer.feed(&sent);
        let mut want = String::new();
        while let Some(answer) = lines.next_if(|it| it.starts_with("< ")) {
            want.push_str(&answer[2..]);
        }
        assert_eq!(
            peer.said.split().escape_ascii().to_string(),
            want,
            "after {line}"
        );
    }
    assert!(peer.connection.is_ended());
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let [b'\\', b'x', high, low, tail @ ..] = rest {
            let digits = [*high, *low];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

#[test]
fn older_protocol_header_is_taken_as_0_9_1() {
    let mut peer = Peer::new(Config::default());
    assert_eq!(peer.feed(b"AMQP\x01\x01\x00\x09"), []);
    assert!(matches!(
        peer.methods()[..],
        [(_, Method::Connection(connection::Method::Start(_)))]
    ));
}

#[test]
fn other_protocols_get_the_header_and_are_recognised() {
    let cases: [(&[u8], Opening); 6] = [
        (b"GET / HTTP/1.1\r\n", Opening::Http),
        (b"PRI * HTTP/2.0\r\n", Opening::Http),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", Opening::Tls),
        (b"AMQP\x00\x01\x00\x00", Opening::OtherAmqp),
        (b"AMQP\x03\x01\x00\x00", Opening::OtherAmqp),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00", Opening::Unknown),
    ];
    for (bytes, opening) in cases {
        let mut peer = Peer::new(Config::default());
        assert_eq!(
            peer.feed(bytes),
            [Event::Ended {
                reason: EndReason::NotAmqp(opening)
            }]
        );
        assert_eq!(&peer.said[..], HEADER);
        assert!(peer.input.is_empty());
    }
}

#[test]
fn capabilities_are_all_offered() {
    let mut peer = Peer::new(Config::default());
    peer.feed(HEADER);
    let methods = peer.methods();
    let [(_, Method::Connection(connection::Method::Start(start)))] = &methods[..] else {
        panic!("{methods:?}")
    };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!(&start.mechanisms[..], b"PLAIN AMQPLAIN");
    assert_eq!(&start.locales[..], b"en_US");
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(
            start
                .server_properties
                .get_table("capabilities")
                .unwrap()
                .get_bool(name),
            Some(true),
            "{name}"
        );
    }
    for name in [
        "product",
        "version",
        "platform",
        "copyright",
        "information",
        "cluster_name",
    ] {
        assert!(start.server_properties.get_str(name).is_some(), "{name}");
    }
}

#[test]
fn login_carries_credentials_and_client() {
    let mut peer = Peer::new(Config::default());
    peer.feed(HEADER);
    let events = peer.feed(&method(
        ON_CONNECTION,
        start_ok("PLAIN", b"\0guest\0secret", true),
    ));
    let [Event::Login(login)] = &events[..] else {
        panic!("{events:?}")
    };
    let Credentials::Password { user, password } = &login.credentials else {
        panic!("{login:?}")
    };
    assert_eq!((&user[..], &password.0[..]), ("guest", &b"secret"[..]));
    assert_eq!(login.client.product(), Some("pika"));
    assert_eq!(login.client.connection_name(), Some("test"));
    assert!(login.client.capabilities.connection_blocked);
}

#[test]
fn bad_sasl_is_502_and_unknown_mechanism_503() {
    for (mechanism, response, code) in [
        ("PLAIN", &b"guest"[..], 502),
        ("AMQPLAIN", b"\xff", 502),
        ("MAGIC", b"", 503),
    ] {
        let mut peer = Peer::new(Config::default());
        peer.feed(HEADER);
        peer.said.clear();
        peer.feed(&method(ON_CONNECTION, start_ok(mechanism, response, true)));
        assert_eq!(peer.closed(), (0, code), "{mechanism}");
    }
}

#[test]
fn refused_login_is_told_only_to_who_understands() {
    for (capable, told) in [(true, true), (false, false)] {
        let mut peer = Peer::new(Config::default());
        peer.agreeable = false;
        peer.feed(HEADER);
        peer.feed(&method(
            ON_CONNECTION,
            start_ok("PLAIN", b"\0guest\0wrong", capable),
        ));
        peer.said.clear();
        peer.connection.login_refused(peer.now);
        let events = peer.feed(b"");
        if told {
            let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
            assert!(
                peer.said
                    .windows(text.len())
                    .any(|it| it == text.as_bytes())
            );
            assert_eq!(peer.closed(), (0, 403));
            assert_eq!(events, []);
        } else {
            assert!(peer.said.is_empty());
            assert_eq!(
                events,
                [Event::Ended {
                    reason: EndReason::LoginRefused
                }]
            );
        }
    }
}

#[test]
fn tuning_out_of_range_is_530() {
    let good = tune_ok();
    for bad in [
        connection::TuneOk {
            channel_max: 0,
            ..good.clone()
        },
        connection::TuneOk {
            channel_max: 2048,
            ..good.clone()
        },
        connection::TuneOk {
            frame_max: 0,
            ..good.clone()
        },
        connection::TuneOk {
            frame_max: 1,
            ..good.clone()
        },
        connection::TuneOk {
            frame_max: 4095,
            ..good.clone()
        },
        connection::TuneOk {
            frame_max: 131_073,
            ..good.clone()
        },
    ] {
        let mut peer = tuning();
        peer.feed(&method(ON_CONNECTION, bad.clone()));
        assert_eq!(peer.closed(), (0, 530), "{bad:?}");
    }
}

#[test]
fn tuning_at_the_edges_is_taken() {
    for (channel_max, frame_max, heartbeat) in [(1, 4096, 0), (2047, 131_072, 65_535)] {
        let mut peer = tuning();
        peer.feed(&method(
            ON_CONNECTION,
            connection::TuneOk {
                channel_max,
                frame_max,
                heartbeat,
            },
        ));
        assert!(peer.said.is_empty());
        let tuning = peer.connection.tuning();
        assert_eq!(
            (tuning.channel_max, tuning.frame_max, tuning.heartbeat_s),
            (channel_max, frame_max, heartbeat)
        );
    }
}

#[test]
fn unknown_vhost_is_530_with_its_name() {
    let mut peer = tuning();
    peer.agreeable = false;
    peer.feed(&method(ON_CONNECTION, tune_ok()));
    let events = peer.feed(&method(
        ON_CONNECTION,
        connection::Open {
            virtual_host: short("dev"),
        },
    ));
    assert_eq!(
        events,
        [Event::Open {
            vhost: short("dev")
        }]
    );
    peer.connection
        .fail(ON_CONNECTION, AmqpError::no_such_vhost("dev"), peer.now);
    let methods = peer.methods();
    let [(_, Method::Connection(connection::Method::Close(close)))] = &methods[..] else {
        panic!("{methods:?}")
    };
    assert_eq!(
        (close.reply_code, &*close.reply_text),
        (530, "NOT_ALLOWED - vhost dev not found")
    );
}

#[test]
fn steps_out_of_order_are_504_and_content_505() {
    let open = method(
        ON_CONNECTION,
        connection::Open {
            virtual_host: short("/"),
        },
    );
    let channel_open = method(CHANNEL, warren_amqp::method::channel::Open {});
    for (bytes, code) in [
        (open, 504),
        (channel_open, 504),
        (content_header(0, &[0, 0]), 505),
    ] {
        let mut peer = tuning();
        peer.feed(&bytes);
        assert_eq!(peer.closed(), (0, code));
    }
}

#[test]
fn frame_above_8_kib_before_tuning_is_501() {
    let mut peer = Peer::new(Config::default());
    peer.feed(HEADER);
    peer.said.clear();
    let mut long = frame(1, 0, &vec![0; 8193]);
    long.truncate(7);
    let events = peer.feed(&long);
    assert!(matches!(&events[..], [Event::Failed { error }] if error.code() == Code::FrameError));
    assert_eq!(peer.closed(), (0, 501));
}

#[test]
fn nothing_is_read_while_the_session_owes_an_answer() {
    let mut peer = Peer::new(Config::default());
    peer.agreeable = false;
    peer.feed(HEADER);
    assert_eq!(peer.feed(&handshake()).len(), 1);
    assert!(!peer.input.is_empty());
    peer.connection.login_ok();
    assert!(matches!(peer.feed(b"")[..], [Event::Open { .. }]));
}

#[test]
fn silent_or_slow_client_ends_with_the_handshake_limit() {
    for bytes in [&b""[..], b"AMQ", HEADER] {
        let mut peer = Peer::new(Config::default());
        peer.feed(bytes);
        assert_eq!(peer.connection.deadline(), Some(Time(11_000)));
        assert_eq!(peer.wait_ms(9_999), None);
        assert_eq!(
            peer.wait_ms(1),
            Some(Event::Ended {
                reason: EndReason::HandshakeTimeout
            })
        );
        assert_eq!(peer.wait_ms(1), None);
        assert_eq!(peer.connection.deadline(), None);
    }
}

#[test]
fn client_close_is_answered_after_the_session() {
    let mut peer = Peer::running();
    peer.agreeable = false;
    let close = connection::Close {
        reply_code: 200,
        reply_text: short("bye"),
        ..connection::Close::default()
    };
    let events = peer.feed(&method(ON_CONNECTION, close));
    assert_eq!(
        events,
        [Event::Close {
            reply_code: 200,
            reply_text: short("bye")
        }]
    );
    assert!(peer.said.is_empty());
    peer.connection.close_ok();
    assert_eq!(
        peer.feed(b""),
        [Event::Ended {
            reason: EndReason::ClosedByClient
        }]
    );
    assert!(matches!(
        peer.methods()[..],
        [(_, Method::Connection(connection::Method::CloseOk(_)))]
    ));
}

#[test]
fn server_close_ends_with_the_answer_or_after_the_grace() {
    for answered in [true, false] {
        let mut peer = Peer::running();
        let error = AmqpError::connection_forced("node is draining");
        peer.connection.fail(ON_CONNECTION, error, peer.now);
        assert_eq!(peer.closed(), (0, 320));
        assert_eq!(peer.feed(&publish_method()), [], "ignored");
        if answered {
            let events = peer.feed(&method(ON_CONNECTION, connection::CloseOk {}));
            assert_eq!(
                events,
                [Event::Ended {
                    reason: EndReason::ClosedByServer
                }]
            );
        } else {
            assert_eq!(peer.wait_ms(2_999), None);
            assert_eq!(
                peer.wait_ms(1),
                Some(Event::Ended {
                    reason: EndReason::CloseTimeout
                })
            );
        }
        assert!(peer.connection.is_ended());
    }
}

#[test]
fn heartbeats_are_sent_at_half_the_interval_and_a_silent_peer_ends_after_two() {
    let mut peer = Peer::running();
    assert_eq!(peer.connection.deadline(), Some(Time(31_000)));
    assert_eq!(peer.wait_ms(30_000), None);
    assert_eq!(&peer.said.split()[..], b"\x08\x00\x00\x00\x00\x00\x00\xce");
    assert_eq!(peer.wait_ms(30_000), None);
    assert_eq!(&peer.said.split()[..], b"\x08\x00\x00\x00\x00\x00\x00\xce");
    assert_eq!(peer.wait_ms(59_999), None);
    assert_eq!(
        peer.wait_ms(1),
        Some(Event::Ended {
            reason: EndReason::HeartbeatTimeout
        })
    );
}

#[test]
fn any_byte_counts_as_a_sign_of_life() {
    let mut peer = Peer::running();
    for _ in 0..10 {
        assert_eq!(peer.wait_ms(100_000), None);
        assert_eq!(peer.feed(b"\x01"), []);
        peer.input.clear();
        peer.feed(b"");
    }
}

#[test]
fn peer_that_is_not_read_from_is_not_missed() {
    let mut peer = Peer::running();
    peer.connection.set_reading(false, peer.now);
    assert_eq!(peer.wait_ms(1_000_000), None);
    peer.connection.set_reading(true, peer.now);
    assert_eq!(peer.wait_ms(119_999), None);
    assert_eq!(
        peer.wait_ms(1),
        Some(Event::Ended {
            reason: EndReason::HeartbeatTimeout
        })
    );
}
