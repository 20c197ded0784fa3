//! Settles whose messages are stored first: the stream goes on meanwhile. Not here: storing them (`outputs_first`).

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_shard::api::{RequestToken, Unavailable};

use super::session::ConsumeSession;
use crate::grpc::outputs::Promised;
use crate::grpc::outputs_first::{AT_ONCE, First, STORED_WITHIN};
use crate::grpc::settle_plan::{Ask, AskItem, refused};

/// An ask, and what became of its messages.
pub(super) struct Stored {
    token: RequestToken,
    ask: Ask,
    promised: Result<Promised, Box<v1::SettleResult>>,
}

/// Asks whose messages are being stored.
pub(super) type Storing = JoinSet<Stored>;

impl ConsumeSession {
    /// Begins to store what comes before an ask.
    pub(super) fn store_first(&mut self, ask: Ask, first: First, token: RequestToken) {
        let index = ask.index();
        if self.storing.len() >= AT_ONCE {
            let text =
                format!("the stream has {AT_ONCE} settlements whose messages are being stored");
            let error = ApiError::new(Reason::OverCredit, text);
            let items = self.settles.refused(token, refused(index, &error));
            return self.keep(items);
        }
        let gateway = self.attached.gateway.clone();
        self.storing.spawn(async move {
            let deadline = Instant::now() + STORED_WITHIN;
            let promised = first.publish(&gateway, index, deadline).await;
            Stored {
                token,
                ask,
                promised,
            }
        });
    }

    /// They are stored, so the ack is asked for; or not, so the delivery is held as before.
    pub(super) async fn stored(&mut self, stored: Result<Stored, JoinError>) {
        let Ok(Stored {
            token,
            ask,
            promised,
        }) = stored
        else {
            // Only a fault of ours ends a task early: the client asks again.
            self.stop_storing();
            return self.tell_settled();
        };
        match promised {
            Ok(promised) => {
                if self.settles.stored(token, promised) {
                    self.ask(&ask, token).await;
                }
            }
            Err(result) => {
                let items = self.settles.refused(token, *result);
                self.keep(items);
            }
        }
        self.tell_settled();
    }

    /// Nobody waits for them any more. What is under way may be stored; its delivery is held still.
    pub(super) fn stop_storing(&mut self) {
        self.storing = Storing::new();
        let items = self.settles.give_up_pending(Unavailable::NotReady);
        self.keep(items);
    }

    fn keep(&mut self, items: Vec<AskItem>) {
        for taken in items.into_iter().filter_map(|it| it.taken) {
            self.held.put_back(taken);
        }
    }
}
