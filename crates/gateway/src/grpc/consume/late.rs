//! Deliveries that their client holds too long (`max_processing`, features B51): they return, counted as failed; the client gets others in
//! their place when it settles them, which is answered `EXPIRED`. Not here: which they are (`held`).

use tokio::time::Instant;
use warren_shard::ReturnKind;
use warren_shard::api::{AnswerTime, ReturnWait, SettleAction, SettleSpec};
use warren_types::Position;

use super::Attached;
use super::session::{ConsumeSession, NO_ACK_TOKEN};

impl Attached {
    /// Until when a delivery that is written now may be held.
    pub(super) fn until(&self) -> Option<Instant> {
        let most = self.max_processing.filter(|_| !self.no_ack)?;
        Some(Instant::now() + most)
    }
}

impl ConsumeSession {
    pub(super) async fn return_late(&mut self) {
        let items = self.held.take_late(Instant::now());
        if items.is_empty() {
            return;
        }
        let positions: Vec<Position> = items.iter().map(|it| it.position).collect();
        self.groups_revoked(&positions);
        let action = SettleAction::Return {
            kind: ReturnKind::Failed,
            wait: ReturnWait::ByPolicy,
        };
        let spec = SettleSpec {
            target: self.attached.target,
            items,
            action,
            answer: AnswerTime::Soon,
            outputs: Vec::new(),
            said: None,
        };
        // An uplink that has stopped takes its consumers with it, and what they hold returns.
        let _stopped = self.attached.session.settle(spec, NO_ACK_TOKEN).await;
    }
}
