//! Which replicas of this node are set aside, in a small synced file of the data directory: their rows or logs are not what was written, so
//! they are not opened again. Not here: finding and replacing them (`warren-shard`).
//!
//! Layout, big-endian: `crc32c u32 | format u32`, then per group `group u32 | replica u64 | at u64 | replaced at u64 | length u32 | cause`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use warren_types::{GroupId, ReplicaId};

use crate::data_dir::{DataDirError, SET_ASIDE};
use crate::files::{replace, sealed, take_u32, take_u64, unseal};

const FORMAT: u32 = 1;
const NAME: &[u8] = b"set aside";
/// More of a cause is not kept.
const CAUSE_BYTES_MAX: usize = 1_024;

/// A replica that is not to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AsideReplica {
    pub replica: ReplicaId,
    /// Milliseconds since the epoch, as are all times here.
    pub at_ms: u64,
    /// When this node last asked for a new replica of the group; 0 = never.
    pub replaced_at_ms: u64,
    /// In words.
    pub cause: String,
}

/// The last replica of each group that was set aside. Calls that change it block on the disk.
#[derive(Debug)]
pub struct SetAside {
    path: PathBuf,
    replicas: Mutex<BTreeMap<GroupId, AsideReplica>>,
}

impl SetAside {
    /// # Errors
    /// The file is there and cannot be read, or does not match its checksum.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        Ok(Self {
            path: path.to_owned(),
            replicas: Mutex::new(read(path)?),
        })
    }

    /// That of a node's data directory.
    ///
    /// # Errors
    /// Same.
    pub fn of(data_dir: &Path) -> Result<Self, DataDirError> {
        Self::open(&data_dir.join(SET_ASIDE))
    }

    #[must_use]
    pub fn get(&self, group: GroupId) -> Option<AsideReplica> {
        self.replicas.lock().get(&group).cloned()
    }

    /// Whether this very replica is not to be opened.
    #[must_use]
    pub fn has(&self, group: GroupId, replica: ReplicaId) -> bool {
        let replicas = self.replicas.lock();
        replicas.get(&group).is_some_and(|it| it.replica == replica)
    }

    #[must_use]
    pub fn all(&self) -> Vec<(GroupId, AsideReplica)> {
        let replicas = self.replicas.lock();
        replicas.iter().map(|(it, of)| (*it, of.clone())).collect()
    }

    /// Remembers a replica instead of what was known of its group; durable when it returns.
    ///
    /// # Errors
    /// [`DataDirError::Io`]: it is known until the node stops, no longer.
    pub fn put(&self, group: GroupId, mut replica: AsideReplica) -> Result<(), DataDirError> {
        let end = replica.cause.floor_char_boundary(CAUSE_BYTES_MAX);
        replica.cause.truncate(end);
        let mut replicas = self.replicas.lock();
        replicas.insert(group, replica);
        replace(&self.path, &encode(&replicas)).map_err(|source| DataDirError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

fn read(path: &Path) -> Result<BTreeMap<GroupId, AsideReplica>, DataDirError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => {
            return Err(DataDirError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    decode(&bytes).ok_or_else(|| DataDirError::Damaged {
        path: path.to_owned(),
        detail: "it does not match its checksum, or is of a newer format".to_owned(),
    })
}

/// What is wrong with the file, if anything is.
pub(crate) fn verify(path: &Path) -> Option<String> {
    read(path).err().map(|error| error.to_string())
}

fn encode(replicas: &BTreeMap<GroupId, AsideReplica>) -> Vec<u8> {
    sealed(NAME, |out| {
        out.extend_from_slice(&FORMAT.to_be_bytes());
        for (group, it) in replicas {
            out.extend_from_slice(&group.0.to_be_bytes());
            for number in [it.replica.0, it.at_ms, it.replaced_at_ms] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            let bytes = u32::try_from(it.cause.len()).expect("causes are cut when they are put");
            out.extend_from_slice(&bytes.to_be_bytes());
            out.extend_from_slice(it.cause.as_bytes());
        }
    })
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<GroupId, AsideReplica>> {
    let mut content = unseal(NAME, bytes)?;
    if take_u32(&mut content)? != FORMAT {
        return None;
    }
    let mut replicas = BTreeMap::new();
    while !content.is_empty() {
        let group = GroupId(take_u32(&mut content)?);
        let replica = ReplicaId(take_u64(&mut content)?);
        let (at_ms, replaced_at_ms) = (take_u64(&mut content)?, take_u64(&mut content)?);
        let length = usize::try_from(take_u32(&mut content)?).ok()?;
        let (cause, rest) = content.split_at_checked(length)?;
        content = rest;
        let cause = String::from_utf8_lossy(cause).into_owned();
        let it = AsideReplica {
            replica,
            at_ms,
            replaced_at_ms,
            cause,
        };
        replicas.insert(group, it);
    }
    Some(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside(replica: u64, cause: &str) -> AsideReplica {
        AsideReplica {
            replica: ReplicaId(replica),
            at_ms: 5,
            replaced_at_ms: 0,
            cause: cause.to_owned(),
        }
    }

    #[test]
    fn replicas_set_aside_are_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set-aside");
        let kept = SetAside::open(&path).unwrap();
        assert!(kept.all().is_empty());
        kept.put(GroupId(3), aside(7, "a row")).unwrap();
        kept.put(GroupId(1), aside(8, &"ä".repeat(2_000))).unwrap();
        let kept = SetAside::open(&path).unwrap();
        assert!(kept.has(GroupId(3), ReplicaId(7)) && !kept.has(GroupId(3), ReplicaId(8)));
        assert_eq!(kept.get(GroupId(3)), Some(aside(7, "a row")));
        assert_eq!(kept.get(GroupId(1)).unwrap().cause.len(), CAUSE_BYTES_MAX);
        assert_eq!(verify(&path), None);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[12] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let refused = SetAside::open(&path);
        assert!(matches!(refused, Err(DataDirError::Damaged { .. })));
        assert!(verify(&path).is_some());
    }
}
