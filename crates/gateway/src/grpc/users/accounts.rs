//! Users, their tags, passwords and limits. Not here: permissions.

use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_topology::{
    CreateUser, DeleteUser, PasswordChange, Principal, UpdateUser, User, UserLimits, UserTag,
};
use warren_types::UserName;

use super::permissions::permission_to_client;
use super::{UserAdmin, user_name};
use crate::auth::{Password, Who, new_hash};
use crate::grpc::error::{bad_argument, of_operation};
use crate::grpc::topology::{Page, check_etag};

/// Longer ones are refused: they are hashed by the server.
const PASSWORD_BYTES_MAX: usize = 1_024;

impl UserAdmin {
    pub(super) async fn create_user_here(
        &self,
        request: admin_v1::CreateUserRequest,
    ) -> Result<admin_v1::CreateUserResponse, ApiError> {
        let asked = request.user.unwrap_or_default();
        let name = user_name(&asked.name)?;
        let password = match self.hashed(request.password).await? {
            PasswordChange::Set(hash) => Some(hash),
            PasswordChange::Keep | PasswordChange::Remove | PasswordChange::Rehash { .. } => None,
        };
        let command = CreateUser {
            name: name.clone(),
            tags: tags(&asked.tags),
            password,
            limits: limits(&asked),
        };
        self.change(command).await?;
        let user = Some(self.known(&name)?);
        Ok(admin_v1::CreateUserResponse { user })
    }

    pub(super) async fn get_user_here(
        &self,
        request: admin_v1::GetUserRequest,
    ) -> Result<admin_v1::GetUserResponse, ApiError> {
        let name = user_name(&request.name)?;
        let topology = self.gateway.fresh_topology().await;
        topology.map_err(|error| of_operation(&error))?;
        let user = Some(self.known(&name)?);
        Ok(admin_v1::GetUserResponse { user })
    }

    pub(super) async fn list_users_here(
        &self,
        request: admin_v1::ListUsersRequest,
    ) -> Result<admin_v1::ListUsersResponse, ApiError> {
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self.gateway.fresh_topology().await;
        let topology = topology.map_err(|error| of_operation(&error))?;
        let all = topology.users_after(page.after());
        let (users, next_page_token) = page.take(all, |user| user.name.to_string());
        Ok(admin_v1::ListUsersResponse {
            users: users.into_iter().map(to_client).collect(),
            next_page_token,
        })
    }

    pub(super) async fn update_user_here(
        &self,
        request: admin_v1::UpdateUserRequest,
    ) -> Result<admin_v1::UpdateUserResponse, ApiError> {
        let asked = request.user.unwrap_or_default();
        let name = user_name(&asked.name)?;
        if !asked.etag.is_empty() {
            check_etag(&asked.etag, Some(&self.known(&name)?.etag))?;
        }
        let mut command = UpdateUser {
            name: name.clone(),
            tags: None,
            password: PasswordChange::Keep,
            limits: None,
        };
        let paths = request.update_mask.unwrap_or_default().paths;
        if paths.is_empty() {
            return Err(bad_argument("update_mask", "names nothing to change"));
        }
        let topology = self.gateway.topology();
        let current = topology.user(name.as_str()).map(|it| it.limits);
        for path in paths {
            let new = command.limits.or(current).unwrap_or_default();
            match path.as_str() {
                "tags" => command.tags = Some(tags(&asked.tags)),
                "password" => command.password = self.hashed(request.password.clone()).await?,
                "max_connections" => {
                    let connections = asked.max_connections;
                    command.limits = Some(UserLimits { connections, ..new });
                }
                "max_channels" => {
                    let channels = asked.max_channels;
                    command.limits = Some(UserLimits { channels, ..new });
                }
                other => {
                    let text = format!("'{other}' cannot be changed");
                    return Err(bad_argument("update_mask", text));
                }
            }
        }
        self.change(command).await?;
        let user = Some(self.known(&name)?);
        Ok(admin_v1::UpdateUserResponse { user })
    }

    pub(super) async fn delete_user_here(
        &self,
        request: admin_v1::DeleteUserRequest,
    ) -> Result<admin_v1::DeleteUserResponse, ApiError> {
        let name = user_name(&request.name)?;
        if !request.etag.is_empty() {
            check_etag(&request.etag, Some(&self.known(&name)?.etag))?;
        }
        self.change(DeleteUser { name }).await?;
        Ok(admin_v1::DeleteUserResponse {})
    }

    pub(super) fn who_am_i_here(&self, who: &Who) -> admin_v1::WhoAmIResponse {
        let topology = self.gateway.topology();
        let name = who.principal.name();
        let permissions = topology.permissions_of(name);
        let user = topology.user(name.as_str()).map(to_client);
        let local = match &who.principal {
            Principal::Local { .. } => UserTag::Administrator.to_string(),
            Principal::User { .. } => String::new(),
        };
        admin_v1::WhoAmIResponse {
            permissions: permissions
                .filter_map(|it| permission_to_client(&topology, it))
                .collect(),
            user: Some(user.unwrap_or_else(|| admin_v1::User {
                name: name.to_string(),
                tags: vec![local],
                ..admin_v1::User::default()
            })),
            credentials_expire_at: None,
        }
    }

    /// An empty password is none: no login by password.
    async fn hashed(&self, password: String) -> Result<PasswordChange, ApiError> {
        if password.is_empty() {
            return Ok(PasswordChange::Remove);
        }
        if password.len() > PASSWORD_BYTES_MAX {
            let text = format!("has more than {PASSWORD_BYTES_MAX} bytes");
            return Err(bad_argument("password", text));
        }
        let hash = new_hash(&self.gateway, Password::new(password)).await;
        let failed =
            |error: crate::auth::LoginError| ApiError::new(Reason::NotReady, error.to_string());
        Ok(PasswordChange::Set(hash.map_err(failed)?))
    }

    fn known(&self, name: &UserName) -> Result<admin_v1::User, ApiError> {
        let topology = self.gateway.topology();
        let user = topology.user(name.as_str()).map(to_client);
        user.ok_or_else(|| {
            ApiError::new(Reason::UserNotFound, format!("no user '{name}'"))
                .resource("user", name.as_str())
        })
    }
}

fn tags(tags: &[String]) -> Vec<UserTag> {
    tags.iter().map(|it| UserTag::from(it.as_str())).collect()
}

fn limits(asked: &admin_v1::User) -> UserLimits {
    UserLimits {
        connections: asked.max_connections,
        channels: asked.max_channels,
    }
}

/// Never a secret.
fn to_client(user: &User) -> admin_v1::User {
    admin_v1::User {
        name: user.name.to_string(),
        tags: user.tags.iter().map(ToString::to_string).collect(),
        max_connections: user.limits.connections,
        max_channels: user.limits.channels,
        has_password: user.password.is_some(),
        etag: format!("u{}-{}", user.created_at, user.changed_at),
        created_at: None,
    }
}
