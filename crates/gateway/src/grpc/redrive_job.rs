//! A redrive, move or deletion that its node goes on with when the caller has gone: it can be watched and steered from elsewhere. Not here: a page
//! (`redrive`), the list of jobs (`jobs`), steering (`operations`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::{Reason, Retry};

use super::redrive::{BUSY_PAUSE, Redriving, Step};
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::jobs::{Begun as Noted, Ended, JOBS_MAX, JOBS_OF_USER_MAX, Job, Wish, is_same};

/// A leader that does not answer is asked again after this time,
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// and the job fails when none has for so long.
const TROUBLE_MAX: Duration = Duration::from_secs(600);
/// How often a job that is paused looks whether it still may go on.
const PAUSED_LOOK: Duration = Duration::from_secs(30);

/// The operation that was started, or how many messages are meant.
pub(super) struct Begun {
    pub(super) operation_id: String,
    pub(super) messages: u64,
}

/// Counts, if that is all that is asked for, or starts a job.
///
/// # Errors
/// The node runs too many; or there was no time to count.
pub(super) async fn begin(
    gateway: &Gateway,
    who: &Who,
    redriving: Redriving,
    deadline: Instant,
    stop: CancellationToken,
) -> Result<Begun, ApiError> {
    if !redriving.request().dry_run {
        return Ok(Begun {
            operation_id: start(gateway, who, redriving, stop).await?,
            messages: 0,
        });
    }
    let limit = redriving.request().limit;
    let counted = redriving.run(deadline).await?;
    let is_enough = limit != 0 && counted.messages >= limit;
    if !counted.next_cursor.is_empty() && !is_enough {
        let text = format!(
            "there was no time to look at the whole queue, {} found so far: ask with a later deadline, or start the operation, which \
             counts first",
            counted.messages
        );
        return Err(ApiError::new(Reason::NotStarted, text));
    }
    Ok(Begun {
        operation_id: String::new(),
        messages: counted.messages,
    })
}

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
    let about = about(&redriving, who);
    if !request_id.is_empty() {
        let (jobs, _) = gateway.all_jobs().await;
        let before = jobs.into_iter().filter(|it| it.request_id == request_id);
        let mut before = before.filter_map(|it| it.operation);
        if let Some(before) = before.find(|it| is_same(it, &about)) {
            return Ok(before.id);
        }
    }
    let job = match gateway.jobs().begin(about, &request_id) {
        Noted::New(job) => job,
        Noted::Known(id) => return Ok(id),
        Noted::TooMany => {
            let text = format!("the node runs {JOBS_MAX} jobs already");
            return Err(ApiError::new(Reason::LimitReached, text));
        }
        Noted::TooManyOfUser => {
            let text = format!("the node runs {JOBS_OF_USER_MAX} jobs of this user already");
            return Err(ApiError::new(Reason::LimitReached, text));
        }
    };
    let id = job.id().to_owned();
    gateway.tasks().spawn(run(redriving, job, stop));
    Ok(id)
}

fn about(redriving: &Redriving, who: &Who) -> admin_v1::Operation {
    let (request, queue) = (redriving.request(), redriving.queue());
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
        kind: redriving.kind().to_owned(),
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

/// Without a limit it is counted first, and ends after as many: what comes back meanwhile is not sent again and again.
async fn run(mut redriving: Redriving, job: Arc<Job>, stop: CancellationToken) {
    let request = redriving.request();
    if request.limit == 0 && !request.dry_run {
        let mut counting = redriving.counting();
        match pages(&mut counting, &job, &stop, |_, _| {}).await {
            Some(Ended::Done) => {}
            Some(ended) => return job.end(ended),
            None => return,
        }
        let (found, _) = counting.counts();
        job.expect(found);
        if found == 0 {
            return job.end(Ended::Done);
        }
        redriving.limit(found);
    }
    let tell = |done, failed| job.progress(done, failed);
    if let Some(ended) = pages(&mut redriving, &job, &stop, tell).await {
        job.end(ended);
    }
}

/// Until it is done, cancelled or refused; `None`: the node stops. A page that is under way is waited for: its answer counts.
async fn pages(
    redriving: &mut Redriving,
    job: &Job,
    stop: &CancellationToken,
    tell: impl Fn(u64, u64),
) -> Option<Ended> {
    let mut wishes = job.wishes();
    let mut trouble: Option<Instant> = None;
    loop {
        let wish = *wishes.borrow_and_update();
        let step = match wish {
            Wish::Cancel => return Some(Ended::Cancelled),
            Wish::Run if redriving.is_done() => return Some(Ended::Done),
            // It would hold its place for ever if nobody were left to go on.
            Wish::Pause => redriving.may_go_on().await.map(|()| PAUSED_LOOK),
            Wish::Run => tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return None,
                step = redriving.checked_step() => step.map(|step| match step {
                    Step::Sent(sent) => redriving.pause(sent),
                    Step::Again => Duration::ZERO,
                    Step::Busy => BUSY_PAUSE,
                }),
            },
        };
        let (done, failed) = redriving.counts();
        tell(done, failed);
        let pause = match step {
            Ok(pause) => {
                trouble = None;
                pause
            }
            Err(error) if error.reason().retry() == Retry::AfterDelay => {
                let since = *trouble.get_or_insert_with(Instant::now);
                if since.elapsed() > TROUBLE_MAX {
                    return Some(Ended::Failed(error));
                }
                AGAIN_AFTER
            }
            Err(error) => return Some(Ended::Failed(error)),
        };
        tokio::select! {
            biased; // stopping comes first, then what somebody wishes
            () = stop.cancelled() => return None,
            _changed = wishes.changed() => {}
            () = sleep(pause) => {}
        }
    }
}
