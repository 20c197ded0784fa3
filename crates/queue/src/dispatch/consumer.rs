//! Consumers and the nodes they are on: standing, credit, how much they hold. Not here: whose turn it is (`ring`).

use std::collections::BTreeMap;

use warren_types::{NodeId, QueueId, ShardTime};

use super::io::{ConsumerKey, ConsumerOptions, Credit, HandedOut, HeldState};

/// Who holds a message in flight: a consumer's slot, or nobody (a settle that came without its consumer).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Holder(u32);

impl Holder {
    pub(super) const NOBODY: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Its held positions are being looked up; nothing is delivered before that is answered.
    Attaching,
    Active,
    /// Its node is lost or reports anew: nothing is delivered, what it holds stays.
    Absent,
    /// Cancelled: it takes no more, what it holds may still be settled.
    Cancelled,
    /// Over; forgotten when the last fact about what it held is committed.
    Gone,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) key: ConsumerKey,
    pub(super) queue: QueueId,
    pub(super) options: ConsumerOptions,
    pub(super) standing: Standing,
    messages: u64,
    /// Counts the attachments of the shard: among equals the first comes first.
    pub(super) place: u64,
    /// Below zero after a message that was larger than what was left.
    bytes: i64,
    /// Messages in flight in its name, settling and returning ones too.
    pub(super) in_flight: u32,
    /// Settles and returns proposed in its name and not committed.
    pub(super) uncommitted: u32,
    /// Stands in its queue's ring.
    pub(super) ringed: bool,
    /// Stands in its queue's list of those to be told that messages wait.
    pub(super) dry: bool,
    /// Was told that messages wait; no credit came since.
    pub(super) told_waiting: bool,
    /// Answers to what it claims to hold, while they are looked up.
    pub(super) claims: Vec<Option<HeldState>>,
    pub(super) claims_open: usize,
    /// Handed out in this step.
    pub(super) outbox: Vec<HandedOut>,
    node: usize,
}

impl Consumer {
    pub(super) fn has_credit(&self) -> bool {
        self.messages > 0 && self.bytes > 0
    }

    /// Counts as a consumer of its queue.
    pub(super) fn is_attached(&self) -> bool {
        match self.standing {
            Standing::Attaching | Standing::Active | Standing::Absent => true,
            Standing::Cancelled | Standing::Gone => false,
        }
    }

    pub(super) fn add(&mut self, credit: Credit) {
        self.messages = self.messages.saturating_add(credit.messages);
        let bytes = i64::try_from(credit.bytes).unwrap_or(i64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.told_waiting = false;
    }

    pub(super) fn set(&mut self, credit: Credit) {
        self.messages = 0;
        self.bytes = 0;
        self.add(credit);
    }

    /// One message of this many body bytes; may overdraw the bytes once.
    pub(super) fn spend(&mut self, body_bytes: u32) {
        debug_assert!(self.has_credit());
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(i64::from(body_bytes));
    }

    /// Takes back what is unspent, up to a limit.
    pub(super) fn recall(&mut self, up_to: Credit) -> Credit {
        let unspent = u64::try_from(self.bytes).unwrap_or(0);
        let taken = Credit {
            messages: self.messages.min(up_to.messages),
            bytes: unspent.min(up_to.bytes),
        };
        self.messages -= taken.messages;
        self.bytes -= i64::try_from(taken.bytes).expect("at most what was there");
        taken
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) in_flight: usize,
    pub(super) lost_at: Option<ShardTime>,
    /// While it is lost: not before this is it looked at whose time is over.
    pub(super) look_at: ShardTime,
    /// Consumers with credit that wait for the node's in-flight limit.
    pub(super) full: Vec<Holder>,
}

/// All consumers of a shard and their nodes. Slots are reused only when nothing names them any more.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    slots: Vec<Option<Consumer>>,
    free: Vec<u32>,
    by_key: BTreeMap<ConsumerKey, Holder>,
    nodes: Vec<Node>,
    places: u64,
}

impl Consumers {
    pub(super) fn add(
        &mut self,
        key: ConsumerKey,
        queue: QueueId,
        options: ConsumerOptions,
    ) -> Holder {
        self.places += 1;
        let consumer = Consumer {
            key,
            queue,
            options,
            standing: Standing::Attaching,
            messages: 0,
            place: self.places,
            bytes: 0,
            in_flight: 0,
            uncommitted: 0,
            ringed: false,
            dry: false,
            told_waiting: false,
            claims: Vec::new(),
            claims_open: 0,
            outbox: Vec::new(),
            node: self.node_index(key.node),
        };
        let holder = match self.free.pop() {
            Some(free) => {
                if let Some(slot) = self.slots.get_mut(free as usize) {
                    *slot = Some(consumer);
                }
                Holder(free)
            }
            None => {
                self.slots.push(Some(consumer));
                Holder(u32::try_from(self.slots.len() - 1).expect("bounded by sessions"))
            }
        };
        self.by_key.insert(key, holder);
        holder
    }

    pub(super) fn remove(&mut self, holder: Holder) {
        if let Some(consumer) = self.slots.get_mut(holder.0 as usize).and_then(Option::take) {
            self.free.push(holder.0);
            self.by_key.remove(&consumer.key);
        }
    }

    pub(super) fn find(&self, key: ConsumerKey) -> Option<Holder> {
        self.by_key.get(&key).copied()
    }

    pub(super) fn get(&self, holder: Holder) -> Option<&Consumer> {
        self.slots.get(holder.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, holder: Holder) -> Option<&mut Consumer> {
        self.slots.get_mut(holder.0 as usize)?.as_mut()
    }

    /// The consumers of one node, by key.
    pub(super) fn of_node(&self, node: NodeId) -> Vec<Holder> {
        let from = ConsumerKey {
            node,
            consumer: warren_types::ConsumerId(0),
        };
        let up_to = ConsumerKey {
            node,
            consumer: warren_types::ConsumerId(u64::MAX),
        };
        self.by_key.range(from..=up_to).map(|(_, &it)| it).collect()
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        let index = self.node_index(id);
        self.nodes.get_mut(index).expect("found or just made")
    }

    pub(super) fn node_of(&mut self, holder: Holder) -> Option<&mut Node> {
        let index = self.get(holder)?.node;
        self.nodes.get_mut(index)
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn node_index(&mut self, id: NodeId) -> usize {
        if let Some(index) = self.nodes.iter().position(|it| it.id == id) {
            return index;
        }
        self.nodes.push(Node {
            id,
            in_flight: 0,
            lost_at: None,
            look_at: ShardTime::default(),
            full: Vec::new(),
        });
        self.nodes.len() - 1
    }
}
