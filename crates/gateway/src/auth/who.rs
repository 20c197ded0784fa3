//! A client that has logged in, as calls and sessions carry it. Not here: how it logged in.

use warren_topology::{Asker, Principal, Rights};
use warren_types::VhostId;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) principal: Principal,
    /// What the client calls itself, for topic permissions; empty = not known.
    pub(crate) client_id: std::sync::Arc<str>,
}

impl Who {
    pub(crate) fn new(principal: Principal) -> Self {
        Self {
            principal,
            client_id: "".into(),
        }
    }

    pub(crate) fn asker(&self, vhost: VhostId) -> Asker<'_> {
        Asker {
            principal: &self.principal,
            vhost,
            client_id: &self.client_id,
        }
    }

    /// For a session in one vhost.
    pub(crate) fn rights(&self, vhost: VhostId) -> Rights {
        Rights::new(self.principal.clone(), vhost, &self.client_id)
    }
}
