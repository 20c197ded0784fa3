//! Permissions and topic permissions. Not here: what they allow (`warren-topology`).

use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_topology::{
    ClearPermission, ClearTopicPermission, Pattern, PatternError, Permission, SetPermission,
    SetTopicPermission, TopicPattern, TopicPermission, Topology,
};
use warren_types::ExchangeName;

use super::{UserAdmin, user_name};
use crate::grpc::error::{bad_argument, of_name, of_operation};
use crate::grpc::open::vhost_name;
use crate::grpc::topology::Page;

impl UserAdmin {
    pub(super) async fn set_permission_here(
        &self,
        request: admin_v1::SetPermissionRequest,
    ) -> Result<admin_v1::SetPermissionResponse, ApiError> {
        let it = request.permission.unwrap_or_default();
        let vhost = vhost_name(&it.vhost)?;
        checked("permission.configure", Pattern::check(&it.configure))?;
        checked("permission.write", Pattern::check(&it.write))?;
        checked("permission.read", Pattern::check(&it.read))?;
        let command = SetPermission {
            user: user_name(&it.user)?,
            vhost: vhost.clone(),
            configure: it.configure.as_str().into(),
            write: it.write.as_str().into(),
            read: it.read.as_str().into(),
        };
        self.change(command).await?;
        let permission = admin_v1::Permission {
            vhost: vhost.to_string(),
            ..it
        };
        Ok(admin_v1::SetPermissionResponse {
            permission: Some(permission),
        })
    }

    pub(super) async fn list_permissions_here(
        &self,
        request: admin_v1::ListPermissionsRequest,
    ) -> Result<admin_v1::ListPermissionsResponse, ApiError> {
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self.gateway.fresh_topology().await;
        let topology = topology.map_err(|error| of_operation(&error))?;
        let vhost = request.vhost.as_deref().map(vhost_name).transpose()?;
        let all = topology.permissions();
        let all = all.filter_map(|it| permission_to_client(&topology, it));
        let mut all: Vec<(String, admin_v1::Permission)> = all
            .filter(|it| request.user.is_empty() || it.user == request.user)
            .filter(|it| vhost.as_ref().is_none_or(|only| only.as_str() == it.vhost))
            .map(|it| (format!("{}\0{}", it.user, it.vhost), it))
            .collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let rest = all.into_iter();
        let rest = rest.filter(|(order, _)| page.after().is_none_or(|it| order.as_str() > it));
        let (found, next_page_token) = page.take(rest, |(order, _)| order.clone());
        Ok(admin_v1::ListPermissionsResponse {
            permissions: found.into_iter().map(|(_, it)| it).collect(),
            next_page_token,
        })
    }

    pub(super) async fn delete_permission_here(
        &self,
        request: admin_v1::DeletePermissionRequest,
    ) -> Result<admin_v1::DeletePermissionResponse, ApiError> {
        let command = ClearPermission {
            user: user_name(&request.user)?,
            vhost: vhost_name(&request.vhost)?,
        };
        self.change(command).await?;
        Ok(admin_v1::DeletePermissionResponse {})
    }

    pub(super) async fn set_topic_permission_here(
        &self,
        request: admin_v1::SetTopicPermissionRequest,
    ) -> Result<admin_v1::SetTopicPermissionResponse, ApiError> {
        let it = request.permission.unwrap_or_default();
        let vhost = vhost_name(&it.vhost)?;
        checked("permission.write", TopicPattern::check(&it.write))?;
        checked("permission.read", TopicPattern::check(&it.read))?;
        let command = SetTopicPermission {
            user: user_name(&it.user)?,
            vhost: vhost.clone(),
            exchange: exchange_name(&it.exchange)?,
            write: it.write.as_str().into(),
            read: it.read.as_str().into(),
        };
        self.change(command).await?;
        let permission = admin_v1::TopicPermission {
            vhost: vhost.to_string(),
            ..it
        };
        Ok(admin_v1::SetTopicPermissionResponse {
            permission: Some(permission),
        })
    }

    pub(super) async fn list_topic_permissions_here(
        &self,
        request: admin_v1::ListTopicPermissionsRequest,
    ) -> Result<admin_v1::ListTopicPermissionsResponse, ApiError> {
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self.gateway.fresh_topology().await;
        let topology = topology.map_err(|error| of_operation(&error))?;
        let vhost = request.vhost.as_deref().map(vhost_name).transpose()?;
        let all = topology.topic_permissions();
        let all = all.filter_map(|it| topic_to_client(&topology, it));
        let mut all: Vec<(String, admin_v1::TopicPermission)> = all
            .filter(|it| request.user.is_empty() || it.user == request.user)
            .filter(|it| vhost.as_ref().is_none_or(|only| only.as_str() == it.vhost))
            .map(|it| (format!("{}\0{}\0{}", it.user, it.vhost, it.exchange), it))
            .collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let rest = all.into_iter();
        let rest = rest.filter(|(order, _)| page.after().is_none_or(|it| order.as_str() > it));
        let (found, next_page_token) = page.take(rest, |(order, _)| order.clone());
        Ok(admin_v1::ListTopicPermissionsResponse {
            permissions: found.into_iter().map(|(_, it)| it).collect(),
            next_page_token,
        })
    }

    pub(super) async fn delete_topic_permission_here(
        &self,
        request: admin_v1::DeleteTopicPermissionRequest,
    ) -> Result<admin_v1::DeleteTopicPermissionResponse, ApiError> {
        let exchange = request.exchange.as_deref().map(exchange_name);
        let command = ClearTopicPermission {
            user: user_name(&request.user)?,
            vhost: vhost_name(&request.vhost)?,
            exchange: exchange.transpose()?,
        };
        self.change(command).await?;
        Ok(admin_v1::DeleteTopicPermissionResponse {})
    }
}

fn exchange_name(name: &str) -> Result<ExchangeName, ApiError> {
    ExchangeName::try_from(name).map_err(|error| of_name("exchange", &error))
}

fn checked(field: &str, pattern: Result<(), PatternError>) -> Result<(), ApiError> {
    pattern.map_err(|error| bad_argument(field, error.to_string()))
}

/// `None`: its vhost has gone meanwhile.
pub(super) fn permission_to_client(
    topology: &Topology,
    it: &Permission,
) -> Option<admin_v1::Permission> {
    Some(admin_v1::Permission {
        user: it.user.to_string(),
        vhost: topology.vhost_by_id(it.vhost)?.name.to_string(),
        configure: it.configure.as_str().to_owned(),
        write: it.write.as_str().to_owned(),
        read: it.read.as_str().to_owned(),
    })
}

fn topic_to_client(topology: &Topology, it: &TopicPermission) -> Option<admin_v1::TopicPermission> {
    Some(admin_v1::TopicPermission {
        user: it.user.to_string(),
        vhost: topology.vhost_by_id(it.vhost)?.name.to_string(),
        exchange: it.exchange.to_string(),
        write: it.write.as_str().to_owned(),
        read: it.read.as_str().to_owned(),
    })
}
