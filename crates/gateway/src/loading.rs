//! Definitions that are to be there after a node's start (features F31): imported once, and again when they are others. Not here: reading
//! files (`server`), importing (`definitions`).

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tracing::{info, warn};
use warren_topology::definitions::{Document, LOADED_PARAMETER};
use warren_topology::{ParameterKey, SetParameter};
use warren_types::GroupId;

use crate::definitions::{How, import};
use crate::gateway::Gateway;
use crate::operations::OperationError;

/// Definitions from a file.
#[derive(Clone, Debug)]
pub struct DefinitionsFile {
    /// For messages.
    pub name: String,
    pub json: Vec<u8>,
}

/// Why definitions are not loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Nothing was imported.
    #[error("{name} holds no definitions: {cause}")]
    NoDefinitions { name: String, cause: String },
    /// The cluster cannot be changed now: try again. What was imported stays.
    #[error("{0}")]
    NotNow(String),
}

impl Gateway {
    /// Whether these definitions were the last that were loaded.
    #[must_use]
    pub fn has_loaded(&self, files: &[DefinitionsFile]) -> bool {
        let key = ParameterKey {
            vhost: None,
            component: "".into(),
            name: LOADED_PARAMETER.into(),
        };
        let topology = self.topology();
        let loaded = topology.parameter(&key);
        loaded.is_some_and(|it| *it.value == *digest(files))
    }

    /// Whether this node leads the topology: of many that are to load the same, it is the one to do so.
    #[must_use]
    pub fn leads_topology(&self) -> bool {
        let leader = self.broker().leadership_of(GroupId::TOPOLOGY);
        leader.is_some_and(|(node, _)| node == self.broker().node())
    }

    /// Imports definitions, and remembers that. What single objects are refused for is logged.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load_definitions(&self, files: &[DefinitionsFile]) -> Result<(), LoadError> {
        let mut documents = Vec::with_capacity(files.len());
        for file in files {
            let document = Document::read(&file.json);
            let document = document.map_err(|error| LoadError::NoDefinitions {
                name: file.name.clone(),
                cause: error.to_string(),
            })?;
            documents.push((&file.name, document));
        }
        let how = How {
            only: None,
            by: "",
            is_trial: false,
        };
        let not_now = |error: OperationError| LoadError::NotNow(error.to_string());
        for (name, document) in documents {
            let report = import(self, document, how).await.map_err(not_now)?;
            for refused in &report.refused {
                warn!(file = name, refused, "an object was not imported");
            }
            let (changed, unchanged) = (report.changed, report.unchanged);
            let refused = report.refused.len();
            info!(
                file = name,
                changed, unchanged, refused, "definitions loaded"
            );
        }
        let remember = SetParameter {
            vhost: None,
            component: "".into(),
            name: LOADED_PARAMETER.into(),
            value: digest(files).into(),
        };
        let remembered = self.change(remember.into(), "").await;
        remembered.map(drop).map_err(not_now)
    }
}

/// As a JSON text.
fn digest(files: &[DefinitionsFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(
            u64::try_from(file.json.len())
                .unwrap_or(u64::MAX)
                .to_be_bytes(),
        );
        hash.update(&file.json);
    }
    let mut text = String::from("\"");
    for byte in hash.finalize() {
        let _never = write!(text, "{byte:02x}");
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_tells_where_a_file_ends() {
        let file = |json: &[u8]| DefinitionsFile {
            name: String::new(),
            json: json.to_vec(),
        };
        let whole = digest(&[file(b"ab")]);
        assert_ne!(whole, digest(&[file(b"a"), file(b"b")]));
        assert_eq!(whole, digest(&[file(b"ab")]));
        assert_eq!(whole.len(), 2 + 64);
    }
}
