//! One consumer of a run.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Result;
use warren_client::{Consumer, ConsumerOptions, Delivery};

use super::{
    body::Header,
    options::Plan,
    placement::Worker,
    shape::Shape,
    shared::{Gap, Phase, Shared, locked, reached},
    verify::Arrival,
};

/// What is not acknowledged yet is acknowledged after so long without a delivery.
const ACK_AFTER: Duration = Duration::from_millis(2);
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Consumes until the run is done.
pub(super) async fn run(
    worker: Worker,
    index: usize,
    plan: Plan,
    shared: Arc<Shared>,
) -> Result<()> {
    let options = ConsumerOptions {
        vhost: worker.vhost,
        prefetch: plan.prefetch,
        ..ConsumerOptions::queue(&worker.queue)
    };
    let mut consumer = worker.connection.consume(options).await?;
    let mut phase = shared.watch();
    let mut tally = Tally {
        queue: worker.queue_index,
        consumer: index,
        gap: Gap::default(),
        arrivals: Vec::new(),
        shape: plan.shape,
        measured: 0,
    };
    // The last delivery that is not acknowledged, and how many there are.
    let mut pending: Option<Delivery> = None;
    let mut pending_count = 0;
    loop {
        let batch = tokio::select! {
            biased;
            batch = consumer.next_batch() => batch?,
            () = tokio::time::sleep(ACK_AFTER), if pending.is_some() => {
                acknowledge(&consumer, &mut pending, &mut pending_count).await?;
                continue;
            }
            () = reached(&mut phase, Phase::Done) => break,
        };
        let batch = batch.unwrap_or_default();
        tally.note(&batch, &shared);
        for delivery in batch {
            if !plan.work.is_zero() {
                tokio::time::sleep(plan.work).await;
            }
            pending = Some(delivery);
            pending_count += 1;
            if pending_count >= plan.ack_every {
                acknowledge(&consumer, &mut pending, &mut pending_count).await?;
            }
        }
    }
    acknowledge(&consumer, &mut pending, &mut pending_count).await?;
    locked(&shared.by_consumer).push(tally.measured);
    let reconnects = consumer.reconnects();
    shared.reconnects.fetch_add(reconnects, Ordering::Relaxed);
    consumer.close(CLOSE_WITHIN).await?;
    Ok(())
}

async fn acknowledge(
    consumer: &Consumer,
    pending: &mut Option<Delivery>,
    count: &mut u32,
) -> Result<()> {
    *count = 0;
    if let Some(delivery) = pending.take() {
        // Its result is waited for when the consumer is closed.
        consumer.ack_all(&delivery).await?;
    }
    Ok(())
}

struct Tally {
    queue: usize,
    consumer: usize,
    gap: Gap,
    arrivals: Vec<Arrival>,
    shape: Shape,
    /// In the measured time.
    measured: u64,
}

impl Tally {
    fn note(&mut self, batch: &[Delivery], shared: &Shared) {
        let now_ns = shared.clock.ns();
        let is_measured = shared.phase() == Phase::Measure;
        self.gap.note(now_ns, is_measured);
        self.arrivals.clear();
        let (mut redelivered, mut foreign) = (0, 0);
        {
            let mut latency = locked(&shared.end_to_end);
            latency.gap_ns = latency.gap_ns.max(self.gap.longest_ns);
            for delivery in batch {
                redelivered += u64::from(delivery.redelivered);
                let Some(header) = Header::read(&delivery.message.body) else {
                    foreign += 1;
                    continue;
                };
                latency.record(now_ns.saturating_sub(header.sent_ns), is_measured);
                self.arrivals.push(Arrival {
                    consumer: self.consumer,
                    publisher: header.publisher,
                    sequence: header.sequence,
                    redelivered: delivery.redelivered,
                });
            }
        }
        shared.mark_arrived(self.queue, &self.arrivals);
        if self.shape.keys > 0 {
            let keyed = self.arrivals.iter().filter_map(|it| {
                let key = self.shape.key(it.sequence)?;
                Some(((self.queue, it.publisher, key), it))
            });
            locked(&shared.keys).arrived(keyed);
        }
        let all = u64::try_from(batch.len()).expect("usize is at most 64 bits");
        self.measured += if is_measured { all } else { 0 };
        shared.consumed.fetch_add(all, Ordering::Relaxed);
        shared.redelivered.fetch_add(redelivered, Ordering::Relaxed);
        shared.foreign.fetch_add(foreign, Ordering::Relaxed);
    }
}
