//! What a leader does with each frame and event, and how a turn ends: actions performed, an entry proposed, frames sent.
//! Not here: waiting for any of it (`task`).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{debug, error};
use warren_codec::encode_entry;
use warren_queue::dispatch::Dispatch;
use warren_queue::dispatch::io::{Actions, Attach, ConsumerKey, Input, QueueOpening};
use warren_queue::entry::{ProposalId, SettleReason};
use warren_queue::outcome::Effect;
use warren_queue::rows::{OriginRow, OutgoingRow};
use warren_raft::{Group, ProposeError};
use warren_topology::Topology;
use warren_types::{
    Facts, Incarnation, NodeId, QueueId, QueueSettings, ShardId, ShardTime, Term, TopologyIndex,
};

use super::acks::Acks;
use super::batcher::Batcher;
use super::cancels::Cancels;
use super::lifecycle::{By, Lifecycle};
use super::links::Links;
use super::mover::Mover;
use super::rooms::Rooms;
use super::settings::dedup_of;
use super::settles::Acking;
use super::task::{LeaderTask, NodeIdentity, StoredTopology, new_dispatch};
use crate::link::frame::{Down, Hello, Up};
use crate::link::post::{DownOut, FromNode, UplinkRequests};
use crate::replica::tap::{Mailbox, TapEvent};
use crate::time::ShardClock;

/// Entries proposed and not applied yet, at most. More would make entries smaller, not faster: what queues meanwhile is the next batch.
const IN_FLIGHT_MAX: usize = 4;

/// A shard while it is led from here.
pub(crate) struct Leading {
    pub(super) shard: ShardId,
    pub(super) me: NodeIdentity,
    pub(super) group: Group,
    pub(super) mailbox: Mailbox,
    pub(super) dispatch: Dispatch,
    pub(super) actions: Actions,
    pub(super) links: Links,
    pub(super) batcher: Batcher,
    pub(super) acks: Acks,
    in_flight: VecDeque<u64>,
    proposals: u64,
    clock: ShardClock,
    /// Time and lease were told to dispatch in this turn.
    in_turn: bool,
    /// Since when the lease has been out.
    pub(super) powerless_since: Option<Instant>,
    pub(super) term: Term,
    pub(super) topology: Arc<Topology>,
    pub(super) stored_topology: StoredTopology,
    /// The copy that the queues were last compared with.
    pub(super) synced: Option<TopologyIndex>,
    pub(super) mover: Mover,
    pub(super) cancels: Cancels,
    pub(super) acking: Acking,
    pub(super) uplinks: UplinkRequests,
    /// Nodes whose stream broke: their consumers' deliveries are held for them.
    pub(super) lost: BTreeSet<NodeId>,
    /// Queues the store has.
    pub(super) known: HashSet<QueueId>,
    /// Queues whose creation is on its way.
    pub(super) creating: HashSet<QueueId>,
    /// What limits leave room for in queues that refuse publishes.
    rooms: Rooms,
    /// What is in force for each queue of the shard, by this node's copy of the topology.
    pub(super) settings: HashMap<QueueId, Arc<QueueSettings>>,
    pub(super) lifecycle: Lifecycle,
    /// Dispatch has started.
    pub(super) started: bool,
}

impl Leading {
    pub(super) fn new(
        task: &LeaderTask,
        term: Term,
        clock: ShardClock,
        stored: StoredTopology,
    ) -> Self {
        Self {
            shard: task.shard,
            me: task.me,
            group: task.group.clone(),
            mailbox: task.mailbox.clone(),
            dispatch: new_dispatch(),
            actions: Actions::default(),
            links: Links::default(),
            batcher: Batcher::default(),
            acks: Acks::default(),
            in_flight: VecDeque::new(),
            proposals: 0,
            clock,
            in_turn: false,
            powerless_since: None,
            term,
            topology: task.topology.borrow().clone(),
            mover: Mover::default(),
            cancels: Cancels::default(),
            acking: Acking::default(),
            uplinks: Arc::clone(&task.uplinks),
            stored_topology: stored,
            synced: None,
            lost: BTreeSet::new(),
            known: HashSet::new(),
            creating: HashSet::new(),
            rooms: Rooms::default(),
            settings: HashMap::new(),
            lifecycle: Lifecycle::new(task.asks.clone()),
            started: false,
        }
    }

    pub(super) fn open(
        &mut self,
        queues: Vec<QueueOpening>,
        origins: Vec<(Incarnation, OriginRow)>,
        outgoing: Vec<(ShardId, u64, OutgoingRow)>,
    ) {
        self.mover.open(outgoing);
        self.known = queues.iter().map(|opening| opening.queue).collect();
        self.links.open(origins);
        let now = self.now();
        self.step(Input::Open {
            term: self.term,
            now,
            queues,
        });
    }

    pub(super) fn step(&mut self, input: Input) {
        self.dispatch.step(input, &mut self.actions);
    }

    pub(super) fn now(&self) -> ShardTime {
        self.clock.now(Instant::now())
    }

    pub(super) fn draw(&mut self, median_wall_ms: u64) {
        self.clock.draw(median_wall_ms, Instant::now());
    }

    /// Everyone has reported, or the time for it is up.
    pub(super) fn start(&mut self) {
        self.started = true;
        self.begin_turn();
        self.step(Input::Start);
    }

    pub(super) fn reported(&self, node: NodeId) -> bool {
        self.links.reported(node)
    }

    /// No more publishes fit into the next entry: they stay where they are until it is proposed.
    pub(super) fn is_full(&self) -> bool {
        self.batcher.is_full()
    }

    /// Nothing will happen here by time alone.
    pub(super) fn is_quiet(&self) -> bool {
        self.lost.is_empty()
            && self.lifecycle.is_empty()
            && self.batcher.is_empty()
            && self.dispatch.is_quiet()
    }

    /// Before anything is handed out in a turn, dispatch hears whether the lease still holds: the process may have been frozen.
    pub(super) fn begin_turn(&mut self) {
        if self.in_turn {
            return;
        }
        self.in_turn = true;
        let at = Instant::now();
        let lease = self.group.lease_until().is_some_and(|until| at < until);
        let since = self.powerless_since.unwrap_or(at);
        self.powerless_since = (!lease).then_some(since);
        let now = self.clock.now(at);
        self.step(Input::Clock { now, lease });
    }

    /// `silent_ms`: nothing was heard of a node for so long.
    pub(super) fn take(&mut self, from: FromNode, silent_ms: impl Fn(NodeId) -> u64) {
        self.begin_turn();
        match from {
            FromNode::Frames { node, out, frames } => {
                frames.into_iter().for_each(|it| self.frame(node, &out, it));
            }
            FromNode::Moved {
                target,
                number,
                exceptions,
            } => self.moved(target, number, &exceptions),
            FromNode::Gone { node, stream } => {
                if self.links.gone(node, stream) {
                    debug!(shard_id = %self.shard, node_id = %node, "link lost");
                    self.lost.insert(node);
                    let silent_ms = silent_ms(node);
                    self.step(Input::NodeLost { node, silent_ms });
                }
            }
        }
    }

    fn frame(&mut self, node: NodeId, out: &DownOut, frame: Up) {
        if let Up::Hello(hello) = frame {
            self.hello(hello, out);
            return;
        }
        let ready = self.may_take(&frame) && self.has_room_for(&frame);
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.out.stream() != out.stream() {
            return; // of a stream that was replaced
        }
        if !ready || !link.parked.is_empty() {
            link.parked.push_back(frame);
            return;
        }
        let hello = link.hello;
        self.act(&hello, frame);
    }

    fn hello(&mut self, hello: Hello, out: &DownOut) {
        if hello.term > self.term {
            out.push([Down::NotLeader {
                link: hello.link,
                leader: None,
            }]);
            return;
        }
        if hello.node != self.me.node && self.is_powerless() {
            return; // it asks again
        }
        self.lost.remove(&hello.node);
        self.links.hello(hello, out.clone(), self.term);
        self.step(Input::NodeBack { node: hello.node });
    }

    pub(super) fn act(&mut self, hello: &Hello, frame: Up) {
        let node = hello.node;
        let key = |consumer| ConsumerKey { node, consumer };
        match frame {
            Up::Hello(_) => {}
            Up::Move { source, batch } => self.take_moves(source, node, batch),
            Up::Publish(batch) => self.publish(hello, batch),
            Up::Reported => {
                if let Some(link) = self.links.get_mut(node) {
                    link.reported = true;
                }
                self.step(Input::NodeReported { node });
            }
            Up::Attach(attach) => {
                let by = By::of(&attach.options);
                self.lifecycle.used(attach.queue, by, Instant::now());
                self.step(Input::Attach(Attach {
                    consumer: key(attach.consumer),
                    queue: attach.queue,
                    options: attach.options,
                    credit: attach.credit,
                    held: attach.held,
                }));
            }
            Up::Credit { consumer, add } => self.step(Input::Credit {
                consumer: key(consumer),
                add,
            }),
            Up::Recall { consumer, up_to } => self.step(Input::Recall {
                consumer: key(consumer),
                up_to,
            }),
            Up::Settle(settle) => self.settle(hello, settle),
            Up::SettleTogether(it) => self.settle_together(hello, it),
            Up::Return(give_back) => self.give_back(node, give_back),
            Up::Detach { consumer, returns } => self.step(Input::Detach {
                consumer: key(consumer),
                returns,
            }),
            Up::Purge {
                queue,
                token,
                states,
            } => self.step(Input::Purge {
                queue,
                token,
                node,
                states,
            }),
            Up::CancelScheduled(it) => self.ask_to_cancel(node, it),
            Up::Peek(it) => self.look(node, it, None),
            Up::Redrive(it, wish) => self.look(node, it, Some(wish)),
            Up::Stats {
                queue,
                token,
                depth,
            } => self.ask_stats(node, token, queue, depth),
        }
    }

    pub(super) fn tap(&mut self, event: TapEvent) {
        self.begin_turn();
        match event {
            TapEvent::Applied { entries, effects } => {
                for entry in entries {
                    if entry.proposal.node == self.me.node && entry.proposal.run == self.me.run {
                        while self
                            .in_flight
                            .front()
                            .is_some_and(|number| *number <= entry.proposal.number)
                        {
                            self.in_flight.pop_front();
                        }
                        self.rooms.applied(entry.proposal.number);
                    }
                    self.links.applied(entry.batches);
                }
                let mut created = false;
                for effect in effects {
                    let new = if let Effect::QueueCreated { queue } = &effect {
                        Some(*queue)
                    } else {
                        None
                    };
                    self.moves_hear(&effect);
                    self.acking.hears(&effect);
                    let dropped = dropped_from(&effect);
                    self.step(Input::Applied(effect));
                    if let Some(queue) = dropped {
                        self.drop_parked(queue, 0); // one command drops some, and there may be more
                    }
                    if let Some(queue) = new {
                        self.queue_created(queue);
                        created = true;
                    }
                }
                if created {
                    self.unpark();
                }
            }
            TapEvent::Read { ticket, messages } => self.moves_read(ticket, messages),
            TapEvent::Loaded(loaded) => self.step(Input::Loaded(loaded)),
            TapEvent::Due(due) => self.step(Input::Due(due)),
            TapEvent::Stats {
                node,
                token,
                stored,
            } => self.answer_stats(node, token, stored),
            TapEvent::Peeked {
                node,
                it,
                page,
                redrive,
            } => {
                let page = page.map(|page| it.look.meant(page));
                match redrive {
                    Some(wish) => self.redrive(node, it.token, it.queue, page, wish),
                    None => self.answer_peek(node, it.token, it.queue, page),
                }
            }
            TapEvent::HasOutputs { node, token, has } => self.has_outputs(node, token, has),
            TapEvent::Restored => {
                debug!(shard_id = %self.shard, "a snapshot replaced the leader's state")
            }
        }
    }

    /// Performs what dispatch decided, proposes, sends. False: this replica cannot propose any more.
    pub(super) fn finish_turn(&mut self) -> bool {
        self.begin_turn();
        self.in_turn = false;
        self.perform();
        self.drive_moves();
        let leads = self.propose();
        self.links.flush();
        leads
    }

    fn propose(&mut self) -> bool {
        while self.in_flight.len() < IN_FLIGHT_MAX
            && !self.group.is_handing_over()
            && self.group.has_room(self.batcher.bytes())
        {
            if self.batcher.holds_acks_only() && self.acks.may_wait(Instant::now()) {
                return true;
            }
            let number = self.proposals + 1;
            let proposal = ProposalId {
                node: self.me.node,
                run: self.me.run,
                number,
            };
            let topology: TopologyIndex = self.topology.index();
            let now = self.now();
            let dispatch = &self.dispatch;
            self.rooms.begin(number);
            let (rooms, settings) = (&mut self.rooms, &self.settings);
            let raise = |queue, level| dispatch.raise_hint(queue, level);
            let admit = |storing, blocks: &[(QueueId, &Facts)]| {
                let blocks = blocks.iter().map(|&(queue, facts)| {
                    let settings = settings.get(&queue).map(|it| &**it);
                    (queue, settings, dispatch.ready(queue), facts)
                });
                rooms.admit_all(storing, blocks)
            };
            let dedup = |queue| dedup_of(settings.get(&queue)?);
            let built = self
                .batcher
                .build(proposal, now, topology, raise, admit, dedup);
            let Some(entry) = built else {
                return true;
            };
            self.acks.gone();
            match self.group.propose(self.term, &encode_entry(&entry)) {
                Ok(()) => {
                    self.proposals = number;
                    self.in_flight.push_back(number);
                    if self.links.is_any_parked() {
                        self.unpark();
                        // In this turn: what was decided under this look at the lease goes out under it.
                        self.perform();
                    }
                }
                // The entry is lost, and with it this leader's view: the nodes send again to whoever leads next.
                Err(
                    refused @ (ProposeError::NotLeader(_)
                    | ProposeError::Full
                    | ProposeError::Stopped),
                ) => {
                    error!(shard_id = %self.shard, term = %self.term, error = %refused, "proposal refused, leading no more");
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn close(&mut self, leader: Option<NodeId>) {
        self.links.close(leader);
    }
}

/// The queue of messages that a limit drove out.
fn dropped_from(effect: &Effect) -> Option<QueueId> {
    if let Effect::Settled {
        queue,
        reason: SettleReason::Dropped,
        ..
    } = effect
    {
        Some(*queue)
    } else {
        None
    }
}
