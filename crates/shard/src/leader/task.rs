//! The task of one replica: follows who leads; while this replica does, owns the shard's dispatch and its proposals.
//! Not here: what each frame or event does (`work`), what dispatch's actions cause (`perform`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use warren_queue::dispatch::Dispatch;
use warren_raft::{Group, Peers};
use warren_topology::Topology;
use warren_types::{Incarnation, Leadership, NodeId, Run, ShardId, Term, TopologyIndex};

use super::work::Leading;
use crate::link::frame::{Down, Up};
use crate::link::post::{FromNode, UplinkRequests};
use crate::reaper::Asks;
use crate::replica::tap::{Mailbox, Opening, Request, TapEvent};
use crate::time::{ShardClock, median, wall_clock_ms};

/// Dispatch starts at the latest so long after opening, whoever has not reported.
const REPORT_WAIT_MAX: Duration = Duration::from_secs(1);
/// A node heard from within this time is waited for.
const LIVE_WITHIN: Duration = Duration::from_millis(300);
/// How often time is told to dispatch when nothing else happens.
const TICK: Duration = Duration::from_millis(50);
/// The same while there is nothing that time could change: no messages, no consumers, no lost nodes.
const TICK_QUIET: Duration = Duration::from_secs(1);
/// The shortest sleep before something is due, so that a clock a little behind does not make it busy.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// Inputs handled before actions are performed and an entry is proposed.
const INPUTS_PER_TURN: usize = 256;
/// Pause before a leader that could not open tries again.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

/// Who this node is, for proposals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeIdentity {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) run: Run,
}

/// One replica's leader task and what it works with.
pub(crate) struct LeaderTask {
    pub(crate) shard: ShardId,
    pub(crate) me: NodeIdentity,
    pub(crate) group: Group,
    pub(crate) peers: Peers,
    pub(crate) mailbox: Mailbox,
    pub(crate) inbox: mpsc::Receiver<FromNode>,
    pub(crate) topology: watch::Receiver<Arc<Topology>>,
    /// Where queues that are done are told of.
    pub(crate) asks: Asks,
    pub(crate) uplinks: UplinkRequests,
    pub(crate) stop: CancellationToken,
}

impl LeaderTask {
    pub(crate) async fn run(mut self) {
        let mut leadership = self.group.leadership();
        while !self.stop.is_cancelled() {
            let now = *leadership.borrow_and_update();
            if !self.leads(now) {
                self.follow(&mut leadership).await;
            } else if let Some(opening) = self.open(&mut leadership, now.term).await {
                self.lead(&mut leadership, now.term, opening).await;
                self.mailbox.ask(Request::Close);
            }
        }
    }

    fn leads(&self, leadership: Leadership) -> bool {
        leadership
            .leader
            .is_some_and(|leader| leader.replica == self.group.replica())
    }

    /// Answers whoever asks that this replica does not lead, until that may have changed.
    async fn follow(&mut self, leadership: &mut watch::Receiver<Leadership>) {
        loop {
            tokio::select! {
                biased; // stopping first, then news of the leadership, then those who ask for it
                () = self.stop.cancelled() => return,
                changed = leadership.changed() => {
                    if changed.is_err() {
                        self.stop.cancelled().await;
                    }
                    return;
                }
                from = self.inbox.recv() => {
                    let Some(from) = from else { return };
                    refuse(from, *leadership.borrow());
                }
            }
        }
    }

    /// Waits until an entry of the term is applied and the topology copy is recent enough; then no fact of an older term can follow.
    ///
    /// Two replicas can be elected in one term, the one of the higher number after the other. An entry of its own is committed by one of
    /// them at most, so attempts, which are told apart by their term, are handed out by one (ADR 0087).
    async fn open(
        &mut self,
        leadership: &mut watch::Receiver<Leadership>,
        term: Term,
    ) -> Option<Opening> {
        let group = self.group.clone();
        let opened = tokio::select! {
            biased; // a lost leadership ends the attempt
            () = self.stop.cancelled() => None,
            _changed = leadership.changed() => None,
            applied = group.read_index() => match applied {
                Ok(_) => ask_opening(&self.mailbox).await,
                Err(error) => {
                    warn!(shard_id = %self.shard, %term, %error, "leader could not open, trying again");
                    tokio::time::sleep(REOPEN_PAUSE).await;
                    None
                }
            },
        }?;
        if !opened.is_of(term, group.replica()) {
            debug!(shard_id = %self.shard, %term, applied = ?opened.applied, "another leads by now");
            tokio::time::sleep(REOPEN_PAUSE).await;
            return None;
        }
        let needed = opened.topology;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            _changed = leadership.changed() => None,
            recent = self.topology.wait_for(|topology| topology.index() >= needed) => recent.is_ok().then_some(opened),
        }
    }

    async fn lead(
        &mut self,
        leadership: &mut watch::Receiver<Leadership>,
        term: Term,
        opening: Opening,
    ) {
        let Opening {
            applied: _,
            now,
            topology: stored,
            queues,
            origins,
            outgoing,
            mut events,
        } = opening;
        info!(shard_id = %self.shard, %term, queues = queues.len(), "leading");
        let clock = ShardClock::open(now, self.median_wall_ms(), Instant::now());
        let mut leading = Leading::new(self, term, clock, stored);
        leading.open(queues, origins, outgoing);
        leading.sync_queues(&self.topology.borrow_and_update().clone());
        let opened_at = Instant::now();
        let mut started = false;
        let tick = tokio::time::sleep(TICK);
        tokio::pin!(tick);
        loop {
            let sleep = leading.sleep();
            tokio::select! {
                biased; // what ends leadership first, then what frees proposals and credit, then new work
                () = self.stop.cancelled() => break,
                _changed = leadership.changed() => {
                    let now = *leadership.borrow_and_update();
                    if now.term != term || !self.leads(now) { break; }
                }
                event = events.recv() => match event {
                    Some(event) => leading.tap(event),
                    None => break,
                },
                from = self.inbox.recv(), if !leading.is_full() => match from {
                    Some(from) => leading.take(from, |node| self.silent_ms(node)),
                    None => break,
                },
                changed = self.topology.changed() => {
                    if changed.is_err() { break; }
                    let copy = self.topology.borrow_and_update().clone();
                    leading.sync_queues(&copy);
                }
                // Something comes due: the turn tells dispatch the time.
                () = until(sleep) => {}
                () = &mut tick => {
                    let pause = self.tick(&mut leading);
                    tick.as_mut().reset(Instant::now() + pause);
                }
            }
            self.drain(&mut leading, &mut events);
            if !started && self.may_start(&leading, opened_at) {
                started = true;
                leading.start();
            }
            if !leading.finish_turn() {
                break;
            }
            let soon = Instant::now() + TICK;
            if tick.deadline() > soon && !leading.is_quiet() {
                tick.as_mut().reset(soon);
            }
        }
        self.close(leading, term);
    }

    fn close(&self, mut leading: Leading, term: Term) {
        let after = *self.group.leadership().borrow();
        info!(shard_id = %self.shard, %term, now_term = %after.term, "leads no more");
        let leader = after.leader.map(|leader| leader.node);
        leading.close(leader.filter(|node| *node != self.me.node));
    }

    /// Time has passed; answers when it is to be looked at again.
    fn tick(&self, leading: &mut Leading) -> Duration {
        leading.turn_away();
        leading.draw(self.median_wall_ms());
        leading.bury(|node| self.peers.heard(node).refused);
        leading.judge_queues();
        if leading.is_quiet() { TICK_QUIET } else { TICK }
    }

    /// Takes what else is there, without waiting, so that one turn proposes and sends for many inputs.
    fn drain(&mut self, leading: &mut Leading, events: &mut mpsc::Receiver<TapEvent>) {
        for _ in 0..INPUTS_PER_TURN {
            let mut idle = true;
            if let Ok(event) = events.try_recv() {
                leading.tap(event);
                idle = false;
            }
            if !leading.is_full()
                && let Ok(from) = self.inbox.try_recv()
            {
                leading.take(from, |node| self.silent_ms(node));
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    /// Every live node has reported, or the time for it is up.
    fn may_start(&self, leading: &Leading, opened_at: Instant) -> bool {
        if opened_at.elapsed() >= REPORT_WAIT_MAX {
            return true;
        }
        let mut awaited = self.peers.live(LIVE_WITHIN);
        awaited.push(self.me.node);
        awaited.into_iter().all(|node| leading.reported(node))
    }

    fn silent_ms(&self, node: NodeId) -> u64 {
        let heard = self.peers.heard(node).last_heard;
        let silent = heard.map_or(Duration::ZERO, |at| at.elapsed());
        u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)
    }

    fn median_wall_ms(&self) -> u64 {
        let own = wall_clock_ms();
        let mut clocks = vec![own];
        for node in self.peers.live(LIVE_WITHIN) {
            if let Some(offset) = self.peers.heard(node).wall_clock_offset_ms {
                clocks.push(own.saturating_add_signed(offset));
            }
        }
        median(clocks).unwrap_or(own)
    }
}

/// Waits so long; for ever if there is nothing to wait for.
///
/// # Cancel safety
/// Nothing is lost.
async fn until(sleep: Option<Duration>) {
    match sleep {
        Some(sleep) => tokio::time::sleep(sleep.max(SLEEP_MIN)).await,
        None => std::future::pending().await,
    }
}

async fn ask_opening(mailbox: &Mailbox) -> Option<Opening> {
    let (reply, answer) = oneshot::channel();
    mailbox.ask(Request::Open(reply));
    answer.await.ok()
}

/// Tells a node that asks for the leader that it is not here.
fn refuse(from: FromNode, leadership: Leadership) {
    let FromNode::Frames { out, frames, .. } = from else {
        return;
    };
    let leader = leadership.leader.map(|leader| leader.node);
    for frame in frames {
        if let Up::Hello(hello) = frame {
            out.push([Down::NotLeader {
                link: hello.link,
                leader,
            }]);
        }
    }
}

/// Options of dispatch; one place so that tests and the node agree.
pub(crate) fn new_dispatch() -> Dispatch {
    Dispatch::new(warren_queue::dispatch::Options::default())
}

/// The highest topology index a shard's entries were decided by.
pub(crate) type StoredTopology = TopologyIndex;
