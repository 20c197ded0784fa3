//! Turns publishes that queued up into one numbered batch: messages of the same queue and priority become one part, in order.
//! Not here: numbering and resending (`pending`).

use std::collections::HashMap;

use bytes::BytesMut;
use tokio::time::Instant;
use warren_codec::{encode_message, encoded_bytes_max};
use warren_queue::dispatch::io::Token;
use warren_topology::Topology;
use warren_types::{
    Facts, Message, Priority, ProducerSpan, QueueId, QueueSettings, Run, ShardTime,
};

use super::pending::Waiter;
use crate::api::{ProducerTag, PublishItem};
use crate::group::group_hash;
use crate::link::frame::Part;
use crate::link::outbox::Outbox;

/// A publish as a session handed it over.
pub(crate) struct Publish {
    pub(crate) item: PublishItem,
    pub(crate) inbox: Outbox<crate::api::SessionEvent>,
    /// It is not begun after this.
    pub(crate) deadline: Option<Instant>,
    pub(crate) group: Group,
}

/// Whether a publish stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Alone,
    /// It is stored with so many that follow, all or none.
    Together {
        following: usize,
    },
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
    let publishes: Vec<Publish> = publishes.into_iter().collect();
    let mut levels = Levels::new(topology);
    let (mut open, places) = open_parts(&publishes, &mut levels);
    for (Publish { item, inbox, .. }, at) in publishes.into_iter().zip(places) {
        let part = open.get_mut(at).expect("a place is that of a part");
        let is_meant = item.message.dedup_hash != 0 && levels.deduplicates(item.queue);
        let body = is_meant.then(|| body_hash(&item.message.body));
        let group = levels.group(item.queue, &item.message);
        part.push(&item.message, item.producer, now_ms, (group, body));
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

/// A part for each queue and priority, and which each message goes to. A payload has room for what will come: one that grows copies what it
/// holds.
fn open_parts(publishes: &[Publish], levels: &mut Levels<'_>) -> (Vec<Open>, Vec<usize>) {
    let mut parts: Vec<(QueueId, Priority, usize)> = Vec::new();
    let mut place: HashMap<(QueueId, Priority), usize> = HashMap::new();
    let mut last = usize::MAX;
    let places = publishes.iter().map(|Publish { item, .. }| {
        let key = (item.queue, levels.of(item.queue, &item.message));
        let is_last = |it: &(QueueId, Priority, usize)| (it.0, it.1) == key;
        if !parts.get(last).is_some_and(is_last) {
            last = *place.entry(key).or_insert(parts.len());
        }
        let bytes = encoded_bytes_max(&item.message);
        match parts.get_mut(last) {
            Some(part) => part.2 += bytes,
            None => parts.push((key.0, key.1, bytes)),
        }
        last
    });
    let places = places.collect();
    let open = parts.into_iter().map(|(queue, priority, bytes)| Open {
        queue,
        priority,
        facts: Facts::default(),
        payload: BytesMut::with_capacity(bytes),
        producers: Vec::new(),
        waiters: Vec::new(),
    });
    (open.collect(), places)
}

/// What of the queues of a batch matters here: how they count priorities (`x-max-priority`, features B52), whether they deduplicate, whether they
/// keep keys in order.
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
            settings.filter(|it| {
                it.max_priority.is_some()
                    || it.dedup_window_ms.is_some()
                    || it.message_groups.is_some()
            })
        });
        match settings {
            Some(settings) if settings.max_priority.is_some() => {
                settings.level(message.properties.priority())
            }
            Some(_) | None => message.priority,
        }
    }

    /// Hash of its group key, as the queue counts it, which was asked for before.
    fn group(&self, queue: QueueId, message: &Message) -> u64 {
        let settings = self.known.get(&queue).and_then(Option::as_ref);
        if settings.is_some_and(|it| it.message_groups.is_some()) {
            group_hash(message)
        } else {
            message.group_hash
        }
    }

    /// Of a queue that was asked for before.
    fn deduplicates(&self, queue: QueueId) -> bool {
        let settings = self.known.get(&queue).and_then(Option::as_ref);
        settings.is_some_and(|it| it.dedup_window_ms.is_some())
    }
}

impl Open {
    fn push(
        &mut self,
        message: &Message,
        producer: Option<ProducerTag>,
        now_ms: u64,
        (group_hash, body_hash): (u64, Option<u64>),
    ) {
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
        push_fact(&mut self.facts.group_hash, index, group_hash);
        push_fact(&mut self.facts.fairness_hash, index, message.fairness_hash);
        push_fact(&mut self.facts.dedup_hash, index, message.dedup_hash);
        push_fact(&mut self.facts.dedup_body, index, body_hash.unwrap_or(0));
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

/// Tells bodies with the same deduplication key apart; stored, so it never changes. Eight bytes at a time, each mixed in by a multiply and a
/// shift (constants of splitmix64), the length first. Never 0, which says "not told".
fn body_hash(body: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| {
        let value = (hash.rotate_left(23) ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value ^ (value >> 29)
    };
    let (words, rest) = body.as_chunks::<8>();
    let mut hash = mix(0x94d0_49bb_1331_11eb, body.len() as u64);
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let last = rest
        .iter()
        .fold(0_u64, |last, byte| last << 8 | u64::from(*byte));
    mix(mix(hash, last), 0).max(1)
}

/// An optional column exists from the first message that has the fact.
fn push_fact<T: Clone + Default + PartialEq>(column: &mut Vec<T>, index: usize, fact: T) {
    if column.is_empty() && fact == T::default() {
        return;
    }
    column.resize(index, T::default());
    column.push(fact);
}

/// Tokens of requests that one node sent to one shard. Another run of the node uses others: the leader may still answer what the
/// run before it asked.
#[derive(Debug)]
pub(crate) struct Tokens(u64);

/// Bits of a token that count the requests of one run.
const COUNT_BITS: u32 = 40;

impl Tokens {
    pub(crate) fn of(run: Run) -> Self {
        Self(run.0 << COUNT_BITS)
    }

    pub(crate) fn next(&mut self) -> Token {
        self.0 += 1;
        Token(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_node_share_no_token() {
        let (mut one, mut other) = (Tokens::of(Run(1)), Tokens::of(Run(2)));
        let of_one: Vec<_> = (0..1_000).map(|_| one.next()).collect();
        assert!((0..1_000).all(|_| !of_one.contains(&other.next())));
    }

    #[test]
    fn body_hash_tells_bodies_apart_and_stays_what_it_was() {
        let mut seen = std::collections::BTreeSet::new();
        for length in 0..40_usize {
            for byte in [0, 1, 0xff] {
                let mut body = vec![7; length];
                if let Some(last) = body.last_mut() {
                    *last = byte;
                }
                seen.insert(body_hash(&body));
            }
        }
        assert_eq!(seen.len(), 1 + 39 * 3);
        let kept = [&b""[..], b"hello", b"twelve bytes"].map(body_hash);
        assert_eq!(kept, KEPT, "stored: never change it");
    }

    const KEPT: [u64; 3] = [
        0x1837_96f3_b89c_5bbc,
        0x4dd3_e7aa_7692_86a8,
        0xd08a_2aa7_166f_1b99,
    ];
}
