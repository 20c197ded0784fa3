//! A redrive that its node goes on with when the caller has gone: it can be watched and steered from elsewhere. Not here: a page
//! (`redrive`), the list of jobs (`jobs`), steering (`operations`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::{Reason, Retry};
use warren_topology::Queue;

use super::redrive::{BUSY_PAUSE, Redriving, Step};
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::jobs::{Ended, JOBS_MAX, Job, Wish};

/// A leader that does not answer is asked again after this time,
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// and the job fails when none has for so long.
const TROUBLE_MAX: Duration = Duration::from_secs(600);

/// Starts a job; answers its id. A request that was made before is the job that it started, whichever node runs it.
///
/// # Errors
/// The node runs too many.
pub(super) async fn start(
    gateway: &Gateway,
    who: &Who,
    redriving: Redriving,
    stop: CancellationToken,
) -> Result<String, ApiError> {
    let request = redriving.request();
    let request_id = request.request_id.clone();
    if !request_id.is_empty() {
        let (jobs, _) = gateway.all_jobs().await;
        let before = jobs.into_iter().find(|it| it.request_id == request_id);
        if let Some(before) = before.and_then(|it| it.operation) {
            return Ok(before.id);
        }
    }
    let about = about(request, who, redriving.queue());
    let job = gateway.jobs().begin(about, &request_id).ok_or_else(|| {
        let text = format!("the node runs {JOBS_MAX} jobs already");
        ApiError::new(Reason::LimitReached, text)
    })?;
    let id = job.id().to_owned();
    gateway.tasks().spawn(run(redriving, job, stop));
    Ok(id)
}

fn about(request: &admin_v1::RedriveRequest, who: &Who, queue: &Queue) -> admin_v1::Operation {
    let mut subject = queue.name.to_string();
    if request.parked {
        subject += ", what is parked";
    }
    if !request.target_queue.is_empty() {
        subject += &format!(", to {}", request.target_queue);
    }
    if !request.filter.is_empty() {
        subject += &format!(", where {}", request.filter);
    }
    admin_v1::Operation {
        kind: "redrive".to_owned(),
        vhost: if request.vhost.is_empty() {
            "/".to_owned()
        } else {
            request.vhost.clone()
        },
        queue: queue.name.to_string(),
        subject,
        total: request.limit,
        started_by: who.principal.name().to_string(),
        ..admin_v1::Operation::default()
    }
}

/// Until it is done, cancelled, refused, or the node stops. A page that is under way is waited for: its answer counts.
async fn run(mut redriving: Redriving, job: Arc<Job>, stop: CancellationToken) {
    let mut wishes = job.wishes();
    let mut trouble: Option<Instant> = None;
    loop {
        let wish = *wishes.borrow_and_update();
        let pause = match wish {
            Wish::Cancel => return job.end(Ended::Cancelled),
            Wish::Pause => Duration::MAX,
            Wish::Run if redriving.is_done() => return job.end(Ended::Done),
            Wish::Run => {
                let step = tokio::select! {
                    biased; // stopping comes first
                    () = stop.cancelled() => return,
                    step = redriving.checked_step() => step,
                };
                let (done, failed) = redriving.counts();
                job.progress(done, failed);
                match step {
                    Ok(step) => {
                        trouble = None;
                        match step {
                            Step::Sent(sent) => redriving.pause(sent),
                            Step::Again => Duration::ZERO,
                            Step::Busy => BUSY_PAUSE,
                        }
                    }
                    Err(error) if error.reason().retry() == Retry::AfterDelay => {
                        let since = *trouble.get_or_insert_with(Instant::now);
                        if since.elapsed() > TROUBLE_MAX {
                            return job.end(Ended::Failed(error));
                        }
                        AGAIN_AFTER
                    }
                    Err(error) => return job.end(Ended::Failed(error)),
                }
            }
        };
        tokio::select! {
            biased; // stopping comes first, then what somebody wishes
            () = stop.cancelled() => return,
            _changed = wishes.changed() => {}
            () = sleep(pause) => {}
        }
    }
}
