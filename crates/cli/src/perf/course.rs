//! The course of a run: warm up, measure, drain, done.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::{
    options::Plan,
    process::{self, Snapshot},
    shared::{Phase, Shared},
};
use crate::{exit::Failure, progress::Progress, signals::Interrupt};

const STEP: Duration = Duration::from_millis(20);
/// Nothing arrives any more, so nothing will.
const QUIET: Duration = Duration::from_secs(3);
/// A duplicate may still come.
const AFTERMATH: Duration = Duration::from_millis(200);
/// How long workers may take to end.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Counters at one moment.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) consumed: u64,
    pub(super) usage: Snapshot,
}

/// The moments that a report is made of.
#[derive(Debug)]
pub(super) struct Measured {
    /// Before the first connection.
    pub(super) first: Moment,
    pub(super) from: Moment,
    pub(super) to: Moment,
    /// After everything was consumed.
    pub(super) end: Moment,
}

/// What waits for the end of a phase.
struct Watcher<'a> {
    plan: &'a Plan,
    shared: &'a Arc<Shared>,
    tasks: &'a mut JoinSet<Result<()>>,
    progress: &'a Progress,
    interrupt: Interrupt,
    interrupted: bool,
    second: (Instant, u64),
}

/// Runs the phases. A worker that fails ends the run.
pub(super) async fn drive(
    plan: &Plan,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<Result<()>>,
    progress: &Progress,
    start: impl FnOnce(&mut JoinSet<Result<()>>) -> Result<()>,
) -> Result<Measured> {
    process::reset_peaks(&plan.pids);
    let first = moment(plan, shared);
    if plan.warmup_s == 0.0 {
        shared.enter(Phase::Measure);
    }
    start(tasks)?;
    let mut watcher = Watcher {
        plan,
        shared,
        tasks,
        progress,
        interrupt: Interrupt::new()?,
        interrupted: false,
        second: (Instant::now(), 0),
    };
    watcher.wait(seconds(plan.warmup_s), || false).await?;
    let from = if plan.warmup_s == 0.0 {
        first.clone()
    } else {
        moment(plan, shared)
    };
    shared.enter(Phase::Measure);
    watcher
        .wait(seconds(plan.seconds), || has_all(plan, shared))
        .await?;
    let to = moment(plan, shared);
    shared.enter(Phase::Drain);
    watcher.drain().await?;
    let end = moment(plan, shared);
    if plan.verify {
        watcher.wait(AFTERMATH, || false).await?;
    }
    shared.enter(Phase::Done);
    let ended = tokio::time::timeout(END_WITHIN, async {
        while let Some(worker) = tasks.join_next().await {
            worker.context("a worker panicked")??;
        }
        Ok::<(), anyhow::Error>(())
    });
    ended
        .await
        .map_err(|_| Failure::Unavailable("workers did not end in time".to_owned()))??;
    Ok(Measured {
        first,
        from,
        to,
        end,
    })
}

impl Watcher<'_> {
    /// Waits until it is so, at most so long.
    async fn wait(&mut self, within: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < within && !is_so() && !self.interrupted {
            self.tell();
            let left = within.saturating_sub(begin.elapsed()).min(STEP);
            tokio::select! {
                biased;
                () = self.interrupt.wait() => self.interrupted = true,
                ended = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // A publisher that has sent its part ends well.
                    ended.transpose().context("a worker panicked")?.transpose()?;
                }
                () = tokio::time::sleep(left) => {}
            }
        }
        Ok(())
    }

    /// Until everything is confirmed, and what was confirmed has arrived or nothing arrives any more.
    async fn drain(&mut self) -> Result<()> {
        let (plan, shared) = (self.plan, self.shared);
        if self.interrupted {
            return Ok(());
        }
        if plan.publishers > 0 {
            let published = || shared.published.load(Ordering::Relaxed);
            self.wait(seconds(plan.drain_s), || shared.answered() >= published())
                .await?;
        }
        if plan.publishers == 0 || plan.consumers == 0 {
            return Ok(());
        }
        let mut seen = (0, Instant::now());
        let within = seconds(plan.drain_s).max(QUIET + Duration::from_millis(500));
        self.wait(within, || {
            let consumed = shared.consumed.load(Ordering::Relaxed);
            if consumed != seen.0 {
                seen = (consumed, Instant::now());
            }
            let confirmed = shared.confirmed.load(Ordering::Relaxed);
            let may_be_all = consumed >= confirmed;
            let is_all = may_be_all && shared.verdict().is_none_or(|it| it.lost == 0);
            is_all || seen.1.elapsed() > QUIET
        })
        .await
    }

    fn tell(&mut self) {
        let count = done(self.plan, self.shared);
        self.progress.set(count);
        let since = self.second.0.elapsed();
        if since >= Duration::from_secs(1) {
            let rate = to_f64(count - self.second.1) / since.as_secs_f64();
            self.progress.say(format!("{rate:.0}/s"));
            self.second = (Instant::now(), count);
        }
    }
}

fn done(plan: &Plan, shared: &Shared) -> u64 {
    let counter = if plan.publishers > 0 {
        &shared.confirmed
    } else {
        &shared.consumed
    };
    counter.load(Ordering::Relaxed)
}

fn has_all(plan: &Plan, shared: &Shared) -> bool {
    plan.messages.is_some_and(|all| {
        (plan.publishers == 0 || shared.answered() >= all)
            && (plan.consumers == 0 || shared.consumed.load(Ordering::Relaxed) >= all)
    })
}

fn moment(plan: &Plan, shared: &Shared) -> Moment {
    Moment {
        at: Instant::now(),
        published: shared.published.load(Ordering::Relaxed),
        confirmed: shared.confirmed.load(Ordering::Relaxed),
        consumed: shared.consumed.load(Ordering::Relaxed),
        usage: Snapshot::take(&plan.pids),
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Counts are far below where this loses anything.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one run stay below 2^53"
)]
pub(super) fn to_f64(count: u64) -> f64 {
    count as f64
}
