//! Why somebody may not do something. Not here: the codes of the fronts (`gateway`).

use thiserror::Error;
use warren_types::UserName;

use super::{ResourceKind, Right};
use crate::user::UserTag;

/// AMQP 0-9-1: 403 ACCESS_REFUSED; when a vhost is opened, 530 NOT_ALLOWED.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Denied {
    /// The user was deleted since it logged in: its sessions end.
    #[error("user '{user}' does not exist any more")]
    UserGone { user: UserName },
    #[error("access to vhost '{vhost}' refused for user '{user}'")]
    Vhost { user: UserName, vhost: Box<str> },
    #[error("{}access to {kind} '{name}' in vhost '{vhost}' refused for user '{user}'", word(*.right))]
    Name {
        user: UserName,
        /// `None`: any would have done.
        right: Option<Right>,
        kind: ResourceKind,
        name: Box<str>,
        vhost: Box<str>,
    },
    #[error(
        "{right} access to topic '{routing_key}' in exchange '{exchange}' refused for user '{user}'"
    )]
    RoutingKey {
        user: UserName,
        right: Right,
        exchange: Box<str>,
        routing_key: Box<str>,
    },
    #[error("user '{user}' is no {tag}")]
    Tag { user: UserName, tag: UserTag },
    /// AMQP 0-9-1: 406.
    #[error("user_id property set to '{user_id}' but authenticated user was '{user}'")]
    OtherUser { user: UserName, user_id: Box<str> },
}

fn word(right: Option<Right>) -> String {
    right.map_or_else(String::new, |it| format!("{it} "))
}
