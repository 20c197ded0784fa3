//! Connections and channels by vhost and user, against the limits of both (features E2, E3). Not here: setting limits (`grpc`), what the
//! nodes tell each other (`usage`), the connections of a node as a whole (`gateway`).
//!
//! Counted over all nodes: what the others have is as they told it last, within about half a second. Connections that are opened on
//! several nodes in that time may exceed a limit by as many; none of them is closed for it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;
use warren_topology::Topology;
use warren_types::{UserName, VhostId, VhostName};

/// AMQP 0-9-1: 530, with RabbitMQ's texts.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum LimitReached {
    #[error(
        "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
    )]
    VhostConnections {
        vhost: VhostName,
        user: UserName,
        limit: u32,
    },
    #[error("connection refused for user '{user}': user connection limit ({limit}) is reached")]
    UserConnections { user: UserName, limit: u32 },
    #[error(
        "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
    )]
    UserChannels { user: UserName, limit: u32 },
    #[error(
        "number of channels opened on this node has reached the maximum allowed limit of ({limit})"
    )]
    NodeChannels { limit: u32 },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    counts: Arc<Mutex<Everywhere>>,
    /// Channels that this node may have open.
    channels_max: Option<u32>,
}

#[derive(Debug, Default)]
struct Everywhere {
    /// Channels of all users on this node.
    channels: u32,
    here: Counts,
    elsewhere: Counts,
}

/// What is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) vhosts: HashMap<VhostId, u32>,
    pub(crate) users: HashMap<UserName, OfUser>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfUser {
    pub(crate) connections: u32,
    pub(crate) channels: u32,
}

impl Counts {
    fn of_vhost(&self, vhost: VhostId) -> u32 {
        self.vhosts.get(&vhost).copied().unwrap_or(0)
    }

    fn of_user(&self, user: &UserName) -> OfUser {
        self.users.get(user).copied().unwrap_or_default()
    }
}

impl Places {
    pub(crate) fn new(channels_max: Option<u32>) -> Self {
        Self {
            channels_max,
            ..Self::default()
        }
    }

    /// A place for one more connection.
    ///
    /// # Errors
    /// [`LimitReached`] for as many as there may be.
    pub(crate) fn open(
        &self,
        topology: &Topology,
        vhost: VhostId,
        user: &UserName,
    ) -> Result<Place, LimitReached> {
        let mut counts = self.counts.lock();
        let Everywhere {
            here, elsewhere, ..
        } = &mut *counts;
        let in_vhost = here.of_vhost(vhost);
        let in_vhost = in_vhost.saturating_add(elsewhere.of_vhost(vhost));
        if let Some(it) = topology.vhost_by_id(vhost)
            && let Some(limit) = it.limits.connections
            && in_vhost >= limit
        {
            return Err(LimitReached::VhostConnections {
                vhost: it.name.clone(),
                user: user.clone(),
                limit,
            });
        }
        let of_user = here.of_user(user).connections;
        let of_user = of_user.saturating_add(elsewhere.of_user(user).connections);
        let limit = topology.user(user.as_str()).map(|it| it.limits.connections);
        if let Some(limit) = limit.flatten().filter(|it| of_user >= *it) {
            let user = user.clone();
            return Err(LimitReached::UserConnections { user, limit });
        }
        *here.vhosts.entry(vhost).or_default() += 1;
        here.users.entry(user.clone()).or_default().connections += 1;
        Ok(Place {
            places: self.clone(),
            vhost,
            user: user.clone(),
            channels: 0,
        })
    }

    /// What is open on this node.
    pub(crate) fn here(&self) -> Counts {
        self.counts.lock().here.clone()
    }

    /// What is open on all other nodes together.
    pub(crate) fn set_elsewhere(&self, elsewhere: Counts) {
        self.counts.lock().elsewhere = elsewhere;
    }
}

/// The place of one open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    vhost: VhostId,
    user: UserName,
    channels: u32,
}

impl Place {
    /// Notes how many channels the connection has, and gives how many more it may open and why no more; `None`: nothing limits them.
    pub(crate) fn channel_room(
        &mut self,
        topology: &Topology,
        channels: usize,
    ) -> Option<(u32, LimitReached)> {
        let channels = u32::try_from(channels).unwrap_or(u32::MAX);
        let limit = topology.user(self.user.as_str());
        let limit = limit.and_then(|it| it.limits.channels);
        // Of most users and in most turns nothing is to be counted.
        let of_node = self.places.channels_max;
        if limit.is_none() && of_node.is_none() && channels == self.channels {
            return None;
        }
        let mut counts = self.places.counts.lock();
        let Everywhere {
            channels: all,
            here,
            elsewhere,
        } = &mut *counts;
        *all = (*all - self.channels).saturating_add(channels);
        let of_user = here.users.entry(self.user.clone()).or_default();
        of_user.channels = (of_user.channels - self.channels).saturating_add(channels);
        self.channels = channels;
        let of_node = of_node.map(|limit| {
            let why = LimitReached::NodeChannels { limit };
            (limit.saturating_sub(*all), why)
        });
        let of_user = limit.map(|limit| {
            let user = self.user.clone();
            let open = of_user.channels;
            let open = open.saturating_add(elsewhere.of_user(&user).channels);
            let why = LimitReached::UserChannels { user, limit };
            (limit.saturating_sub(open), why)
        });
        of_user.into_iter().chain(of_node).min_by_key(|it| it.0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock();
        counts.channels -= self.channels;
        let counts = &mut counts.here;
        if let Some(count) = counts.vhosts.get_mut(&self.vhost) {
            *count -= 1;
            if *count == 0 {
                counts.vhosts.remove(&self.vhost);
            }
        }
        if let Some(of_user) = counts.users.get_mut(&self.user) {
            of_user.connections -= 1;
            of_user.channels -= self.channels;
            if of_user.connections == 0 {
                counts.users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_topology::{
        Addresses, CreateUser, FormCluster, Node, SetVhostLimits, Software, TopologyCommand,
        TopologyReply, UserLimits, VhostLimits,
    };
    use warren_types::{
        ClusterId, ClusterVersion, Incarnation, Member, NodeId, ReplicaId, TopologyIndex,
    };

    use super::*;

    const VHOST: VhostId = warren_topology::Vhost::ROOT;

    fn topology() -> Topology {
        let mut topology = Topology::new();
        let user = CreateUser {
            name: user(),
            tags: Vec::new(),
            password: None,
            limits: UserLimits {
                connections: Some(2),
                channels: Some(3),
            },
        };
        let limits = SetVhostLimits {
            name: VhostName::try_from("/").unwrap(),
            limits: VhostLimits {
                connections: Some(3),
                ..VhostLimits::default()
            },
        };
        for (index, command) in [form(), user.into(), limits.into()].into_iter().enumerate() {
            let at = TopologyIndex(u64::try_from(index).unwrap() + 1);
            let reply = topology.apply(at, command);
            assert!(!matches!(reply, TopologyReply::Refused(_)), "{reply:?}");
        }
        topology
    }

    fn form() -> TopologyCommand {
        TopologyCommand::FormCluster(FormCluster {
            cluster: ClusterId(1),
            name: "test".into(),
            version: ClusterVersion::FIRST,
            nodes: vec![Node {
                id: NodeId(1),
                incarnation: Incarnation(1),
                addresses: Addresses::default(),
                zone: "".into(),
                leaving: false,
                former: Vec::new(),
                software: Software::default(),
            }],
            topology_members: vec![Member {
                replica: ReplicaId(1),
                node: NodeId(1),
            }],
            shards: 1,
            replication_factor: 1,
        })
    }

    fn user() -> UserName {
        UserName::try_from("u").unwrap()
    }

    #[test]
    fn connections_end_at_the_limit_of_their_user_and_vhost_and_free_their_place() {
        let (topology, places) = (topology(), Places::default());
        let first = places.open(&topology, VHOST, &user()).unwrap();
        let _second = places.open(&topology, VHOST, &user()).unwrap();
        let refused = places.open(&topology, VHOST, &user()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "connection refused for user 'u': user connection limit (2) is reached"
        );
        let other = UserName::try_from("other").unwrap();
        let third = places.open(&topology, VHOST, &other).unwrap();
        let refused = places.open(&topology, VHOST, &other).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "access to vhost '/' refused for user 'other': connection limit (3) is reached"
        );
        drop((first, third));
        let again = places.open(&topology, VHOST, &user());
        assert!(again.is_ok());
    }

    #[test]
    fn what_other_nodes_have_open_counts_and_is_forgotten_when_they_say_so() {
        let (topology, places) = (topology(), Places::default());
        let of_user = OfUser {
            connections: 1,
            channels: 2,
        };
        let elsewhere = Counts {
            vhosts: HashMap::from([(VHOST, 1)]),
            users: HashMap::from([(user(), of_user)]),
        };
        places.set_elsewhere(elsewhere);
        let mut first = places.open(&topology, VHOST, &user()).unwrap();
        assert!(places.open(&topology, VHOST, &user()).is_err());
        assert_eq!(first.channel_room(&topology, 1).unwrap().0, 0);
        let other = UserName::try_from("other").unwrap();
        let _second = places.open(&topology, VHOST, &other).unwrap();
        assert!(places.open(&topology, VHOST, &other).is_err());
        assert_eq!(places.here().of_vhost(VHOST), 2);
        places.set_elsewhere(Counts::default());
        assert!(places.open(&topology, VHOST, &user()).is_ok());
    }

    #[test]
    fn channels_are_counted_over_the_connections_of_a_user() {
        let (topology, places) = (topology(), Places::default());
        let mut one = places.open(&topology, VHOST, &user()).unwrap();
        let mut two = places.open(&topology, VHOST, &user()).unwrap();
        assert_eq!(one.channel_room(&topology, 2).unwrap().0, 1);
        let (room, why) = two.channel_room(&topology, 1).unwrap();
        assert_eq!(room, 0);
        assert_eq!(
            why.to_string(),
            "number of channels opened for user 'u' has reached the maximum allowed user limit of (3)"
        );
        drop(one);
        assert_eq!(two.channel_room(&topology, 1).unwrap().0, 2);
    }

    #[test]
    fn channels_of_a_node_are_counted_over_all_users() {
        let (topology, places) = (topology(), Places::new(Some(5)));
        let open = || {
            places
                .open(&topology, VHOST, &UserName::try_from("other").unwrap())
                .unwrap()
        };
        let (mut one, mut two) = (open(), open());
        assert_eq!(one.channel_room(&topology, 4).unwrap().0, 1);
        let (room, why) = two.channel_room(&topology, 1).unwrap();
        assert_eq!(room, 0);
        assert_eq!(
            why.to_string(),
            "number of channels opened on this node has reached the maximum allowed limit of (5)"
        );
        drop(one);
        assert_eq!(two.channel_room(&topology, 1).unwrap().0, 4);
    }
}
