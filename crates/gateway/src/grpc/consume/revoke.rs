//! A consumer that loses its queue, because that is gone or because its client may not read it any more. Not here: what the client is
//! given back then (`session`).

use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_topology::Operation;

use super::session::ConsumeSession;
use crate::grpc::error::of_denied;

impl ConsumeSession {
    /// Guarantee G14: who may not read any more gets nothing more.
    pub(super) fn look_at_rights(&mut self) {
        let queue = &self.attached.queue;
        let operation = Operation::Consume {
            queue: queue.name.as_str(),
        };
        let gateway = &self.attached.gateway;
        let may = gateway.still_may(&self.attached.who, queue.vhost, operation);
        if let Err(denied) = may {
            let error = of_denied(&denied);
            self.revoked = Some(error.clone());
            self.cancel_for(&error);
        }
    }

    pub(super) fn cancelled(&mut self) {
        let queue = self.attached.queue.name.as_str();
        let error = ApiError::new(Reason::QueueNotFound, format!("queue '{queue}' is gone"))
            .resource("queue", queue);
        self.cancel_for(&error);
    }

    fn cancel_for(&mut self, error: &ApiError) {
        self.is_cancelled = true;
        self.outbox.clear();
        self.notify(v1::Notice {
            kind: v1::NoticeKind::ConsumerCancelled.into(),
            status: Some(error.to_status()),
            ..v1::Notice::default()
        });
    }
}
