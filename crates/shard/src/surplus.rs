//! Publishes that a full queue refuses and wants dead-lettered (`x-overflow` reject-publish-dlx, features B42): the publisher's node still
//! has them, sends them where the queue's dead letters go, and tells the publisher of the refusal when they are there. Not here: which
//! publishes are refused (`leader::rooms`), dead letters of messages that were in a queue (`leader::dead_letter`).
//!
//! So what was refused is in the dead-letter target, once, when its publisher hears of it; it goes there also if its publisher has gone.
//! Only this node's death before that loses it, and then nobody was told anything. A target that is full in its turn, or nothing bound,
//! drops it: the publisher has it still.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use warren_codec::StoredMessageView;
use warren_queue::entry::SettleReason;
use warren_topology::Topology;
use warren_types::{DeadLetter, NotStored, Overflow, QueueId, QueueSettings, ShardId};

use crate::api::{PublishItem, PublishOutcome, RequestToken, SessionEvent};
use crate::broker::Broker;
use crate::dead::{Passing, Way, passed_on, way};
use crate::link::frame::{Batch, Storing};
use crate::session::Session;
use crate::time::wall_clock_ms;
use crate::uplink::pending::{Told, Waiter};

/// Refused messages of a node that are not sent yet, and as many that are not answered; beyond it they are not dead-lettered.
const MESSAGES_MAX: usize = 1_024;
/// Their bytes, together; one larger message takes all.
const BYTES_MAX: usize = 64 << 20;
/// A shard that takes nothing for so long is not waited for.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// One that its queue had no room for.
struct Refused {
    queue: QueueId,
    message: Bytes,
    group_hash: u64,
    fairness_hash: u64,
    /// `None`: nobody waits any more.
    waiter: Option<Waiter>,
    room: OwnedSemaphorePermit,
}

/// Where uplinks hand refused messages over; cheap to clone.
#[derive(Clone)]
pub(crate) struct Surplus {
    door: mpsc::Sender<Refused>,
    room: Arc<Semaphore>,
    topology: watch::Receiver<Arc<Topology>>,
    /// For which there was no room here, either.
    dropped: Arc<AtomicU64>,
}

impl Surplus {
    pub(crate) fn new(topology: watch::Receiver<Arc<Topology>>) -> (Self, SurplusTask) {
        let (door, inbox) = mpsc::channel(MESSAGES_MAX);
        let dropped = Arc::<AtomicU64>::default();
        let surplus = Self {
            door,
            room: Arc::new(Semaphore::new(BYTES_MAX)),
            topology: topology.clone(),
            dropped: Arc::clone(&dropped),
        };
        let task = SurplusTask {
            inbox,
            topology,
            dropped,
            under_way: HashMap::new(),
            last: 0,
        };
        (surplus, task)
    }

    /// What becomes of refusals in one turn.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn {
            surplus: self,
            wants: HashMap::new(),
        }
    }

    fn wants(&self, queue: QueueId) -> bool {
        let topology = self.topology.borrow();
        target_of(&topology, queue).is_some()
    }
}

/// As far as it was looked up.
pub(crate) struct Turn<'a> {
    surplus: &'a Surplus,
    wants: HashMap<QueueId, bool>,
}

impl Turn<'_> {
    /// A message of a batch was refused for its queue's limit. `Some`: the waiter is to be told at once.
    pub(crate) fn take(
        &mut self,
        batch: &Batch,
        index: u32,
        waiter: Option<Waiter>,
    ) -> Option<Waiter> {
        // Of an atomic batch that is refused nothing is stored anywhere.
        if batch.storing == Storing::Together {
            return waiter;
        }
        let Some((part, at)) = batch.part_of(index) else {
            return waiter;
        };
        let surplus = self.surplus;
        let wanted = self.wants.entry(part.queue);
        if !*wanted.or_insert_with(|| surplus.wants(part.queue)) {
            return waiter;
        }
        let Some(message) = part.message(at) else {
            return waiter;
        };
        let bytes = message.len().clamp(1, BYTES_MAX);
        let room = u32::try_from(bytes).ok().and_then(|bytes| {
            let room = Arc::clone(&surplus.room);
            room.try_acquire_many_owned(bytes).ok()
        });
        let (Some(room), Ok(place)) = (room, surplus.door.try_reserve()) else {
            surplus.dropped.fetch_add(1, Ordering::Relaxed);
            return waiter;
        };
        let column = |column: &[u64]| column.get(at).copied().unwrap_or(0);
        place.send(Refused {
            queue: part.queue,
            group_hash: column(&part.facts.group_hash),
            fairness_hash: column(&part.facts.fairness_hash),
            // Else it would keep all of the batch.
            message: Bytes::copy_from_slice(&message),
            waiter,
            room,
        });
        None
    }
}

/// Where a queue's refused publishes go; `None`: they are refused, and that is all.
fn target_of(topology: &Topology, queue: QueueId) -> Option<DeadLetter> {
    let settings = topology.queue_settings(topology.queue_by_id(queue)?);
    match settings.overflow {
        Overflow::DropHead | Overflow::RejectPublish => None,
        Overflow::RejectPublishDeadLetter => settings.dead_letter,
    }
}

/// One that is on its way.
struct UnderWay {
    /// Queues that have not answered.
    left: usize,
    waiter: Option<Waiter>,
    _room: OwnedSemaphorePermit,
}

/// Sends them.
pub(crate) struct SurplusTask {
    inbox: mpsc::Receiver<Refused>,
    topology: watch::Receiver<Arc<Topology>>,
    dropped: Arc<AtomicU64>,
    under_way: HashMap<RequestToken, UnderWay>,
    last: u64,
}

impl SurplusTask {
    pub(crate) async fn run(mut self, broker: Broker, stop: CancellationToken) {
        let session = broker.session();
        let mut next = Vec::new();
        loop {
            let room = MESSAGES_MAX.saturating_sub(self.under_way.len());
            tokio::select! {
                biased; // stopping, then answers (they make room), then more
                () = stop.cancelled() => return,
                events = session.events() => match events {
                    Some(events) => self.answers(events),
                    None => return,
                },
                taken = self.inbox.recv_many(&mut next, room), if room > 0 => {
                    if taken == 0 {
                        return;
                    }
                    self.send(&session, std::mem::take(&mut next)).await;
                }
            }
        }
    }

    async fn send(&mut self, session: &Session, refused: Vec<Refused>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            warn!(
                messages = dropped,
                "refused publishes not dead-lettered: too many at once"
            );
        }
        let mut told = Told::default();
        let mut groups: BTreeMap<ShardId, Vec<PublishItem>> = BTreeMap::new();
        let topology = self.topology.borrow().clone();
        for it in refused {
            self.last += 1;
            let token = RequestToken(self.last);
            let items = items(&topology, token, &it);
            if items.is_empty() {
                tell(&mut told, it.waiter);
                continue;
            }
            let under_way = UnderWay {
                left: items.len(),
                waiter: it.waiter,
                _room: it.room,
            };
            self.under_way.insert(token, under_way);
            for (shard, item) in items {
                groups.entry(shard).or_default().push(item);
            }
        }
        told.deliver();
        for (shard, items) in groups {
            let tokens: Vec<RequestToken> = items.iter().map(|it| it.token).collect();
            let sent = timeout(SEND_WITHIN, session.publish(shard, items, None)).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.answered(tokens);
            }
        }
    }

    /// Stored or not, the publisher's message was refused.
    fn answers(&mut self, events: impl IntoIterator<Item = SessionEvent>) {
        for event in events {
            if let SessionEvent::Published(answers) = event {
                self.answered(answers.into_iter().map(|(token, _)| token));
            }
        }
    }

    fn answered(&mut self, tokens: impl IntoIterator<Item = RequestToken>) {
        let mut told = Told::default();
        for token in tokens {
            let Some(under_way) = self.under_way.get_mut(&token) else {
                continue;
            };
            under_way.left = under_way.left.saturating_sub(1);
            if under_way.left == 0 {
                let done = self.under_way.remove(&token);
                tell(&mut told, done.and_then(|it| it.waiter));
            }
        }
        told.deliver();
    }
}

fn tell(told: &mut Told, waiter: Option<Waiter>) {
    if let Some(waiter) = waiter {
        told.add(waiter, PublishOutcome::NotStored(NotStored::QueueFull));
    }
}

/// A copy for each queue of its target.
fn items(topology: &Topology, token: RequestToken, it: &Refused) -> Vec<(ShardId, PublishItem)> {
    let reason = SettleReason::Dropped;
    let view = match StoredMessageView::open(&it.message) {
        Ok(view) => view,
        Err(error) => {
            error!(queue = %it.queue, %error, "refused publish cannot be opened");
            return Vec::new();
        }
    };
    // One that died before is a refused publish of this very kind: it goes no further (features B47).
    let target = target_of(topology, it.queue).filter(|_| !view.died);
    let Some((target, from)) = target.zip(topology.queue_by_id(it.queue)) else {
        return Vec::new();
    };
    let Way::To(targets) = way(topology, it.queue, reason, &target, &view) else {
        return Vec::new();
    };
    let passing = Passing {
        queue: from.name.as_str(),
        reason,
        exchange: &target.exchange,
        routing_key: target.routing_key.as_ref(),
        time_s: wall_clock_ms() / 1_000,
        said: &[],
    };
    let level = QueueSettings::default().level(view.properties.priority());
    let Some(message) = passed_on(&view, &passing, level, it.group_hash, it.fairness_hash) else {
        return Vec::new();
    };
    let queues = targets
        .iter()
        .flat_map(|to| to.queues.iter().map(|&queue| (to.shard, queue)));
    queues
        .map(|(shard, queue)| {
            let item = PublishItem {
                token,
                queue,
                message: message.clone(),
                producer: None,
            };
            (shard, item)
        })
        .collect()
}
