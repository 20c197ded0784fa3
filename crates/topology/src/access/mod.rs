//! Who may do what: the one table of operations and the rights they need, for every operation of every front (features E4, E5).
//! Not here: who somebody is (`gateway` checks passwords), what a permission is (`permission`).

mod denied;
mod operation;
mod principal;
mod rights;

pub use denied::Denied;
pub use operation::{Need, Operation, ResourceKind, Right};
pub use principal::{Asker, Principal};
pub use rights::Rights;

use warren_types::{ExchangeName, VhostId};

use crate::{
    exchange::ExchangeKind,
    permission::{Permission, TopicVariables},
    topology::Topology,
    user::{User, UserTag},
};
use principal::Standing;

/// What permissions call the default exchange, whose name is empty (RabbitMQ's name for it).
const DEFAULT_EXCHANGE: &str = "amq.default";

impl Topology {
    /// Whether somebody may do something, as this copy of the topology says.
    ///
    /// # Errors
    /// [`Denied`] says what is missing.
    pub fn authorise(&self, asker: Asker<'_>, operation: Operation<'_>) -> Result<(), Denied> {
        let user = match asker.principal.standing(self)? {
            Standing::All => return Ok(()),
            Standing::User(user) => user,
        };
        let mut needs = operation.needs().into_iter().flatten();
        needs.try_for_each(|need| self.meets(user, asker, need))
    }

    fn meets(&self, user: &User, asker: Asker<'_>, need: Need<'_>) -> Result<(), Denied> {
        let permission = || self.permission(&user.name, asker.vhost);
        match need {
            Need::Name { right, kind, name } => {
                let pattern = permission().map(|it| it.of(right));
                if pattern.is_some_and(|it| it.matches(known_as(kind, name))) {
                    return Ok(());
                }
                Err(self.name_denied(user, asker.vhost, Some(right), kind, name))
            }
            Need::AnyRight { kind, name } => {
                if permission().is_some_and(|it| it.any(known_as(kind, name))) {
                    return Ok(());
                }
                Err(self.name_denied(user, asker.vhost, None, kind, name))
            }
            Need::RoutingKey {
                right,
                exchange,
                routing_key,
            } => self.topic_meets(user, asker, right, exchange, routing_key),
            Need::Vhost => match permission() {
                Some(_) => Ok(()),
                None => Err(self.vhost_denied(user, asker.vhost)),
            },
            Need::VhostOr(tag) => match permission() {
                Some(_) => Ok(()),
                None if is(user, &tag) => Ok(()),
                None => Err(self.vhost_denied(user, asker.vhost)),
            },
            Need::Tag(tag) if is(user, &tag) => Ok(()),
            Need::Tag(tag) => Err(Denied::Tag {
                user: user.name.clone(),
                tag,
            }),
            Need::SameUser { user_id } => {
                if user_id == user.name.as_str() || is(user, &UserTag::Impersonator) {
                    return Ok(());
                }
                Err(Denied::OtherUser {
                    user: user.name.clone(),
                    user_id: user_id.into(),
                })
            }
        }
    }

    /// Only topic exchanges look at it, and only of users that have such a permission (features E6).
    fn topic_meets(
        &self,
        user: &User,
        asker: Asker<'_>,
        right: Right,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), Denied> {
        let is_topic = self
            .exchange(asker.vhost, exchange)
            .is_some_and(|it| it.routes_as() == ExchangeKind::Topic);
        let Ok(name) = ExchangeName::try_from(exchange) else {
            return Ok(());
        };
        let Some(it) = self.topic_permission(&user.name, asker.vhost, &name) else {
            return Ok(());
        };
        let pattern = match right {
            Right::Write | Right::Configure => &it.write,
            Right::Read => &it.read,
        };
        let vhost = self.vhost_by_id(asker.vhost);
        let variables = TopicVariables {
            username: user.name.as_str(),
            vhost: vhost.map_or("", |it| it.name.as_str()),
            client_id: asker.client_id,
        };
        if !is_topic || pattern.expand(variables).matches(routing_key) {
            return Ok(());
        }
        Err(Denied::RoutingKey {
            user: user.name.clone(),
            right,
            exchange: exchange.into(),
            routing_key: routing_key.into(),
        })
    }

    fn name_denied(
        &self,
        user: &User,
        vhost: VhostId,
        right: Option<Right>,
        kind: ResourceKind,
        name: &str,
    ) -> Denied {
        Denied::Name {
            user: user.name.clone(),
            right,
            kind,
            name: known_as(kind, name).into(),
            vhost: self.vhost_text(vhost),
        }
    }

    fn vhost_denied(&self, user: &User, vhost: VhostId) -> Denied {
        Denied::Vhost {
            user: user.name.clone(),
            vhost: self.vhost_text(vhost),
        }
    }

    fn vhost_text(&self, vhost: VhostId) -> Box<str> {
        let found = self.vhost_by_id(vhost);
        found.map_or_else(Box::default, |it| it.name.as_str().into())
    }
}

impl Permission {
    fn of(&self, right: Right) -> &crate::Pattern {
        match right {
            Right::Configure => &self.configure,
            Right::Write => &self.write,
            Right::Read => &self.read,
        }
    }

    fn any(&self, name: &str) -> bool {
        Right::ALL.into_iter().any(|it| self.of(it).matches(name))
    }
}

fn known_as(kind: ResourceKind, name: &str) -> &str {
    match kind {
        ResourceKind::Exchange if name.is_empty() => DEFAULT_EXCHANGE,
        ResourceKind::Exchange | ResourceKind::Queue => name,
    }
}

/// Some tags hold others: an administrator may all that policymakers and monitoring users may, and all of them what management users may.
fn is(user: &User, wanted: &UserTag) -> bool {
    user.has_tag(wanted)
        || match wanted {
            UserTag::Management => {
                let more = [
                    UserTag::Policymaker,
                    UserTag::Monitoring,
                    UserTag::Administrator,
                ];
                more.iter().any(|tag| user.has_tag(tag))
            }
            UserTag::Policymaker | UserTag::Monitoring => user.has_tag(&UserTag::Administrator),
            UserTag::Administrator | UserTag::Impersonator | UserTag::Other(_) => false,
        }
}
