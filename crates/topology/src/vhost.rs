//! Virtual hosts: name spaces of exchanges and queues. Not here: what is in them (`topology`), who may use them (`permission`).

use warren_types::{TopologyIndex, VhostId, VhostName};

use crate::queue::QueueType;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vhost {
    pub id: VhostId,
    pub name: VhostName,
    pub settings: VhostSettings,
    pub limits: VhostLimits,
    /// The index of the command that created it; zero = there from the start.
    pub created_at: TopologyIndex,
}

/// What is said of a vhost (features E1).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VhostSettings {
    /// At most [`VhostSettings::DESCRIPTION_BYTES_MAX`] bytes.
    pub description: Box<str>,
    /// At most [`VhostSettings::TAGS_MAX`], each of at most [`VhostSettings::TAG_BYTES_MAX`] bytes.
    pub tags: Vec<Box<str>>,
    /// Of queues whose declare names no type; `None` = the node's default.
    pub default_queue_type: Option<QueueType>,
    /// Classic and quorum count as equal on redeclare (features B22).
    pub relaxed_queue_type: bool,
    /// Messages wait for their delay or due time only on exchanges of type `x-delayed-message` (features B12).
    pub ignores_delays: bool,
    /// AMQP 0-9-1: basic.qos changes the limit of the channel's consumers that are there, too (features C32).
    pub live_prefetch: bool,
    /// It cannot be deleted.
    pub is_protected: bool,
}

impl VhostSettings {
    pub const DESCRIPTION_BYTES_MAX: usize = 1_024;
    pub const TAGS_MAX: usize = 32;
    pub const TAG_BYTES_MAX: usize = 64;
}

/// Most of something that a vhost may have (features E2); `None` = no limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VhostLimits {
    pub connections: Option<u32>,
    pub queues: Option<u32>,
    pub exchanges: Option<u32>,
    /// Of messages, shared by the nodes where they come in.
    pub publishes_per_second: Option<u32>,
    /// Of message bodies that are stored.
    pub bytes: Option<u64>,
}

impl Vhost {
    /// The id of `/`, which exists from the start.
    pub const ROOT: VhostId = VhostId(1);

    /// As it is made.
    pub(crate) fn new(id: VhostId, name: VhostName, created_at: TopologyIndex) -> Self {
        Self {
            id,
            name,
            settings: VhostSettings::default(),
            limits: VhostLimits::default(),
            created_at,
        }
    }
}
