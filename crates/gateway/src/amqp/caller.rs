//! Who asks, and where: what every operation of a connection needs. Not here: the operations.

use warren_topology::QueueOwner;
use warren_types::{UserName, VhostId, VhostName};

use crate::auth::Who;
use crate::gateway::Gateway;

/// A connection that is open.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) gateway: Gateway,
    pub(super) user: UserName,
    /// Whose rights count.
    pub(super) who: Who,
    pub(super) vhost: VhostId,
    pub(super) vhost_name: VhostName,
    /// Whose its exclusive queues are.
    pub(super) owner: QueueOwner,
}
