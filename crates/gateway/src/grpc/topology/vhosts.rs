//! Vhosts. Not here: what is in them.

use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_topology::{
    CreateVhost, DeleteVhost, Operation, QueueType, TopologyCommand, UpdateVhost, Vhost,
    VhostSettings,
};
use warren_types::VhostName;

use super::exchanges::check_etag;
use super::pages::Page;
use super::{NO_USER, TopologyAdmin, check_validate_only};
use crate::auth::Who;
use crate::grpc::error::{bad_argument, of_operation};
use crate::grpc::open::vhost_name;

impl TopologyAdmin {
    pub(super) async fn create_vhost_here(
        &self,
        request: admin_v1::CreateVhostRequest,
    ) -> Result<admin_v1::CreateVhostResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let asked = request.vhost.unwrap_or_default();
        let name = named(&asked.name)?;
        let settings = settings(&asked, VhostSettings::default(), &[])?;
        let command = CreateVhost {
            name: name.clone(),
            settings,
        };
        let vhost = self.changed_vhost(command.into(), &name).await?;
        Ok(admin_v1::CreateVhostResponse { vhost: Some(vhost) })
    }

    pub(super) async fn update_vhost_here(
        &self,
        request: admin_v1::UpdateVhostRequest,
    ) -> Result<admin_v1::UpdateVhostResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let asked = request.vhost.unwrap_or_default();
        let name = vhost_name(&asked.name)?;
        let current = self.vhost_now(&name).await?;
        check_etag(&asked.etag, Some(&etag(&current)))?;
        let mask = request.update_mask.unwrap_or_default().paths;
        let settings = settings(&asked, current.settings, &mask)?;
        let command = UpdateVhost {
            name: name.clone(),
            settings,
        };
        let vhost = self.changed_vhost(command.into(), &name).await?;
        Ok(admin_v1::UpdateVhostResponse { vhost: Some(vhost) })
    }

    pub(super) async fn delete_vhost_here(
        &self,
        request: admin_v1::DeleteVhostRequest,
    ) -> Result<admin_v1::DeleteVhostResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        // Nobody deletes "/" by leaving the name out.
        let name = named(&request.name)?;
        if !request.etag.is_empty() {
            let current = self.vhost_now(&name).await?;
            check_etag(&request.etag, Some(&etag(&current)))?;
        }
        let deleted = self.gateway.change(DeleteVhost { name }.into(), NO_USER);
        deleted.await.map_err(|error| of_operation(&error))?;
        Ok(admin_v1::DeleteVhostResponse {})
    }

    async fn changed_vhost(
        &self,
        command: TopologyCommand,
        name: &VhostName,
    ) -> Result<admin_v1::Vhost, ApiError> {
        let changed = self.gateway.change(command, NO_USER).await;
        changed.map_err(|error| of_operation(&error))?;
        let topology = self.gateway.topology();
        let vhost = topology.vhost(name.as_str());
        vhost.map(to_client).ok_or_else(|| missing(name))
    }

    async fn vhost_now(&self, name: &VhostName) -> Result<Vhost, ApiError> {
        let topology = self.gateway.fresh_topology().await;
        let topology = topology.map_err(|error| of_operation(&error))?;
        let vhost = topology.vhost(name.as_str()).cloned();
        vhost.ok_or_else(|| missing(name))
    }

    pub(super) async fn get_vhost_here(
        &self,
        request: admin_v1::GetVhostRequest,
    ) -> Result<admin_v1::GetVhostResponse, ApiError> {
        let vhost = self.vhost_now(&vhost_name(&request.name)?).await?;
        Ok(admin_v1::GetVhostResponse {
            vhost: Some(to_client(&vhost)),
        })
    }

    /// Those that the caller may see.
    pub(super) async fn list_vhosts_here(
        &self,
        who: &Who,
        request: admin_v1::ListVhostsRequest,
    ) -> Result<admin_v1::ListVhostsResponse, ApiError> {
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self
            .gateway
            .fresh_topology()
            .await
            .map_err(|error| of_operation(&error))?;
        let may_view = |vhost: &&Vhost| {
            let asker = who.asker(vhost.id);
            topology.authorise(asker, Operation::ViewVhost).is_ok()
        };
        let mut all: Vec<&Vhost> = topology.vhosts().filter(may_view).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        let rest = all
            .into_iter()
            .filter(|vhost| page.after().is_none_or(|after| vhost.name.as_str() > after));
        let (vhosts, next_page_token) = page.take(rest, |vhost| vhost.name.to_string());
        let vhosts = vhosts.into_iter().map(to_client).collect();
        Ok(admin_v1::ListVhostsResponse {
            vhosts,
            next_page_token,
        })
    }
}

fn named(name: &str) -> Result<VhostName, ApiError> {
    if name.is_empty() {
        return Err(bad_argument("vhost.name", "is empty"));
    }
    vhost_name(name)
}

fn missing(name: &VhostName) -> ApiError {
    ApiError::new(Reason::VhostNotFound, format!("no vhost '{name}'"))
        .resource("vhost", name.as_str())
}

/// The settings with what the mask names taken from `asked`; without a mask, everything.
fn settings(
    asked: &admin_v1::Vhost,
    mut settings: VhostSettings,
    mask: &[String],
) -> Result<VhostSettings, ApiError> {
    let all = [
        "description",
        "tags",
        "default_queue_type",
        "relaxed_queue_type",
        "ignores_delays",
        "live_prefetch",
        "protected_from_deletion",
    ];
    let paths: Vec<&str> = if mask.is_empty() {
        all.to_vec()
    } else {
        mask.iter().map(String::as_str).collect()
    };
    for path in paths {
        match path {
            "description" => settings.description = asked.description.as_str().into(),
            "tags" => settings.tags = asked.tags.iter().map(|it| it.as_str().into()).collect(),
            "default_queue_type" => {
                settings.default_queue_type = queue_type(&asked.default_queue_type)?;
            }
            "relaxed_queue_type" => settings.relaxed_queue_type = asked.relaxed_queue_type,
            "ignores_delays" => settings.ignores_delays = asked.ignores_delays,
            "live_prefetch" => settings.live_prefetch = asked.live_prefetch,
            "protected_from_deletion" => settings.is_protected = asked.protected_from_deletion,
            other => {
                let text = format!("'{other}' cannot be changed");
                return Err(bad_argument("update_mask", text));
            }
        }
    }
    Ok(settings)
}

fn queue_type(name: &str) -> Result<Option<QueueType>, ApiError> {
    if name.is_empty() {
        return Ok(None);
    }
    let found = QueueType::ALL.into_iter().find(|it| it.name() == name);
    let unknown = || bad_argument("vhost.default_queue_type", "is not available");
    found.map(Some).ok_or_else(unknown)
}

fn etag(vhost: &Vhost) -> String {
    let settings = &vhost.settings;
    format!("v{}-{:x}", vhost.id, digest(&format!("{settings:?}")))
}

fn digest(text: &str) -> u64 {
    let bytes = text.bytes();
    bytes.fold(1, |hash, byte| warren_types::mix(hash ^ u64::from(byte)))
}

fn to_client(vhost: &Vhost) -> admin_v1::Vhost {
    let settings = &vhost.settings;
    admin_v1::Vhost {
        name: vhost.name.to_string(),
        description: settings.description.to_string(),
        tags: settings.tags.iter().map(ToString::to_string).collect(),
        default_queue_type: settings
            .default_queue_type
            .map_or_else(String::new, |it| it.name().to_owned()),
        relaxed_queue_type: settings.relaxed_queue_type,
        ignores_delays: settings.ignores_delays,
        live_prefetch: settings.live_prefetch,
        protected_from_deletion: settings.is_protected,
        etag: etag(vhost),
        created_at: None,
    }
}
