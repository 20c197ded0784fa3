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
        use ResourceKind::{Exchange, Queue};
        use Right::{Configure, Read, Write};
        let name = |right, kind, name| Some(Need::Name { right, kind, name });
        let key = |right, exchange, routing_key| {
            Some(Need::RoutingKey {
                right,
                exchange,
                routing_key,
            })
        };
        let any = |kind, name| Some(Need::AnyRight { kind, name });
        let tag = |tag| Some(Need::Tag(tag));
        match self {
            Self::OpenVhost => [Some(Need::Vhost), None, None],
            Self::DeclareExchange {
                exchange,
                alternate,
            } => [
                name(Configure, Exchange, exchange),
                alternate.and_then(|_| name(Read, Exchange, exchange)),
                alternate.and_then(|it| name(Write, Exchange, it)),
            ],
            Self::ViewExchange { exchange } => [any(Exchange, exchange), None, None],
            Self::DeleteExchange { exchange } => [name(Configure, Exchange, exchange), None, None],
            Self::DeclareQueue {
                queue,
                dead_letter_exchange,
            } => [
                name(Configure, Queue, queue),
                dead_letter_exchange.and_then(|_| name(Read, Queue, queue)),
                dead_letter_exchange.and_then(|it| name(Write, Exchange, it)),
            ],
            Self::ViewQueue { queue } => [any(Queue, queue), None, None],
            Self::DeleteQueue { queue } => [name(Configure, Queue, queue), None, None],
            Self::PurgeQueue { queue } | Self::Consume { queue } => {
                [name(Read, Queue, queue), None, None]
            }
            Self::BindQueue {
                source,
                queue,
                routing_key,
            } => [
                name(Write, Queue, queue),
                name(Read, Exchange, source),
                key(Read, source, routing_key),
            ],
            Self::BindExchange {
                source,
                destination,
                routing_key,
            } => [
                name(Write, Exchange, destination),
                name(Read, Exchange, source),
                key(Read, source, routing_key),
            ],
            Self::Publish {
                exchange,
                routing_key,
            } => [
                name(Write, Exchange, exchange),
                key(Write, exchange, routing_key),
                None,
            ],
            Self::PublishAs { user_id } => [Some(Need::SameUser { user_id }), None, None],
            Self::MoveMessages { from, to } => {
                [name(Read, Queue, from), name(Write, Queue, to), None]
            }
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
