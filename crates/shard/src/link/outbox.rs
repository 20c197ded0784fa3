//! A queue from tasks that must not wait (a shard's leader, an apply thread) to one task that takes all there is.
//! Not here: a limit of its own. Whoever pushes is bounded by what the taker asked for: credit, unconfirmed batches, unanswered requests.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The pushing and the taking end in one; cheap to clone.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue {
                    items: VecDeque::new(),
                    closed: false,
                }),
                filled: Notify::new(),
                drained: Notify::new(),
            }),
        }
    }
}

impl<T> Outbox<T> {
    /// Adds one item; dropped if the taker has closed the box.
    pub(crate) fn push(&self, item: T) {
        self.push_all(std::iter::once(item));
    }

    pub(crate) fn push_all(&self, items: impl IntoIterator<Item = T>) {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return;
        }
        queue.items.extend(items);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Waits until there is something and takes all of it; `None` when the box is closed and empty. One taker only.
    ///
    /// # Cancel safety
    /// Nothing is taken unless the future completes.
    pub(crate) async fn take(&self) -> Option<VecDeque<T>> {
        loop {
            if let Some(taken) = self.try_take() {
                return taken;
            }
            self.shared.filled.notified().await;
        }
    }

    /// `None`: empty, wait. `Some(None)`: closed.
    fn try_take(&self) -> Option<Option<VecDeque<T>>> {
        let mut queue = self.shared.queue.lock();
        if !queue.items.is_empty() {
            let taken = std::mem::take(&mut queue.items);
            drop(queue);
            self.shared.drained.notify_waiters();
            return Some(Some(taken));
        }
        queue.closed.then_some(None)
    }

    /// Takes what is there, without waiting.
    #[must_use]
    pub(crate) fn take_now(&self) -> VecDeque<T> {
        self.try_take().flatten().unwrap_or_default()
    }

    /// Waits until fewer than `limit` items lie here: for pushers that can wait.
    pub(crate) async fn below(&self, limit: usize) {
        loop {
            let drained = self.shared.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let queue = self.shared.queue.lock();
                if queue.closed || queue.items.len() < limit {
                    return;
                }
            }
            drained.await;
        }
    }

    /// Items that lie here.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.shared.queue.lock().items.len()
    }

    /// Whether both are ends of the same box.
    #[must_use]
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Another one than that of any other box there is.
    #[must_use]
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    /// No more is taken in; the taker sees the end once it has what is there.
    pub(crate) fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_one();
        self.shared.drained.notify_waiters();
    }

    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.queue.lock().closed
    }
}
