//! `warren perf`: publishes and consumes as fast as it can, or at a rate, and reports throughput, latency, and what the
//! brokers used for it. Not here: what one publisher or consumer does (`publisher`, `consumer`).

mod body;
mod consumer;
mod course;
mod options;
mod placement;
mod process;
mod publisher;
mod report;
mod shape;
mod shared;
mod verify;

use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinSet;
use warren_client::QueueDeletion;

use crate::{args::Global, output, progress::Progress};

pub(crate) use options::PerfArgs;
use placement::Placement;
use shared::Shared;

/// Runs one measurement.
pub(crate) async fn run(global: &Global, args: PerfArgs) -> Result<()> {
    let plan = args.plan()?;
    let placement = Placement::prepare(global, &plan).await?;
    let shared = Arc::new(Shared::new(&plan));
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    let progress = Progress::new(plan.messages, "messages");
    let start = |tasks: &mut JoinSet<Result<()>>| {
        for index in 0..plan.consumers {
            let place = placement.of_queue(index % plan.queues);
            let place = place.connect(global, index)?;
            tasks.spawn(consumer::run(place, index, plan.clone(), shared.clone()));
        }
        for index in 0..plan.publishers {
            let place = placement.of_queue(index % plan.queues);
            let place = place.connect(global, index)?;
            tasks.spawn(publisher::run(place, index, plan.clone(), shared.clone()));
        }
        Ok(())
    };
    let measured = course::drive(&plan, &shared, &mut tasks, &progress, start).await;
    progress.end();
    if !plan.keep {
        let connection = global.connect()?;
        for queue in placement.queues() {
            // The measurement is what counts; a queue that stays is deleted by the next run.
            if let Err(error) = connection
                .delete_queue(&global.vhost, queue, QueueDeletion::default())
                .await
            {
                eprintln!("warning: queue {queue} stays: {error}");
            }
        }
    }
    let report = report::Report::new(&plan, &placement, &shared, measured?);
    if global.output == crate::args::Output::Text {
        output::line(&report.summary())?;
    }
    output::line(&report.json())?;
    report.verdict()
}
