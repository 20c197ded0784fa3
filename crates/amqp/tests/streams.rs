//! Laws over whole streams: however they are cut the same comes out; whatever is in them nothing panics; what is written
//! comes back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use proptest::{collection::vec, prelude::*};
use warren_amqp::{
    ChannelId, Config, Content, Delivery, DeliveryTag, Event, FrameKind, Got, Method, Returned,
    encode_delivery, encode_get_ok, encode_return,
    method::{basic, channel, connection, queue},
};
use warren_types::{Properties, PropertiesBuilder, Table};

#[derive(Clone, Debug)]
enum Step {
    Publish { body: usize, frame_max: u32 },
    Declare,
    Ack(u64),
    Heartbeat,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..20_000, 4096u32..9000).prop_map(|(body, frame_max)| Step::Publish { body, frame_max }),
        1 => Just(Step::Declare),
        2 => any::<u64>().prop_map(Step::Ack),
        1 => Just(Step::Heartbeat),
        1 => Just(Step::Reopen),
    ]
}

fn bytes_of(step: &Step) -> Vec<u8> {
    match step {
        Step::Publish { body, frame_max } => {
            let headers = Table::new().with("k", "v");
            let properties = PropertiesBuilder::new()
                .persistent()
                .headers(&headers)
                .build()
                .unwrap();
            publish("ex", "key", &properties, &vec![9; *body], *frame_max)
        }
        Step::Declare => method(
            CHANNEL,
            queue::Declare {
                queue: short("q"),
                ..Default::default()
            },
        ),
        Step::Ack(tag) => method(
            CHANNEL,
            basic::Ack {
                delivery_tag: DeliveryTag(*tag),
                multiple: false,
            },
        ),
        Step::Heartbeat => frame(8, 0, b""),
        Step::Reopen => [
            method(CHANNEL, channel::Close::default()),
            method(CHANNEL, channel::Open {}),
        ]
        .concat(),
    }
}

/// A whole connection, from its header to its close.
fn stream(steps: &[Step]) -> Vec<u8> {
    let mut bytes = [HEADER, &handshake(), &method(CHANNEL, channel::Open {})].concat();
    steps.iter().for_each(|step| bytes.extend(bytes_of(step)));
    bytes.extend(method(ChannelId::CONNECTION, connection::Close::default()));
    bytes
}

/// Events and output of a stream that comes in pieces; cut points need not be sorted.
fn run(bytes: &[u8], cuts: &[usize]) -> (Vec<Event>, Bytes) {
    let mut peer = Peer::new(Config::default());
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let mut events = Vec::new();
    for piece in cuts.windows(2) {
        events.extend(peer.feed(&bytes[piece[0]..piece[1]]));
    }
    (events, peer.said.freeze())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn stream_cut_anywhere_gives_the_same(steps in vec(any_step(), 0..12), cuts in vec(any::<usize>(), 0..40)) {
        let bytes = stream(&steps);
        let whole = run(&bytes, &[]);
        let publishes = steps.iter().filter(|it| matches!(it, Step::Publish { .. })).count();
        prop_assert_eq!(whole.0.iter().filter(|it| matches!(it, Event::Publish { .. })).count(), publishes);
        let ended = matches!(whole.0.last(), Some(Event::Ended { .. }));
        prop_assert!(ended);
        prop_assert_eq!(run(&bytes, &cuts), whole);
    }

    #[test]
    fn damaged_stream_cut_anywhere_gives_the_same_and_never_panics(
        steps in vec(any_step(), 0..6), cuts in vec(any::<usize>(), 0..20),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = stream(&steps);
        for (at, with) in damage {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        prop_assert_eq!(run(&bytes, &cuts), run(&bytes, &[]));
    }

    #[test]
    fn arbitrary_bytes_after_the_header_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        run(&[HEADER, &bytes].concat(), &[]);
    }

    #[test]
    fn arbitrary_frames_never_panic(
        frames in vec((1u8..4, 0u16..3, prop_oneof![Just(10u8), Just(20), Just(50), Just(60)], 0u8..130,
            vec(any::<u8>(), 0..40)), 1..10),
    ) {
        let mut peer = Peer::running();
        for (kind, channel, class, number, rest) in frames {
            peer.feed(&frame(kind, channel, &[&[0, class, 0, number][..], &rest].concat()));
        }
    }

    #[test]
    fn delivery_comes_back_and_no_body_frame_is_too_long(
        pieces in vec(vec(any::<u8>(), 0..6000), 0..5), frame_max in 4096u32..10_000, tag in any::<u64>(),
        redelivered in any::<bool>(), exchange in ".{0,40}", key in ".{0,40}",
    ) {
        let properties = PropertiesBuilder::new().message_id("m").build().unwrap();
        let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
        let content = Content { properties: &properties, body: &pieces };
        let delivery = Delivery {
            consumer_tag: "ctag", delivery_tag: DeliveryTag(tag), redelivered, exchange: &exchange, routing_key: &key,
        };
        let mut peer = Peer::running();
        encode_delivery(&mut peer.said, CHANNEL, &delivery, content, frame_max);
        let frames = peer.frames();
        let want = basic::Deliver {
            consumer_tag: short("ctag"), delivery_tag: DeliveryTag(tag), redelivered,
            exchange: short(&exchange), routing_key: short(&key),
        };
        prop_assert_eq!(Method::decode(&frames[0].payload), Ok(want.into()));
        prop_assert_eq!(frames[1].kind, FrameKind::Header);
        let header = warren_amqp::ContentHeader::decode(frames[1].payload.clone(), u64::MAX).unwrap();
        prop_assert_eq!(header.properties, properties);
        let body = frames[2..].iter().map(|it| it.payload.clone()).collect::<Vec<_>>();
        prop_assert!(body.iter().all(|it| !it.is_empty() && it.len() + 8 <= frame_max as usize));
        prop_assert_eq!(body.concat(), pieces.concat());
        prop_assert_eq!(header.body_bytes, body.concat().len() as u64);
    }
}

#[test]
fn get_ok_and_return_come_back() {
    let mut peer = Peer::running();
    let properties = Properties::default();
    let content = Content {
        properties: &properties,
        body: &[],
    };
    let got = Got {
        delivery_tag: DeliveryTag(5),
        redelivered: true,
        exchange: "e",
        routing_key: "k",
        message_count: 7,
    };
    encode_get_ok(&mut peer.said, CHANNEL, &got, content, 4096);
    let frames = peer.frames();
    let want = basic::GetOk {
        delivery_tag: DeliveryTag(5),
        redelivered: true,
        exchange: short("e"),
        routing_key: short("k"),
        message_count: 7,
    };
    assert_eq!(Method::decode(&frames[0].payload), Ok(want.into()));
    assert_eq!(frames.len(), 2, "an empty body has no body frame");

    encode_return(
        &mut peer.said,
        CHANNEL,
        &Returned {
            exchange: "e",
            routing_key: "k",
        },
        content,
        4096,
    );
    let want = basic::Return {
        reply_code: 312,
        reply_text: short("NO_ROUTE"),
        exchange: short("e"),
        routing_key: short("k"),
    };
    assert_eq!(Method::decode(&peer.frames()[0].payload), Ok(want.into()));
}

#[test]
fn body_in_one_frame_is_not_copied() {
    let bytes = publish("", "q", &Properties::default(), &[1; 1000], 131_072);
    let mut peer = Peer::running();
    let mut input = BytesMut::from(&bytes[..]);
    let range = input.as_ptr_range();
    let event = peer.connection.next_event(&mut input, peer.now);
    let Some(Event::Publish { publish, .. }) = event else {
        panic!("{event:?}")
    };
    assert!(range.contains(&publish.body.into_bytes().as_ptr()));
}
