//! Why bytes are not what they should be. Not here: what to do then (a replica that cannot read its own state or log stops).

use thiserror::Error;
use warren_topology::PartsError;
use warren_types::{NameError, PropertiesError, TableError};

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    #[error("{what} does not decode")]
    Wire {
        what: &'static str,
        #[source]
        source: prost::DecodeError,
    },
    /// The encoding is sound but says something impossible.
    #[error("{what} is malformed: {why}")]
    Malformed {
        what: &'static str,
        why: &'static str,
    },
    #[error("{what} is too short: {bytes} bytes")]
    Truncated { what: &'static str, bytes: usize },
    #[error("{what} is damaged: checksum {stored:08x} is stored, {computed:08x} was computed")]
    Checksum {
        what: &'static str,
        stored: u32,
        computed: u32,
    },
    /// A newer version wrote it.
    #[error("{what} has format version {found}; this node knows {known}")]
    UnknownFormat {
        what: &'static str,
        found: u32,
        known: u32,
    },
    /// A newer version wrote it: the replica stops until it runs that version.
    #[error(
        "command {number} is not known to this node: the entry has format version {format_version} and needs version {finalized_version} of the software"
    )]
    UnknownCommand {
        number: u32,
        format_version: u32,
        finalized_version: u32,
    },
    /// A newer version wrote it.
    #[error("{what} {number} is not known to this node")]
    UnknownValue { what: &'static str, number: i64 },
    #[error("a stored name is not valid")]
    Name(#[from] NameError),
    #[error("a stored property list is not valid")]
    Properties(#[from] PropertiesError),
    #[error("a stored argument table is not valid")]
    Table(#[from] TableError),
    #[error("a stored topology does not fit together")]
    Topology(#[from] PartsError),
}

impl CodecError {
    pub(crate) fn wire(what: &'static str) -> impl FnOnce(prost::DecodeError) -> Self {
        move |source| Self::Wire { what, source }
    }
}

pub(crate) fn malformed(what: &'static str, why: &'static str) -> CodecError {
    CodecError::Malformed { what, why }
}
