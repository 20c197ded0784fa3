//! Who asks. Not here: how that was found out (`gateway`).

use warren_types::{TopologyIndex, UserName, VhostId};

use super::Denied;
use crate::{topology::Topology, user::User};

/// Somebody who has logged in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Principal {
    /// A user of the topology: this one, not a later one of the same name.
    User {
        name: UserName,
        created_at: TopologyIndex,
    },
    /// Whom the node's configuration lets in without a user of the topology (`guest` of the node's own machine): may everything,
    /// unless there is such a user, whose permissions then hold.
    Local { name: UserName },
}

/// Who asks, where.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub principal: &'a Principal,
    /// Only looked at by operations in a vhost.
    pub vhost: VhostId,
    /// What the client calls itself, for topic permissions; empty = not known.
    pub client_id: &'a str,
}

pub(super) enum Standing<'a> {
    All,
    User(&'a User),
}

impl Principal {
    /// A user of the topology, as it is now.
    #[must_use]
    pub fn of(user: &User) -> Self {
        Self::User {
            name: user.name.clone(),
            created_at: user.created_at,
        }
    }

    #[must_use]
    pub fn name(&self) -> &UserName {
        match self {
            Self::User { name, .. } | Self::Local { name } => name,
        }
    }

    /// Whether it is there still.
    ///
    /// # Errors
    /// [`Denied::UserGone`]
    pub fn check_there(&self, topology: &Topology) -> Result<(), Denied> {
        self.standing(topology).map(|_| ())
    }

    pub(super) fn standing<'a>(&self, topology: &'a Topology) -> Result<Standing<'a>, Denied> {
        let user = topology.user(self.name().as_str());
        match (self, user) {
            (Self::Local { .. }, None) => Ok(Standing::All),
            (Self::Local { .. }, Some(user)) => Ok(Standing::User(user)),
            (Self::User { created_at, .. }, Some(user)) if user.created_at == *created_at => {
                Ok(Standing::User(user))
            }
            (Self::User { name, .. }, _) => Err(Denied::UserGone { user: name.clone() }),
        }
    }
}
