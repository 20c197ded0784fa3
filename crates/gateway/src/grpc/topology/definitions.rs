//! Definitions over gRPC. Not here: what the document holds (`warren_topology::definitions`), running an import (`definitions`).

use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_topology::definitions::{Document, DocumentError};

use super::TopologyAdmin;
use crate::auth::Who;
use crate::definitions::{How, import};
use crate::grpc::error::{bad_argument, of_operation};
use crate::grpc::open::vhost_name;
use crate::operations::find_vhost;

impl TopologyAdmin {
    pub(super) async fn export_definitions_here(
        &self,
        request: admin_v1::ExportDefinitionsRequest,
    ) -> Result<admin_v1::ExportDefinitionsResponse, ApiError> {
        let topology = self.gateway.fresh_topology().await;
        let topology = topology.map_err(|error| of_operation(&error))?;
        let document = if request.vhost.is_empty() {
            Document::of(&topology)
        } else {
            let vhost = find_vhost(&topology, &vhost_name(&request.vhost)?);
            Document::of_vhost(&topology, vhost.map_err(|error| of_operation(&error))?)
        };
        let written = document.write().map_err(|error| unreadable(&error))?;
        Ok(admin_v1::ExportDefinitionsResponse {
            definitions_json: written.into(),
        })
    }

    pub(super) async fn import_definitions_here(
        &self,
        who: &Who,
        request: admin_v1::ImportDefinitionsRequest,
    ) -> Result<admin_v1::ImportDefinitionsResponse, ApiError> {
        let document = Document::read(&request.definitions_json);
        let document = document.map_err(|error| unreadable(&error))?;
        let topology = self.gateway.fresh_topology().await;
        let topology = topology.map_err(|error| of_operation(&error))?;
        let only = match request.vhost.as_str() {
            "" => None,
            name => Some(vhost_name(name)?),
        };
        if let Some(only) = &only {
            find_vhost(&topology, only).map_err(|error| of_operation(&error))?;
        }
        let how = How {
            only: only.as_ref(),
            by: who.principal.name().as_str(),
            is_trial: request.validate_only,
        };
        let report = import(&self.gateway, document, how).await;
        let report = report.map_err(|error| of_operation(&error))?;
        Ok(admin_v1::ImportDefinitionsResponse {
            operation_id: String::new(),
            warnings: report.warnings,
            changed: report.changed,
            unchanged: report.unchanged,
            refused: report.refused,
        })
    }
}

fn unreadable(error: &DocumentError) -> ApiError {
    bad_argument("definitions_json", error.to_string())
}
