//! Prints what dispatch costs per message: one queue, one consumer, prefetch 200, acks of 50, blocks of 100; the same with 100 keys in order.
//! Run with `cargo run --release --package warren-queue --example dispatch_cost`. Not a test: time is only printed.

#![allow(clippy::disallowed_methods, clippy::print_stdout)] // It measures, so it reads a clock.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use warren_queue::dispatch::io::{
    Action, Actions, Attach, ConsumerKey, ConsumerOptions, Credit, Held, Input, Refill,
    SettleRequest, Token,
};
use warren_queue::dispatch::{Dispatch, Options};
use warren_queue::entry::{Command, SettleReason};
use warren_queue::outcome::{Added, BlockRef, Effect, Left, Tally};
use warren_types::{
    ConsumerId, Facts, MessageGroups, NodeId, Position, Priority, QueueId, QueueSettings,
    ShardTime, Term,
};

const QUEUE: QueueId = QueueId(1);
const BLOCK: u32 = 100;
const ACK: usize = 50;

/// A block as the store's effect tells of it, and the raise that rode on it.
fn publish(
    dispatch: &mut Dispatch,
    next: &mut u64,
    facts: &Arc<Facts>,
    payload: &Bytes,
    out: &mut Actions,
) {
    let raise = dispatch.raise_hint(QUEUE, Priority::DEFAULT);
    let first = Position(*next);
    *next += u64::from(BLOCK);
    let block = BlockRef {
        priority: Priority::DEFAULT,
        first,
        count: BLOCK,
    };
    let added = Added {
        queue: QUEUE,
        block,
        facts: Arc::clone(facts),
        payload: payload.clone(),
        absent: Vec::new(),
        tally: Tally {
            messages: u64::from(BLOCK),
            body_bytes: facts.body_bytes(),
        },
        scheduled: Tally::default(),
        wake: None,
    };
    dispatch.step(Input::Applied(Effect::Added(added)), out);
    if let Some(raise) = raise {
        let mark = Position(*next).plus(u64::from(raise));
        let (queue, priority) = (QUEUE, Priority::DEFAULT);
        dispatch.step(
            Input::Applied(Effect::Raised {
                queue,
                priority,
                mark,
            }),
            out,
        );
    }
}

/// Does what the actions ask: acks in fifties, commits at once. Gives back the messages that were delivered.
fn perform(dispatch: &mut Dispatch, unacked: &mut Vec<Held>, out: &mut Actions) -> u64 {
    let mut delivered = 0;
    while !out.list.is_empty() {
        let actions = std::mem::take(&mut out.list);
        for action in actions {
            if let Action::Deliver { deliveries, .. } = &action {
                delivered += deliveries.len() as u64;
                unacked.extend(deliveries.iter().map(|it| Held {
                    position: it.position,
                    attempt: it.attempt,
                }));
            } else if let Action::Propose(Command::Settle(it)) = action {
                let (queue, ranges, reason) = (it.queue, it.ranges, it.reason);
                let messages: u64 = ranges.iter().map(|it| it.count).sum();
                let all = Tally {
                    messages,
                    body_bytes: messages * 1_000,
                };
                let effect = Effect::Settled {
                    queue,
                    ranges,
                    reason,
                    left: Left {
                        all,
                        ..Left::default()
                    },
                };
                dispatch.step(Input::Applied(effect), out);
            } else if let Action::Propose(Command::HandOut(it)) = action {
                let (queue, priority) = (it.queue, it.priority);
                let mark = it.up_to.unwrap_or_default();
                dispatch.step(
                    Input::Applied(Effect::Raised {
                        queue,
                        priority,
                        mark,
                    }),
                    out,
                );
            }
        }
        while unacked.len() >= ACK {
            let request = SettleRequest {
                outputs: None,
                said: None,
                node: NodeId(1),
                token: Token(1),
                queue: QUEUE,
                items: unacked.drain(..ACK).collect(),
                reason: SettleReason::Acked,
            };
            dispatch.step(Input::Settle(request), out);
        }
    }
    delivered
}

fn main() {
    run("no groups", None);
    run("100 keys", Some(MessageGroups::Strict));
}

fn run(what: &str, message_groups: Option<MessageGroups>) {
    let mut dispatch = Dispatch::new(Options::default());
    let mut out = Actions::default();
    let now = ShardTime(0);
    let (term, queues) = (Term(1), Vec::new());
    dispatch.step(Input::Open { term, now, queues }, &mut out);
    dispatch.step(
        Input::Applied(Effect::QueueCreated { queue: QUEUE }),
        &mut out,
    );
    let settings = QueueSettings {
        message_groups,
        ..QueueSettings::default()
    };
    dispatch.step(
        Input::Settings {
            queue: QUEUE,
            settings: Arc::new(settings),
        },
        &mut out,
    );
    dispatch.step(Input::Start, &mut out);
    dispatch.step(Input::Clock { now, lease: true }, &mut out);
    let consumer = ConsumerKey {
        node: NodeId(1),
        consumer: ConsumerId(1),
    };
    let options = ConsumerOptions {
        no_ack: false,
        refill: Refill::All,
        priority: 0,
        exclusive: false,
        uncommitted_max: 1_000,
        passing: false,
    };
    let credit = Credit {
        messages: 200,
        bytes: 1 << 30,
    };
    let attach = Attach {
        consumer,
        queue: QUEUE,
        options,
        credit,
        held: Vec::new(),
    };
    dispatch.step(Input::Attach(attach), &mut out);
    let facts = Arc::new(Facts {
        size: vec![1_024; BLOCK as usize],
        body_size: vec![1_000; BLOCK as usize],
        group_hash: (1..=u64::from(BLOCK)).collect(),
        ..Facts::default()
    });
    let payload = Bytes::from(vec![0; 1_024 * BLOCK as usize]);
    let (mut next, mut unacked, mut delivered) = (1, Vec::new(), 0);
    for round in 0..3 {
        let (started, before) = (Instant::now(), delivered);
        for _ in 0..20_000 {
            publish(&mut dispatch, &mut next, &facts, &payload, &mut out);
            delivered += perform(&mut dispatch, &mut unacked, &mut out);
        }
        let nanoseconds = started.elapsed().as_nanos() / u128::from(delivered - before);
        println!(
            "{what}, round {round}: {} messages, {nanoseconds} ns each (added, delivered, settled)",
            delivered - before
        );
    }
}
