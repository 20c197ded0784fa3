//! What calls of `Receive` to this node hold, until when, and the answers of their attempts. Pure but for the lock and its wake-ups.
//! Not here: the call (`receive`); returning what expired (its task).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use warren_proto::convert::error::ApiError;
use warren_proto::v1;
use warren_shard::Held;
use warren_types::{Position, QueueId};

/// The answer of an attempt; `None`: not there yet.
pub(super) type Answer = Option<Result<v1::ReceiveResponse, ApiError>>;

/// Names a call that may be repeated.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct AttemptKey {
    pub(super) queue: QueueId,
    pub(super) consumer_tag: String,
    pub(super) attempt_id: String,
}

/// Every lease of this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leases {
    inner: Arc<Mutex<Inner>>,
    max: usize,
}

#[derive(Default)]
struct Inner {
    holder: HashMap<(QueueId, Position), u64>,
    leases: HashMap<u64, Lease>,
    attempts: BTreeMap<AttemptKey, Begun>,
    last: u64,
}

struct Begun {
    answer: watch::Receiver<Answer>,
    /// No other node has it: it was asked for.
    is_here: bool,
    /// A node that comes first was told that the attempt is not here yet: it may have begun it since.
    gave_way: bool,
}

struct Lease {
    items: BTreeMap<Position, (Held, Instant)>,
    over: Arc<Notify>,
}

/// There are too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMany;

/// How an attempt is joined.
pub(super) enum Attempt {
    /// The first of its id: answer through the sender.
    New(watch::Sender<Answer>, watch::Receiver<Answer>),
    /// Another call of the id is, or was, first.
    Known(watch::Receiver<Answer>),
}

impl Leases {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            inner: Arc::default(),
            max,
        }
    }

    /// # Errors
    /// [`TooMany`]: no more calls are taken.
    pub(super) fn attempt(&self, key: &AttemptKey) -> Result<Attempt, TooMany> {
        let mut inner = self.inner.lock();
        if let Some(known) = inner.attempts.get(key) {
            return Ok(Attempt::Known(known.answer.clone()));
        }
        if inner.attempts.len() + inner.holder.len() >= self.max {
            return Err(TooMany);
        }
        let (sender, receiver) = watch::channel(None);
        // Calls without an id are never repeated.
        if !key.attempt_id.is_empty() {
            let begun = Begun {
                answer: receiver.clone(),
                is_here: false,
                gave_way: false,
            };
            inner.attempts.insert(key.clone(), begun);
        }
        Ok(Attempt::New(sender, receiver))
    }

    /// No other node has the attempt: it takes messages here. False: one that comes first has asked meanwhile, and is to be asked again.
    pub(super) fn begins(&self, key: &AttemptKey) -> bool {
        let mut inner = self.inner.lock();
        let Some(begun) = inner.attempts.get_mut(key) else {
            return true;
        };
        begun.is_here = !std::mem::take(&mut begun.gave_way);
        begun.is_here
    }

    /// The answer of an attempt of this node; `or_asking`: also while the node still asks the others for it.
    pub(super) fn known(
        &self,
        key: &AttemptKey,
        or_asking: bool,
    ) -> Option<watch::Receiver<Answer>> {
        let mut inner = self.inner.lock();
        let begun = inner.attempts.get_mut(key)?;
        let is_known = begun.is_here || or_asking;
        begun.gave_way |= !is_known;
        is_known.then(|| begun.answer.clone())
    }

    pub(super) fn end_attempt(&self, key: &AttemptKey) {
        self.inner.lock().attempts.remove(key);
    }

    /// Notes what a call holds.
    pub(super) fn add(&self, queue: QueueId, held: &[Held], until: Instant) -> LeaseHandle {
        let mut inner = self.inner.lock();
        inner.last += 1;
        let id = inner.last;
        let over = Arc::new(Notify::new());
        for held in held {
            inner.holder.insert((queue, held.position), id);
        }
        let items = held
            .iter()
            .map(|held| (held.position, (*held, until)))
            .collect();
        inner.leases.insert(
            id,
            Lease {
                items,
                over: Arc::clone(&over),
            },
        );
        LeaseHandle {
            leases: self.clone(),
            id,
            queue,
            over,
        }
    }

    /// Deliveries are being settled or returned: they are leased no more.
    pub(super) fn settled(&self, queue: QueueId, items: &[Held]) {
        let inner = &mut *self.inner.lock();
        if inner.holder.is_empty() {
            return;
        }
        for held in items {
            let place = (queue, held.position);
            let Some(id) = inner.holder.get(&place) else {
                continue;
            };
            let Some(lease) = inner.leases.get_mut(id) else {
                continue;
            };
            if lease
                .items
                .get(&held.position)
                .is_some_and(|(known, _)| known == held)
            {
                lease.items.remove(&held.position);
                inner.holder.remove(&place);
                if lease.items.is_empty() {
                    lease.over.notify_one();
                }
            }
        }
    }

    /// Prolongs a lease to `by` from now. False: this node leased no such delivery.
    pub(super) fn extend(&self, queue: QueueId, held: Held, by: Duration) -> bool {
        let inner = &mut *self.inner.lock();
        let lease = inner
            .holder
            .get(&(queue, held.position))
            .and_then(|id| inner.leases.get_mut(id));
        let Some((known, until)) = lease.and_then(|it| it.items.get_mut(&held.position)) else {
            return false;
        };
        if *known != held {
            return false;
        }
        *until = Instant::now() + by;
        true
    }
}

/// One call's lease; its entries go when this is dropped.
pub(super) struct LeaseHandle {
    leases: Leases,
    id: u64,
    queue: QueueId,
    over: Arc<Notify>,
}

impl LeaseHandle {
    /// When the next delivery expires; `None`: nothing is held any more.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let inner = self.leases.inner.lock();
        inner
            .leases
            .get(&self.id)?
            .items
            .values()
            .map(|(_, until)| *until)
            .min()
    }

    /// Waits until nothing is held any more, if that was not so when it was last asked.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }

    /// Takes out what has expired.
    pub(super) fn take_expired(&self, now: Instant) -> Vec<Held> {
        let inner = &mut *self.leases.inner.lock();
        let Some(lease) = inner.leases.get_mut(&self.id) else {
            return Vec::new();
        };
        let expired: Vec<Held> = lease
            .items
            .values()
            .filter(|(_, until)| *until <= now)
            .map(|(held, _)| *held)
            .collect();
        for held in &expired {
            lease.items.remove(&held.position);
            inner.holder.remove(&(self.queue, held.position));
        }
        expired
    }

    /// It was settled or returned through another door.
    pub(super) fn forget(&self, position: Position) {
        let inner = &mut *self.leases.inner.lock();
        if let Some(lease) = inner.leases.get_mut(&self.id)
            && lease.items.remove(&position).is_some()
        {
            inner.holder.remove(&(self.queue, position));
        }
    }
}

impl Drop for LeaseHandle {
    fn drop(&mut self) {
        let inner = &mut *self.leases.inner.lock();
        if let Some(lease) = inner.leases.remove(&self.id) {
            for position in lease.items.into_keys() {
                inner.holder.remove(&(self.queue, position));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use warren_types::Term;

    use super::*;

    const QUEUE: QueueId = QueueId(1);

    fn held(position: u64) -> Held {
        let attempt = warren_types::Attempt {
            term: Term(1),
            number: position,
        };
        Held {
            position: Position(position),
            attempt,
        }
    }

    #[tokio::test]
    async fn lease_is_over_when_all_is_settled() {
        let leases = Leases::new(10);
        let lease = leases.add(
            QUEUE,
            &[held(1), held(2)],
            Instant::now() + Duration::from_secs(30),
        );
        leases.settled(QUEUE, &[held(1)]);
        assert!(lease.over().now_or_never().is_none());
        let mut other = held(2);
        other.attempt.number = 99;
        leases.settled(QUEUE, &[other]);
        assert!(lease.next_expiry().is_some());
        leases.settled(QUEUE, &[held(2)]);
        assert!(lease.over().now_or_never().is_some());
        assert_eq!(lease.next_expiry(), None);
    }

    #[tokio::test]
    async fn expired_deliveries_are_taken_once_and_extended_ones_later() {
        let leases = Leases::new(10);
        let start = Instant::now();
        let lease = leases.add(QUEUE, &[held(1), held(2)], start + Duration::from_secs(30));
        assert!(leases.extend(QUEUE, held(2), Duration::from_secs(60)));
        assert!(!leases.extend(QUEUE, held(3), Duration::from_secs(60)));
        assert_eq!(lease.take_expired(start + Duration::from_secs(29)), vec![]);
        assert_eq!(
            lease.take_expired(start + Duration::from_secs(30)),
            vec![held(1)]
        );
        assert_eq!(lease.take_expired(start + Duration::from_secs(30)), vec![]);
        assert!(lease.next_expiry() >= Some(start + Duration::from_secs(60)));
        lease.forget(Position(2));
        assert_eq!(lease.next_expiry(), None);
    }

    #[tokio::test]
    async fn repeated_attempt_finds_the_first() {
        let leases = Leases::new(2);
        let key = AttemptKey {
            queue: QUEUE,
            consumer_tag: String::new(),
            attempt_id: "a".into(),
        };
        let Ok(Attempt::New(sender, _)) = leases.attempt(&key) else {
            panic!("it is the first")
        };
        let Ok(Attempt::Known(mut answer)) = leases.attempt(&key) else {
            panic!("it is known")
        };
        sender.send_replace(Some(Ok(v1::ReceiveResponse::default())));
        assert!(answer.wait_for(Option::is_some).await.is_ok());
        leases.end_attempt(&key);
        assert!(matches!(leases.attempt(&key), Ok(Attempt::New(..))));
    }

    #[test]
    fn full_table_refuses() {
        let leases = Leases::new(1);
        let until = Instant::now();
        let lease = leases.add(QUEUE, &[held(1)], until);
        let key = AttemptKey {
            queue: QUEUE,
            consumer_tag: String::new(),
            attempt_id: String::new(),
        };
        assert!(matches!(leases.attempt(&key), Err(TooMany)));
        drop(lease);
        assert!(leases.attempt(&key).is_ok());
    }
}
