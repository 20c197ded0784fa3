//! A connection's deadlines. The time comes with each call. Not here: what passing one does (`connection`).

/// Milliseconds since any fixed moment, the same for all calls of a connection; never runs backwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Nothing,
    /// Half an interval without a word from us.
    Send,
    /// Two intervals without a word from the peer.
    PeerGone,
}

#[derive(Clone, Debug)]
pub(super) struct Timers {
    handshake_end: Time,
    /// 0: no heartbeats.
    interval_ms: u64,
    received: Time,
    sent: Time,
    listening: bool,
}

impl Timers {
    pub(super) fn new(now: Time, handshake_ms_max: u64) -> Self {
        let handshake_end = now.plus_ms(handshake_ms_max);
        Self {
            handshake_end,
            interval_ms: 0,
            received: now,
            sent: now,
            listening: true,
        }
    }

    pub(super) fn received(&mut self, now: Time) {
        self.received = self.received.max(now);
    }

    pub(super) fn sent(&mut self, now: Time) {
        self.sent = self.sent.max(now);
    }

    pub(super) fn set_heartbeat(&mut self, seconds: u16) {
        self.interval_ms = u64::from(seconds) * 1000;
    }

    pub(super) fn set_listening(&mut self, listening: bool, now: Time) {
        // What came meanwhile was not seen: the peer gets its two intervals from now on.
        if listening && !self.listening {
            self.received(now);
        }
        self.listening = listening;
    }

    pub(super) fn handshake_end(&self) -> Time {
        self.handshake_end
    }

    pub(super) fn handshake_over(&self, now: Time) -> bool {
        now >= self.handshake_end
    }

    fn send_at(&self) -> Time {
        self.sent.plus_ms(self.interval_ms / 2)
    }

    fn gone_at(&self) -> Time {
        self.received.plus_ms(self.interval_ms * 2)
    }

    pub(super) fn due(&self, now: Time) -> Due {
        if self.interval_ms == 0 {
            Due::Nothing
        } else if self.listening && now >= self.gone_at() {
            Due::PeerGone
        } else if now >= self.send_at() {
            Due::Send
        } else {
            Due::Nothing
        }
    }

    pub(super) fn next_heartbeat(&self) -> Option<Time> {
        let next = if self.listening {
            self.send_at().min(self.gone_at())
        } else {
            self.send_at()
        };
        (self.interval_ms > 0).then_some(next)
    }
}
