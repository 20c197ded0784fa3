//! A consumer whose client has come back to another node: its deliveries go there, and it waits until they are taken.
//! Not here: the road between the nodes (`warren-shard`), the node that asks (`consume`).

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;
use warren_shard::api::{AnswerTime, ReturnWait, SessionEvent, SettleAction, SettleSpec};
use warren_shard::{HandedOver, Held, ReturnKind};

use super::session::{ConsumeSession, NO_ACK_TOKEN};
use crate::grpc::deliveries::held_of;

/// How long the shard's leader has to say that the consumer gets nothing more.
const RECALL_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

impl ConsumeSession {
    /// Gives everything that the client has to the node that asks, and what it has not back to the queue.
    pub(super) async fn hand_over(mut self, reply: oneshot::Sender<HandedOver>) {
        // Its client is elsewhere: the stream, if it is open still, ends.
        self.link.outbound = mpsc::channel(1).0;
        self.stop_storing();
        self.control.clear();
        self.registration = None;
        let (session, consumer) = (&self.attached.session, self.attached.consumer);
        // Cancelled first: from now on whoever brings the attempts may have the deliveries. An uplink that has stopped takes its
        // consumers with it.
        let _stopped = session.detach(consumer, None).await;
        let everything = self.attached.credit.recall_all();
        let _stopped = session.recall(consumer, everything).await;
        let recalled = self.until(|event| matches!(event, SessionEvent::Recalled { .. }));
        if timeout(RECALL_WITHIN, recalled).await.is_err() {
            debug!(queue = %self.attached.queue.name, "leader has not confirmed that a consumer moves");
        }
        self.give_unwritten_back().await;
        let handed = HandedOver {
            consumer_tag: self.attached.tag.clone(),
            held: self.held.all_with_bytes().collect(),
        };
        let grace = self.attached.gateway.options().resume_grace;
        if reply.send(handed).is_ok() {
            // Each one is forgotten when the other node's consumer has it.
            let taken = async {
                while self.held.len() > 0 {
                    let Some(events) = self.attached.session.events().await else {
                        return;
                    };
                    self.events(events);
                }
            };
            if timeout(grace, taken).await.is_err() {
                debug!(queue = %self.attached.queue.name, "deliveries of a consumer that moved were not taken");
            }
        }
        self.leave(ReturnKind::Failed).await;
    }

    /// Takes what the broker says until it is this.
    async fn until(&mut self, is_last: impl Fn(&SessionEvent) -> bool) {
        while let Some(events) = self.attached.session.events().await {
            let is_over = events.iter().any(&is_last);
            self.events(events);
            if is_over {
                return;
            }
        }
    }

    async fn give_unwritten_back(&mut self) {
        let items: Vec<Held> = self.outbox.drain(..).map(|it| held_of(&it)).collect();
        if items.is_empty() {
            return;
        }
        let action = SettleAction::Return {
            kind: ReturnKind::Untouched,
            wait: ReturnWait::Not,
        };
        let spec = SettleSpec {
            target: self.attached.target,
            items,
            action,
            answer: AnswerTime::AtOnce,
            outputs: Vec::new(),
            said: None,
        };
        // An uplink that has stopped takes its consumers with it, and what they hold returns.
        let _stopped = self.attached.session.settle(spec, NO_ACK_TOKEN).await;
    }
}
