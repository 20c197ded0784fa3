//! Versions of what is stored and said between nodes: which the cluster may use, which a node's software knows. Not here: what each
//! command needs (`topology`, `queue`), what this software knows (`codec`).

use std::fmt;

/// A version of commands, rows and frames. Features up to the cluster's finalised version may be used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterVersion(pub u32);

impl ClusterVersion {
    /// The lowest there is; what was stored before versions were told.
    pub const FIRST: Self = Self(1);
}

impl Default for ClusterVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The versions that a node's software can work in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KnownVersions {
    pub oldest: ClusterVersion,
    pub newest: ClusterVersion,
}

impl KnownVersions {
    /// Of nodes that never told: the first version, and no other.
    pub const FIRST: Self = Self {
        oldest: ClusterVersion::FIRST,
        newest: ClusterVersion::FIRST,
    };

    /// Whether a node can work in a cluster that has finalised `version`.
    #[must_use]
    pub fn knows(self, version: ClusterVersion) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl fmt::Display for KnownVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "version {}", self.newest)
        } else {
            write!(f, "versions {} to {}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_between_oldest_and_newest_are_known() {
        let known = KnownVersions {
            oldest: ClusterVersion(2),
            newest: ClusterVersion(4),
        };
        let answers = (1..=5).map(|it| known.knows(ClusterVersion(it)));
        assert!(answers.eq([false, true, true, true, false]));
        assert_eq!(known.to_string(), "versions 2 to 4");
        assert_eq!(KnownVersions::FIRST.to_string(), "version 1");
    }
}
