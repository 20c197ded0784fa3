//! Commands about vhosts, users, permissions and parameters; and several commands in one entry. Not here: what they do (`apply::tenancy`).
//!
//! They name vhosts by name: what is created in an entry can be used in the same entry.

use warren_types::{ClusterVersion, ExchangeName, UserName, VhostName};

use super::TopologyCommand;
use crate::{
    user::{PasswordHash, UserLimits, UserTag},
    vhost::{VhostLimits, VhostSettings},
};

/// Stored for ever, like every command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenancyCommand {
    CreateVhost(CreateVhost),
    UpdateVhost(UpdateVhost),
    DeleteVhost(DeleteVhost),
    SetVhostLimits(SetVhostLimits),
    CreateUser(CreateUser),
    UpdateUser(UpdateUser),
    DeleteUser(DeleteUser),
    SetPermission(SetPermission),
    ClearPermission(ClearPermission),
    SetTopicPermission(SetTopicPermission),
    ClearTopicPermission(ClearTopicPermission),
    SetParameter(SetParameter),
    ClearParameter(ClearParameter),
}

impl TenancyCommand {
    pub(super) fn since(&self) -> ClusterVersion {
        match self {
            Self::CreateVhost(_)
            | Self::UpdateVhost(_)
            | Self::DeleteVhost(_)
            | Self::SetVhostLimits(_)
            | Self::CreateUser(_)
            | Self::UpdateUser(_)
            | Self::DeleteUser(_)
            | Self::SetPermission(_)
            | Self::ClearPermission(_)
            | Self::SetTopicPermission(_)
            | Self::ClearTopicPermission(_)
            | Self::SetParameter(_)
            | Self::ClearParameter(_) => ClusterVersion::FIRST,
        }
    }
}

macro_rules! is_command {
    ($($name:ident),*) => {
        $(impl From<$name> for TopologyCommand {
            fn from(it: $name) -> Self {
                Self::Tenancy(TenancyCommand::$name(it))
            }
        })*
    };
}

is_command!(
    CreateVhost,
    UpdateVhost,
    DeleteVhost,
    SetVhostLimits,
    CreateUser,
    UpdateUser,
    DeleteUser,
    SetPermission,
    ClearPermission,
    SetTopicPermission,
    ClearTopicPermission,
    SetParameter,
    ClearParameter
);

/// With its predeclared exchanges. One that is there stays as it is: its settings are changed by [`UpdateVhost`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVhost {
    pub name: VhostName,
    pub settings: VhostSettings,
}

/// All settings are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateVhost {
    pub name: VhostName,
    pub settings: VhostSettings,
}

/// With everything in it: exchanges, queues, permissions, parameters. A missing one is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteVhost {
    pub name: VhostName,
}

/// All limits are replaced. What is above a new limit already stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetVhostLimits {
    pub name: VhostName,
    pub limits: VhostLimits,
}

/// One that is there and equal is a success, one that differs a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateUser {
    pub name: UserName,
    pub tags: Vec<UserTag>,
    pub password: Option<PasswordHash>,
    pub limits: UserLimits,
}

/// Changes what is named, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateUser {
    pub name: UserName,
    pub tags: Option<Vec<UserTag>>,
    pub password: PasswordChange,
    pub limits: Option<UserLimits>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordChange {
    Keep,
    /// No login by password any more.
    Remove,
    Set(PasswordHash),
    /// The same password, hashed anew: only if the hash is still the old one.
    Rehash {
        old: PasswordHash,
        new: PasswordHash,
    },
}

/// With its permissions. A missing one is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteUser {
    pub name: UserName,
}

/// Replaces the one of this user and vhost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPermission {
    pub user: UserName,
    pub vhost: VhostName,
    pub configure: Box<str>,
    pub write: Box<str>,
    pub read: Box<str>,
}

/// A missing one, or a missing user or vhost, is a success. The topic permissions stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearPermission {
    pub user: UserName,
    pub vhost: VhostName,
}

/// Replaces the one of this user, vhost and exchange. The exchange need not be there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetTopicPermission {
    pub user: UserName,
    pub vhost: VhostName,
    pub exchange: ExchangeName,
    pub write: Box<str>,
    pub read: Box<str>,
}

/// A missing one, or a missing user or vhost, is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearTopicPermission {
    pub user: UserName,
    pub vhost: VhostName,
    /// `None`: of every exchange.
    pub exchange: Option<ExchangeName>,
}

/// Replaces the one of this vhost, component and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetParameter {
    /// `None`: a global one.
    pub vhost: Option<VhostName>,
    /// Empty in a global one.
    pub component: Box<str>,
    pub name: Box<str>,
    /// JSON text.
    pub value: Box<str>,
}

/// A missing one is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearParameter {
    pub vhost: Option<VhostName>,
    pub component: Box<str>,
    pub name: Box<str>,
}

/// Several commands in one entry, done one after the other; each has its own reply, and one that is refused does not stop the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// At most [`Batch::COMMANDS_MAX`]; none of them a batch, nor one that forms the cluster.
    pub commands: Vec<TopologyCommand>,
}

impl Batch {
    pub const COMMANDS_MAX: usize = 1_000;
}
