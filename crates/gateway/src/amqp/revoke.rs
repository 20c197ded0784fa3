//! A connection whose user's rights have changed: it ends, or loses the consumers that may not read any more (guarantee G14).
//! Not here: methods to come, which ask for themselves (`permit`, `steps`).

use std::sync::Arc;

use tracing::info;
use warren_amqp::{AmqpError, ChannelId};
use warren_topology::{Denied, Operation};
use warren_types::{ConsumerId, TopologyIndex};

use super::session::AmqpSession;

impl AmqpSession {
    /// Looks at the rights if they have changed since the last look.
    pub(super) fn look_at_rights(&mut self) {
        let changed_at: TopologyIndex = self.view.access_changed_at();
        if self.rights_seen == Some(changed_at) {
            return;
        }
        self.rights_seen = Some(changed_at);
        let Some(caller) = self.caller.clone() else {
            return;
        };
        let asker = caller.who.asker(caller.vhost);
        let open = self.view.authorise(asker, Operation::OpenVhost);
        if self.view.vhost_by_id(caller.vhost).is_none() {
            return self.force_close(&format!("vhost '{}' is deleted", caller.vhost_name));
        }
        match open {
            Ok(()) => {}
            Err(Denied::UserGone { user }) => {
                return self.force_close(&format!("user '{user}' is deleted"));
            }
            Err(denied) => return self.force_close(&denied.to_string()),
        }
        let view = Arc::clone(&self.view);
        let revoked: Vec<ConsumerId> = self
            .consumers
            .iter()
            .filter(|(_, it)| {
                let queue = view.queue_by_id(it.target.queue);
                // A queue that is gone cancels by itself.
                queue.is_some_and(|queue| {
                    let queue = queue.name.as_str();
                    view.authorise(asker, Operation::Consume { queue }).is_err()
                })
            })
            .map(|(id, _)| *id)
            .collect();
        for consumer in revoked {
            info!(peer = %self.peer(), %consumer, "consumer cancelled: its user may not read the queue any more");
            self.consumer_gone(consumer);
        }
    }

    fn force_close(&mut self, why: &str) {
        info!(peer = %self.peer(), why, "connection closed");
        self.fail(ChannelId::CONNECTION, AmqpError::connection_forced(why));
    }
}
