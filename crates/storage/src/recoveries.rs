//! The recoveries without a majority that were made in a data directory, in a small synced file: who declared which nodes lost, when, and
//! what was kept. Written before anything is changed, and never again. Not here: a recovery (`warren-server`).
//!
//! Layout, big-endian: `crc32c u32 | format u32`, then per recovery `at u64 | node u64 | length u32 | by | count u32 | lost u64...| count u32`
//! and per group `group u32 | last index u64 | last term u64 | committed u64`.

use std::io;
use std::path::Path;

use warren_types::{GroupId, LogIndex, NodeId, Term};

use crate::data_dir::{DataDir, DataDirError, RECOVERIES};
use crate::files::{replace, sealed, take_u32, take_u64, unseal};

const FORMAT: u32 = 1;
const NAME: &[u8] = b"recoveries";
/// More of a name is not kept.
const BY_BYTES_MAX: usize = 256;
/// The oldest go.
const RECOVERIES_MAX: usize = 100;

/// One recovery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveryRecord {
    /// When it began, milliseconds since the epoch.
    pub at_ms: u64,
    /// Who ran the command, as the operating system says.
    pub by: String,
    /// The node whose copies became the cluster.
    pub node: NodeId,
    /// Declared lost.
    pub lost: Vec<NodeId>,
    pub kept: Vec<KeptGroup>,
}

/// What was kept of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeptGroup {
    pub group: GroupId,
    /// The last entry that was there.
    pub last_index: LogIndex,
    pub last_term: Term,
    /// The last one that was known to be confirmed; 0 = none.
    pub committed: LogIndex,
}

impl DataDir {
    /// The recoveries without a majority that were made here, oldest first.
    ///
    /// # Errors
    /// What was kept of them cannot be read.
    pub fn recoveries(&self) -> Result<Vec<RecoveryRecord>, DataDirError> {
        read(self.path())
    }

    /// Remembers one for good; durable when it returns.
    ///
    /// # Errors
    /// Same, or [`DataDirError::Io`].
    pub fn note_recovery(&self, recovery: RecoveryRecord) -> Result<(), DataDirError> {
        note(self.path(), recovery)
    }
}

/// Those of a data directory, oldest first.
///
/// # Errors
/// The file is there and cannot be read, or does not match its checksum.
pub(crate) fn read(dir: &Path) -> Result<Vec<RecoveryRecord>, DataDirError> {
    let path = dir.join(RECOVERIES);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(DataDirError::Io { path, source }),
    };
    decode(&bytes).ok_or_else(|| DataDirError::Damaged {
        path,
        detail: "it does not match its checksum, or is of a newer format".to_owned(),
    })
}

/// Adds one; durable when it returns. A recovery does not wait for what is known of earlier ones: a damaged file is put aside.
pub(crate) fn note(dir: &Path, mut record: RecoveryRecord) -> Result<(), DataDirError> {
    let end = record.by.floor_char_boundary(BY_BYTES_MAX);
    record.by.truncate(end);
    let mut all = match read(dir) {
        Err(DataDirError::Damaged { path, detail }) => {
            let aside = path.with_extension("damaged");
            tracing::error!(path = %path.display(), aside = %aside.display(), detail, "what was known of earlier recoveries is put aside");
            std::fs::rename(&path, &aside).map_err(|source| DataDirError::Io { path, source })?;
            Vec::new()
        }
        read => read?,
    };
    all.push(record);
    let from = all.len().saturating_sub(RECOVERIES_MAX);
    let path = dir.join(RECOVERIES);
    let bytes = encode(all.get(from..).unwrap_or_default());
    replace(&path, &bytes).map_err(|source| DataDirError::Io { path, source })
}

/// What is wrong with the file, if anything is.
pub(crate) fn verify(dir: &Path) -> Option<String> {
    read(dir).err().map(|error| error.to_string())
}

fn encode(records: &[RecoveryRecord]) -> Vec<u8> {
    let count = |it: usize| u32::try_from(it).expect("far fewer nodes, groups and letters");
    sealed(NAME, |out| {
        out.extend_from_slice(&FORMAT.to_be_bytes());
        for it in records {
            out.extend_from_slice(&it.at_ms.to_be_bytes());
            out.extend_from_slice(&it.node.0.to_be_bytes());
            out.extend_from_slice(&count(it.by.len()).to_be_bytes());
            out.extend_from_slice(it.by.as_bytes());
            out.extend_from_slice(&count(it.lost.len()).to_be_bytes());
            for node in &it.lost {
                out.extend_from_slice(&node.0.to_be_bytes());
            }
            out.extend_from_slice(&count(it.kept.len()).to_be_bytes());
            for kept in &it.kept {
                out.extend_from_slice(&kept.group.0.to_be_bytes());
                for number in [kept.last_index.0, kept.last_term.0, kept.committed.0] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
    })
}

fn decode(bytes: &[u8]) -> Option<Vec<RecoveryRecord>> {
    let mut content = unseal(NAME, bytes)?;
    if take_u32(&mut content)? != FORMAT {
        return None;
    }
    let mut records = Vec::new();
    while !content.is_empty() {
        let (at_ms, node) = (take_u64(&mut content)?, NodeId(take_u64(&mut content)?));
        let length = usize::try_from(take_u32(&mut content)?).ok()?;
        let (by, rest) = content.split_at_checked(length)?;
        content = rest;
        let mut lost = Vec::new();
        for _ in 0..take_u32(&mut content)? {
            lost.push(NodeId(take_u64(&mut content)?));
        }
        let mut kept = Vec::new();
        for _ in 0..take_u32(&mut content)? {
            kept.push(KeptGroup {
                group: GroupId(take_u32(&mut content)?),
                last_index: LogIndex(take_u64(&mut content)?),
                last_term: Term(take_u64(&mut content)?),
                committed: LogIndex(take_u64(&mut content)?),
            });
        }
        records.push(RecoveryRecord {
            at_ms,
            by: String::from_utf8_lossy(by).into_owned(),
            node,
            lost,
            kept,
        });
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_ms: u64) -> RecoveryRecord {
        RecoveryRecord {
            at_ms,
            by: "ada (uid 1000)".to_owned(),
            node: NodeId(1),
            lost: vec![NodeId(2), NodeId(3)],
            kept: vec![KeptGroup {
                group: GroupId(4),
                last_index: LogIndex(7),
                last_term: Term(2),
                committed: LogIndex(6),
            }],
        }
    }

    #[test]
    fn recoveries_are_kept_in_their_order_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        note(dir.path(), record(5)).unwrap();
        let mut other = record(6);
        other.by = "ä".repeat(1_000);
        note(dir.path(), other).unwrap();
        let kept = read(dir.path()).unwrap();
        assert_eq!((kept.len(), &kept[0]), (2, &record(5)));
        assert_eq!((kept[1].at_ms, kept[1].by.len()), (6, BY_BYTES_MAX));
        assert_eq!(verify(dir.path()), None);
        let path = dir.path().join(RECOVERIES);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(verify(dir.path()).unwrap().contains("recoveries"));
        let refused = read(dir.path());
        assert!(matches!(refused, Err(DataDirError::Damaged { .. })));
        // The next recovery is not stopped by it.
        note(dir.path(), record(7)).unwrap();
        assert_eq!(read(dir.path()).unwrap(), [record(7)]);
        assert!(dir.path().join("recoveries.damaged").exists());
    }

    #[test]
    fn oldest_recoveries_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let many: Vec<RecoveryRecord> = (0..100).map(record).collect();
        let path = dir.path().join(RECOVERIES);
        std::fs::write(&path, encode(&many)).unwrap();
        note(dir.path(), record(100)).unwrap();
        let kept = read(dir.path()).unwrap();
        assert_eq!((kept.len(), kept[0].at_ms), (RECOVERIES_MAX, 1));
    }
}
