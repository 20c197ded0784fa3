//! Redriving on the leader (features X6, X10): messages go back to the queue they came from, or to a named one, or are deleted, a page at a
//! time. They are moved like dead letters (`dead_letter`, `mover`): each is stored once, and leaves when it is. What its target refuses is ready again.
//! Not here: which page (`warren-queue`, `store::peek`), all of a queue (`warren-gateway`).

use std::collections::BTreeMap;

use warren_codec::StoredMessageView;
use warren_queue::death;
use warren_queue::dispatch::io::{Input, LeavingOpening, Token, Whereabouts};
use warren_queue::entry::{Command, MoveOut, MoveTarget, Settle, SettleReason};
use warren_queue::store::{PeekedMessage, PeekedPage, PeekedState};
use warren_topology::Queue;
use warren_types::{ExchangeName, NodeId, PositionRange, QueueId, RoutingKey, ShardId};

use super::work::Leading;
use crate::link::frame::Down;
use crate::redrive::{Redrive, RedriveOf, RedriveStep, RedriveTo};

/// Numbers on their way beyond which a page is put off: dead letters of other queues have to get through, too.
const UNDER_WAY_MAX: usize = 128;
const LAST_DEATH_QUEUE: &str = "x-last-death-queue";

impl Leading {
    /// What becomes of a page that was looked at.
    pub(super) fn redrive(
        &mut self,
        node: NodeId,
        token: Token,
        queue: QueueId,
        page: Option<PeekedPage>,
        wish: Redrive,
    ) {
        let step = page.map(|page| self.redrive_page(queue, page, &wish));
        self.links.tell(node, Down::Redriven { token, step });
    }

    fn redrive_page(&mut self, queue: QueueId, page: PeekedPage, wish: &Redrive) -> RedriveStep {
        let mut step = RedriveStep {
            moved: 0,
            skipped: 0,
            busy: self.is_busy(queue, &page, wish),
            sources: Vec::new(),
            next: page.next,
        };
        if step.busy {
            return step;
        }
        let reason = match wish.to {
            RedriveTo::Nowhere => Some(SettleReason::Purged),
            RedriveTo::DeadLetters => Some(SettleReason::Expired),
            RedriveTo::Queue(_) | RedriveTo::Sources(_) | RedriveTo::Priority(_) => None,
        };
        if let Some(reason) = reason {
            step.moved = self.remove_page(queue, &page, wish, reason);
            return step;
        }
        let mut groups: BTreeMap<(ShardId, QueueId), Vec<LeavingOpening>> = BTreeMap::new();
        for it in &page.messages {
            if !self.is_to_go(queue, it, wish.of) || self.has_priority(queue, it, wish) {
                continue;
            }
            match self.destination(queue, it, wish) {
                Some((shard, target, body_bytes)) => {
                    step.moved += 1;
                    groups
                        .entry((shard, target))
                        .or_default()
                        .push(leaving(it, body_bytes, false));
                }
                None => step.skipped += 1,
            }
        }
        if let RedriveTo::Sources(permitted) = &wish.to
            && !groups.keys().all(|(_, to)| permitted.contains(to))
        {
            let sources = groups.into_keys().map(|(_, to)| to).collect();
            return RedriveStep {
                moved: 0,
                skipped: 0,
                sources,
                ..step
            };
        }
        if !wish.dry_run {
            for ((shard, target), messages) in groups {
                self.send_back(queue, wish, (shard, target), messages);
            }
        }
        step
    }

    /// What goes to other queues waits while too much does.
    fn is_busy(&self, queue: QueueId, page: &PeekedPage, wish: &Redrive) -> bool {
        let moves_much = self.mover.under_way() >= UNDER_WAY_MAX;
        match wish.to {
            _ if wish.dry_run => false,
            RedriveTo::Nowhere => false,
            RedriveTo::Queue(_) | RedriveTo::Sources(_) | RedriveTo::Priority(_) => moves_much,
            RedriveTo::DeadLetters => {
                let count = u64::try_from(page.messages.len()).unwrap_or(u64::MAX);
                moves_much || self.dispatch.leaving_room(queue) < count
            }
        }
    }

    /// How many of a page leave. What is ready is nobody's until that is committed.
    fn remove_page(
        &mut self,
        queue: QueueId,
        page: &PeekedPage,
        wish: &Redrive,
        reason: SettleReason,
    ) -> u64 {
        let meant = page.messages.iter();
        let meant = meant.filter(|it| self.is_to_go(queue, it, wish.of));
        let messages: Vec<LeavingOpening> = meant
            .filter_map(|it| {
                let view = StoredMessageView::open(&it.message).ok()?;
                let dies = death::reason_name(reason).is_some();
                Some(leaving(it, u32::try_from(view.body.len()).ok()?, dies))
            })
            .collect();
        let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        if wish.dry_run || messages.is_empty() {
            return count;
        }
        self.settle_or_dead_letter(Settle {
            queue,
            ranges: PositionRange::collect(messages.iter().map(|it| it.position)),
            reason,
        });
        match wish.of {
            RedriveOf::Ready => self.step(Input::TakeOut { queue, messages }),
            // Nobody can have it meanwhile; who asks for it again deletes it once.
            RedriveOf::Parked => {}
        }
        count
    }

    /// It is one of those that are meant, and neither with a consumer nor on its way already.
    fn is_to_go(&self, queue: QueueId, it: &PeekedMessage, of: RedriveOf) -> bool {
        match (of, it.state) {
            (RedriveOf::Ready, PeekedState::Ready) => {
                self.dispatch.whereabouts(queue, it.position) == Whereabouts::NotInFlight
            }
            (RedriveOf::Parked, PeekedState::Parked(_)) => !self.mover.knows(queue, it.position),
            (RedriveOf::Ready, PeekedState::Parked(_))
            | (RedriveOf::Parked, PeekedState::Ready)
            | (_, PeekedState::Scheduled(_) | PeekedState::Delayed(_)) => false,
        }
    }

    /// It is to get a priority that it has already, as its queue counts.
    fn has_priority(&self, queue: QueueId, it: &PeekedMessage, wish: &Redrive) -> bool {
        let (RedriveTo::Priority(priority), RedriveOf::Ready) = (&wish.to, wish.of) else {
            return false;
        };
        let settings = self.settings.get(&queue);
        settings.is_some_and(|known| known.level(Some(*priority)) == it.priority)
    }

    /// Where a message goes, with its body bytes. `None`: the queue it came from is not known, or not there any more.
    fn destination(
        &self,
        queue: QueueId,
        it: &PeekedMessage,
        wish: &Redrive,
    ) -> Option<(ShardId, QueueId, u32)> {
        let view = StoredMessageView::open(&it.message).ok()?;
        let target: &Queue = match wish.to {
            RedriveTo::Queue(target) => self.topology.queue_by_id(target)?,
            RedriveTo::Priority(_) => self.topology.queue_by_id(queue)?,
            RedriveTo::Sources(_) if wish.of == RedriveOf::Parked => {
                self.topology.queue_by_id(queue)?
            }
            RedriveTo::Sources(_) if view.died => {
                let headers = view.properties.headers()?;
                let vhost = self.topology.queue_by_id(queue)?.vhost;
                self.topology
                    .queue(vhost, headers.get_str(LAST_DEATH_QUEUE)?)?
            }
            RedriveTo::Sources(_) | RedriveTo::Nowhere | RedriveTo::DeadLetters => return None,
        };
        let body_bytes = u32::try_from(view.body.len()).ok()?;
        let changes = matches!(wish.to, RedriveTo::Priority(_));
        let moves = target.id != queue || wish.of == RedriveOf::Parked || changes;
        moves.then_some((target.shard, target.id, body_bytes))
    }

    fn send_back(
        &mut self,
        queue: QueueId,
        wish: &Redrive,
        (shard, target): (ShardId, QueueId),
        messages: Vec<LeavingOpening>,
    ) {
        let name = self.topology.queue_by_id(target).map(|it| it.name.as_str());
        let key = name.and_then(|it| RoutingKey::try_from(it).ok());
        let (Ok(exchange), Some(routing_key)) = (ExchangeName::try_from(""), key) else {
            return;
        };
        self.batcher.command(Command::MoveOut(MoveOut {
            queue,
            ranges: PositionRange::collect(messages.iter().map(|it| it.position)),
            reason: SettleReason::DeadLettered,
            exchange,
            routing_key: Some(routing_key),
            priority: match wish.to {
                RedriveTo::Priority(priority) => Some(priority),
                RedriveTo::Queue(_)
                | RedriveTo::Sources(_)
                | RedriveTo::Nowhere
                | RedriveTo::DeadLetters => None,
            },
            targets: vec![MoveTarget {
                shard,
                queues: vec![target],
            }],
        }));
        match wish.of {
            RedriveOf::Ready => self.step(Input::TakeOut { queue, messages }),
            RedriveOf::Parked => {
                let positions = messages.iter().map(|it| it.position);
                self.mover.note(queue, positions);
            }
        }
    }
}

fn leaving(it: &PeekedMessage, body_bytes: u32, dies: bool) -> LeavingOpening {
    LeavingOpening {
        priority: it.priority,
        position: it.position,
        body_bytes,
        expiry: it.expiry,
        group: it.group_hash,
        dies,
    }
}
