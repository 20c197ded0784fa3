//! What workers and the course of the run share: the phase, the counters, the latencies, the ledgers.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use hdrhistogram::Histogram;
use tokio::sync::watch;

use super::{
    body::Clock,
    options::Plan,
    verify::{Arrival, KeyOrder, Ledger, Verdict},
};

/// Where the run is. Only ever goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    WarmUp,
    Measure,
    /// Nothing more is published.
    Drain,
    Done,
}

/// Latencies and gaps of publishers or of consumers.
#[derive(Debug)]
pub(super) struct Latency {
    /// Nanoseconds, of the measured time.
    pub(super) histogram: Histogram<u64>,
    /// Longest silence of one worker, nanoseconds.
    pub(super) gap_ns: u64,
    /// Longest latency of the whole run, nanoseconds.
    pub(super) max_ns: u64,
}

impl Latency {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, 600_000_000_000, 3);
        Self {
            histogram: histogram.expect("the bounds are in order and the precision is allowed"),
            gap_ns: 0,
            max_ns: 0,
        }
    }

    pub(super) fn record(&mut self, ns: u64, is_measured: bool) {
        self.max_ns = self.max_ns.max(ns);
        if is_measured {
            self.histogram.saturating_record(ns.max(1));
        }
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    phase: watch::Sender<Phase>,
    pub(super) published: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) consumed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) redelivered: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) resent: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) confirm: Mutex<Latency>,
    pub(super) end_to_end: Mutex<Latency>,
    /// By queue; none without --verify.
    ledgers: Vec<Mutex<Ledger>>,
    pub(super) first_refusal: Mutex<Option<String>>,
    /// What each consumer got in the measured time, as they end.
    pub(super) by_consumer: Mutex<Vec<u64>>,
    /// With --keys.
    pub(super) keys: Mutex<KeyOrder>,
}

impl Shared {
    pub(super) fn new(plan: &Plan) -> Self {
        let ledger = match plan.shape.is_in_order() {
            true => Ledger::default,
            false => Ledger::unordered,
        };
        let ledgers = if plan.verify { plan.queues } else { 0 };
        Self {
            clock: Clock::start(),
            phase: watch::Sender::new(Phase::WarmUp),
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            confirm: Mutex::new(Latency::new()),
            end_to_end: Mutex::new(Latency::new()),
            ledgers: (0..ledgers).map(|_| Mutex::new(ledger())).collect(),
            first_refusal: Mutex::new(None),
            by_consumer: Mutex::default(),
            keys: Mutex::default(),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// To wait for a phase.
    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn answered(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed)
    }

    /// Marks confirmed messages of a publisher.
    pub(super) fn mark_confirmed(
        &self,
        queue: usize,
        publisher: u32,
        sequences: impl Iterator<Item = u64>,
    ) {
        if let Some(ledger) = self.ledgers.get(queue) {
            let mut ledger = locked(ledger);
            sequences.for_each(|it| ledger.confirmed(publisher, it));
        }
    }

    /// Marks messages that came.
    pub(super) fn mark_arrived(&self, queue: usize, arrivals: &[Arrival]) {
        if let Some(ledger) = self.ledgers.get(queue) {
            let mut ledger = locked(ledger);
            arrivals.iter().for_each(|it| ledger.arrived(*it));
        }
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        if self.ledgers.is_empty() {
            return None;
        }
        let mut verdict = Verdict::default();
        for ledger in &self.ledgers {
            locked(ledger).add_to(&mut verdict);
        }
        Some(verdict)
    }
}

/// Waits for a phase.
///
/// # Cancel safety
/// Nothing is lost if it is dropped before it is ready.
pub(super) async fn reached(watch: &mut watch::Receiver<Phase>, phase: Phase) {
    // An error means that the run is gone: then it is over too.
    drop(watch.wait_for(|it| *it >= phase).await);
}

/// What a lock guards stays of use even if another worker panicked: counts are added in one step.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the longest silence of one worker.
#[derive(Debug, Default)]
pub(super) struct Gap {
    last_ns: Option<u64>,
    pub(super) longest_ns: u64,
}

impl Gap {
    pub(super) fn note(&mut self, now_ns: u64, is_measured: bool) {
        if let (Some(last), true) = (self.last_ns, is_measured) {
            self.longest_ns = self.longest_ns.max(now_ns.saturating_sub(last));
        }
        self.last_ns = Some(now_ns);
    }
}
