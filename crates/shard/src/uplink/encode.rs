//! Turns publishes that queued up into one numbered batch: messages of the same queue and priority become one part, in order.
//! Not here: numbering and resending (`pending`).

use std::collections::HashMap;

use bytes::BytesMut;
use tokio::time::Instant;
use warren_codec::{encode_message, encoded_bytes_max};
use warren_queue::dispatch::io::Token;
use warren_topology::Topology;
use warren_types::{Facts, Message, Priority, ProducerSpan, QueueId, QueueSettings, ShardTime};

use super::pending::Waiter;
use crate::api::{ProducerTag, PublishItem};
use crate::link::frame::Part;
use crate::link::outbox::Outbox;

/// A publish as a session handed it over.
pub(crate) struct Publish {
    pub(crate) item: PublishItem,
    pub(crate) inbox: Outbox<crate::api::SessionEvent>,
    /// It is not begun after this.
    pub(crate) deadline: Option<Instant>,
}

impl Publish {
    pub(crate) fn waiter(&self) -> Waiter {
        Waiter {
            inbox: self.inbox.clone(),
            token: self.item.token,
        }
    }
}

/// A batch before it has its number: its parts, and who waits for each message, in the order of the parts.
pub(crate) struct Encoded {
    pub(crate) parts: Vec<Part>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) bytes: usize,
}

struct Open {
    queue: QueueId,
    priority: Priority,
    facts: Facts,
    payload: BytesMut,
    producers: Vec<ProducerSpan>,
    waiters: Vec<Waiter>,
}

/// Encodes publishes; `now_ms` is this node's wall clock, kept in each message as when it came. Expiry and due time leave here as
/// durations: the shard's leader adds its own time. The topology tells how each queue counts priorities.
pub(crate) fn encode(
    publishes: impl IntoIterator<Item = Publish>,
    now_ms: u64,
    topology: &Topology,
) -> Encoded {
    let mut open: Vec<Open> = Vec::new();
    let mut place: HashMap<(QueueId, Priority), usize> = HashMap::new();
    let mut levels = Levels::new(topology);
    let publishes: Vec<Publish> = publishes.into_iter().collect();
    let mut bytes = bytes_of(&publishes);
    for Publish { item, inbox, .. } in publishes {
        let next = open.len();
        let priority = levels.of(item.queue, &item.message);
        let at = *place.entry((item.queue, priority)).or_insert(next);
        if at == next {
            open.push(Open {
                queue: item.queue,
                priority,
                facts: Facts::default(),
                payload: BytesMut::with_capacity(bytes.remove(&item.queue).unwrap_or_default()),
                producers: Vec::new(),
                waiters: Vec::new(),
            });
        }
        let part = open
            .get_mut(at)
            .expect("the part was found or pushed above");
        part.push(&item.message, item.producer, now_ms);
        part.waiters.push(Waiter {
            inbox,
            token: item.token,
        });
    }
    let mut encoded = Encoded {
        parts: Vec::with_capacity(open.len()),
        waiters: Vec::new(),
        bytes: 0,
    };
    for part in open {
        encoded.bytes += part.payload.len();
        encoded.waiters.extend(part.waiters);
        encoded.parts.push(Part {
            queue: part.queue,
            priority: part.priority,
            facts: part.facts,
            payload: part.payload.freeze(),
            producers: part.producers,
        });
    }
    encoded
}

/// About what each queue's messages take: a payload that grows copies what it holds.
fn bytes_of(publishes: &[Publish]) -> HashMap<QueueId, usize> {
    let mut bytes = HashMap::new();
    for Publish { item, .. } in publishes {
        *bytes.entry(item.queue).or_default() += encoded_bytes_max(&item.message);
    }
    bytes
}

/// How the queues of a batch count priorities (`x-max-priority`, features B52).
struct Levels<'a> {
    topology: &'a Topology,
    known: HashMap<QueueId, Option<QueueSettings>>,
}

impl<'a> Levels<'a> {
    fn new(topology: &'a Topology) -> Self {
        let known = HashMap::new();
        Self { topology, known }
    }

    fn of(&mut self, queue: QueueId, message: &Message) -> Priority {
        let topology = self.topology;
        let settings = self.known.entry(queue).or_insert_with(|| {
            let queue = topology.queue_by_id(queue);
            let settings = queue.map(|it| topology.queue_settings(it));
            settings.filter(|it| it.max_priority.is_some())
        });
        match settings {
            Some(settings) => settings.level(message.properties.priority()),
            None => message.priority,
        }
    }
}

impl Open {
    fn push(&mut self, message: &Message, producer: Option<ProducerTag>, now_ms: u64) {
        let index = self.facts.size.len();
        let sizes = encode_message(&mut self.payload, message, ShardTime(now_ms));
        self.facts.size.push(sizes.encoded);
        self.facts.body_size.push(sizes.body);
        // Zero says "none" on the wire; a time to live of zero is at most a millisecond.
        let expiry = message.ttl_ms.map(|ttl| ShardTime(ttl.max(1)));
        push_fact(&mut self.facts.expiry, index, expiry);
        push_fact(
            &mut self.facts.due,
            index,
            message.delay_ms.filter(|delay| *delay > 0).map(ShardTime),
        );
        push_fact(&mut self.facts.group_hash, index, message.group_hash);
        push_fact(&mut self.facts.fairness_hash, index, message.fairness_hash);
        push_fact(&mut self.facts.dedup_hash, index, message.dedup_hash);
        let Some(tag) = producer else { return };
        let index = u32::try_from(index).expect("a batch holds fewer than 2^32 messages");
        match self
            .producers
            .iter_mut()
            .find(|span| span.producer == tag.producer && span.epoch == tag.epoch)
        {
            Some(span) => span.sequences.push((index, tag.sequence)),
            None => self.producers.push(ProducerSpan {
                producer: tag.producer,
                epoch: tag.epoch,
                sequences: vec![(index, tag.sequence)],
            }),
        }
    }
}

/// An optional column exists from the first message that has the fact.
fn push_fact<T: Clone + Default + PartialEq>(column: &mut Vec<T>, index: usize, fact: T) {
    if column.is_empty() && fact == T::default() {
        return;
    }
    column.resize(index, T::default());
    column.push(fact);
}

/// Tokens of requests that one node sent to one shard.
#[derive(Debug, Default)]
pub(crate) struct Tokens(u64);

impl Tokens {
    pub(crate) fn next(&mut self) -> Token {
        self.0 += 1;
        Token(self.0)
    }
}
