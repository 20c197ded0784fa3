//! Users and their permissions. Not here: vhosts.

use std::fmt;

use warren_proto::admin_v1;

use super::{PAGE_SIZE, present, request_id, vhost_or_default};
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// A user, without its password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub tags: Vec<String>,
    pub has_password: bool,
    pub max_connections: Option<u32>,
    pub max_channels: Option<u32>,
}

/// What is to be different about a user; `None` = as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub tags: Option<Vec<String>>,
    /// Empty = no login by password any more.
    pub password: Option<String>,
}

/// Never with the password.
impl fmt::Debug for UserChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        write!(f, "UserChange({:?}, {password:?})", self.tags)
    }
}

/// What a user may do in a vhost: patterns over names; empty = nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permission {
    pub user: String,
    /// Empty = "/".
    pub vhost: String,
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// What routing keys a user may use on a topic exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicPermission {
    pub user: String,
    /// Empty = "/".
    pub vhost: String,
    pub exchange: String,
    pub write: String,
    pub read: String,
}

/// Who the server takes this connection for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhoAmI {
    pub user: User,
    pub permissions: Vec<Permission>,
}

impl Connection {
    /// Creates a user. An empty password = no login by password.
    ///
    /// # Errors
    /// `INEQUIVALENT_ARGUMENT` if there is one; `ACCESS_REFUSED`; no node answers in time.
    pub async fn create_user(
        &self,
        name: &str,
        tags: Vec<String>,
        password: String,
    ) -> Result<User, Error> {
        let request = admin_v1::CreateUserRequest {
            user: Some(admin_v1::User {
                name: name.to_owned(),
                tags,
                ..admin_v1::User::default()
            }),
            password,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.users().create_user(request).await }
        };
        let response = self.call("creating a user", call).await?;
        Ok(plain_user(present("creating a user", response.user)?))
    }

    /// # Errors
    /// `USER_NOT_FOUND`; `ACCESS_REFUSED`; no node answers in time.
    pub async fn update_user(&self, name: &str, change: UserChange) -> Result<User, Error> {
        let tags = change.tags.is_some().then(|| "tags".to_owned());
        let password = change.password.is_some().then(|| "password".to_owned());
        let request = admin_v1::UpdateUserRequest {
            user: Some(admin_v1::User {
                name: name.to_owned(),
                tags: change.tags.unwrap_or_default(),
                ..admin_v1::User::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: tags.into_iter().chain(password).collect(),
            }),
            password: change.password.unwrap_or_default(),
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.users().update_user(request).await }
        };
        let response = self.call("changing a user", call).await?;
        Ok(plain_user(present("changing a user", response.user)?))
    }

    /// # Errors
    /// `ACCESS_REFUSED`; no node answers in time.
    pub async fn users(&self) -> Result<Vec<User>, Error> {
        let request = admin_v1::ListUsersRequest {
            page_size: PAGE_SIZE,
            page_token: String::new(),
        };
        let call = |attempt: Attempt, page_token: String| {
            let request = attempt.request(admin_v1::ListUsersRequest {
                page_token,
                ..request.clone()
            });
            async move { attempt.users().list_users(request).await }
        };
        let mut list = Vec::new();
        let take = |page: admin_v1::ListUsersResponse| {
            list.extend(page.users.into_iter().map(plain_user));
            Ok(page.next_page_token)
        };
        self.pages("listing users", call, take).await?;
        Ok(list)
    }

    /// With its permissions; its connections are closed. One that does not exist is a success.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`; no node answers in time.
    pub async fn delete_user(&self, name: &str) -> Result<(), Error> {
        let request = admin_v1::DeleteUserRequest {
            name: name.to_owned(),
            etag: String::new(),
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.users().delete_user(request).await }
        };
        self.call("deleting a user", call).await.map(|_| ())
    }

    /// Replaces the permission of this user and vhost.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` for a pattern that is none; `USER_NOT_FOUND`, `VHOST_NOT_FOUND`; `ACCESS_REFUSED`; no node answers in time.
    pub async fn set_permission(&self, permission: &Permission) -> Result<(), Error> {
        let request = admin_v1::SetPermissionRequest {
            permission: Some(admin_v1::Permission {
                user: permission.user.clone(),
                vhost: permission.vhost.clone(),
                configure: permission.configure.clone(),
                write: permission.write.clone(),
                read: permission.read.clone(),
            }),
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.users().set_permission(request).await }
        };
        self.call("setting a permission", call).await.map(|_| ())
    }

    /// Takes a user's access to a vhost away. A missing one is a success.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`; no node answers in time.
    pub async fn clear_permission(&self, user: &str, vhost: &str) -> Result<(), Error> {
        let request = admin_v1::DeletePermissionRequest {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.users().delete_permission(request).await }
        };
        self.call("clearing a permission", call).await.map(|_| ())
    }

    /// Every permission; of one user if it is named.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`; no node answers in time.
    pub async fn permissions(&self, user: Option<&str>) -> Result<Vec<Permission>, Error> {
        let request = admin_v1::ListPermissionsRequest {
            user: user.unwrap_or_default().to_owned(),
            vhost: None,
            page_size: PAGE_SIZE,
            page_token: String::new(),
        };
        let call = |attempt: Attempt, page_token: String| {
            let request = attempt.request(admin_v1::ListPermissionsRequest {
                page_token,
                ..request.clone()
            });
            async move { attempt.users().list_permissions(request).await }
        };
        let mut list = Vec::new();
        let take = |page: admin_v1::ListPermissionsResponse| {
            list.extend(page.permissions.into_iter().map(plain_permission));
            Ok(page.next_page_token)
        };
        self.pages("listing permissions", call, take).await?;
        Ok(list)
    }

    /// Replaces the topic permission of this user, vhost and exchange.
    ///
    /// # Errors
    /// As [`Connection::set_permission`].
    pub async fn set_topic_permission(&self, permission: &TopicPermission) -> Result<(), Error> {
        let request = admin_v1::SetTopicPermissionRequest {
            permission: Some(admin_v1::TopicPermission {
                user: permission.user.clone(),
                vhost: permission.vhost.clone(),
                exchange: permission.exchange.clone(),
                write: permission.write.clone(),
                read: permission.read.clone(),
            }),
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.users().set_topic_permission(request).await }
        };
        let set = self.call("setting a topic permission", call).await;
        set.map(|_| ())
    }

    /// # Errors
    /// `BAD_CREDENTIALS`; no node answers in time.
    pub async fn who_am_i(&self) -> Result<WhoAmI, Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(admin_v1::WhoAmIRequest {});
            async move { attempt.users().who_am_i(request).await }
        };
        let response = self.call("asking who this is", call).await?;
        let permissions = response.permissions.into_iter();
        Ok(WhoAmI {
            user: plain_user(present("asking who this is", response.user)?),
            permissions: permissions.map(plain_permission).collect(),
        })
    }
}

fn plain_user(it: admin_v1::User) -> User {
    User {
        name: it.name,
        tags: it.tags,
        has_password: it.has_password,
        max_connections: it.max_connections,
        max_channels: it.max_channels,
    }
}

fn plain_permission(it: admin_v1::Permission) -> Permission {
    Permission {
        user: it.user,
        vhost: vhost_or_default(it.vhost),
        configure: it.configure,
        write: it.write,
        read: it.read,
    }
}
