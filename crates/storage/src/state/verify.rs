//! What is checked of a state that is only read: the epochs' counter and the rows about replicas. Not here: RocksDB's own files
//! (`verify::rocks`), replicas' rows, which are bytes here.

use std::path::Path;

use warren_types::GroupId;

use super::epochs;
use super::layout::{META, current_group, decode_current, decode_meta};

/// What is wrong with the counter of epochs, if anything is.
pub(crate) fn verify_epochs(dir: &Path) -> Option<String> {
    epochs::verify(&dir.join("epochs"))
}

/// What is wrong with a row, if anything is.
pub(crate) fn verify_row(family: &str, key: &[u8], value: &[u8]) -> Option<String> {
    if family != META {
        return None;
    }
    let whole = match current_group(key) {
        Some(_) => decode_current(key, value).is_some(),
        None => decode_meta(key, value).is_some(),
    };
    (!whole).then(|| {
        format!("the row about a replica under key {key:02x?} does not match its checksum")
    })
}

/// Whose row it is, if it is one of a replica's.
pub(crate) fn group_of_row(family: &str, key: &[u8]) -> Option<GroupId> {
    if family == META {
        return None;
    }
    let (head, _) = key.split_first_chunk()?;
    Some(GroupId(u32::from_be_bytes(*head)))
}
