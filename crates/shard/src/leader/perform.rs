//! What the decisions of dispatch cause: frames down to the nodes, facts for the next entry, loads. Not here: the decisions (`warren-queue`).

use warren_codec::StoredMessageView;
use warren_queue::dispatch::io::{Action, ConsumerKey, Token, Whereabouts};
use warren_queue::entry::Command;
use warren_queue::store::PeekedPage;
use warren_types::{NodeId, QueueId};

use super::work::Leading;
use crate::api::{LeftTotals, LevelStats, QueueStats, StatsDepth};
use crate::link::frame::{Down, PeekUp};
use crate::peek::StoredPage;
use crate::redrive::Redrive;
use crate::replica::tap::{Request, StoredStats};

impl Leading {
    pub(super) fn perform(&mut self) {
        for action in std::mem::take(&mut self.actions.list) {
            match action {
                Action::Propose(Command::Settle(it)) => self.settle_or_dead_letter(it),
                Action::Propose(command) => self.propose_or_park(command),
                Action::Load {
                    queue,
                    priority,
                    from,
                } => self.mailbox.ask(Request::Load {
                    queue,
                    priority,
                    from,
                }),
                Action::LookDue { queue, up_to } => {
                    self.mailbox.ask(Request::LookDue { queue, up_to });
                }
                Action::ProposeOutputs {
                    queue,
                    held,
                    outputs,
                } => self.propose_outputs(queue, held, outputs),
                Action::ProposeTogether {
                    outputs,
                    deliveries,
                    endings,
                } => self.propose_together(outputs, deliveries, endings),
                Action::SettleResults {
                    node,
                    token,
                    results,
                } => self.tell_settled(node, token, results),
                told @ (Action::Deliver { .. }
                | Action::Attached { .. }
                | Action::Recalled { .. }
                | Action::Waiting { .. }
                | Action::Cancelled { .. }
                | Action::Forget { .. }
                | Action::Purged { .. }) => {
                    if let Some((node, frame)) = frame(told) {
                        self.links.tell(node, frame);
                    }
                }
            }
        }
    }

    pub(super) fn answer_stats(
        &mut self,
        node: NodeId,
        token: Token,
        stored: Option<(QueueId, StoredStats)>,
    ) {
        let stats = stored.map(|(queue, stored)| self.stats(queue, stored));
        self.links.tell(node, Down::Stats { token, stats });
    }
}

impl Leading {
    pub(super) fn ask_stats(
        &mut self,
        node: NodeId,
        token: Token,
        queue: QueueId,
        depth: StatsDepth,
    ) {
        if depth == StatsDepth::Consumers && !self.knows_consumers() {
            let stats = None; // asked again
            return self.links.tell(node, Down::Stats { token, stats });
        }
        let ready_from = match depth {
            StatsDepth::Counts | StatsDepth::Consumers => Vec::new(),
            StatsDepth::Age => self.dispatch.ready_from(queue),
        };
        self.mailbox.ask(Request::Stats {
            queue,
            ready_from,
            node,
            token,
        });
    }

    fn stats(&self, queue: QueueId, stored: StoredStats) -> QueueStats {
        let live = self.dispatch.queue_stats(queue).unwrap_or_default();
        let (delivered, redelivered) = self.dispatch.handed_out(queue);
        let counters = stored.counters;
        let left = LeftTotals {
            acked: counters.acked + counters.no_ack,
            rejected: counters.rejected,
            expired: counters.expired,
            dropped: counters.dropped,
            dead_lettered: counters.dead_lettered,
            purged: counters.purged,
        };
        let of_levels = |count: fn(&LevelStats) -> u64| stored.levels.iter().map(count).sum();
        let held: u64 = of_levels(|it| it.live);
        let waiting = stored
            .first
            .iter()
            .filter(|it| self.dispatch.whereabouts(queue, it.position) == Whereabouts::NotInFlight);
        let came = waiting.filter_map(|it| StoredMessageView::open(&it.message).ok());
        QueueStats {
            ready: self.most_ready(queue, live.ready),
            held_back: live.held_back,
            scheduled: of_levels(|it| it.scheduled),
            delayed: live.delayed,
            parked: of_levels(|it| it.parked),
            unacked: live.unacked,
            consumers: live.consumers,
            enqueued: counters.enqueued,
            settled: counters.enqueued.saturating_sub(held),
            left,
            duplicates: counters.duplicates,
            delivered,
            redelivered,
            dead_lettering: stored.leaving,
            body_bytes: counters.live_body_bytes,
            ready_bytes: self.dispatch.ready_bytes(queue),
            oldest_ready_ms: came.map(|it| it.enqueued_at.0).min(),
            levels: stored.levels,
        }
    }

    /// Has a page of messages read.
    pub(super) fn look(&self, node: NodeId, it: PeekUp, redrive: Option<Redrive>) {
        self.mailbox.ask(Request::Peek { node, it, redrive });
    }

    /// What the store knows of messages, with who has them.
    pub(super) fn answer_peek(
        &mut self,
        node: NodeId,
        token: Token,
        queue: QueueId,
        page: Option<PeekedPage>,
    ) {
        let dispatch = &self.dispatch;
        let page = page.map(|it| StoredPage::new(it, |at| dispatch.whereabouts(queue, at)));
        self.links.tell(node, Down::Peeked { token, page });
    }
}

/// What a node is told, and which one; `None` for what no node hears of.
fn frame(action: Action) -> Option<(NodeId, Down)> {
    Some(match action {
        Action::Propose(_)
        | Action::ProposeOutputs { .. }
        | Action::ProposeTogether { .. }
        | Action::SettleResults { .. }
        | Action::Load { .. }
        | Action::LookDue { .. } => return None,

        Action::Deliver {
            consumer: ConsumerKey { node, consumer },
            queue,
            fencing,
            deliveries,
        } => (
            node,
            Down::Deliver {
                consumer,
                queue,
                fencing,
                deliveries,
            },
        ),
        Action::Attached {
            consumer: ConsumerKey { node, consumer },
            result,
        } => (node, Down::Attached { consumer, result }),
        Action::Recalled {
            consumer: ConsumerKey { node, consumer },
            credit,
        } => (node, Down::Recalled { consumer, credit }),
        Action::Waiting {
            consumer: ConsumerKey { node, consumer },
        } => (node, Down::Waiting { consumer }),
        Action::Cancelled {
            consumer: ConsumerKey { node, consumer },
        } => (node, Down::Cancelled { consumer }),
        Action::Forget {
            consumer: ConsumerKey { node, consumer },
            queue,
            position,
        } => (
            node,
            Down::Forget {
                consumer,
                queue,
                position,
            },
        ),
        Action::Purged { node, token, count } => (node, Down::Purged { token, count }),
    })
}
