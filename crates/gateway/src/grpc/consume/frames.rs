//! What a consuming client says on its stream: credit, prefetch, settles, drain, pings. Not here: deliveries (`session`).

use tokio::time::Instant;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::consume_request::Frame as Request;
use warren_proto::v1::consume_response::Frame as Response;
use warren_shard::api::{AnswerTime, RequestToken};

use super::session::{ConsumeSession, Phase};
use super::{credit_of, of_credit};
use crate::clock::wall_clock_ms;
use crate::grpc::error::bad_argument;
use crate::grpc::outputs;
use crate::grpc::settle_plan::{Answered, Ask, Context, extended, plan, refused};

impl ConsumeSession {
    /// One frame of the client; every one keeps the lease.
    ///
    /// # Errors
    /// The client misuses the protocol; the stream ends.
    pub(super) async fn frame(&mut self, frame: Option<Request>) -> Result<(), ApiError> {
        self.lease_until = Instant::now() + self.attached.gateway.options().lease;
        match frame {
            Some(Request::Settle(batch)) => self.settle(batch).await,
            Some(Request::Credit(credit)) => {
                self.attached
                    .credit
                    .grant(credit_of(&credit))
                    .map_err(of_credit)?;
            }
            Some(Request::Prefetch(prefetch)) => {
                self.attached
                    .credit
                    .set_prefetch(prefetch)
                    .map_err(of_credit)?;
            }
            Some(Request::Drain(_)) => self.start_drain(),
            Some(Request::Ping(ping)) if self.phase == Phase::Running => {
                self.control
                    .push_back(Response::Pong(v1::Pong { nonce: ping.nonce }));
            }
            // The answer after a drain says that nothing more comes.
            Some(Request::Ping(ping)) => self.late_pongs.insert(0, ping.nonce),
            // Nothing expires yet that could be renewed.
            Some(Request::Refresh(_)) => {}
            Some(Request::Open(_)) => {
                return Err(bad_argument("frame", "the stream is open already"));
            }
            None => return Err(bad_argument("frame", "the frame is empty or unknown")),
        }
        Ok(())
    }

    fn start_drain(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Draining;
            self.must_recall = true;
        }
    }

    async fn settle(&mut self, batch: v1::SettleBatch) {
        let context = Context {
            cluster: self.cluster,
            own: Some(self.attached.target),
            now_ms: wall_clock_ms(),
            now: Instant::now(),
            consumer: &self.attached.tag,
        };
        let now_ms = context.now_ms;
        let mut plan = plan(batch.settlements, context, &mut self.held);
        let gateway = self.attached.gateway.clone();
        let who = self.attached.who.clone();
        let kept = outputs::route(&gateway, &who, &self.link.admission, &mut plan).await;
        for taken in kept {
            self.held.put_back(taken);
        }
        for bytes in self.held.take_settled_late() {
            self.attached.credit.returned(bytes);
        }
        for (index, receipt, by) in std::mem::take(&mut plan.extensions) {
            let is_extended =
                self.attached
                    .gateway
                    .leases()
                    .extend(receipt.target.queue, receipt.held, by);
            plan.results.push(if is_extended {
                extended(index, now_ms, by)
            } else {
                refused(index, &not_leased())
            });
        }
        let mut last = self.last_token;
        let tokens = self
            .settles
            .open(batch.settle_ref, plan.results, &mut plan.asks, || {
                last += 1;
                RequestToken(last)
            });
        self.last_token = last;
        for (mut ask, token) in plan.asks.into_iter().zip(tokens) {
            match ask.outputs.as_mut().and_then(|it| it.first.take()) {
                Some(first) => self.store_first(ask, first, token),
                None => self.ask(&ask, token).await,
            }
        }
        self.tell_settled();
    }

    pub(super) fn tell_settled(&mut self) {
        while let Some(results) = self.settles.take_done() {
            self.control.push_back(Response::Settled(results));
        }
    }

    /// A settle has its result.
    pub(super) fn answered(&mut self, answered: Answered) {
        let credit = &mut self.attached.credit;
        for freed in &answered.freed {
            credit.settled(freed.bytes);
        }
        credit.committed(u64::try_from(answered.items).unwrap_or(u64::MAX));
        if let Some((target, held)) = answered.released {
            let leases = self.attached.gateway.leases();
            leases.settled(target.queue, &held);
        }
        for kept in answered.kept {
            self.held.put_back(kept);
        }
    }

    pub(super) async fn ask(&mut self, ask: &Ask, token: RequestToken) {
        if ask.outputs.is_none() {
            let held: Vec<_> = ask.all_held().collect();
            let leases = self.attached.gateway.leases();
            leases.settled(ask.target.queue, &held);
        }
        let session = &self.attached.session;
        match ask.make(session, AnswerTime::Soon, token).await {
            // It is held until it is done.
            Ok(()) if ask.outputs.is_some() => {}
            Ok(()) => {
                for taken in ask.items.iter().filter_map(|item| item.taken) {
                    self.attached.credit.settled(taken.bytes);
                }
            }
            Err(why) => {
                for taken in self
                    .settles
                    .not_asked(token, why)
                    .into_iter()
                    .filter_map(|item| item.taken)
                {
                    self.held.put_back(taken);
                }
            }
        }
    }
}

/// Extending a delivery that no `Receive` of this node leased.
pub(in crate::grpc) fn not_leased() -> ApiError {
    let text = "the delivery is not leased by a call to this node: leases are extended where they were given";
    ApiError::new(Reason::NotOwner, text)
}
