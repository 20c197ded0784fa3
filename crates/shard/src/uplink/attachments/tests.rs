//! What happens to deliveries and credit when a link is made anew. Not here: whole clusters (`tests/cluster.rs`).

use bytes::{Bytes, BytesMut};
use warren_codec::encode_message;
use warren_queue::dispatch::io::{Refill, SettleResult};
use warren_queue::entry::SettleReason;
use warren_types::{
    ExchangeName, Message, Priority, Properties, RoutingKey, ShardId, ShardTime, Term,
};

use super::*;
use crate::api::{
    AnswerTime, RequestToken, SettleAction, SettlePart, SettleSpec, Target, TogetherSpec,
};
use crate::uplink::outputs::SentOutputs;

const CONSUMER: ConsumerId = ConsumerId(1);
const TARGET: Target = Target {
    queue: QueueId(7),
    shard: ShardId(1),
};
const BODY: &[u8] = b"body";

fn attempt(number: u64) -> Attempt {
    Attempt {
        term: Term(1),
        number,
    }
}

fn held(position: u64) -> Held {
    Held {
        position: Position(position),
        attempt: attempt(position),
    }
}

fn handed(position: u64) -> HandedOut {
    let message = Message {
        exchange: ExchangeName::try_from("").unwrap(),
        routing_key: RoutingKey::try_from("q").unwrap(),
        properties: Properties::default(),
        body: Bytes::from_static(BODY),
        priority: Priority::DEFAULT,
        ttl_ms: None,
        delay_ms: None,
        group_hash: 0,
        fairness_hash: 0,
        dedup_hash: 0,
        user: None,
        trace: Bytes::new(),
        died: false,
    };
    let mut encoded = BytesMut::new();
    encode_message(&mut encoded, &message, ShardTime(1));
    HandedOut {
        position: Position(position),
        attempt: attempt(position),
        redelivered: false,
        delivery_count: 0,
        acquired_count: 0,
        message: encoded.freeze(),
    }
}

/// A consumer that was lent 5 messages and holds 1 to 3.
fn holding(refill: Refill) -> (Attachments, Outbox<SessionEvent>) {
    let (mut attachments, inbox) = (Attachments::default(), Outbox::default());
    let spec = ConsumerSpec {
        target: TARGET,
        options: ConsumerOptions {
            no_ack: false,
            refill,
            priority: 0,
            exclusive: false,
            uncommitted_max: 1_000,
            passing: false,
        },
        credit: Credit {
            messages: 5,
            bytes: 100,
        },
    };
    attachments.attach(CONSUMER, &spec, Vec::new(), inbox.clone(), TopologyIndex(1));
    attachments.attached(CONSUMER, AttachResult::Ok { held: Vec::new() });
    attachments.deliver(CONSUMER, TARGET.queue, 0, (1..=3).map(handed).collect());
    drop(inbox.take_now());
    (attachments, inbox)
}

fn report(attachments: &mut Attachments) -> (Vec<Held>, Credit) {
    for frame in attachments.report(TopologyIndex(1)) {
        if let Up::Attach(attach) = frame {
            return (attach.held, attach.credit);
        }
    }
    panic!("the consumer is not reported")
}

fn forgotten(inbox: &Outbox<SessionEvent>) -> Vec<u64> {
    let mut positions = Vec::new();
    for event in inbox.take_now() {
        if let SessionEvent::Forget { position, .. } = event {
            positions.push(position.0);
        }
    }
    positions
}

fn settle(attachments: &mut Attachments, position: u64, inbox: &Outbox<SessionEvent>) {
    let spec = SettleSpec {
        target: TARGET,
        items: vec![held(position)],
        action: SettleAction::Settle(SettleReason::Acked),
        answer: AnswerTime::Soon,
        outputs: Vec::new(),
        said: None,
    };
    attachments.settle(
        Token(position),
        spec,
        None,
        RequestToken(position),
        inbox.clone(),
    );
}

const OK: HeldState = HeldState::StillYours;
const LOST: HeldState = HeldState::Lost;

#[test]
fn lost_delivery_gives_its_credit_back_here_and_with_the_leader() {
    let (mut attachments, inbox) = holding(Refill::All);
    let (named, credit) = report(&mut attachments);
    assert_eq!(named, vec![held(1), held(2), held(3)]);
    assert_eq!(credit.messages, 2);
    let answer = AttachResult::Ok {
        held: vec![LOST, OK, LOST],
    };
    let told = attachments.attached(CONSUMER, answer);
    let Some(Up::Credit { consumer, add }) = told else {
        panic!("no credit: {told:?}")
    };
    let expected = Credit {
        messages: 2,
        bytes: 2 * BODY.len() as u64,
    };
    assert_eq!((consumer, add), (CONSUMER, expected));
    assert_eq!(forgotten(&inbox), vec![1, 3]);
    let (named, credit) = report(&mut attachments);
    assert_eq!((named, credit.messages), (vec![held(2)], 4));
}

#[test]
fn session_that_keeps_the_books_itself_lends_what_was_lost_itself() {
    let (mut attachments, inbox) = holding(Refill::Nothing);
    report(&mut attachments);
    let answer = AttachResult::Ok {
        held: vec![OK, OK, LOST],
    };
    assert!(attachments.attached(CONSUMER, answer).is_none());
    assert_eq!(forgotten(&inbox), vec![3]);
    assert_eq!(report(&mut attachments).1.messages, 2);
}

#[test]
fn answer_is_about_what_was_reported_whatever_was_settled_since() {
    let (mut attachments, inbox) = holding(Refill::All);
    report(&mut attachments);
    settle(&mut attachments, 1, &inbox);
    // Of 1, 2, 3: the last one is lost, and 1 has left by itself.
    let answer = AttachResult::Ok {
        held: vec![OK, OK, LOST],
    };
    attachments.attached(CONSUMER, answer);
    assert_eq!(forgotten(&inbox), vec![3]);
    let (named, credit) = report(&mut attachments);
    assert_eq!((named, credit.messages), (vec![held(2)], 4));
}

#[test]
fn delivery_lost_after_it_was_settled_gives_its_credit_once() {
    let (mut attachments, inbox) = holding(Refill::All);
    report(&mut attachments);
    settle(&mut attachments, 2, &inbox);
    let answer = AttachResult::Ok {
        held: vec![OK, LOST, OK],
    };
    assert!(attachments.attached(CONSUMER, answer).is_none());
    assert_eq!(forgotten(&inbox), Vec::<u64>::new());
    assert_eq!(report(&mut attachments).1.messages, 3);
}

#[test]
fn forgotten_delivery_counts_as_given_back_by_the_leader() {
    let (mut attachments, inbox) = holding(Refill::All);
    attachments.forget(CONSUMER, TARGET.queue, Position(2));
    assert_eq!(forgotten(&inbox), vec![2]);
    let (named, credit) = report(&mut attachments);
    assert_eq!((named, credit.messages), (vec![held(1), held(3)], 3));
}

#[test]
fn lost_delivery_gives_back_its_message_alone_where_the_session_lends_bytes() {
    let (mut attachments, inbox) = holding(Refill::Messages);
    let (_, before) = report(&mut attachments);
    let answer = AttachResult::Ok {
        held: vec![LOST, OK, OK],
    };
    let told = attachments.attached(CONSUMER, answer);
    let Some(Up::Credit { add, .. }) = told else {
        panic!("no credit: {told:?}")
    };
    let one = Credit {
        messages: 1,
        bytes: 0,
    };
    assert_eq!((add, forgotten(&inbox)), (one, vec![1]));
    settle(&mut attachments, 2, &inbox);
    let (_, after) = report(&mut attachments);
    assert_eq!((after.messages, after.bytes), (4, before.bytes));
}

#[test]
fn what_is_to_end_in_one_is_held_and_asked_again_until_it_is_done() {
    let (mut attachments, inbox) = holding(Refill::All);
    let topology = warren_topology::Topology::new();
    let together = |attachments: &mut Attachments, token| {
        let spec = TogetherSpec {
            shard: TARGET.shard,
            parts: vec![SettlePart {
                queue: TARGET.queue,
                items: vec![held(1), held(3)],
                action: SettleAction::Settle(SettleReason::Acked),
            }],
            outputs: Vec::new(),
            said: None,
        };
        let outputs = SentOutputs::encode(&[], &inbox, &topology);
        attachments.settle_together(token, spec, outputs, RequestToken(9), inbox.clone())
    };
    let asked_again = |attachments: &mut Attachments| {
        let frames = attachments.report(TopologyIndex(1));
        let again = frames
            .iter()
            .filter(|it| matches!(it, Up::SettleTogether(_)));
        again.count()
    };
    together(&mut attachments, Token(1));
    assert_eq!(asked_again(&mut attachments), 1);
    attachments.settled(Token(1), vec![SettleResult::Expired]);
    assert_eq!(asked_again(&mut attachments), 0);
    assert_eq!(report(&mut attachments).0, vec![held(1), held(2), held(3)]);
    together(&mut attachments, Token(2));
    attachments.settled(Token(2), vec![SettleResult::Done]);
    let (named, credit) = report(&mut attachments);
    assert_eq!((named, credit.messages), (vec![held(2)], 4));
    let told = inbox.take_now().into_iter().filter_map(|event| {
        if let SessionEvent::Settled { token, results } = event {
            return Some((token.0, results));
        }
        None
    });
    let expected = [SettleResult::Expired, SettleResult::Done];
    assert_eq!(
        told.collect::<Vec<_>>(),
        expected.map(|it| (9, vec![it])).to_vec()
    );
}
