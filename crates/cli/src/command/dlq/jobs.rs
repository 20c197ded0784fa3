//! `warren dlq jobs`: what sends back, moves or deletes messages, listed, watched and steered. Not here: starting it (`dlq`,
//! `queue::select`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use serde::Serialize;
use warren_client::{Connection, Job, JobState};

use crate::{args::Global, output, progress::Progress, table::TextTable};

/// How often a job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Serialize)]
struct JobView {
    id: String,
    state: &'static str,
    kind: String,
    vhost: String,
    subject: String,
    done: u64,
    left_out: u64,
    /// 0 = unknown.
    total: u64,
    started_by: String,
    /// Milliseconds since the Unix epoch.
    started_at: Option<u128>,
    ended_at: Option<u128>,
    error: String,
}

#[derive(Serialize)]
struct JobsView {
    jobs: Vec<JobView>,
    /// Nodes that did not say what they run.
    silent_nodes: Vec<u64>,
}

pub(super) async fn list(global: &Global, connection: &Connection) -> Result<()> {
    let listed = connection.jobs(&global.vhost).await?;
    let view = JobsView {
        jobs: listed.jobs.iter().map(view).collect(),
        silent_nodes: listed.silent_nodes,
    };
    output::result(global.output, &view, |it| {
        let mut table = TextTable::new(&[
            "job", "kind", "state", "done", "of", "left out", "queue", "by",
        ]);
        for job in &it.jobs {
            table.row(vec![
                job.id.clone(),
                job.kind.clone(),
                job.state.to_owned(),
                job.done.to_string(),
                job.total.to_string(),
                job.left_out.to_string(),
                job.subject.clone(),
                job.started_by.clone(),
            ]);
        }
        let mut text = table.text();
        for node in &it.silent_nodes {
            text += &format!("\nnode {node} does not answer: its jobs are not listed");
        }
        text
    })
}

pub(super) fn show(global: &Global, job: &Job) -> Result<()> {
    output::result(global.output, &view(job), |it| {
        format!(
            "{} job {} ({}): {}, {} done",
            it.kind, it.id, it.subject, it.state, it.done
        )
    })
}

/// Until the job has ended; answers how many it did.
pub(in crate::command) async fn follow(
    connection: &Connection,
    id: &str,
    total: u64,
) -> Result<u64> {
    let progress = Progress::new(Some(total), "messages");
    let mut sent = 0;
    loop {
        let job = match connection.job(id).await {
            Ok(job) => job,
            Err(error) => {
                progress.end();
                bail!(
                    "job {id}, after {sent} messages: {error}; the same command again does the rest"
                );
            }
        };
        sent = job.done;
        progress.set(sent);
        progress.say(match job.state {
            JobState::Paused => format!("job {id} is paused"),
            JobState::Running | JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
                String::new()
            }
        });
        match job.state {
            JobState::Running | JobState::Paused => tokio::time::sleep(LOOK_EVERY).await,
            JobState::Succeeded => break,
            JobState::Failed => {
                progress.end();
                bail!("job {id} failed after {sent} messages: {}", job.error);
            }
            JobState::Cancelled => {
                progress.end();
                bail!("job {id} was cancelled after {sent} messages");
            }
        }
    }
    progress.end();
    Ok(sent)
}

fn view(job: &Job) -> JobView {
    let ms = |time: Option<SystemTime>| {
        let since = time.and_then(|it| it.duration_since(UNIX_EPOCH).ok());
        since.map(|it| it.as_millis())
    };
    JobView {
        id: job.id.clone(),
        state: match job.state {
            JobState::Running => "running",
            JobState::Paused => "paused",
            JobState::Succeeded => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        },
        kind: job.kind.clone(),
        vhost: job.vhost.clone(),
        subject: job.subject.clone(),
        done: job.done,
        left_out: job.left_out,
        total: job.total,
        started_by: job.started_by.clone(),
        started_at: ms(job.started_at),
        ended_at: ms(job.ended_at),
        error: job.error.clone(),
    }
}
