//! One publisher of a run.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Result;
use warren_client::{
    Message, Outcome, OutcomeSink, Publication, PublishResult, PublisherOptions, Target,
};

use super::{
    body::Header,
    options::Plan,
    placement::Worker,
    shared::{Gap, Phase, Shared, locked, reached},
};

/// Publishes until the measurement is over, then waits for the confirms.
pub(super) async fn run(
    worker: Worker,
    index: usize,
    plan: Plan,
    shared: Arc<Shared>,
) -> Result<()> {
    let number = u32::try_from(index).expect("the command line has fewer publishers");
    let sink = sink(worker.queue_index, number, shared.clone());
    let publisher = worker.connection.publisher(PublisherOptions {
        vhost: worker.vhost,
        window_messages: plan.window_each,
        window_bytes: u32::MAX >> 1,
        give_up_after: Duration::from_secs_f64(plan.drain_s.max(10.0)),
        sink: Some(sink),
        ..PublisherOptions::default()
    });
    let target = Target::queue(&worker.queue);
    let mut phase = shared.watch();
    let share = messages_of(&plan, index);
    let started_ns = shared.clock.ns();
    let mut sequence: u64 = 0;
    while share.is_none_or(|it| sequence < it) && *phase.borrow_and_update() < Phase::Drain {
        // A latency counts from when the message could go, not from when this program would have liked to send it.
        let room = tokio::select! {
            biased;
            room = publisher.room() => room?,
            // The window is full and the time is over.
            () = reached(&mut phase, Phase::Drain) => break,
        };
        sequence += 1;
        let sent_ns = match plan.rate_each {
            Some(rate) => {
                let due_ns = started_ns + due_after_ns(sequence, rate);
                let due = tokio::time::Instant::from_std(shared.clock.at_ns(due_ns));
                if due_ns > shared.clock.ns() {
                    tokio::time::sleep_until(due).await;
                }
                due_ns
            }
            None => shared.clock.ns(),
        };
        let header = Header {
            publisher: number,
            sequence,
            sent_ns,
        };
        let message = Message::new(header.body(plan.size_bytes));
        let publication = Publication {
            target: target.clone(),
            message: plan.shape.apply(message, number, sequence)?,
            mandatory: true,
            token: sent_ns,
        };
        tokio::select! {
            biased;
            sent = room.submit(publication) => sent?,
            // No room for its bytes and the time is over: this one was never accepted.
            () = reached(&mut phase, Phase::Drain) => break,
        }
        shared.published.fetch_add(1, Ordering::Relaxed);
    }
    publisher.flush().await?;
    let stats = publisher.stats();
    shared.resent.fetch_add(stats.resent, Ordering::Relaxed);
    shared
        .reconnects
        .fetch_add(stats.reconnects, Ordering::Relaxed);
    Ok(())
}

fn sink(queue: usize, publisher: u32, shared: Arc<Shared>) -> OutcomeSink {
    let mut gap = Gap::default();
    Box::new(move |results: &[PublishResult]| {
        let now_ns = shared.clock.ns();
        let is_measured = shared.phase() == Phase::Measure;
        gap.note(now_ns, is_measured);
        let mut confirmed = 0;
        {
            let mut latency = locked(&shared.confirm);
            latency.gap_ns = latency.gap_ns.max(gap.longest_ns);
            for result in results {
                if result.outcome.is_success() {
                    confirmed += 1;
                    latency.record(now_ns.saturating_sub(result.token), is_measured);
                }
            }
        }
        let stored = results.iter().filter(|it| it.outcome.is_success());
        shared.mark_confirmed(queue, publisher, stored.map(|it| it.sequence));
        for result in results {
            keep_refusal(&shared, &result.outcome);
        }
        let all = u64::try_from(results.len()).expect("usize is at most 64 bits");
        shared.confirmed.fetch_add(confirmed, Ordering::Relaxed);
        shared.refused.fetch_add(all - confirmed, Ordering::Relaxed);
    })
}

fn keep_refusal(shared: &Shared, outcome: &Outcome) {
    let text = match outcome {
        Outcome::Refused(refusal) => refusal.to_string(),
        Outcome::Unknown(error) => error.to_string(),
        Outcome::Committed { .. } | Outcome::Duplicate | Outcome::Unrouted => return,
    };
    locked(&shared.first_refusal).get_or_insert(text);
}

/// Its part of a fixed number of messages.
fn messages_of(plan: &Plan, index: usize) -> Option<u64> {
    let all = plan.messages?;
    let publishers = u64::try_from(plan.publishers.max(1)).expect("usize is at most 64 bits");
    let index = u64::try_from(index).expect("usize is at most 64 bits");
    Some(all / publishers + u64::from(index < all % publishers))
}

/// When the message with this number is due, from the start.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a time in nanoseconds, never negative; a fraction of a microsecond does not matter"
)]
fn due_after_ns(sequence: u64, rate: f64) -> u64 {
    ((sequence - 1) as f64 / rate * 1e9) as u64
}
