//! The task of one uplink: takes what sessions ask, sends it to whoever leads the shard, passes on what comes back.
//! Not here: the books (`pending`, `attachments`), the streams (`link`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use warren_raft::Group;
use warren_topology::Topology;
use warren_types::{BatchSequence, GroupId, Leadership, NodeId, ShardId};

use super::door::{Doorway, Request};
use super::encode::encode;
use super::leadership::{leads_elsewhere, moved};
use super::questions::Said;
use super::state::{HELLO_WAIT, Link, State};
use crate::api::{PublishOutcome, Unavailable};
use crate::leader::task::NodeIdentity;
use crate::link::frame::{BatchException, Down, Hello, Up, Welcome};
use crate::link::outbox::Outbox;
use crate::link::post::{DownOut, FromNode, LeaderDoors, ToUplink};
use crate::link::remote::NodeStreams;
use crate::surplus::Surplus;
use crate::time::wall_clock_ms;

/// A batch is closed when it holds so many encoded bytes; one larger message travels alone. Several are under way at a time (`window`), and
/// no task is kept busy by one for long (measured in ADR 0080).
const BATCH_BYTES_MAX: usize = 128 << 10;
/// Without a leader for so long, publishes that were not sent are answered "not started".
const NO_LEADER_MAX: Duration = Duration::from_secs(5);
/// The same while there is a leader, but no room because nothing of what was sent before gets its result.
const NO_ROOM_MAX: Duration = Duration::from_secs(10);
/// Without a leader for so long, the outcome of what was sent is said to be unknown.
const NO_OUTCOME_MAX: Duration = Duration::from_secs(10);
/// What was sent so long ago and has no result is given up on, whoever leads.
const OUTCOME_MAX: Duration = Duration::from_secs(30);
/// A node whose stream takes nothing for so long is not the leader for us any more.
const POST_WITHIN: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(50);
const REQUESTS_PER_TURN: usize = 512;

pub(crate) struct Uplink {
    pub(crate) shard: ShardId,
    pub(crate) me: NodeIdentity,
    pub(crate) doorway: Doorway,
    pub(crate) inbox: Outbox<ToUplink>,
    pub(crate) leaders: LeaderDoors,
    pub(crate) streams: NodeStreams,
    /// The local replica; `None` without one that votes.
    pub(crate) group: Option<Group>,
    pub(crate) topology: watch::Receiver<Arc<Topology>>,
    /// Takes what full queues refused.
    pub(crate) surplus: Surplus,
    pub(crate) stop: CancellationToken,
}

impl Uplink {
    pub(crate) async fn run(mut self) {
        let mut state = State::new(self.me.run);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leadership = self.group.as_ref().map(Group::leadership);
        loop {
            tokio::select! {
                biased; // stopping, then what leaders say (it frees room), then new requests
                () = self.stop.cancelled() => break,
                down = self.inbox.take() => match down {
                    Some(down) => for event in down { self.down(&mut state, event); },
                    None => break,
                },
                () = moved(&mut leadership) => self.leadership_moved(&mut state),
                // The door keeps the other end.
                Ok(()) = self.doorway.replica.changed() => {
                    self.group = self.doorway.replica.borrow_and_update().clone();
                    leadership = self.group.as_ref().map(Group::leadership);
                    self.leadership_moved(&mut state);
                }
                request = self.doorway.requests.recv() => match request {
                    Some(request) => self.request(&mut state, request),
                    None => break,
                },
                publishes = self.doorway.publishes.recv() => match publishes {
                    Some(publishes) => state.waiting.push(publishes),
                    None => break,
                },
                _ = tick.tick(), if state.needs_time() => self.tick(&mut state),
            }
            self.take_more(&mut state);
            self.seek(&mut state).await;
            self.publish(&mut state);
            self.send(&mut state).await;
            self.tell_link(&state);
        }
        state.refuse_waiting(PublishOutcome::NotStarted(Unavailable::Draining));
        state.pending.give_up(Instant::now(), Duration::ZERO);
    }

    fn tell_link(&self, state: &State) {
        let linked = match state.link {
            Link::Open { node } => Some((node, state.term)),
            Link::Asked { .. } | Link::Down { .. } => None,
        };
        self.doorway.linked.send_if_modified(|told| {
            let changed = *told != linked;
            *told = linked;
            changed
        });
    }

    /// Takes what else is there, without waiting, so that one turn sends for many requests.
    fn take_more(&mut self, state: &mut State) {
        for _ in 0..REQUESTS_PER_TURN {
            let Ok(request) = self.doorway.requests.try_recv() else {
                break;
            };
            self.request(state, request);
        }
        for _ in 0..REQUESTS_PER_TURN {
            let Ok(publishes) = self.doorway.publishes.try_recv() else {
                return;
            };
            state.waiting.push(publishes);
        }
    }

    fn request(&mut self, state: &mut State, request: Request) {
        let open = matches!(state.link, Link::Open { .. });
        let frame = match request {
            Request::Attach {
                consumer,
                spec,
                held,
                inbox,
            } => Some(state.attachments.attach(
                consumer,
                &spec,
                held,
                inbox,
                self.topology.borrow().index(),
            )),
            Request::Credit { consumer, add } => state.attachments.credit(consumer, add),
            // Without a link nothing is lent to call back: the next leader is lent what the books say.
            Request::Recall { consumer, up_to } if open => Some(Up::Recall { consumer, up_to }),
            Request::Recall { consumer, up_to } => {
                state.attachments.recalled(consumer, up_to);
                None
            }
            Request::Settle { spec, token, inbox } => {
                Some(state.settle(spec, token, inbox, &self.topology.borrow()))
            }
            Request::SettleTogether { spec, token, inbox } => {
                Some(state.settle_together(spec, token, inbox, &self.topology.borrow()))
            }
            Request::Detach { consumer, returns } => state.attachments.detach(consumer, returns),
            // Without a link it is lost: the mover sends it again.
            Request::Move { source, batch } => Some(Up::Move { source, batch }),
            Request::Ask(ask) => {
                let known = ask.is_known_to(state.link.node(), &self.topology.borrow());
                state.ask(open && known, ask)
            }
        };
        // While there is no link the books are enough: the report to the next leader holds everything.
        if open {
            state.out.extend(frame);
        }
    }

    fn down(&mut self, state: &mut State, event: ToUplink) {
        match event {
            ToUplink::StreamLost { node } => {
                if state.link.node() == Some(node) {
                    debug!(shard_id = %self.shard, node_id = %node, "link to the leader lost");
                    state.lose_link();
                }
            }
            ToUplink::Down { node, frames } => {
                for frame in frames {
                    self.frame(state, node, frame);
                }
            }
        }
    }

    fn frame(&mut self, state: &mut State, node: NodeId, frame: Down) {
        let open = matches!(state.link, Link::Open { node: from } if from == node);
        match frame {
            Down::Welcome(welcome) => self.welcome(state, node, &welcome),
            Down::NotLeader { link, leader } => {
                if link == state.links && state.link.node() == Some(node) {
                    state.hint = leader.filter(|leader| *leader != node);
                    state.lose_link();
                }
            }
            // Of a link that is no more: the next one tells it anew.
            _ if !open => {}
            Down::Results {
                upto,
                exceptions,
                places,
            } => {
                let surplus = &self.surplus;
                state.pending.results(upto, &exceptions, &places, surplus);
            }
            Down::CancelResults { token, results } => {
                state.answer(token, Said::Cancelled(results));
            }
            Down::Moved {
                source,
                number,
                exceptions,
            } => self.moved(source, number, exceptions),
            Down::Resume { last } => {
                let again = state.pending.after(last);
                state.out.extend(again.into_iter().map(Up::Publish));
            }
            Down::Attached { consumer, result } => {
                state
                    .out
                    .extend(state.attachments.attached(consumer, result));
            }
            Down::Deliver {
                consumer,
                queue,
                fencing,
                deliveries,
            } => {
                if !self.leader_may_deliver(node) {
                    // The leader on this node was frozen past its lease: others may have these by now. Attaching anew returns them.
                    return state.lose_link();
                }
                // A consumer that has gone meanwhile: its detach has returned them already.
                let _taken = state
                    .attachments
                    .deliver(consumer, queue, fencing, deliveries);
            }
            Down::SettleResults { token, results } => state.attachments.settled(token, results),
            Down::Recalled { consumer, credit } => state.attachments.recalled(consumer, credit),
            Down::Waiting { consumer } => state.attachments.waiting(consumer),
            Down::Cancelled { consumer } => state.attachments.cancelled(consumer),
            Down::Forget {
                consumer,
                queue,
                position,
            } => state.attachments.forget(consumer, queue, position),
            Down::Purged { token, count } => state.answer(token, Said::Purged(count)),
            Down::Stats { token, stats } => state.answer(token, Said::Stats(stats)),
            Down::Peeked { token, page } => state.answer(token, Said::Peeked(page)),
            Down::Redriven { token, step } => state.answer(token, Said::Redriven(step)),
        }
    }

    /// Passed on to the leader that moves: one that does not hear it, or leads no more, asks again.
    fn moved(&self, source: ShardId, number: BatchSequence, exceptions: Vec<BatchException>) {
        if let Some(door) = self.leaders.door(source) {
            let target = self.shard;
            let _full = door.try_send(FromNode::Moved {
                target,
                number,
                exceptions,
            });
        }
    }

    fn welcome(&mut self, state: &mut State, node: NodeId, welcome: &Welcome) {
        let asked = matches!(state.link, Link::Asked { node: from, .. } if from == node);
        if !asked || welcome.link != state.links {
            return;
        }
        info!(shard_id = %self.shard, node_id = %node, term = %welcome.term, "linked to the leader");
        state.term = state.term.max(welcome.term);
        state.hint = None;
        state.link = Link::Open { node };
        let last = match welcome.last {
            Some((run, last)) if run == self.me.run => last,
            _ => warren_types::BatchSequence(0),
        };
        let (exceptions, places) = (&welcome.exceptions, &welcome.places);
        let surplus = &self.surplus;
        state.pending.results(last, exceptions, places, surplus);
        state
            .out
            .extend(state.attachments.report(self.topology.borrow().index()));
        state
            .out
            .extend(state.pending.after(last).into_iter().map(Up::Publish));
        state.attachments.leader_moved(node);
    }

    fn leadership_moved(&self, state: &mut State) {
        let Some(known) = self.leadership() else {
            return;
        };
        state.term = state.term.max(known.term);
        let leader = known.leader.map(|leader| leader.node);
        if leader.is_some() && state.link.node() != leader {
            state.lose_link();
        }
    }

    fn leadership(&self) -> Option<Leadership> {
        self.group
            .as_ref()
            .map(|group| *group.leadership().borrow())
    }

    /// Deliveries of a leader on this node count only while its lease holds.
    fn leader_may_deliver(&self, from: NodeId) -> bool {
        let Some(group) = &self.group else {
            return true;
        };
        from != self.me.node
            || group
                .lease_until()
                .is_some_and(|until| Instant::now() < until)
    }

    /// To a leader that is cut off nothing is sent: here it can still be refused as "not started".
    fn feel_lease(&self, state: &mut State) {
        let cut_off = |node| !self.leader_may_deliver(node) || self.streams.is_silent(node);
        let powerless = matches!(state.link, Link::Open { node } if cut_off(node));
        // From now, not from when it was heard last: it may have been this process that was frozen.
        let since = state.powerless_since.unwrap_or_else(Instant::now);
        state.powerless_since = powerless.then_some(since);
    }

    /// Asks whoever should lead, if there is no link.
    async fn seek(&self, state: &mut State) {
        let now = Instant::now();
        let since = match state.link {
            Link::Open { .. } => return,
            Link::Asked {
                since, at, wait, ..
            } => {
                if now.duration_since(at) < wait {
                    return;
                }
                since
            }
            Link::Down { since, retry_at } => {
                if now < retry_at {
                    return;
                }
                since
            }
        };
        let Some(node) = self.candidate(state) else {
            state.link = Link::Down {
                since,
                retry_at: now + TICK,
            };
            return;
        };
        state.links += 1;
        let hello = Hello {
            node: self.me.node,
            incarnation: self.me.incarnation,
            run: self.me.run,
            link: state.links,
            term: state.term,
            topology: self.topology.borrow().index(),
            confirmed: state.pending.confirmed(),
        };
        state.link = Link::Asked {
            node,
            since,
            at: now,
            wait: state.link.next_wait(),
        };
        state.out.clear();
        if !self.post(node, vec![Up::Hello(hello)]).await {
            state.link = Link::Down {
                since,
                retry_at: now + TICK,
            };
        }
    }

    /// The local replica's word first, then the last hint, then the members in turn.
    fn candidate(&self, state: &mut State) -> Option<NodeId> {
        let known = self
            .leadership()
            .and_then(|known| known.leader)
            .map(|leader| leader.node);
        if let Some(node) = known.or_else(|| state.hint.take()) {
            return Some(node);
        }
        if self.group.is_some() {
            return None; // a local replica hears of the next leader first
        }
        let topology = self.topology.borrow().clone();
        let members = topology
            .placement(GroupId::from(self.shard))?
            .members
            .clone();
        state.turn += 1;
        members
            .get(state.turn % members.len().max(1))
            .map(|member| member.node)
    }

    /// Numbers what waits, as far as the bounds allow.
    fn publish(&self, state: &mut State) {
        if state.stuck_since.is_some() {
            state.refuse_overdue(Instant::now());
        }
        if !state.waiting.is_empty() {
            self.feel_lease(state);
        }
        while !state.waiting.is_empty() && !state.pending.is_full() {
            // Nothing is numbered that could not be sent: it can still be refused as "not started".
            if !matches!(state.link, Link::Open { .. }) || state.powerless_since.is_some() {
                break;
            }
            let (next, storing) = state.waiting.next_batch(BATCH_BYTES_MAX);
            if next.is_empty() {
                break;
            }
            let topology = Arc::clone(&self.topology.borrow());
            let encoded = encode(next, wall_clock_ms(), &topology);
            let batch = state.pending.number(encoded, topology.index(), storing);
            state.out.push(Up::Publish(batch));
            state.stuck_since = None;
        }
        if state.waiting.is_empty() {
            state.stuck_since = None;
        } else {
            state.stuck_since.get_or_insert_with(Instant::now);
        }
    }

    async fn send(&self, state: &mut State) {
        if state.out.is_empty() {
            return;
        }
        let frames = std::mem::take(&mut state.out);
        let Link::Open { node } = state.link else {
            return;
        };
        if !self.post(node, frames).await {
            state.lose_link();
        }
    }

    /// False: the way to the node is closed.
    async fn post(&self, node: NodeId, frames: Vec<Up>) -> bool {
        if node == self.me.node {
            let Some(door) = self.leaders.door(self.shard) else {
                return false;
            };
            let out = DownOut::Local {
                node,
                out: self.inbox.clone(),
            };
            return door
                .send(FromNode::Frames { node, out, frames })
                .await
                .is_ok();
        }
        tokio::select! {
            biased; // room is the rule; a node that takes nothing must not keep this task from hearing who leads now
            sent = self.streams.send(node, self.shard, frames) => sent,
            () = leads_elsewhere(self.group.as_ref(), node) => false,
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(POST_WITHIN) => false,
        }
    }

    /// What must not wait for ever is answered (grpc-api.md rules 9 and 10).
    fn tick(&mut self, state: &mut State) {
        let now = Instant::now();
        self.feel_lease(state);
        let leaderless = state.leaderless_for(now);
        let without = |most: Duration| leaderless.is_some_and(|time| time >= most);
        let stuck = state
            .stuck_since
            .is_some_and(|since| now.duration_since(since) >= NO_ROOM_MAX);
        if without(NO_LEADER_MAX) || stuck {
            state.refuse_waiting(PublishOutcome::NotStarted(Unavailable::NoQuorum));
        }
        state.refuse_overdue(now);
        state.waiting.forget_refused(now);
        let age = if without(NO_OUTCOME_MAX) {
            Duration::ZERO
        } else {
            OUTCOME_MAX
        };
        state.pending.give_up(now, age);
        let patience = if leaderless.is_some() {
            NO_LEADER_MAX
        } else {
            HELLO_WAIT * 4
        };
        state.expire_questions(now, patience);
    }
}
