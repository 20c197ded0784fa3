//! Users, permissions and parameters as part of the topology, and what can be asked of them. Not here: changes (`apply`), rules (`access`).

use std::{ops::Bound, sync::Arc};

use warren_types::{ExchangeName, TopologyIndex, UserName, VhostId};

use crate::{
    maps::OrdMap,
    parameter::{Parameter, ParameterKey},
    permission::{Permission, TopicPermission},
    topology::Topology,
    user::User,
};

/// Who there is beside the cluster itself.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    pub(crate) users: OrdMap<UserName, Arc<User>>,
    pub(crate) permissions: OrdMap<(UserName, VhostId), Arc<Permission>>,
    pub(crate) topic_permissions: OrdMap<(UserName, VhostId, ExchangeName), Arc<TopicPermission>>,
    pub(crate) parameters: OrdMap<ParameterKey, Arc<Parameter>>,
    /// The last change of who may do what; a copy that was restored counts as changed.
    pub(crate) access_at: TopologyIndex,
}

impl Tenants {
    pub(crate) fn new() -> Self {
        Self {
            users: OrdMap::new_sync(),
            permissions: OrdMap::new_sync(),
            topic_permissions: OrdMap::new_sync(),
            parameters: OrdMap::new_sync(),
            access_at: TopologyIndex(0),
        }
    }
}

impl Topology {
    /// The index of the last change that can change an answer of [`Topology::authorise`]: sessions that remember answers compare it.
    #[must_use]
    pub fn access_changed_at(&self) -> TopologyIndex {
        self.tenants.access_at
    }

    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        Some(&**self.tenants.users.get(name)?)
    }

    #[must_use]
    pub fn user_count(&self) -> usize {
        self.tenants.users.size()
    }

    /// In the order of their names, those after `after`.
    pub fn users_after<'a>(
        &'a self,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a User> + 'a {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.tenants.users.range::<str, _>((from, Bound::Unbounded));
        users.map(|(_, it)| &**it)
    }

    #[must_use]
    pub fn permission(&self, user: &UserName, vhost: VhostId) -> Option<&Arc<Permission>> {
        self.tenants.permissions.get(&(user.clone(), vhost))
    }

    /// By user and vhost.
    pub fn permissions(&self) -> impl Iterator<Item = &Permission> {
        self.tenants.permissions.values().map(|it| &**it)
    }

    /// By vhost.
    pub fn permissions_of<'a>(
        &'a self,
        user: &'a UserName,
    ) -> impl Iterator<Item = &'a Permission> {
        let from = (user.clone(), VhostId(0));
        let all = self.tenants.permissions.range(from..);
        all.take_while(move |(key, _)| key.0 == *user)
            .map(|(_, it)| &**it)
    }

    #[must_use]
    pub fn topic_permission(
        &self,
        user: &UserName,
        vhost: VhostId,
        exchange: &ExchangeName,
    ) -> Option<&Arc<TopicPermission>> {
        let key = (user.clone(), vhost, exchange.clone());
        self.tenants.topic_permissions.get(&key)
    }

    /// By user, vhost and exchange.
    pub fn topic_permissions(&self) -> impl Iterator<Item = &TopicPermission> {
        self.tenants.topic_permissions.values().map(|it| &**it)
    }

    /// Of one user in one vhost, by exchange.
    pub fn topic_permissions_in<'a>(
        &'a self,
        user: &'a UserName,
        vhost: VhostId,
    ) -> impl Iterator<Item = &'a TopicPermission> {
        let first = ExchangeName::try_from("").expect("the default exchange has a name");
        let all = self
            .tenants
            .topic_permissions
            .range((user.clone(), vhost, first)..);
        all.take_while(move |(key, _)| key.0 == *user && key.1 == vhost)
            .map(|(_, it)| &**it)
    }

    #[must_use]
    pub fn parameter(&self, key: &ParameterKey) -> Option<&Parameter> {
        Some(&**self.tenants.parameters.get(key)?)
    }

    /// By vhost (the global ones first), component and name.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.tenants.parameters.values().map(|it| &**it)
    }
}
