//! Vhosts: there is `/` and no other yet. Not here: what is in them.

use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_topology::Vhost;

use super::TopologyAdmin;
use super::pages::Page;
use crate::grpc::error::of_operation;
use crate::grpc::open::vhost_name;

impl TopologyAdmin {
    pub(super) async fn get_vhost_here(
        &self,
        request: admin_v1::GetVhostRequest,
    ) -> Result<admin_v1::GetVhostResponse, ApiError> {
        let name = vhost_name(&request.name)?;
        let topology = self
            .gateway
            .fresh_topology()
            .await
            .map_err(|error| of_operation(&error))?;
        let vhost = topology.vhost(name.as_str()).ok_or_else(|| {
            ApiError::new(Reason::VhostNotFound, format!("no vhost '{name}'"))
                .resource("vhost", name.as_str())
        })?;
        Ok(admin_v1::GetVhostResponse {
            vhost: Some(to_client(vhost)),
        })
    }

    pub(super) async fn list_vhosts_here(
        &self,
        request: admin_v1::ListVhostsRequest,
    ) -> Result<admin_v1::ListVhostsResponse, ApiError> {
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self
            .gateway
            .fresh_topology()
            .await
            .map_err(|error| of_operation(&error))?;
        let mut all: Vec<&Vhost> = topology.vhosts().collect();
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

fn to_client(vhost: &Vhost) -> admin_v1::Vhost {
    admin_v1::Vhost {
        name: vhost.name.to_string(),
        ..admin_v1::Vhost::default()
    }
}
