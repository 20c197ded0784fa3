//! Long jobs that this node runs for clients: what they are, how far they are, and what is wished of them. They live as long as the
//! node runs. Not here: doing them (`grpc::redrive_job`), asking other nodes for theirs (`grpc::operations`).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use warren_proto::admin_v1::{self, OperationState};
use warren_proto::convert::error::ApiError;
use warren_proto::convert::message::time_ms_to_client;
use warren_proto::internal_v1 as wire;
use warren_types::{NodeId, Run};

use crate::clock::wall_clock_ms;

/// Jobs of one node that have not ended, at most.
pub(crate) const JOBS_MAX: usize = 16;
/// Of them, one user's.
pub(crate) const JOBS_OF_USER_MAX: usize = 8;
/// Jobs that have ended and can still be looked at; beyond it the oldest are forgotten.
const ENDED_MAX: usize = 100;

/// The jobs of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs {
    node: NodeId,
    run: Run,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    last: u64,
    jobs: BTreeMap<u64, Arc<Job>>,
}

/// What a client may wish of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Run,
    Pause,
    Cancel,
}

/// One job.
pub(crate) struct Job {
    request_id: Box<str>,
    /// What does not change.
    about: admin_v1::Operation,
    wish: watch::Sender<Wish>,
    now: Mutex<Now>,
}

#[derive(Clone, Default)]
struct Now {
    /// Once it is known, if it was not from the start.
    total: Option<u64>,
    done: u64,
    failed: u64,
    ended: Option<(Ended, u64)>,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    Done,
    Cancelled,
    Failed(ApiError),
}

/// What became of the wish for a new job.
pub(crate) enum Begun {
    New(Arc<Job>),
    /// The same request was made before: the job that it started.
    Known(String),
    /// [`JOBS_MAX`] run already.
    TooMany,
    /// [`JOBS_OF_USER_MAX`] of this user's run already.
    TooManyOfUser,
}

/// The same work for the same user: a request's id alone says nothing, others may have chosen it too.
pub(crate) fn is_same(one: &admin_v1::Operation, other: &admin_v1::Operation) -> bool {
    let key = |it: &admin_v1::Operation| {
        let it = it.clone();
        (it.kind, it.vhost, it.queue, it.subject, it.started_by)
    };
    key(one) == key(other)
}

impl Jobs {
    pub(crate) fn new(node: NodeId, run: Run) -> Self {
        Self {
            node,
            run,
            table: Arc::default(),
        }
    }

    /// Which node runs a job; `None`: no node gave such an id.
    pub(crate) fn node_of(id: &str) -> Option<NodeId> {
        let mut parts = id.split('-').map(str::parse::<u64>);
        let (node, run, number) = (parts.next()?, parts.next()?, parts.next()?);
        let is_id = run.is_ok() && number.is_ok() && parts.next().is_none();
        node.ok().filter(|_| is_id).map(NodeId)
    }

    /// Notes a new job: its id, state and times are set here.
    pub(crate) fn begin(&self, about: admin_v1::Operation, request_id: &str) -> Begun {
        let mut table = self.table.lock();
        let before = table.jobs.values().find(|it| {
            !request_id.is_empty() && &*it.request_id == request_id && is_same(&it.about, &about)
        });
        if let Some(before) = before {
            return Begun::Known(before.id().to_owned());
        }
        let all = table.jobs.values().filter(|it| !it.has_ended());
        let (mut running, mut of_user) = (0, 0);
        for job in all {
            running += 1;
            of_user += usize::from(job.about.started_by == about.started_by);
        }
        if running >= JOBS_MAX {
            return Begun::TooMany;
        }
        if of_user >= JOBS_OF_USER_MAX {
            return Begun::TooManyOfUser;
        }
        if table.jobs.len() - running >= ENDED_MAX {
            let oldest = table.jobs.iter().find(|(_, it)| it.has_ended());
            let oldest = oldest.map(|(number, _)| *number);
            if let Some(oldest) = oldest {
                table.jobs.remove(&oldest);
            }
        }
        table.last += 1;
        let number = table.last;
        let job = Arc::new(Job {
            request_id: Box::from(request_id),
            about: admin_v1::Operation {
                id: format!("{}-{}-{number}", self.node.0, self.run.0),
                started_at: Some(time_ms_to_client(wall_clock_ms())),
                ..about
            },
            wish: watch::Sender::new(Wish::Run),
            now: Mutex::default(),
        });
        table.jobs.insert(number, Arc::clone(&job));
        Begun::New(job)
    }

    /// What is asked of this node's jobs: all of them, or one, which may be steered.
    pub(crate) fn answer(&self, request: &wire::JobsRequest) -> wire::JobsResponse {
        let jobs: Vec<Arc<Job>> = self.table.lock().jobs.values().cloned().collect();
        let meant = jobs
            .into_iter()
            .filter(|it| request.id.is_empty() || it.about.id == request.id);
        let jobs = meant.map(|job| {
            if !request.id.is_empty() {
                match request.steering() {
                    wire::JobSteering::Unspecified => {}
                    wire::JobSteering::Pause => job.steer(Wish::Pause),
                    wire::JobSteering::Resume => job.steer(Wish::Run),
                    wire::JobSteering::Cancel => job.steer(Wish::Cancel),
                }
            }
            wire::Job {
                operation: Some(job.view()),
                request_id: job.request_id.to_string(),
            }
        });
        wire::JobsResponse {
            jobs: jobs.collect(),
        }
    }
}

impl Job {
    pub(crate) fn id(&self) -> &str {
        &self.about.id
    }

    /// What is wished of it, for the one that does it.
    pub(crate) fn wishes(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    /// What was cancelled stays so.
    fn steer(&self, wish: Wish) {
        self.wish.send_if_modified(|now| {
            let changes = *now != wish && *now != Wish::Cancel;
            if changes {
                *now = wish;
            }
            changes
        });
    }

    /// There are so many to be done.
    pub(crate) fn expect(&self, total: u64) {
        self.now.lock().total = Some(total);
    }

    pub(crate) fn progress(&self, done: u64, failed: u64) {
        let mut now = self.now.lock();
        now.done = done;
        now.failed = failed;
    }

    pub(crate) fn end(&self, ended: Ended) {
        let mut now = self.now.lock();
        if now.ended.is_none() {
            now.ended = Some((ended, wall_clock_ms()));
        }
    }

    fn has_ended(&self) -> bool {
        self.now.lock().ended.is_some()
    }

    /// As clients see it.
    pub(crate) fn view(&self) -> admin_v1::Operation {
        let now = self.now.lock().clone();
        let (state, error) = match &now.ended {
            Some((Ended::Done, _)) => (OperationState::Succeeded, None),
            Some((Ended::Cancelled, _)) => (OperationState::Cancelled, None),
            Some((Ended::Failed(error), _)) => (OperationState::Failed, Some(error.to_status())),
            None => match *self.wish.borrow() {
                Wish::Pause => (OperationState::Paused, None),
                // Cancelled it ends when its last page is on its way.
                Wish::Run | Wish::Cancel => (OperationState::Running, None),
            },
        };
        admin_v1::Operation {
            state: state.into(),
            total: now.total.unwrap_or(self.about.total),
            done: now.done,
            failed: now.failed,
            error,
            ended_at: now.ended.map(|(_, at)| time_ms_to_client(at)),
            ..self.about.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> Jobs {
        Jobs::new(NodeId(3), Run(7))
    }

    fn by(user: usize) -> admin_v1::Operation {
        admin_v1::Operation {
            started_by: user.to_string(),
            ..admin_v1::Operation::default()
        }
    }

    fn begin(jobs: &Jobs) -> Option<Arc<Job>> {
        new(jobs.begin(by(0), ""))
    }

    fn new(begun: Begun) -> Option<Arc<Job>> {
        match begun {
            Begun::New(job) => Some(job),
            Begun::Known(_) | Begun::TooMany | Begun::TooManyOfUser => None,
        }
    }

    fn steer(jobs: &Jobs, id: &str, steering: wire::JobSteering) -> Vec<OperationState> {
        let answer = jobs.answer(&wire::JobsRequest {
            id: id.to_owned(),
            steering: steering.into(),
        });
        let states = answer.jobs.into_iter().map(|it| it.operation.unwrap());
        states.map(|it| it.state()).collect()
    }

    #[test]
    fn id_tells_the_node() {
        let job = begin(&jobs()).unwrap();
        assert_eq!(job.id(), "3-7-1");
        assert_eq!(Jobs::node_of(job.id()), Some(NodeId(3)));
        for wrong in ["", "3", "3-7", "3-7-x", "3-7-1-1", "x-7-1"] {
            assert_eq!(Jobs::node_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn job_is_steered_until_it_ends() {
        let jobs = jobs();
        let (one, other) = (begin(&jobs).unwrap(), begin(&jobs).unwrap());
        let wishes = one.wishes();
        let state = |steering| steer(&jobs, one.id(), steering);
        assert_eq!(state(wire::JobSteering::Pause), [OperationState::Paused]);
        assert_eq!(*wishes.borrow(), Wish::Pause);
        assert_eq!(state(wire::JobSteering::Resume), [OperationState::Running]);
        assert_eq!(state(wire::JobSteering::Cancel), [OperationState::Running]);
        assert_eq!(state(wire::JobSteering::Resume), [OperationState::Running]);
        assert_eq!(*wishes.borrow(), Wish::Cancel, "cancelled for good");
        one.progress(5, 2);
        one.end(Ended::Cancelled);
        one.end(Ended::Done);
        let view = one.view();
        assert_eq!(view.state(), OperationState::Cancelled);
        assert_eq!((view.done, view.failed), (5, 2));
        assert!(view.ended_at.is_some());
        // A steering without an id steers nothing.
        steer(&jobs, "", wire::JobSteering::Pause);
        assert_eq!(other.view().state(), OperationState::Running);
        assert!(steer(&jobs, "3-6-1", wire::JobSteering::Pause).is_empty());
    }

    #[test]
    fn request_that_is_made_again_finds_its_job_and_no_other() {
        let jobs = jobs();
        let first = new(jobs.begin(by(1), "r")).unwrap();
        let again = jobs.begin(by(1), "r");
        assert!(matches!(again, Begun::Known(id) if id == first.id()));
        assert!(new(jobs.begin(by(2), "r")).is_some(), "somebody else's");
        let of_queue = admin_v1::Operation {
            queue: "other".to_owned(),
            ..by(1)
        };
        assert!(new(jobs.begin(of_queue, "r")).is_some(), "another queue's");
        assert!(new(jobs.begin(by(1), "")).is_some(), "without an id");
    }

    #[test]
    fn one_user_does_not_take_every_place() {
        let jobs = jobs();
        for _ in 0..JOBS_OF_USER_MAX {
            assert!(new(jobs.begin(by(1), "")).is_some());
        }
        assert!(matches!(jobs.begin(by(1), ""), Begun::TooManyOfUser));
        assert!(new(jobs.begin(by(2), "")).is_some());
    }

    #[test]
    fn jobs_are_bounded_and_the_oldest_ended_are_forgotten() {
        let jobs = jobs();
        let all_by = |at: usize| jobs.begin(by(at / JOBS_OF_USER_MAX), "");
        let running: Vec<_> = (0..JOBS_MAX).map(|at| new(all_by(at)).unwrap()).collect();
        assert!(matches!(jobs.begin(by(99), ""), Begun::TooMany));
        running[0].end(Ended::Done);
        for _ in 0..ENDED_MAX {
            begin(&jobs).unwrap().end(Ended::Done);
        }
        let all = steer(&jobs, "", wire::JobSteering::Unspecified);
        assert_eq!(all.len(), JOBS_MAX - 1 + ENDED_MAX);
        assert!(steer(&jobs, running[0].id(), wire::JobSteering::Unspecified).is_empty());
        assert_eq!(
            steer(&jobs, running[1].id(), wire::JobSteering::Unspecified),
            [OperationState::Running]
        );
    }
}
