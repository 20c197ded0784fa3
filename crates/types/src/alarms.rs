//! What a node may be short of, and from where on. Not here: measuring it (`server`), whom it stops (`gateway`).

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

/// A level of a resource: where it counts as short.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Level {
    /// In bytes.
    pub bytes: u64,
    /// Of what there is, 0 to 100.
    pub percent: u8,
}

impl Level {
    /// The greater of both, for so much of the resource.
    #[must_use]
    pub fn of(self, total_bytes: u64) -> u64 {
        let share = u128::from(total_bytes) * u128::from(self.percent) / 100;
        self.bytes.max(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// Where publishers are held back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Watermarks {
    /// Above so much resident memory; shares are of the container's limit, else of the machine.
    pub memory: Level,
    /// Below so much free disk; shares are of the file system.
    pub disk_free: Level,
}

impl Watermarks {
    /// In bytes: an idle node may take as much, and a lower level would stop every publisher of it.
    pub const MEMORY_MIN: u64 = 128 << 20;
}

impl Default for Watermarks {
    fn default() -> Self {
        Self {
            memory: Level {
                bytes: 0,
                percent: 60,
            },
            disk_free: Level {
                bytes: 2 << 30,
                percent: 5,
            },
        }
    }
}
