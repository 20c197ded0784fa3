//! Definitions: export and import of all that is declared, as JSON in RabbitMQ's form. Not here: single objects (the files beside this).

use std::time::Duration;

use warren_proto::admin_v1;

use super::request_id;
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// Ten thousand queues take some seconds.
const WITHIN: Duration = Duration::from_secs(120);

/// What became of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// Objects that were made or are different now.
    pub changed: u32,
    /// Objects that were there as the document has them.
    pub unchanged: u32,
    /// What is kept without effect or left out, and why.
    pub warnings: Vec<String>,
    /// Objects that were not imported, and why.
    pub refused: Vec<String>,
}

impl Connection {
    /// The definitions of the cluster, or of one vhost.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`; `VHOST_NOT_FOUND`; no node answers in time.
    pub async fn export_definitions(&self, vhost: Option<&str>) -> Result<Vec<u8>, Error> {
        let request = admin_v1::ExportDefinitionsRequest {
            vhost: vhost.unwrap_or_default().to_owned(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().export_definitions(request).await }
        };
        let response = self
            .call_within("exporting definitions", WITHIN, call)
            .await?;
        Ok(response.definitions_json.to_vec())
    }

    /// Declares what the document has, as far as it is not there: of the cluster, or into one vhost. With `is_trial` nothing is done.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`; the document cannot be read; no node answers in time: the same import may be done again.
    pub async fn import_definitions(
        &self,
        document: Vec<u8>,
        vhost: Option<&str>,
        is_trial: bool,
    ) -> Result<Import, Error> {
        let request = admin_v1::ImportDefinitionsRequest {
            vhost: vhost.unwrap_or_default().to_owned(),
            definitions_json: document.into(),
            validate_only: is_trial,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().import_definitions(request).await }
        };
        let response = self
            .call_within("importing definitions", WITHIN, call)
            .await?;
        Ok(Import {
            changed: response.changed,
            unchanged: response.unchanged,
            warnings: response.warnings,
            refused: response.refused,
        })
    }
}
