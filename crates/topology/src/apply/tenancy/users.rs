//! `CreateUser`, `UpdateUser`, `DeleteUser` (features E3). Not here: hashing passwords (`gateway`), sessions of a user that is gone.

use std::sync::Arc;

use warren_types::{ExchangeName, UserName, VhostId};

use super::{USERS_MAX, done, fits, invalid, room};
use crate::{
    command::{CreateUser, DeleteUser, PasswordChange, UpdateUser},
    reply::{Declared, ObjectKind, Refusal, TopologyReply},
    topology::Topology,
    user::{PasswordHash, User, UserTag},
};

pub(super) fn create(
    topology: &mut Topology,
    command: CreateUser,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    check(&command.name, &command.tags, command.password.as_ref())?;
    let tags = sorted(command.tags);
    if let Some(user) = topology.tenants.users.get(&command.name) {
        let equal =
            user.tags == tags && user.password == command.password && user.limits == command.limits;
        return if equal {
            Ok(TopologyReply::UserCreated(Declared::Existed))
        } else {
            Err(Refusal::UserExists { user: command.name })
        };
    }
    room(ObjectKind::User, topology.user_count(), USERS_MAX)?;
    let user = User {
        name: command.name.clone(),
        tags,
        password: command.password,
        limits: command.limits,
        created_at: topology.index,
        changed_at: topology.index,
    };
    topology
        .tenants
        .users
        .insert_mut(command.name, Arc::new(user));
    topology.access_changed();
    Ok(TopologyReply::UserCreated(Declared::Created))
}

pub(super) fn update(
    topology: &mut Topology,
    command: UpdateUser,
) -> Result<TopologyReply, Refusal> {
    let Some(current) = topology.tenants.users.get(&command.name) else {
        return Err(Refusal::NoSuchUser { user: command.name });
    };
    let mut user = User::clone(current);
    match command.password {
        PasswordChange::Keep => {}
        PasswordChange::Remove => user.password = None,
        PasswordChange::Set(new) => user.password = Some(new),
        // Somebody set another one meanwhile: that one holds.
        PasswordChange::Rehash { old, new } if user.password.as_ref() == Some(&old) => {
            user.password = Some(new);
        }
        PasswordChange::Rehash { .. } => {}
    }
    user.tags = command.tags.map_or(user.tags, sorted);
    user.limits = command.limits.unwrap_or(user.limits);
    check(&command.name, &user.tags, user.password.as_ref())?;
    if user == **current {
        return done(false);
    }
    user.changed_at = topology.index;
    topology
        .tenants
        .users
        .insert_mut(command.name, Arc::new(user));
    topology.access_changed();
    done(true)
}

pub(super) fn delete(
    topology: &mut Topology,
    command: DeleteUser,
) -> Result<TopologyReply, Refusal> {
    if !topology.tenants.users.remove_mut(&command.name) {
        return done(false);
    }
    let vhosts: Vec<VhostId> = topology
        .permissions_of(&command.name)
        .map(|it| it.vhost)
        .collect();
    for vhost in vhosts {
        let key = (command.name.clone(), vhost);
        topology.tenants.permissions.remove_mut(&key);
    }
    let topics = topology.tenants.topic_permissions.keys();
    let topics: Vec<(UserName, VhostId, ExchangeName)> = topics
        .filter(|key| key.0 == command.name)
        .cloned()
        .collect();
    for key in topics {
        topology.tenants.topic_permissions.remove_mut(&key);
    }
    topology.access_changed();
    done(true)
}

fn check(
    name: &UserName,
    tags: &[UserTag],
    password: Option<&PasswordHash>,
) -> Result<(), Refusal> {
    let (object, name) = (ObjectKind::User, name.as_str());
    if tags.len() > User::TAGS_MAX {
        return Err(invalid(object, name, "tags", "there are too many"));
    }
    for tag in tags {
        fits(object, name, "tags", tag.name(), UserTag::BYTES_MAX)?;
    }
    if password.is_some_and(|it| it.bytes.len() > PasswordHash::BYTES_MAX) {
        return Err(invalid(object, name, "password", "its hash is too long"));
    }
    Ok(())
}

/// Each tag once, in one order: what a client lists twice or otherwise is the same.
fn sorted(mut tags: Vec<UserTag>) -> Vec<UserTag> {
    tags.sort();
    tags.dedup();
    tags
}
