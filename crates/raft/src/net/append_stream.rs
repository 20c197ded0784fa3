//! One group's pipelined appends to one follower: requests in order, answers in order, a bound on what is in flight, and a
//! deadline, since a stream that neither fails nor progresses would wedge replication and purging.
//!
//! A follower is told what is committed at most once in a while (`commit_waits`): it applies several entries at a time, and a
//! request that says nothing else is mostly never sent. openraft counts answers by log id, so one that was never sent is
//! covered by the next, and one too many changes nothing. Not here: the wire (`append_link`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSender;
use warren_proto::internal_v1::append_reply::Result as Answer;
use warren_proto::internal_v1::{AppendItem, AppendReply, AppendStep, WireEntry};
use warren_types::{GroupId, NodeId, ReplicaId, Term};

use super::append_link::{AppendLinks, LinkStream};
use crate::config::{LogIdOf, TypeConfig};
use crate::convert;
use crate::group::Shared;
use crate::options::StreamOptions;

type Request = AppendEntriesRequest<TypeConfig>;
type Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// The stream of answers that openraft polls; polling it sends requests.
pub(super) struct AppendStream<S> {
    requests: S,
    shared: Arc<Shared>,
    to: ReplicaId,
    links: AppendLinks,
    node: NodeId,
    /// Opened with the first request, not before: openraft holds requests back while a node cannot be reached, and a link
    /// that fails at once would make it try again at once.
    link: Option<Link>,
    /// A request that waits for room on the link.
    unsent: Option<AppendItem>,
    /// A request without entries: says what is committed when its time has come, if no other has by then.
    held: Option<Request>,
    held_until: Pin<Box<Sleep>>,
    /// What was said to be committed last, and not before when something new is said.
    said: Option<LogIdOf>,
    say_next: Instant,
    /// Oldest first.
    in_flight: VecDeque<InFlight>,
    bytes_in_flight: usize,
    options: StreamOptions,
    progress_at: Instant,
    deadline: Pin<Box<Sleep>>,
    state: State,
}

/// A request that was not answered yet.
struct InFlight {
    bytes: usize,
    /// Before it was handed to the link: the leader's lease begins no later.
    sent: Instant,
    term: Term,
}

struct Link {
    stream: LinkStream,
    sender: PollSender<AppendItem>,
}

#[derive(PartialEq, Eq)]
enum State {
    Sending,
    /// There are no more requests; answers are awaited.
    Draining,
    Ended,
}

impl<S> AppendStream<S>
where
    S: Stream<Item = Request> + Unpin,
{
    pub(super) fn new(
        requests: S,
        shared: Arc<Shared>,
        to: ReplicaId,
        node: NodeId,
        links: AppendLinks,
        options: StreamOptions,
    ) -> Self {
        let now = Instant::now();
        Self {
            requests,
            shared,
            to,
            links,
            node,
            link: None,
            unsent: None,
            held: None,
            held_until: Box::pin(tokio::time::sleep_until(now)),
            said: None,
            say_next: now,
            in_flight: VecDeque::new(),
            bytes_in_flight: 0,
            progress_at: now,
            deadline: Box::pin(tokio::time::sleep_until(now + options.answer_within)),
            options,
            state: State::Sending,
        }
    }

    fn fail(&mut self, reason: &str) -> Poll<Option<Item>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(RPCError::Unreachable(Unreachable::from_string(
            reason,
        )))))
    }

    fn item(&mut self, request: &Request) -> AppendItem {
        let step = if self.link.is_some() {
            AppendStep::Next
        } else {
            AppendStep::Open
        };
        let link = self.link.get_or_insert_with(|| {
            let stream = self.links.open(self.node, self.shared.group);
            let sender = PollSender::new(stream.items.clone());
            Link { stream, sender }
        });
        let entries = request.entries.iter().map(|entry| WireEntry {
            id: Some(convert::log_id_to_proto(&entry.log_id())),
            entry: convert::encode_entry(entry),
        });
        AppendItem {
            group: self.shared.group.0,
            to_replica: self.to.0,
            stream: link.stream.id,
            step: step.into(),
            vote: Some(convert::vote_to_proto(&request.vote)),
            previous: request.prev_log_id.as_ref().map(convert::log_id_to_proto),
            leader_commit: request.leader_commit.as_ref().map(convert::log_id_to_proto),
            entries: entries.collect(),
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.options.requests_in_flight
            && self.bytes_in_flight < self.options.bytes_in_flight
    }

    /// Sends what may be sent now. `Err` if the link has ended.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), ()> {
        loop {
            if let (Some(link), true) = (&mut self.link, self.unsent.is_some()) {
                match link.sender.poll_reserve(cx) {
                    Poll::Ready(Ok(())) => {
                        let item = self.unsent.take().expect("checked above");
                        link.sender.send_item(item).map_err(|_| ())?;
                    }
                    Poll::Ready(Err(_)) => return Err(()),
                    Poll::Pending => return Ok(()),
                }
            }
            if self.state != State::Sending || !self.has_room() {
                return Ok(());
            }
            match self.requests.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) if self.may_wait(&request) => self.hold(request),
                Poll::Ready(Some(request)) => {
                    let request = self.say_no_more(request);
                    self.send(&request);
                }
                Poll::Ready(None) => {
                    self.state = State::Draining;
                    self.send_held();
                }
                Poll::Pending => {
                    if self.held.is_none() || self.held_until.as_mut().poll(cx).is_pending() {
                        return Ok(());
                    }
                    self.send_held();
                }
            }
        }
    }

    /// Nobody waits for it: it has no entries, and is no first question of where the follower's log agrees.
    fn may_wait(&self, request: &Request) -> bool {
        self.link.is_some() && request.entries.is_empty() && !self.commit_waits().is_zero()
    }

    /// What the topology's log says is awaited on every node.
    fn commit_waits(&self) -> Duration {
        if self.shared.group == GroupId::TOPOLOGY {
            Duration::ZERO
        } else {
            self.options.commit_waits
        }
    }

    /// The request without news of what is committed, if there was some lately; the news is held.
    fn say_no_more(&mut self, mut request: Request) -> Request {
        if self.link.is_none() || request.leader_commit <= self.said {
            return request;
        }
        if Instant::now() >= self.say_next {
            self.held = None;
            return request;
        }
        let last = request.entries.last().map(|entry| entry.log_id());
        self.hold(Request {
            vote: request.vote,
            prev_log_id: last.or(request.prev_log_id),
            leader_commit: request.leader_commit.take(),
            entries: Vec::new(),
        });
        request.leader_commit = self.said;
        request
    }

    fn hold(&mut self, request: Request) {
        if self.held.is_none() {
            let until = Instant::now() + self.commit_waits();
            self.held_until.as_mut().reset(until);
        }
        self.held = Some(request);
    }

    fn send_held(&mut self) {
        if let Some(request) = self.held.take() {
            self.send(&request);
        }
    }

    fn send(&mut self, request: &Request) {
        let now = Instant::now();
        if self.in_flight.is_empty() {
            self.progress_at = now;
        }
        if request.leader_commit > self.said {
            self.said = request.leader_commit;
            self.say_next = now + self.commit_waits();
        }
        let item = self.item(request);
        let bytes: usize = item.entries.iter().map(|entry| entry.entry.len()).sum();
        self.in_flight.push_back(InFlight {
            bytes,
            sent: now,
            term: Term(request.vote.leader_id.term),
        });
        self.bytes_in_flight += bytes;
        if let Some(link) = &mut self.link {
            link.stream.sends(bytes);
        }
        self.unsent = Some(item);
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let Some(link) = &mut self.link else {
            return Poll::Pending;
        };
        match link.stream.answers.poll_recv(cx) {
            Poll::Ready(Some(reply)) => self.answered(reply),
            Poll::Ready(None) => self.fail("append stream to the node has ended"),
            Poll::Pending => Poll::Pending,
        }
    }

    fn answered(&mut self, reply: AppendReply) -> Poll<Option<Item>> {
        let request = self.in_flight.pop_front();
        let bytes = request.as_ref().map_or(0, |it| it.bytes);
        self.bytes_in_flight -= bytes;
        if let Some(link) = &mut self.link {
            link.stream.is_answered(bytes);
        }
        self.progress_at = Instant::now();
        match result_of(reply) {
            Ok(result) => {
                if result.is_err() {
                    self.state = State::Ended;
                } else if let Some(it) = request {
                    self.shared.acknowledged.note(self.to, it.term, it.sent);
                }
                Poll::Ready(Some(Ok(result)))
            }
            Err(reason) => self.fail(&reason),
        }
    }

    /// Whether the oldest request has waited too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.in_flight.is_empty() && self.deadline.as_mut().poll(cx).is_ready() {
            let more = self.link.as_ref().map(|it| it.stream.allowance());
            let due = self.progress_at + self.options.answer_within + more.unwrap_or_default();
            if Instant::now() >= due {
                return true;
            }
            // There was progress meanwhile; setting the timer only here keeps it off the fast path.
            self.deadline.as_mut().reset(due);
        }
        false
    }
}

/// What the follower says, or why it says nothing.
fn result_of(reply: AppendReply) -> Result<StreamAppendResult<TypeConfig>, String> {
    match reply.result {
        Some(Answer::Matched(matched)) => {
            Ok(Ok(matched.upto.as_ref().map(convert::log_id_from_proto)))
        }
        Some(Answer::Conflict(id)) => Ok(Err(StreamAppendError::Conflict(
            convert::log_id_from_proto(&id),
        ))),
        Some(Answer::HigherVote(vote)) => {
            let vote = convert::vote_from_proto(Some(&vote)).map_err(|e| e.to_string())?;
            Ok(Err(StreamAppendError::HigherVote(vote)))
        }
        Some(Answer::Refused(reason)) => Err(reason),
        None => Err("answer without a result".into()),
    }
}

impl<S> Stream for AppendStream<S>
where
    S: Stream<Item = Request> + Unpin,
{
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let this = &mut *self;
        if this.state == State::Ended {
            return Poll::Ready(None);
        }
        let answer = this.poll_answer(cx);
        if answer.is_ready() {
            return answer;
        }
        if this.poll_requests(cx).is_err() {
            return this.fail("append stream to the node has ended");
        }
        if this.state == State::Draining && this.in_flight.is_empty() {
            this.state = State::Ended;
            return Poll::Ready(None);
        }
        if this.is_late(cx) {
            return this.fail("no answer in time");
        }
        // A link that was opened just now has not been told whom to wake.
        this.poll_answer(cx)
    }
}
