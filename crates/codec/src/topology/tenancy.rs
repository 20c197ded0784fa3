//! Vhosts, users, permissions and parameters: commands and stored objects. Not here: what the commands do (`warren-topology`).

use bytes::Bytes;
use warren_proto::stored_v1 as pb;
use warren_proto::stored_v1::tenancy_command::Kind;
use warren_topology::{
    ClearParameter, ClearPermission, ClearTopicPermission, CreateUser, CreateVhost, DeleteUser,
    DeleteVhost, Parameter, ParameterKey, PasswordChange, PasswordHash, PasswordScheme, Pattern,
    Permission, QueueType, SetParameter, SetPermission, SetTopicPermission, SetVhostLimits,
    TenancyCommand, TopicPattern, TopicPermission, UpdateUser, UpdateVhost, User, UserLimits,
    UserTag, Vhost, VhostLimits, VhostSettings,
};
use warren_types::{ExchangeName, TopologyIndex, UserName, VhostId, VhostName};

use super::command::there;
use crate::error::{CodecError, malformed};

const WHAT: &str = "tenancy command";

pub(super) fn encode(command: &TenancyCommand) -> pb::TenancyCommand {
    let kind = match command {
        TenancyCommand::CreateVhost(it) => Kind::CreateVhost(pb::CreateVhost {
            vhost: Some(named_vhost(&it.name, &it.settings)),
        }),
        TenancyCommand::UpdateVhost(it) => Kind::UpdateVhost(pb::UpdateVhost {
            vhost: Some(named_vhost(&it.name, &it.settings)),
        }),
        TenancyCommand::DeleteVhost(it) => Kind::DeleteVhost(pb::DeleteVhost {
            name: it.name.as_str().into(),
        }),
        TenancyCommand::SetVhostLimits(it) => Kind::SetVhostLimits(pb::SetVhostLimits {
            name: it.name.as_str().into(),
            limits: Some(vhost_limits(it.limits)),
        }),
        TenancyCommand::CreateUser(it) => Kind::CreateUser(pb::CreateUser {
            user: Some(pb::StoredUser {
                name: it.name.as_str().into(),
                tags: tags(&it.tags),
                password: it.password.as_ref().map(password),
                limits: Some(user_limits(it.limits)),
                ..pb::StoredUser::default()
            }),
        }),
        TenancyCommand::UpdateUser(it) => Kind::UpdateUser(update_user(it)),
        TenancyCommand::DeleteUser(it) => Kind::DeleteUser(pb::DeleteUser {
            name: it.name.as_str().into(),
        }),
        TenancyCommand::SetPermission(it) => Kind::SetPermission(set_permission(it)),
        TenancyCommand::ClearPermission(it) => Kind::ClearPermission(pb::ClearPermission {
            vhost: it.vhost.as_str().into(),
            user: it.user.as_str().into(),
        }),
        TenancyCommand::SetTopicPermission(it) => {
            Kind::SetTopicPermission(set_topic_permission(it))
        }
        TenancyCommand::ClearTopicPermission(it) => {
            Kind::ClearTopicPermission(pb::ClearTopicPermission {
                vhost: it.vhost.as_str().into(),
                user: it.user.as_str().into(),
                exchange: it.exchange.as_ref().map(|it| it.as_str().into()),
            })
        }
        TenancyCommand::SetParameter(it) => Kind::SetParameter(pb::SetParameter {
            vhost: it.vhost.as_ref().map(|it| it.as_str().into()),
            parameter: Some(pb::StoredParameter {
                vhost: 0,
                component: it.component.to_string(),
                name: it.name.to_string(),
                value: it.value.to_string(),
            }),
        }),
        TenancyCommand::ClearParameter(it) => Kind::ClearParameter(pb::ClearParameter {
            vhost: it.vhost.as_ref().map(|it| it.as_str().into()),
            component: it.component.to_string(),
            name: it.name.to_string(),
        }),
    };
    pb::TenancyCommand { kind: Some(kind) }
}

pub(super) fn decode(command: pb::TenancyCommand) -> Result<TenancyCommand, CodecError> {
    let vhost = |name: &str| VhostName::try_from(name);
    let user = |name: &str| UserName::try_from(name);
    Ok(match there(command.kind)? {
        Kind::CreateVhost(it) => {
            let (name, settings) = decode_named(there(it.vhost)?)?;
            TenancyCommand::CreateVhost(CreateVhost { name, settings })
        }
        Kind::UpdateVhost(it) => {
            let (name, settings) = decode_named(there(it.vhost)?)?;
            TenancyCommand::UpdateVhost(UpdateVhost { name, settings })
        }
        Kind::DeleteVhost(it) => TenancyCommand::DeleteVhost(DeleteVhost {
            name: vhost(&it.name)?,
        }),
        Kind::SetVhostLimits(it) => TenancyCommand::SetVhostLimits(SetVhostLimits {
            name: vhost(&it.name)?,
            limits: decode_vhost_limits(it.limits.unwrap_or_default()),
        }),
        Kind::CreateUser(it) => {
            let it = decode_user(there(it.user)?)?;
            TenancyCommand::CreateUser(CreateUser {
                name: it.name,
                tags: it.tags,
                password: it.password,
                limits: it.limits,
            })
        }
        Kind::UpdateUser(it) => TenancyCommand::UpdateUser(decode_update_user(it)?),
        Kind::DeleteUser(it) => TenancyCommand::DeleteUser(DeleteUser {
            name: user(&it.name)?,
        }),
        Kind::SetPermission(it) => TenancyCommand::SetPermission(decode_set_permission(it)?),
        Kind::ClearPermission(it) => TenancyCommand::ClearPermission(ClearPermission {
            user: user(&it.user)?,
            vhost: vhost(&it.vhost)?,
        }),
        Kind::SetTopicPermission(it) => TenancyCommand::SetTopicPermission(decode_set_topic(it)?),
        Kind::ClearTopicPermission(it) => {
            let exchange = it.exchange.as_deref().map(ExchangeName::try_from);
            TenancyCommand::ClearTopicPermission(ClearTopicPermission {
                user: user(&it.user)?,
                vhost: vhost(&it.vhost)?,
                exchange: exchange.transpose()?,
            })
        }
        Kind::SetParameter(it) => {
            let parameter = there(it.parameter)?;
            TenancyCommand::SetParameter(SetParameter {
                vhost: it.vhost.as_deref().map(vhost).transpose()?,
                component: parameter.component.into(),
                name: parameter.name.into(),
                value: parameter.value.into(),
            })
        }
        Kind::ClearParameter(it) => TenancyCommand::ClearParameter(ClearParameter {
            vhost: it.vhost.as_deref().map(vhost).transpose()?,
            component: it.component.into(),
            name: it.name.into(),
        }),
    })
}

fn named_vhost(name: &VhostName, settings: &VhostSettings) -> pb::StoredVhost {
    pb::StoredVhost {
        name: name.as_str().into(),
        description: settings.description.to_string(),
        default_queue_type: settings
            .default_queue_type
            .map_or_else(String::new, |it| it.name().into()),
        relaxed_queue_type: settings.relaxed_queue_type,
        ignores_delays: settings.ignores_delays,
        live_prefetch: settings.live_prefetch,
        tags: settings.tags.iter().map(ToString::to_string).collect(),
        is_protected: settings.is_protected,
        ..pb::StoredVhost::default()
    }
}

fn decode_named(it: pb::StoredVhost) -> Result<(VhostName, VhostSettings), CodecError> {
    let vhost = decode_vhost(it)?;
    Ok((vhost.name, vhost.settings))
}

pub(super) fn vhost(it: &Vhost) -> pb::StoredVhost {
    pb::StoredVhost {
        vhost: it.id.0,
        limits: Some(vhost_limits(it.limits)),
        created_index: it.created_at.0,
        ..named_vhost(&it.name, &it.settings)
    }
}

pub(super) fn decode_vhost(it: pb::StoredVhost) -> Result<Vhost, CodecError> {
    let declared = it.default_queue_type;
    let mut known = QueueType::ALL.into_iter();
    let default_queue_type = if declared.is_empty() {
        None
    } else {
        let found = known.find(|it| it.name() == declared);
        Some(found.ok_or_else(|| malformed("vhost", "its queue type is not known to this node"))?)
    };
    Ok(Vhost {
        id: VhostId(it.vhost),
        name: VhostName::try_from(it.name.as_str())?,
        settings: VhostSettings {
            description: it.description.into(),
            tags: it.tags.into_iter().map(Into::into).collect(),
            default_queue_type,
            relaxed_queue_type: it.relaxed_queue_type,
            ignores_delays: it.ignores_delays,
            live_prefetch: it.live_prefetch,
            is_protected: it.is_protected,
        },
        limits: decode_vhost_limits(it.limits.unwrap_or_default()),
        created_at: TopologyIndex(it.created_index),
    })
}

fn vhost_limits(it: VhostLimits) -> pb::StoredVhostLimits {
    pb::StoredVhostLimits {
        connections: it.connections,
        queues: it.queues,
        exchanges: it.exchanges,
        publishes_per_second: it.publishes_per_second,
        bytes: it.bytes,
    }
}

fn decode_vhost_limits(it: pb::StoredVhostLimits) -> VhostLimits {
    VhostLimits {
        connections: it.connections,
        queues: it.queues,
        exchanges: it.exchanges,
        publishes_per_second: it.publishes_per_second,
        bytes: it.bytes,
    }
}

fn tags(tags: &[UserTag]) -> Vec<String> {
    tags.iter().map(ToString::to_string).collect()
}

fn decode_tags(tags: &[String]) -> Vec<UserTag> {
    tags.iter().map(|it| UserTag::from(it.as_str())).collect()
}

fn password(it: &PasswordHash) -> pb::StoredPassword {
    let scheme = match it.scheme {
        PasswordScheme::Argon2id => pb::PasswordScheme::Argon2id,
        PasswordScheme::SaltedSha256 => pb::PasswordScheme::SaltedSha256,
        PasswordScheme::SaltedSha512 => pb::PasswordScheme::SaltedSha512,
    };
    pb::StoredPassword {
        scheme: scheme.into(),
        hash: Bytes::copy_from_slice(&it.bytes),
    }
}

/// `None`: it says that there is none.
fn decode_password(it: &pb::StoredPassword) -> Result<Option<PasswordHash>, CodecError> {
    let unknown = || CodecError::UnknownValue {
        what: "password scheme",
        number: i64::from(it.scheme),
    };
    let scheme = match pb::PasswordScheme::try_from(it.scheme).map_err(|_| unknown())? {
        pb::PasswordScheme::Unspecified => return Ok(None),
        pb::PasswordScheme::Argon2id => PasswordScheme::Argon2id,
        pb::PasswordScheme::SaltedSha256 => PasswordScheme::SaltedSha256,
        pb::PasswordScheme::SaltedSha512 => PasswordScheme::SaltedSha512,
    };
    Ok(Some(PasswordHash {
        scheme,
        bytes: it.hash[..].into(),
    }))
}

fn user_limits(it: UserLimits) -> pb::StoredUserLimits {
    pb::StoredUserLimits {
        connections: it.connections,
        channels: it.channels,
    }
}

fn decode_user_limits(it: pb::StoredUserLimits) -> UserLimits {
    UserLimits {
        connections: it.connections,
        channels: it.channels,
    }
}

pub(super) fn user(it: &User) -> pb::StoredUser {
    pb::StoredUser {
        name: it.name.as_str().into(),
        tags: tags(&it.tags),
        password: it.password.as_ref().map(password),
        limits: Some(user_limits(it.limits)),
        created_index: it.created_at.0,
        changed_index: it.changed_at.0,
    }
}

pub(super) fn decode_user(it: pb::StoredUser) -> Result<User, CodecError> {
    Ok(User {
        name: UserName::try_from(it.name.as_str())?,
        tags: decode_tags(&it.tags),
        password: match &it.password {
            Some(it) => decode_password(it)?,
            None => None,
        },
        limits: decode_user_limits(it.limits.unwrap_or_default()),
        created_at: TopologyIndex(it.created_index),
        changed_at: TopologyIndex(it.changed_index),
    })
}

fn update_user(it: &UpdateUser) -> pb::UpdateUser {
    let (new, old) = match &it.password {
        PasswordChange::Keep => (None, None),
        PasswordChange::Remove => (Some(pb::StoredPassword::default()), None),
        PasswordChange::Set(new) => (Some(password(new)), None),
        PasswordChange::Rehash { old, new } => (Some(password(new)), Some(password(old))),
    };
    pb::UpdateUser {
        name: it.name.as_str().into(),
        tags: it.tags.as_ref().map(|it| pb::StoredTags { tags: tags(it) }),
        limits: it.limits.map(user_limits),
        password: new,
        old_password: old,
    }
}

fn decode_update_user(it: pb::UpdateUser) -> Result<UpdateUser, CodecError> {
    let new = it.password.as_ref().map(decode_password).transpose()?;
    let old = it.old_password.as_ref().map(decode_password).transpose()?;
    let password = match (new, old) {
        (None, None) => PasswordChange::Keep,
        (Some(None), None) => PasswordChange::Remove,
        (Some(Some(new)), None) => PasswordChange::Set(new),
        (Some(Some(new)), Some(Some(old))) => PasswordChange::Rehash { old, new },
        (Some(None) | None, Some(_)) | (Some(Some(_)), Some(None)) => {
            return Err(malformed(WHAT, "a password is replaced by none"));
        }
    };
    Ok(UpdateUser {
        name: UserName::try_from(it.name.as_str())?,
        tags: it.tags.map(|it| decode_tags(&it.tags)),
        password,
        limits: it.limits.map(decode_user_limits),
    })
}

fn set_permission(it: &SetPermission) -> pb::SetPermission {
    pb::SetPermission {
        vhost: it.vhost.as_str().into(),
        permission: Some(pb::StoredPermission {
            user: it.user.as_str().into(),
            vhost: 0,
            configure: it.configure.to_string(),
            write: it.write.to_string(),
            read: it.read.to_string(),
        }),
    }
}

fn decode_set_permission(it: pb::SetPermission) -> Result<SetPermission, CodecError> {
    let permission = there(it.permission)?;
    Ok(SetPermission {
        user: UserName::try_from(permission.user.as_str())?,
        vhost: VhostName::try_from(it.vhost.as_str())?,
        configure: permission.configure.into(),
        write: permission.write.into(),
        read: permission.read.into(),
    })
}

fn set_topic_permission(it: &SetTopicPermission) -> pb::SetTopicPermission {
    pb::SetTopicPermission {
        vhost: it.vhost.as_str().into(),
        permission: Some(pb::StoredTopicPermission {
            user: it.user.as_str().into(),
            vhost: 0,
            exchange: it.exchange.as_str().into(),
            write: it.write.to_string(),
            read: it.read.to_string(),
        }),
    }
}

fn decode_set_topic(it: pb::SetTopicPermission) -> Result<SetTopicPermission, CodecError> {
    let permission = there(it.permission)?;
    Ok(SetTopicPermission {
        user: UserName::try_from(permission.user.as_str())?,
        vhost: VhostName::try_from(it.vhost.as_str())?,
        exchange: ExchangeName::try_from(permission.exchange.as_str())?,
        write: permission.write.into(),
        read: permission.read.into(),
    })
}

pub(super) fn permission(it: &Permission) -> pb::StoredPermission {
    pb::StoredPermission {
        user: it.user.as_str().into(),
        vhost: it.vhost.0,
        configure: it.configure.as_str().into(),
        write: it.write.as_str().into(),
        read: it.read.as_str().into(),
    }
}

pub(super) fn decode_permission(it: &pb::StoredPermission) -> Result<Permission, CodecError> {
    Ok(Permission {
        user: UserName::try_from(it.user.as_str())?,
        vhost: VhostId(it.vhost),
        configure: Pattern::new(&it.configure),
        write: Pattern::new(&it.write),
        read: Pattern::new(&it.read),
    })
}

pub(super) fn topic_permission(it: &TopicPermission) -> pb::StoredTopicPermission {
    pb::StoredTopicPermission {
        user: it.user.as_str().into(),
        vhost: it.vhost.0,
        exchange: it.exchange.as_str().into(),
        write: it.write.as_str().into(),
        read: it.read.as_str().into(),
    }
}

pub(super) fn decode_topic_permission(
    it: &pb::StoredTopicPermission,
) -> Result<TopicPermission, CodecError> {
    Ok(TopicPermission {
        user: UserName::try_from(it.user.as_str())?,
        vhost: VhostId(it.vhost),
        exchange: ExchangeName::try_from(it.exchange.as_str())?,
        write: TopicPattern::new(&it.write),
        read: TopicPattern::new(&it.read),
    })
}

pub(super) fn parameter(it: &Parameter) -> pb::StoredParameter {
    pb::StoredParameter {
        vhost: it.key.vhost.map_or(0, |it| it.0),
        component: it.key.component.to_string(),
        name: it.key.name.to_string(),
        value: it.value.to_string(),
    }
}

pub(super) fn decode_parameter(it: pb::StoredParameter) -> Parameter {
    Parameter {
        key: ParameterKey {
            vhost: (it.vhost != 0).then_some(VhostId(it.vhost)),
            component: it.component.into(),
            name: it.name.into(),
        },
        value: it.value.into(),
    }
}
