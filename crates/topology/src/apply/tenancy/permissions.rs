//! `SetPermission`, `ClearPermission`, `SetTopicPermission`, `ClearTopicPermission` (features E4, E6). Not here: what they allow (`access`).

use std::sync::Arc;

use warren_types::ExchangeName;

use super::{PERMISSIONS_MAX, done, fits, room};
use crate::{
    command::{ClearPermission, ClearTopicPermission, SetPermission, SetTopicPermission},
    pattern::Pattern,
    permission::{Permission, TopicPattern, TopicPermission},
    reply::{ObjectKind, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn set(
    topology: &mut Topology,
    command: SetPermission,
) -> Result<TopologyReply, Refusal> {
    let vhost = topology.vhost_named(&command.vhost)?;
    topology.has_user(&command.user)?;
    check(command.user.as_str(), "configure", &command.configure)?;
    check(command.user.as_str(), "write", &command.write)?;
    check(command.user.as_str(), "read", &command.read)?;
    let permission = Permission {
        user: command.user.clone(),
        vhost,
        configure: Pattern::new(&command.configure),
        write: Pattern::new(&command.write),
        read: Pattern::new(&command.read),
    };
    let key = (command.user, vhost);
    let permissions = &mut topology.tenants.permissions;
    match permissions.get(&key) {
        Some(current) if **current == permission => return done(false),
        Some(_) => {}
        None => room(ObjectKind::Permission, permissions.size(), PERMISSIONS_MAX)?,
    }
    permissions.insert_mut(key, Arc::new(permission));
    topology.access_changed();
    done(true)
}

pub(super) fn clear(
    topology: &mut Topology,
    command: &ClearPermission,
) -> Result<TopologyReply, Refusal> {
    let Ok(vhost) = topology.vhost_named(&command.vhost) else {
        return done(false);
    };
    let key = (command.user.clone(), vhost);
    let existed = topology.tenants.permissions.remove_mut(&key);
    if existed {
        topology.access_changed();
    }
    done(existed)
}

pub(super) fn set_topic(
    topology: &mut Topology,
    command: SetTopicPermission,
) -> Result<TopologyReply, Refusal> {
    let vhost = topology.vhost_named(&command.vhost)?;
    topology.has_user(&command.user)?;
    check(command.user.as_str(), "write", &command.write)?;
    check(command.user.as_str(), "read", &command.read)?;
    let permission = TopicPermission {
        user: command.user.clone(),
        vhost,
        exchange: command.exchange.clone(),
        write: TopicPattern::new(&command.write),
        read: TopicPattern::new(&command.read),
    };
    let key = (command.user, vhost, command.exchange);
    let permissions = &mut topology.tenants.topic_permissions;
    match permissions.get(&key) {
        Some(current) if **current == permission => return done(false),
        Some(_) => {}
        None => room(ObjectKind::Permission, permissions.size(), PERMISSIONS_MAX)?,
    }
    permissions.insert_mut(key, Arc::new(permission));
    topology.access_changed();
    done(true)
}

pub(super) fn clear_topic(
    topology: &mut Topology,
    command: &ClearTopicPermission,
) -> Result<TopologyReply, Refusal> {
    let Ok(vhost) = topology.vhost_named(&command.vhost) else {
        return done(false);
    };
    let exchanges: Vec<ExchangeName> = topology
        .topic_permissions_in(&command.user, vhost)
        .map(|it| it.exchange.clone())
        .filter(|it| command.exchange.as_ref().is_none_or(|only| only == it))
        .collect();
    let existed = !exchanges.is_empty();
    for exchange in exchanges {
        let key = (command.user.clone(), vhost, exchange);
        topology.tenants.topic_permissions.remove_mut(&key);
    }
    if existed {
        topology.access_changed();
    }
    done(existed)
}

/// Only its length: whether it compiles was seen before it was proposed, and one that does not matches nothing.
fn check(user: &str, argument: &str, pattern: &str) -> Result<(), Refusal> {
    let object = ObjectKind::Permission;
    fits(object, user, argument, pattern, Pattern::BYTES_MAX)
}
