//! The table: every operation of every front, and what it needs (features E4, E5). Not here: whether somebody has it (`access`).

use std::fmt;

use crate::user::UserTag;

/// What a user wants to do, with the names it touches. A front that does something new gets a new variant here, and so a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation<'a> {
    /// connection.open; the open frame of a stream.
    OpenVhost,
    DeclareExchange {
        exchange: &'a str,
        /// Where unroutable messages go.
        alternate: Option<&'a str>,
    },
    /// Passive declare, get, and each entry of a list.
    ViewExchange {
        exchange: &'a str,
    },
    DeleteExchange {
        exchange: &'a str,
    },
    DeclareQueue {
        queue: &'a str,
        dead_letter_exchange: Option<&'a str>,
    },
    /// Passive declare, get, counts, and each entry of a list.
    ViewQueue {
        queue: &'a str,
    },
    DeleteQueue {
        queue: &'a str,
    },
    PurgeQueue {
        queue: &'a str,
    },
    /// Take scheduled messages back, with their handles: whoever may fill the queue, empty it or delete it.
    CancelScheduled {
        queue: &'a str,
    },
    /// And unbind.
    BindQueue {
        source: &'a str,
        queue: &'a str,
        routing_key: &'a str,
    },
    /// And unbind.
    BindExchange {
        source: &'a str,
        destination: &'a str,
        routing_key: &'a str,
    },
    Publish {
        exchange: &'a str,
        routing_key: &'a str,
    },
    /// Publish with the property `user_id`.
    PublishAs {
        user_id: &'a str,
    },
    /// Consume, get, receive, settle, peek.
    Consume {
        queue: &'a str,
    },
    /// Move, redrive.
    MoveMessages {
        from: &'a str,
        to: &'a str,
    },
    ViewVhost,
    /// Create, change, delete, limits.
    ChangeVhosts,
    /// Also permissions and limits of users.
    ViewUsers,
    ChangeUsers,
    ViewPolicies,
    ChangePolicies,
    ChangeOperatorPolicies,
    ChangeGlobalParameters,
    ViewCluster,
    ChangeCluster,
    ExportDefinitions,
    ImportDefinitions,
}

/// A right over names, as permissions give it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Right {
    Configure,
    Write,
    Read,
}

impl Right {
    pub const ALL: [Self; 3] = [Self::Configure, Self::Write, Self::Read];
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ResourceKind {
    Exchange,
    Queue,
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
        })
    }
}

/// One thing an operation needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Need<'a> {
    /// The user's pattern for the right matches the name.
    Name {
        right: Right,
        kind: ResourceKind,
        name: &'a str,
    },
    /// Any of the user's three patterns matches the name.
    AnyRight {
        kind: ResourceKind,
        name: &'a str,
    },
    /// If the exchange is a topic exchange and the user has a topic permission on it, that matches the key.
    RoutingKey {
        right: Right,
        exchange: &'a str,
        routing_key: &'a str,
    },
    /// Some permission in the vhost, be it an empty one.
    Vhost,
    /// That, or a tag.
    VhostOr(UserTag),
    Tag(UserTag),
    /// It is the user's own name, or the user is an impersonator.
    SameUser {
        user_id: &'a str,
    },
}

/// All that an operation needs.
pub(super) type Needs<'a> = [Option<Need<'a>>; 3];

impl<'a> Operation<'a> {
    /// The row of the table. All of it is needed, in this order.
    #[must_use]
    pub(super) fn needs(self) -> Needs<'a> {
        use Right::{Configure, Read, Write};
        match self {
            Self::OpenVhost => [Some(Need::Vhost), None, None],
            Self::DeclareExchange {
                exchange: x,
                alternate,
            } => [
                on_exchange(Configure, x),
                alternate.and_then(|_| on_exchange(Read, x)),
                alternate.and_then(|it| on_exchange(Write, it)),
            ],
            Self::ViewExchange { exchange } => [any(ResourceKind::Exchange, exchange), None, None],
            Self::DeleteExchange { exchange } => [on_exchange(Configure, exchange), None, None],
            Self::DeclareQueue {
                queue: q,
                dead_letter_exchange,
            } => [
                on_queue(Configure, q),
                dead_letter_exchange.and_then(|_| on_queue(Read, q)),
                dead_letter_exchange.and_then(|it| on_exchange(Write, it)),
            ],
            Self::ViewQueue { queue } | Self::CancelScheduled { queue } => {
                [any(ResourceKind::Queue, queue), None, None]
            }
            Self::DeleteQueue { queue } => [on_queue(Configure, queue), None, None],
            Self::PurgeQueue { queue } | Self::Consume { queue } => {
                [on_queue(Read, queue), None, None]
            }
            Self::BindQueue {
                source: x,
                queue,
                routing_key,
            } => bind(on_queue(Write, queue), x, routing_key),
            Self::BindExchange {
                source: x,
                destination,
                routing_key,
            } => bind(on_exchange(Write, destination), x, routing_key),
            Self::Publish {
                exchange: x,
                routing_key,
            } => [on_exchange(Write, x), key(Write, x, routing_key), None],
            Self::PublishAs { user_id } => [Some(Need::SameUser { user_id }), None, None],
            Self::MoveMessages { from, to } => [on_queue(Read, from), on_queue(Write, to), None],
            Self::ViewVhost => [Some(Need::VhostOr(UserTag::Monitoring)), None, None],
            Self::ViewPolicies => [
                Some(Need::VhostOr(UserTag::Administrator)),
                tag(UserTag::Management),
                None,
            ],
            Self::ChangePolicies => [Some(Need::Vhost), tag(UserTag::Policymaker), None],
            Self::ViewCluster => [tag(UserTag::Monitoring), None, None],
            Self::ChangeVhosts
            | Self::ViewUsers
            | Self::ChangeUsers
            | Self::ChangeOperatorPolicies
            | Self::ChangeGlobalParameters
            | Self::ChangeCluster
            | Self::ExportDefinitions
            | Self::ImportDefinitions => [tag(UserTag::Administrator), None, None],
        }
    }
}

fn on_exchange(right: Right, name: &str) -> Option<Need<'_>> {
    let kind = ResourceKind::Exchange;
    Some(Need::Name { right, kind, name })
}

fn on_queue(right: Right, name: &str) -> Option<Need<'_>> {
    let kind = ResourceKind::Queue;
    Some(Need::Name { right, kind, name })
}

fn any(kind: ResourceKind, name: &str) -> Option<Need<'_>> {
    Some(Need::AnyRight { kind, name })
}

fn key<'a>(right: Right, exchange: &'a str, routing_key: &'a str) -> Option<Need<'a>> {
    Some(Need::RoutingKey {
        right,
        exchange,
        routing_key,
    })
}

fn tag<'a>(tag: UserTag) -> Option<Need<'a>> {
    Some(Need::Tag(tag))
}

/// Write on where the messages go, read on where they come from.
fn bind<'a>(destination: Option<Need<'a>>, source: &'a str, routing_key: &'a str) -> Needs<'a> {
    [
        destination,
        on_exchange(Right::Read, source),
        key(Right::Read, source, routing_key),
    ]
}
