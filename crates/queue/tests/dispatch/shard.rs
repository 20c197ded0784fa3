//! The store on rows in memory, one entry per command, for the dispatcher's scripts. Not here: what is expected (`tests/scripts`).

use bytes::Bytes;
use warren_queue::dispatch::io::{Due, LeavingOpening, Loaded, QueueOpening};
use warren_queue::entry::{
    ApplyContext, Command, CreateQueue, DeleteQueue, Enqueue, ProposalId, ShardEntry,
};
use warren_queue::outcome::{Effect, Output};
use warren_queue::store::{Store, StoreOptions};
use warren_types::{
    Facts, LogIndex, Position, PositionRange, Priority, QueueId, QueueName, ShardTime, Term,
    TopologyIndex, VhostId,
};

#[path = "../support/rows.rs"]
mod rows;
use rows::MapRows;

pub(crate) struct Shard {
    store: Store,
    rows: MapRows,
    index: u64,
}

/// A block of messages whose payload is the position-independent text of their ids.
pub(crate) fn enqueue(queue: QueueId, priority: Priority, ids: &[u64], body: u32) -> Enqueue {
    let encoded: Vec<Vec<u8>> = ids.iter().map(|id| id.to_string().into_bytes()).collect();
    let count = ids.len();
    Enqueue {
        queue,
        priority,
        facts: Facts {
            size: encoded.iter().map(|it| it.len() as u32).collect(),
            body_size: vec![body; count],
            ..Facts::default()
        },
        payload: Bytes::from(encoded.concat()),
        producers: Vec::new(),
        raise: None,
        full: Vec::new(),
        dedup: None,
    }
}

impl Shard {
    pub(crate) fn new() -> Self {
        let rows = MapRows::default();
        Self {
            store: Store::open(&rows, StoreOptions::default()),
            rows,
            index: 0,
        }
    }

    pub(crate) fn create(&mut self, queue: QueueId) -> Vec<Effect> {
        self.apply(
            ShardTime(0),
            Command::CreateQueue(CreateQueue {
                queue,
                vhost: VhostId(1),
                name: QueueName::try_from("q").unwrap(),
                topology: TopologyIndex(1),
            }),
        )
    }

    pub(crate) fn delete(&mut self, queue: QueueId) -> Vec<Effect> {
        let topology = TopologyIndex(1);
        let command = Command::DeleteQueue(DeleteQueue { queue, topology });
        self.apply(ShardTime(0), command)
    }

    /// One entry; its effects without the shard's time.
    pub(crate) fn apply(&mut self, now: ShardTime, command: Command) -> Vec<Effect> {
        self.index += 1;
        let entry = ShardEntry {
            proposal: ProposalId::default(),
            now,
            topology: TopologyIndex(1),
            origins: Vec::new(),
            commands: vec![command],
        };
        entry
            .validate()
            .expect("dispatch proposes what makes sense");
        let at = ApplyContext {
            index: LogIndex(self.index),
            term: Term(1),
        };
        let mut out = Output::default();
        self.store.apply(&self.rows, at, entry, &mut out);
        self.rows.take(&out.changes);
        out.effects
            .retain(|effect| !matches!(effect, Effect::Time { .. }));
        out.effects
    }

    pub(crate) fn load(&self, queue: QueueId, priority: Priority, from: Position) -> Loaded {
        self.store.load(&self.rows, queue, priority, from)
    }

    pub(crate) fn due(&mut self, queue: QueueId, up_to: ShardTime) -> Due {
        self.store.due(&self.rows, queue, up_to, 16)
    }

    /// What of it is there, as the shard's leader takes it out.
    pub(crate) fn leaving(&self, queue: QueueId, ranges: &[PositionRange]) -> Vec<LeavingOpening> {
        let found = self.store.read(&self.rows, queue, ranges).into_iter();
        found
            .map(|it| LeavingOpening {
                priority: it.priority,
                position: it.position,
                body_bytes: it.body_bytes,
                expiry: it.expiry,
                group: it.group_hash,
                dies: false,
            })
            .collect()
    }

    pub(crate) fn openings(&self) -> Vec<QueueOpening> {
        let queues = self.store.queues();
        queues
            .filter_map(|queue| self.store.opening(&self.rows, queue))
            .collect()
    }
}
