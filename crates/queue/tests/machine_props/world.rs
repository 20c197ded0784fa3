//! One shard and its consumers, driven by a seed; every delivery and answer is checked where it happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use warren_queue::dispatch::io::{Actions, ConsumerKey, Due, Input, Loaded, Token};
use warren_queue::dispatch::{Dispatch, Options};
use warren_queue::entry::{
    ApplyContext, Command, CreateQueue, Enqueue, ProposalId, PurgeStates, ReturnKind, ShardEntry,
};
use warren_queue::outcome::{Effect, Output};
use warren_queue::store::{Store, StoreOptions};
use warren_types::{
    ConsumerId, Facts, LogIndex, MessageGroups, NodeId, Position, Priority, QueueId, QueueName,
    QueueSettings, ShardTime, Term, TopologyIndex, VhostId,
};

use crate::groups::mode;
use crate::rows::MapRows;
use crate::sessions::{Asked, Link, Random, Session, body_size};
use crate::together::Together;

pub(crate) const QUEUES: u64 = 2;
pub(crate) const NODES: u64 = 3;
/// It serves one consumer at a time.
pub(crate) const SINGLE: QueueId = QueueId(2);
pub(crate) const BODY_MAX: u64 = 50;
const HOT_BYTES: usize = 4_000;
/// A block of the largest size with its facts.
const BLOCK_BYTES: usize = 20 * (8 + 48);

pub(crate) type Spot = (QueueId, Position);

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) store: Store,
    pub(crate) rows: MapRows,
    pub(crate) dispatch: Dispatch,
    term: u64,
    index: u64,
    pub(crate) now: u64,
    /// Queues have limits, messages times.
    pub(crate) features: bool,
    pub(crate) settings: BTreeMap<QueueId, Arc<QueueSettings>>,
    /// Asked for, as `loads`.
    pub(crate) looks: VecDeque<(QueueId, ShardTime, Option<Due>)>,
    /// When every stored message is due and expires.
    pub(crate) times: BTreeMap<Spot, (Option<ShardTime>, Option<ShardTime>)>,
    /// Stored since time last passed.
    pub(crate) newborn: BTreeSet<Spot>,
    pub(crate) lease: bool,
    pub(crate) started: bool,
    /// Proposed, not committed.
    pub(crate) pipeline: VecDeque<Command>,
    /// Asked for; some were read at once and wait, some are read when they are answered.
    pub(crate) loads: VecDeque<(QueueId, Priority, Position, Option<Loaded>)>,
    pub(crate) sessions: BTreeMap<ConsumerKey, Session>,
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) together: BTreeMap<u64, Together>,
    /// Messages that came with deliveries that ended together.
    pub(crate) came_together: BTreeSet<Bytes>,
    pub(crate) next_id: u64,
    /// What every stored message is.
    pub(crate) stored: BTreeMap<Spot, (Priority, Bytes)>,
    pub(crate) seen: BTreeSet<Spot>,
    pub(crate) done: BTreeSet<Spot>,
    pub(crate) delivered: u64,
    /// What sessions say once they have heard all that a step told them.
    pub(crate) later: VecDeque<Input>,
    /// Keys are kept in order.
    pub(crate) mode: Option<MessageGroups>,
    /// Of every stored message that has one, where they are.
    pub(crate) keys: BTreeMap<Spot, u64>,
    /// Messages of each key that may be live.
    pub(crate) of_key: BTreeMap<(QueueId, u64), BTreeSet<Position>>,
    /// Were returned before they were last handed out.
    pub(crate) failed: BTreeSet<Spot>,
    /// Returned until later.
    pub(crate) delays: BTreeMap<Spot, ShardTime>,
    /// How often it was looked who might starve.
    pub(crate) starved: u64,
    /// Of the second queue, which serves one consumer at a time: the last fencing number and whose it was.
    pub(crate) activation: (u64, Option<ConsumerKey>),
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let rows = MapRows::default();
        let small = StoreOptions {
            cached_blocks_max: 2,
            ..StoreOptions::default()
        };
        let mut world = World {
            random: Random::new(seed),
            store: Store::open(&rows, small),
            rows,
            dispatch: Dispatch::new(Options::default()),
            term: 0,
            index: 0,
            now: 1,
            features: seed.is_multiple_of(2),
            settings: BTreeMap::new(),
            looks: VecDeque::new(),
            times: BTreeMap::new(),
            newborn: BTreeSet::new(),
            lease: true,
            started: false,
            pipeline: VecDeque::new(),
            loads: VecDeque::new(),
            sessions: BTreeMap::new(),
            asked: BTreeMap::new(),
            together: BTreeMap::new(),
            came_together: BTreeSet::new(),
            next_id: 0,
            stored: BTreeMap::new(),
            seen: BTreeSet::new(),
            done: BTreeSet::new(),
            delivered: 0,
            later: VecDeque::new(),
            mode: mode(seed),
            keys: BTreeMap::new(),
            of_key: BTreeMap::new(),
            failed: BTreeSet::new(),
            delays: BTreeMap::new(),
            starved: 0,
            activation: (0, None),
        };
        world.use_groups();
        for queue in 1..=QUEUES {
            world.apply(Command::CreateQueue(CreateQueue {
                queue: QueueId(queue),
                vhost: VhostId(1),
                name: QueueName::try_from(format!("queue-{queue}").as_str()).unwrap(),
                topology: TopologyIndex(0),
            }));
        }
        world.change_leader();
        world
    }

    pub(crate) fn random_step(&mut self) {
        match self.random.below(100) {
            0..=19 => self.publish(),
            20..=39 => self.commit_some(),
            40..=54 => self.answer_load(),
            55..=68 => self.let_go(),
            69..=72 => self.end_some_together(),
            73..=79 => self.new_session(),
            80..=82 => self.end_session(),
            83..=87 => self.pass_time(),
            88 => self.use_features(),
            89..=91 => self.cut_node(),
            92..=95 => self.node_back(),
            96 => self.purge(),
            97 => self.attach_late(),
            98 => self.come_to_rest(),
            _ => self.change_leader(),
        }
        assert!(self.dispatch.hot_bytes() <= HOT_BYTES + 4 * BLOCK_BYTES);
    }

    pub(crate) fn queue(&mut self) -> QueueId {
        QueueId(1 + self.random.below(QUEUES))
    }

    fn publish(&mut self) {
        let queue = self.queue();
        let priority = Priority::clamped(4 + self.random.below(2) as u8);
        let bodies: Vec<Bytes> = (0..1 + self.random.below(20))
            .map(|_| {
                self.next_id += 1;
                Bytes::from(format!("m{}", self.next_id))
            })
            .collect();
        let (due, expiry) = self.draw_times(bodies.len());
        let group_hash = self.draw_keys(bodies.len());
        let raise = self.dispatch.raise_hint(queue, priority);
        self.pipeline.push_back(Command::Enqueue(Enqueue {
            queue,
            priority,
            facts: Facts {
                size: bodies.iter().map(|it| it.len() as u32).collect(),
                body_size: bodies.iter().map(|it| body_size(it) as u32).collect(),
                due,
                expiry,
                group_hash,
                ..Facts::default()
            },
            payload: Bytes::from(bodies.concat()),
            producers: Vec::new(),
            raise,
            full: Vec::new(),
            dedup: None,
        }));
    }

    pub(crate) fn commit_some(&mut self) {
        for _ in 0..1 + self.random.below(6) {
            if let Some(command) = self.pipeline.pop_front() {
                for effect in self.apply(command) {
                    self.step(Input::Applied(effect));
                }
            }
        }
    }

    /// One entry with one command.
    fn apply(&mut self, command: Command) -> Vec<Effect> {
        self.index += 1;
        let mut out = Output::default();
        let at = ApplyContext {
            index: LogIndex(self.index),
            term: Term(self.term),
        };
        let entry = ShardEntry {
            proposal: ProposalId::default(),
            now: ShardTime(self.now),
            topology: TopologyIndex(0),
            origins: Vec::new(),
            commands: vec![command],
        };
        self.store.apply(&self.rows, at, entry, &mut out);
        self.rows.take(&out.changes);
        for effect in &out.effects {
            if let Effect::Cancelled(it) = effect {
                let gone = it.ranges.iter().flat_map(|range| range.positions());
                self.done.extend(gone.map(|at| (it.queue, at)));
            }
            if let Effect::Returned {
                queue,
                ranges,
                not_before,
                ..
            } = effect
            {
                let back = ranges.iter().flat_map(|range| range.positions());
                let until = not_before.unwrap_or(ShardTime(0));
                self.delays.extend(back.map(|at| ((*queue, at), until)));
            }
            if let Effect::Added(it) = effect {
                let facts: Arc<Facts> = Arc::clone(&it.facts);
                let mut offset = 0;
                for (index, &size) in facts.size.iter().enumerate() {
                    let end = offset + size as usize;
                    let position = it.block.first.plus(index as u64);
                    let message = it.payload.slice(offset..end);
                    let spot = (it.queue, position);
                    self.comes_once(&message);
                    self.stored.insert(spot, (it.block.priority, message));
                    let at = |column: &[Option<ShardTime>]| column.get(index).copied().flatten();
                    let times = (at(&facts.due), at(&facts.expiry));
                    self.times.insert(spot, times);
                    self.newborn.insert(spot);
                    let key = facts.group_hash.get(index).copied().unwrap_or(0);
                    self.note_key(spot, key);
                    offset = end;
                }
            }
        }
        out.effects
    }

    pub(crate) fn answer_load(&mut self) {
        self.answer_look();
        if let Some((queue, priority, from, read)) = self.loads.pop_front() {
            let loaded = read.unwrap_or_else(|| self.store.load(&self.rows, queue, priority, from));
            self.step(Input::Loaded(loaded));
        }
    }

    /// A consumer settles or returns some of what it holds.
    fn let_go(&mut self) {
        let Some(key) = self.pick(Link::Attached) else {
            return;
        };
        let session = self.sessions.get_mut(&key).unwrap();
        let items = session.take_some(&mut self.random);
        if items.is_empty() {
            return;
        }
        let back = match self.random.below(5) {
            0 => Some((ReturnKind::Failed, None)),
            1 => {
                let until = self.now + self.random.below(200);
                Some((ReturnKind::Untouched, Some(ShardTime(until))))
            }
            _ => None,
        };
        let queue = session.queue;
        self.ask(Asked {
            key,
            queue,
            items,
            back,
        });
    }

    pub(crate) fn ask(&mut self, asked: Asked) {
        self.next_id += 1;
        let token = Token(self.next_id);
        let input = asked.input(token);
        self.asked.insert(token.0, asked);
        self.step(input);
    }

    pub(crate) fn new_session(&mut self) {
        if self.sessions.len() >= 8 {
            return;
        }
        self.next_id += 1;
        let key = ConsumerKey {
            node: NodeId(1 + self.random.below(NODES)),
            consumer: ConsumerId(self.next_id),
        };
        let cut = self
            .sessions
            .values()
            .any(|it| it.key.node == key.node && it.link == Link::Cut);
        if cut {
            return;
        }
        let queue = self.queue();
        let small = self.random.one_in(3);
        let mut session = Session::new(key, queue, 1 + self.random.below(30));
        session.bytes = if small { 60 } else { 1_000_000 };
        session.priority = self.random.below(2) as i32;
        self.sessions.insert(key, session);
        self.attach(key);
    }

    pub(crate) fn attach(&mut self, key: ConsumerKey) {
        let input = self.sessions.get_mut(&key).unwrap().attach();
        self.step(input);
    }

    fn end_session(&mut self) {
        let Some(key) = self.pick(Link::Attached) else {
            return;
        };
        self.sessions.remove(&key);
        let returns = Some(if self.random.one_in(2) {
            ReturnKind::Failed
        } else {
            ReturnKind::Untouched
        });
        if self.random.one_in(3) {
            self.step(Input::Detach {
                consumer: key,
                returns: None,
            });
        }
        self.step(Input::Detach {
            consumer: key,
            returns,
        });
    }

    fn pass_time(&mut self) {
        self.now += self.random.below(300);
        self.lease = !self.random.one_in(4);
        self.newborn.clear();
        self.step(Input::Clock {
            now: ShardTime(self.now),
            lease: self.lease,
        });
    }

    fn purge(&mut self) {
        let (queue, node) = (self.queue(), NodeId(1));
        let token = Token(0);
        self.step(Input::Purge {
            queue,
            token,
            node,
            states: PurgeStates::default(),
        });
    }

    fn attach_late(&mut self) {
        if let Some(key) = self.pick(Link::Cut) {
            let node = key.node;
            self.step(Input::NodeBack { node });
            self.report(node);
            self.step(Input::NodeReported { node });
        }
    }

    /// Some of what was proposed is committed without the old leader hearing of it; the rest is lost.
    fn change_leader(&mut self) {
        let kept = self.random.below(1 + self.pipeline.len() as u64);
        let lost = self.pipeline.split_off(kept as usize);
        for command in std::mem::take(&mut self.pipeline) {
            self.apply(command);
        }
        // Publishes are sent anew by their nodes.
        for command in lost {
            if let Command::Enqueue(it) = command {
                self.pipeline
                    .push_back(Command::Enqueue(Enqueue { raise: None, ..it }));
            }
        }
        self.loads.clear();
        self.looks.clear();
        self.term += 1;
        self.started = false;
        for session in self.sessions.values_mut() {
            session.link = Link::Cut;
        }
        self.dispatch = Dispatch::new(Options {
            chunk: 16,
            queue_hot_bytes: HOT_BYTES,
            shard_hot_bytes: HOT_BYTES,
            read_ahead_bytes: 200,
            node_in_flight_max: 60,
            group_window: 40,
            consumer_disconnected_timeout_ms: 500,
        });
        let queues = self.store.queues().collect::<Vec<_>>();
        self.step(Input::Open {
            term: Term(self.term),
            now: ShardTime(self.now),
            queues: queues
                .into_iter()
                .map(|it| self.store.opening(&self.rows, it).unwrap())
                .collect(),
        });
        for queue in 1..=QUEUES {
            self.tell_settings(QueueId(queue));
        }
        for node in 1..=NODES {
            if !self.random.one_in(4) {
                self.step(Input::NodeBack { node: NodeId(node) });
                self.report(NodeId(node));
                self.step(Input::NodeReported { node: NodeId(node) });
            }
            while self.random.one_in(2) {
                self.answer_load();
                self.commit_some();
            }
        }
        self.started = true;
        self.step(Input::Start);
        let (now, lease) = (ShardTime(self.now), self.lease);
        self.newborn.clear();
        self.step(Input::Clock { now, lease });
    }

    pub(crate) fn pick(&mut self, link: Link) -> Option<ConsumerKey> {
        let keys: Vec<ConsumerKey> = self
            .sessions
            .values()
            .filter(|it| it.link == link)
            .map(|it| it.key)
            .collect();
        let at = self.random.below(keys.len().max(1) as u64) as usize;
        keys.get(at).copied()
    }

    pub(crate) fn step(&mut self, input: Input) {
        let mut out = Actions::default();
        self.dispatch.step(input, &mut out);
        for action in out.list {
            self.perform(action);
        }
        while let Some(input) = self.later.pop_front() {
            self.step(input);
        }
    }
}
