//! A store of a few lines for the dispatcher's tests: it applies commands to maps and answers loads. Not here: rows, entries, limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use warren_queue::dispatch::io::{LevelOpening, Loaded, LoadedBlock, QueueOpening};
use warren_queue::entry::{Command, Enqueue, HandOut, ReturnKind};
use warren_queue::outcome::{Added, BlockRef, Effect};
use warren_types::{Facts, Position, PositionRange, Priority, QueueId};

#[derive(Debug, Default)]
pub(crate) struct FakeStore {
    pub(crate) queues: BTreeMap<QueueId, FakeQueue>,
}

#[derive(Debug, Default)]
pub(crate) struct FakeQueue {
    pub(crate) next: u64,
    pub(crate) marks: BTreeMap<Priority, u64>,
    pub(crate) released: BTreeMap<Priority, BTreeSet<u64>>,
    pub(crate) blocks: BTreeMap<Priority, BTreeMap<u64, (Arc<Facts>, Bytes)>>,
    pub(crate) live: BTreeSet<u64>,
    pub(crate) counts: BTreeMap<u64, (u32, u32)>,
    pub(crate) fencing: u64,
}

/// A block of `bodies.len()` messages whose payload is the position-independent text `<id>` padded to nothing.
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
    }
}

impl FakeStore {
    pub(crate) fn create(&mut self, queue: QueueId) -> Effect {
        let made = FakeQueue {
            next: 1,
            ..FakeQueue::default()
        };
        self.queues.insert(queue, made);
        Effect::QueueCreated { queue }
    }

    pub(crate) fn apply(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Enqueue(it) => match self.queues.get_mut(&it.queue) {
                Some(queue) => queue.enqueue(it),
                None => Vec::new(),
            },
            Command::Settle(it) => {
                let Some(queue) = self.queues.get_mut(&it.queue) else {
                    return Vec::new();
                };
                let ranges = queue.remove(&it.ranges);
                vec![Effect::Settled {
                    queue: it.queue,
                    ranges,
                    reason: it.reason,
                }]
            }
            Command::Return(it) => {
                let Some(queue) = self.queues.get_mut(&it.queue) else {
                    return Vec::new();
                };
                let (ranges, counts) = queue.give_back(&it.ranges, it.kind);
                vec![Effect::Returned {
                    queue: it.queue,
                    ranges,
                    counts,
                    kind: it.kind,
                    not_before: it.not_before,
                }]
            }
            Command::HandOut(it) => match self.queues.get_mut(&it.queue) {
                Some(queue) => queue.hand_out(it),
                None => Vec::new(),
            },
            Command::Purge(it) => {
                let Some(queue) = self.queues.get_mut(&it.queue) else {
                    return Vec::new();
                };
                let meant: Vec<Position> = queue
                    .live
                    .range(..it.below.0)
                    .map(|&at| Position(at))
                    .filter(|&at| !it.except.iter().any(|range| range.contains(at)))
                    .collect();
                let ranges = queue.remove(&PositionRange::collect(meant));
                vec![Effect::Purged {
                    queue: it.queue,
                    ranges,
                }]
            }
            Command::DeleteQueue(it) => {
                self.queues.remove(&it.queue);
                vec![Effect::QueueDeleted { queue: it.queue }]
            }
            Command::CreateQueue(it) => vec![self.create(it.queue)],
            Command::Release(_) | Command::MoveOut(_) | Command::Arrived(_) => Vec::new(),
            Command::Activate(it) => match self.queues.get_mut(&it.queue) {
                Some(queue) => {
                    queue.fencing = queue.fencing.max(it.fencing);
                    vec![Effect::Activated {
                        queue: it.queue,
                        fencing: queue.fencing,
                    }]
                }
                None => Vec::new(),
            },
        }
    }

    pub(crate) fn load(&self, queue: QueueId, priority: Priority, from: Position) -> Loaded {
        let block = self
            .queues
            .get(&queue)
            .and_then(|it| it.block(priority, from));
        Loaded {
            queue,
            priority,
            from,
            block,
        }
    }

    pub(crate) fn openings(&self) -> Vec<QueueOpening> {
        self.queues
            .iter()
            .map(|(&queue, it)| QueueOpening {
                queue,
                next: Position(it.next),
                levels: it.openings(),
                fencing: it.fencing,
                leaving: Vec::new(),
            })
            .collect()
    }
}

impl FakeQueue {
    fn enqueue(&mut self, it: Enqueue) -> Vec<Effect> {
        let (queue, priority) = (it.queue, it.priority);
        let (first, count) = (self.next, it.facts.count());
        self.next += count;
        self.live.extend(first..self.next);
        let facts = Arc::new(it.facts);
        self.blocks
            .entry(priority)
            .or_default()
            .insert(first, (Arc::clone(&facts), it.payload.clone()));
        let mut effects = vec![Effect::Added(Added {
            queue,
            block: BlockRef {
                priority,
                first: Position(first),
                count: count as u32,
            },
            facts,
            payload: it.payload,
            absent: Vec::new(),
        })];
        let mark = self.marks.entry(priority).or_insert(1);
        if let Some(raise) = it.raise {
            *mark = (*mark).max(self.next + u64::from(raise));
            effects.push(Effect::Raised {
                queue,
                priority,
                mark: Position(*mark),
            });
        }
        effects
    }

    fn hand_out(&mut self, it: HandOut) -> Vec<Effect> {
        let mark = self.marks.entry(it.priority).or_insert(1);
        *mark = (*mark).max(it.up_to.map_or(0, |up_to| up_to.0));
        let mut effects = vec![Effect::Raised {
            queue: it.queue,
            priority: it.priority,
            mark: Position(*mark),
        }];
        if !it.positions.is_empty() {
            let released = self.released.entry(it.priority).or_default();
            for position in it.positions.iter().flat_map(|range| range.positions()) {
                released.remove(&position.0);
            }
            effects.push(Effect::Taken {
                queue: it.queue,
                priority: it.priority,
                ranges: it.positions,
            });
        }
        effects
    }

    fn remove(&mut self, ranges: &[PositionRange]) -> Vec<PositionRange> {
        let gone: Vec<Position> = ranges
            .iter()
            .flat_map(|it| it.positions())
            .filter(|at| self.live.remove(&at.0))
            .collect();
        for blocks in self.blocks.values_mut() {
            blocks.retain(|&first, (facts, _)| {
                self.live
                    .range(first..first + facts.count())
                    .next()
                    .is_some()
            });
        }
        PositionRange::collect(gone)
    }

    fn give_back(
        &mut self,
        ranges: &[PositionRange],
        kind: ReturnKind,
    ) -> (Vec<PositionRange>, Vec<(u32, u32)>) {
        let live: Vec<Position> = ranges
            .iter()
            .flat_map(|it| it.positions())
            .filter(|at| self.live.contains(&at.0))
            .collect();
        let counts = live
            .iter()
            .map(|at| {
                let counts = self.counts.entry(at.0).or_default();
                counts.1 += 1;
                counts.0 += u32::from(kind == ReturnKind::Failed);
                *counts
            })
            .collect();
        (PositionRange::collect(live), counts)
    }

    fn block(&self, priority: Priority, from: Position) -> Option<LoadedBlock> {
        let blocks = self.blocks.get(&priority)?;
        let holding = blocks
            .range(..=from.0)
            .next_back()
            .filter(|(first, (facts, _))| **first + facts.count() > from.0);
        let (&first, (facts, payload)) = holding.or_else(|| blocks.range(from.0..).next())?;
        let end = first + facts.count();
        let settled = (first..end)
            .filter(|at| !self.live.contains(at))
            .map(Position);
        Some(LoadedBlock {
            block: BlockRef {
                priority,
                first: Position(first),
                count: facts.count() as u32,
            },
            facts: Arc::clone(facts),
            payload: payload.clone(),
            settled: PositionRange::collect(settled),
            counts: self
                .counts
                .range(first..end)
                .filter(|(at, _)| self.live.contains(at))
                .map(|(&at, &(d, a))| (Position(at), d, a))
                .collect(),
        })
    }

    fn openings(&self) -> Vec<LevelOpening> {
        let mut openings = Vec::new();
        for (&priority, blocks) in &self.blocks {
            let live = blocks
                .iter()
                .map(|(&first, (facts, _))| {
                    self.live.range(first..first + facts.count()).count() as u64
                })
                .sum();
            let released = self.released.get(&priority).cloned().unwrap_or_default();
            openings.push(LevelOpening {
                priority,
                head: Position(blocks.keys().next().copied().unwrap_or(self.next)),
                live,
                handed_out: Position(self.marks.get(&priority).copied().unwrap_or(1)),
                released: PositionRange::collect(released.into_iter().map(Position)),
            });
        }
        openings
    }
}
