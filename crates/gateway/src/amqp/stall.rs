//! A publish that has to wait, and with it everything behind it on its connection: the socket is not read meanwhile, so TCP carries the
//! pressure to the client. Not here: waiting (`run`), what is waited for (`admission`, `alarms`, `rates`, `quota`).

use tokio::time::Instant;
use warren_amqp::{ChannelId, Time};
use warren_types::{Alarm, VhostId};

use super::channel::Step;
use super::session::AmqpSession;

/// A publisher that waits so long is told.
const TELL_BLOCKED_MS: u64 = 1_000;

/// A publish waits; what `Publishes` has routed last are its queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stalled {
    pub(super) bytes: u64,
    since: Time,
    pub(super) why: Why,
}

/// What it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// Its time: its vhost has a limit of publishes per second.
    Rate(VhostId),
    /// Its vhost stores as much as it may.
    Quota(VhostId),
    /// A node that would have to keep it is short of this.
    Alarm(Alarm),
    /// Bytes of admission.
    Bytes,
}

impl AmqpSession {
    /// Why a message cannot go on now; `None`: it can, and if it goes to a queue its bytes are admitted.
    pub(super) fn held_back(
        &mut self,
        vhost: VhostId,
        is_routed: bool,
        charge: u64,
    ) -> Option<Why> {
        if let Some(limit) = self.publish_limit
            && !self.has_time
        {
            let taken = self.gateway.rates().take(vhost, limit, 1, Instant::now());
            if taken.is_err() {
                return Some(Why::Rate(vhost));
            }
            self.has_time = true;
        }
        if is_routed {
            if self.gateway.quotas().is_over(vhost) {
                return Some(Why::Quota(vhost));
            }
            let targets = self.publishes.targets();
            if let Some(alarm) = self.gateway.stopped_by(targets, &self.view) {
                return Some(Why::Alarm(alarm));
            }
            if !self.publishes.admit(charge) {
                return Some(Why::Bytes);
            }
        }
        self.has_time = false;
        None
    }

    /// The message waits, and with it everything behind it on the connection.
    pub(super) fn stall(&mut self, channel: ChannelId, step: Step, bytes: u64, why: Why) {
        self.wait(channel, step);
        let since = self.now;
        let counters = &self.gateway.counters().amqp;
        // What does not go away in a moment is told at once.
        match why {
            Why::Alarm(alarm) => {
                counters.held_back(alarm);
                self.conn.block(&format!("low on {alarm}"));
            }
            Why::Quota(_) => {
                counters.held_back_by_quota.add(1);
                self.conn.block("the vhost stores as much as it may");
            }
            Why::Rate(_) => {
                counters.held_back_by_rate.add(1);
                self.check_at(since.plus_ms(TELL_BLOCKED_MS));
            }
            Why::Bytes => self.check_at(since.plus_ms(TELL_BLOCKED_MS)),
        }
        self.stalled = Some(Stalled { bytes, since, why });
    }

    /// Tells a publisher that has waited long.
    pub(super) fn tell_blocked(&mut self) {
        let Some(stalled) = self.stalled else {
            return;
        };
        let text = match stalled.why {
            Why::Alarm(_) | Why::Quota(_) => return, // told already
            Why::Rate(_) => "more was published into the vhost than it may per second",
            Why::Bytes => "too many bytes of messages are not stored yet",
        };
        let at: Time = stalled.since.plus_ms(TELL_BLOCKED_MS);
        if self.now >= at {
            self.conn.block(text);
        } else {
            self.check_at(at);
        }
    }
}
