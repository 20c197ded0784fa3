//! A consumer whose stream broke: kept for its client to come back, with what it holds. Not here: finding it again (`resume`).

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use warren_shard::Credit;
use warren_shard::api::Unavailable;

use super::session::{ConsumeSession, End, Phase};
use crate::grpc::deliveries::body_bytes;
use crate::grpc::held::HeldDelivery;
use crate::grpc::resume::{Coming, Registration, Rejoin};
use crate::grpc::streams::reached;

impl ConsumeSession {
    /// The stream broke: keeps what is held until the client is back, or the grace is over.
    pub(super) async fn park(&mut self, stop: &CancellationToken) -> End {
        if self.registration.is_none()
            || self.is_closed
            || self.draining_until.is_some()
            || self.is_cancelled
        {
            return End::Broken;
        }
        self.stop_storing();
        // The client comes back on another stream, with its own.
        self.link.seat = None;
        let everything = self.attached.credit.recall_all();
        // An uplink that has stopped ends the session.
        let _stopped = self
            .attached
            .session
            .recall(self.attached.consumer, everything)
            .await;
        self.control.clear();
        self.late_pongs.clear();
        let grace = self.attached.gateway.options().resume_grace;
        let kept = async {
            loop {
                tokio::select! {
                    biased; // stopping comes first; a client that is back finds everything up to date
                    () = stop.cancelled() => return End::Broken,
                    events = self.attached.session.events() => match events {
                        Some(events) => self.events(events),
                        None => return End::Broken,
                    },
                    coming = coming(&mut self.registration) => return End::from(coming),
                    () = reached(self.held.next_time()), if self.held.next_time().is_some() => self.return_late().await,
                }
                if self.is_cancelled {
                    return End::Broken;
                }
                // Results that nobody hears are said again on the next stream only if they are settles of it.
                self.control.clear();
            }
        };
        timeout(grace, kept).await.unwrap_or(End::Broken)
    }

    /// The client is back on another stream.
    pub(super) fn rejoined(&mut self, rejoin: Rejoin) {
        let Rejoin { link, open, who } = rejoin;
        self.stop_storing();
        self.attached.who = who;
        self.link = link;
        self.control.clear();
        self.late_pongs.clear();
        self.phase = Phase::Running;
        self.must_recall = false;
        self.held.restart();
        // Results of the old stream have no stream any more: the client settles again, by receipt.
        // One with outputs is answered by what is remembered of it.
        for kept in self.settles.give_up(Unavailable::NotReady) {
            self.held.put_back(HeldDelivery { tag: 0, ..kept });
        }
        while self.settles.take_done().is_some() {}
        self.lease_until = Instant::now() + self.attached.gateway.options().lease;
        let waiting = self
            .outbox
            .iter()
            .map(body_bytes)
            .fold(0_u64, u64::saturating_add);
        let held = Credit {
            messages: u64::try_from(self.held.len() + self.outbox.len()).unwrap_or(u64::MAX),
            bytes: self.held.bytes().saturating_add(waiting),
        };
        let credit = super::first_credit(&open);
        if self
            .attached
            .credit
            .reopen(open.prefetch, credit, held)
            .is_err()
        {
            debug!(queue = %self.attached.queue.name, "credit of a resumed consumer is beyond the limit");
        }
        self.opened();
    }
}

/// Waits for the client; for ever if it cannot come back.
pub(super) async fn coming(registration: &mut Option<Registration>) -> Coming {
    match registration {
        Some(registration) => registration.coming().await,
        None => std::future::pending().await,
    }
}
