//! What a node may be short of. Not here: measuring it (`server`), whom it stops (`gateway`).

use std::fmt;

/// One thing a node is short of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Alarm {
    /// Memory.
    Memory,
    /// Disk space.
    Disk,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

/// Everything a node is short of; publishes that need the node are held back meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Alarms {
    /// Short of memory.
    pub memory: bool,
    /// Short of disk space.
    pub disk: bool,
}

impl Alarms {
    /// Nothing is short.
    pub const NONE: Self = Self {
        memory: false,
        disk: false,
    };

    /// Whether nothing is short.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }
}
