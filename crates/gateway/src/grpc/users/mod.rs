//! `warren.admin.v1.UserService`: each call goes to the file of its object. Not here: the rules (`warren-topology`), logging in (`auth`).

mod accounts;
mod permissions;

use tonic::{Request, Response, Status};
use warren_proto::admin_v1;
use warren_proto::admin_v1::user_service_server::UserService;
use warren_proto::convert::error::ApiError;
use warren_topology::{Operation, TopologyCommand};
use warren_types::UserName;

use super::error::{of_name, of_operation};
use super::login::caller;
use super::permit::permitted_to;
use crate::gateway::Gateway;

const CHANGE: Operation<'_> = Operation::ChangeUsers;
const VIEW: Operation<'_> = Operation::ViewUsers;

pub(super) struct UserAdmin {
    gateway: Gateway,
}

impl UserAdmin {
    pub(super) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }

    async fn change(&self, command: impl Into<TopologyCommand>) -> Result<(), ApiError> {
        let changed = self.gateway.change(command.into(), "").await;
        changed.map(|_| ()).map_err(|error| of_operation(&error))
    }
}

fn user_name(name: &str) -> Result<UserName, ApiError> {
    UserName::try_from(name).map_err(|error| of_name("user", &error))
}

fn answer<T>(result: Result<T, ApiError>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(Status::from)
}

#[tonic::async_trait]
impl UserService for UserAdmin {
    async fn create_user(
        &self,
        request: Request<admin_v1::CreateUserRequest>,
    ) -> Result<Response<admin_v1::CreateUserResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, CHANGE).await?;
        answer(self.create_user_here(request).await)
    }

    async fn get_user(
        &self,
        request: Request<admin_v1::GetUserRequest>,
    ) -> Result<Response<admin_v1::GetUserResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, VIEW).await?;
        answer(self.get_user_here(request).await)
    }

    async fn list_users(
        &self,
        request: Request<admin_v1::ListUsersRequest>,
    ) -> Result<Response<admin_v1::ListUsersResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, VIEW).await?;
        answer(self.list_users_here(request).await)
    }

    async fn update_user(
        &self,
        request: Request<admin_v1::UpdateUserRequest>,
    ) -> Result<Response<admin_v1::UpdateUserResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, CHANGE).await?;
        answer(self.update_user_here(request).await)
    }

    async fn delete_user(
        &self,
        request: Request<admin_v1::DeleteUserRequest>,
    ) -> Result<Response<admin_v1::DeleteUserResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, CHANGE).await?;
        answer(self.delete_user_here(request).await)
    }

    async fn set_permission(
        &self,
        request: Request<admin_v1::SetPermissionRequest>,
    ) -> Result<Response<admin_v1::SetPermissionResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, CHANGE).await?;
        answer(self.set_permission_here(request).await)
    }

    async fn list_permissions(
        &self,
        request: Request<admin_v1::ListPermissionsRequest>,
    ) -> Result<Response<admin_v1::ListPermissionsResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, VIEW).await?;
        answer(self.list_permissions_here(request).await)
    }

    async fn delete_permission(
        &self,
        request: Request<admin_v1::DeletePermissionRequest>,
    ) -> Result<Response<admin_v1::DeletePermissionResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, CHANGE).await?;
        answer(self.delete_permission_here(request).await)
    }

    async fn set_topic_permission(
        &self,
        request: Request<admin_v1::SetTopicPermissionRequest>,
    ) -> Result<Response<admin_v1::SetTopicPermissionResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, CHANGE).await?;
        answer(self.set_topic_permission_here(request).await)
    }

    async fn list_topic_permissions(
        &self,
        request: Request<admin_v1::ListTopicPermissionsRequest>,
    ) -> Result<Response<admin_v1::ListTopicPermissionsResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, VIEW).await?;
        answer(self.list_topic_permissions_here(request).await)
    }

    async fn delete_topic_permission(
        &self,
        request: Request<admin_v1::DeleteTopicPermissionRequest>,
    ) -> Result<Response<admin_v1::DeleteTopicPermissionResponse>, Status> {
        let (_, request) = permitted_to(&self.gateway, request, CHANGE).await?;
        answer(self.delete_topic_permission_here(request).await)
    }

    /// Whoever it is may ask.
    async fn who_am_i(
        &self,
        request: Request<admin_v1::WhoAmIRequest>,
    ) -> Result<Response<admin_v1::WhoAmIResponse>, Status> {
        let who = caller(request.extensions())?;
        answer(Ok(self.who_am_i_here(&who)))
    }
}
