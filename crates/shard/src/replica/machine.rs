//! A shard's state machine as the replication layer runs it: decodes entries, applies them to the store, hands outcomes to the
//! leader's task if there is one. Not here: the rules (`warren-queue`), the disk (`warren-storage`).

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};
use warren_codec::{Audit, audit_of, decode_entry};
use warren_queue::dispatch::io::Loaded;
use warren_queue::entry::{ApplyContext, EndedDelivery};
use warren_queue::outcome::{Effect, EntryOutcome, Output};
use warren_queue::rows::Rows as _;
use warren_queue::store::{Store, StoreOptions};
use warren_raft::{Changes, Committed, Machine, MachineError, MachineFactory, MachineWaker};
use warren_storage::{ReplicaState, RowBatch};
use warren_types::{LogId, Position, Priority, QueueId, ShardId};

use super::rows_view::RowsView;
use super::tap::{Mailbox, Opening, Request, StoredStats, TAP_EVENTS_MAX, TapEvent};
use crate::api::LevelStats;
use crate::audit::{AuditId, Captured, Captures};

/// Blocks looked at for what is due, in one go: what else is due comes with the next look.
const DUE_BLOCKS_MAX: usize = 32;

/// Makes the machine of one shard's replica.
pub(crate) struct ShardMachineFactory {
    pub(crate) shard: ShardId,
    pub(crate) mailbox: Mailbox,
    pub(crate) captures: Captures,
}

impl MachineFactory for ShardMachineFactory {
    fn open(
        &self,
        state: ReplicaState,
        waker: MachineWaker,
        applied: Option<LogId>,
    ) -> Result<Box<dyn Machine>, MachineError> {
        let rows = RowsView::new(state);
        let store = Store::open(&rows, StoreOptions::default());
        debug!(shard_id = %self.shard, ?applied, "replica opened");
        self.mailbox.attend(waker);
        Ok(Box::new(ShardMachine {
            shard: self.shard,
            mailbox: self.mailbox.clone(),
            captures: self.captures.clone(),
            rows,
            store,
            out: Output::default(),
            entries: Vec::new(),
            effects: Vec::new(),
            applied,
            tap: None,
        }))
    }
}

struct ShardMachine {
    shard: ShardId,
    mailbox: Mailbox,
    /// Where rows go that are to be compared.
    captures: Captures,
    rows: RowsView,
    store: Store,
    out: Output,
    /// Outcomes of the chunk, until it is applied.
    entries: Vec<EntryOutcome>,
    effects: Vec<Effect>,
    /// The last entry whose effects the store has.
    applied: Option<LogId>,
    tap: Option<mpsc::Sender<TapEvent>>,
}

impl Machine for ShardMachine {
    fn apply(&mut self, entries: &[Committed], rows: &mut RowBatch) -> Changes {
        for committed in entries {
            let entry = match decode_entry(&committed.payload) {
                Ok(entry) => entry,
                // Every replica meets it: going on would make them differ. The replica stops and says what it needs.
                Err(error) => panic!(
                    "shard {} cannot apply entry {}: {error}",
                    self.shard, committed.id.index
                ),
            };
            let at = ApplyContext {
                index: committed.id.index,
                term: committed.id.term,
            };
            // Nothing is done by an entry that has rows compared.
            let may_ask = entry.commands.is_empty();
            self.store.apply(&self.rows, at, entry, &mut self.out);
            let bytes = committed.payload.len();
            self.rows.take(&mut self.out.changes, bytes);
            if may_ask && let Some(audit) = audit_of(&committed.payload) {
                self.capture(committed.id, audit);
            }
            if self.tap.is_some() {
                self.entries.append(&mut self.out.entries);
                self.effects.append(&mut self.out.effects);
            } else {
                self.out.entries.clear();
                self.out.effects.clear();
            }
        }
        if !self.rows.is_full() {
            return Changes::Kept;
        }
        self.rows.give(rows);
        Changes::Given
    }

    fn give(&mut self, rows: &mut RowBatch) {
        self.rows.give(rows);
    }

    fn applied(&mut self, applied: LogId) {
        self.applied = Some(applied);
        if self.tap.is_some() {
            let entries = std::mem::take(&mut self.entries);
            let effects = std::mem::take(&mut self.effects);
            self.tell(TapEvent::Applied { entries, effects });
        }
    }

    fn restored(&mut self, state: ReplicaState, applied: LogId) {
        debug!(shard_id = %self.shard, applied = %applied.index, "replica restored from a snapshot");
        self.tell(TapEvent::Restored);
        self.tap = None;
        self.applied = Some(applied);
        self.rows = RowsView::new(state);
        self.store = Store::open(&self.rows, StoreOptions::default());
    }

    fn poll(&mut self) {
        for request in self.mailbox.take() {
            match request {
                Request::Open(reply) => self.open(reply),
                Request::Close => self.tap = None,
                Request::Load {
                    queue,
                    priority,
                    from,
                } => {
                    let loaded: Loaded = self.store.load(&self.rows, queue, priority, from);
                    self.tell(TapEvent::Loaded(loaded));
                }
                Request::Read {
                    ticket,
                    queue,
                    ranges,
                } => {
                    let messages = self.store.read(&self.rows, queue, &ranges);
                    self.tell(TapEvent::Read { ticket, messages });
                }
                Request::HasOutputs { node, token, proof } => {
                    let has = self.is_proven(&proof);
                    self.tell(TapEvent::HasOutputs { node, token, has });
                }
                Request::LookDue { queue, up_to } => {
                    let due = self.store.due(&self.rows, queue, up_to, DUE_BLOCKS_MAX);
                    self.tell(TapEvent::Due(due));
                }
                Request::Peek { node, it, redrive } => {
                    let (max, bytes_max) = it.look.scan();
                    let (queue, from) = (it.queue, it.look.from);
                    let page = self.store.peek(&self.rows, queue, from, max, bytes_max);
                    self.tell(TapEvent::Peeked {
                        node,
                        it,
                        page,
                        redrive,
                    });
                }
                Request::Stats {
                    queue,
                    ready_from,
                    node,
                    token,
                } => {
                    let stored = self.stats(queue, &ready_from).map(|it| (queue, it));
                    self.tell(TapEvent::Stats {
                        node,
                        token,
                        stored,
                    });
                }
            }
        }
    }
}

impl ShardMachine {
    /// Whether each is remembered: all but those whose queue, and its memory, is gone.
    fn is_proven(&self, proof: &[EndedDelivery]) -> bool {
        let (store, rows) = (&self.store, &self.rows);
        let is_known =
            |it: &EndedDelivery| store.has_outputs(rows, it.queue, it.position, it.attempt);
        let is_gone = |it: &EndedDelivery| store.queue_stats(it.queue).is_none();
        let is_each = proof.iter().all(|it| is_known(it) || is_gone(it));
        is_each && proof.iter().any(is_known)
    }

    fn stats(&self, queue: QueueId, ready_from: &[(Priority, Position)]) -> Option<StoredStats> {
        let row = self.store.queue_stats(queue)?;
        let held = row.levels.iter().filter(|it| it.live > 0);
        let level = |it: &warren_queue::store::LevelStats| LevelStats {
            priority: it.priority,
            live: it.live,
            scheduled: it.scheduled,
            parked: it.parked,
        };
        let mut levels: Vec<LevelStats> = held.map(level).collect();
        levels.sort_unstable_by_key(|it| std::cmp::Reverse(it.priority));
        Some(StoredStats {
            counters: row.counters,
            leaving: self.store.leaving_count(queue),
            levels,
            first: self.store.first_ready(&self.rows, queue, ready_from),
        })
    }

    /// Freezes the rows as they are now, unless the last audit is still being read: then this one is not answered from here.
    fn capture(&self, at: LogId, audit: Audit) {
        let Ok(room) = self.captures.try_reserve() else {
            return;
        };
        let Audit { number, place } = audit;
        match self.rows.freeze(&place) {
            Ok(frozen) => room.send(Captured {
                id: AuditId {
                    term: at.term,
                    number,
                },
                index: at.index,
                place,
                frozen,
            }),
            Err(error) => debug!(shard_id = %self.shard, %error, "rows not frozen"),
        }
    }

    fn open(&mut self, reply: oneshot::Sender<Opening>) {
        let (sender, events) = mpsc::channel(TAP_EVENTS_MAX);
        let queues: Vec<_> = self
            .store
            .queues()
            .filter_map(|queue| self.store.opening(&self.rows, queue))
            .collect();
        let origins = self.rows.origins();
        let outgoing = self.store.outgoing();
        let outgoing = outgoing.map(|(shard, number, row)| (shard, number, row.clone()));
        let opening = Opening {
            applied: self.applied,
            now: self.store.now(),
            topology: self.store.topology(),
            queues,
            origins,
            outgoing: outgoing.collect(),
            events,
        };
        self.tap = reply.send(opening).is_ok().then_some(sender);
    }

    /// The apply thread may wait here: the leader's task always drains its events and never waits for an apply.
    fn tell(&mut self, event: TapEvent) {
        let Some(tap) = &self.tap else { return };
        if tap.blocking_send(event).is_err() {
            self.tap = None;
        }
    }
}

impl Drop for ShardMachine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(shard_id = %self.shard, "replica stopped by a panic");
        }
    }
}
