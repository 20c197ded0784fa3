//! Routed messages on their way to the shards: gathered per shard, handed over in order. Not here: routing (`publish`), answers (`tracker`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;
use warren_shard::Session;
use warren_shard::api::{PublishItem, RequestToken, Unavailable};
use warren_types::ShardId;

/// What goes to one shard in one go.
pub(super) struct Group {
    pub(super) shard: ShardId,
    pub(super) items: Vec<PublishItem>,
    pub(super) storing: Storing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Storing {
    Each,
    /// All or none.
    Together,
}

/// Items on their way to one shard's uplink; gives back the tokens if nothing was taken.
pub(super) type HandOver =
    Pin<Box<dyn Future<Output = Option<(Vec<RequestToken>, Unavailable)>> + Send>>;

/// Into the last group of its shard; into none that is closed, and so behind it.
pub(super) fn push(groups: &mut Vec<Group>, shard: ShardId, item: PublishItem) {
    // The last one is the likely one; there are few shards.
    match groups.iter_mut().rev().find(|it| it.shard == shard) {
        Some(group) if group.storing == Storing::Each => group.items.push(item),
        Some(_) | None => groups.push(Group {
            shard,
            items: vec![item],
            storing: Storing::Each,
        }),
    }
}

pub(super) fn hand_over(
    session: Arc<Session>,
    group: Group,
    deadline: Option<Instant>,
) -> HandOver {
    let Group {
        shard,
        items,
        storing,
    } = group;
    let tokens: Vec<RequestToken> = items.iter().map(|item| item.token).collect();
    Box::pin(async move {
        let taken = match storing {
            Storing::Each => session.publish(shard, items, deadline).await,
            Storing::Together => session.publish_together(shard, items, deadline).await,
        };
        taken.err().map(|why| (tokens, why))
    })
}
