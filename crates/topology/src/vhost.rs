//! Virtual hosts: name spaces of exchanges and queues. Not here: what is in them (`topology`).

use warren_types::{VhostId, VhostName};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vhost {
    pub id: VhostId,
    pub name: VhostName,
}

impl Vhost {
    /// The id of `/`, which exists from the start.
    pub const ROOT: VhostId = VhostId(1);
}
