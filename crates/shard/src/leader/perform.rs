//! What the decisions of dispatch cause: frames down to the nodes, facts for the next entry, loads. Not here: the decisions (`warren-queue`).

use warren_queue::dispatch::io::{Action, Token};
use warren_types::NodeId;

use super::work::Leading;
use crate::api::QueueStats;
use crate::link::frame::Down;
use crate::replica::tap::{Request, StoredStats};

impl Leading {
    pub(super) fn perform(&mut self) {
        for action in std::mem::take(&mut self.actions.list) {
            match action {
                Action::Deliver {
                    consumer,
                    queue,
                    deliveries,
                } => {
                    self.links.tell(
                        consumer.node,
                        Down::Deliver {
                            consumer: consumer.consumer,
                            queue,
                            deliveries,
                        },
                    );
                }
                Action::Propose(command) => self.batcher.command(command),
                Action::Load {
                    queue,
                    priority,
                    from,
                } => self.mailbox.ask(Request::Load {
                    queue,
                    priority,
                    from,
                }),
                Action::Attached { consumer, result } => {
                    self.links.tell(
                        consumer.node,
                        Down::Attached {
                            consumer: consumer.consumer,
                            result,
                        },
                    );
                }
                Action::SettleResults {
                    node,
                    token,
                    results,
                } => {
                    self.links
                        .tell(node, Down::SettleResults { token, results });
                }
                Action::Recalled { consumer, credit } => {
                    self.links.tell(
                        consumer.node,
                        Down::Recalled {
                            consumer: consumer.consumer,
                            credit,
                        },
                    );
                }
                Action::Waiting { consumer } => {
                    self.links.tell(
                        consumer.node,
                        Down::Waiting {
                            consumer: consumer.consumer,
                        },
                    );
                }
                Action::Cancelled { consumer } => {
                    self.links.tell(
                        consumer.node,
                        Down::Cancelled {
                            consumer: consumer.consumer,
                        },
                    );
                }
                Action::Forget {
                    consumer,
                    queue,
                    position,
                } => {
                    self.links.tell(
                        consumer.node,
                        Down::Forget {
                            consumer: consumer.consumer,
                            queue,
                            position,
                        },
                    );
                }
                Action::Purged { node, token, count } => {
                    self.links.tell(node, Down::Purged { token, count })
                }
            }
        }
    }

    pub(super) fn answer_stats(
        &mut self,
        node: NodeId,
        token: Token,
        stored: Option<(warren_types::QueueId, StoredStats)>,
    ) {
        let stats = stored.map(|(queue, stored)| {
            let live = self.dispatch.queue_stats(queue).unwrap_or_default();
            QueueStats {
                ready: live.ready,
                unacked: live.unacked,
                consumers: live.consumers,
                enqueued: stored.enqueued,
                settled: stored.enqueued.saturating_sub(stored.live),
                body_bytes: stored.body_bytes,
            }
        });
        self.links.tell(node, Down::Stats { token, stats });
    }
}
