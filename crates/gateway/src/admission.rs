//! Admission of publishes by bytes: per connection and per node, first come first served. What is admitted holds its bytes until
//! it is confirmed or refused. Not here: who stops reading when bytes run out (each session), credit told to publishers (`grpc`).

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Bytes that can be lent; requests for more than all of them are cut down to that.
#[derive(Debug)]
struct Budget {
    bytes: u32,
    free: Semaphore,
}

impl Budget {
    fn new(bytes: u64) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(bytes).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            bytes,
            free: Semaphore::new(permits.min(Semaphore::MAX_PERMITS)),
        }
    }

    fn charge(&self, bytes: u64) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes)
    }

    async fn take(&self, charge: u32) {
        let permit = self.free.acquire_many(charge).await;
        permit.expect("the semaphore is never closed").forget();
    }

    fn try_take(&self, charge: u32) -> bool {
        self.free
            .try_acquire_many(charge)
            .map(tokio::sync::SemaphorePermit::forget)
            .is_ok()
    }

    fn give_back(&self, charge: u32) {
        self.free
            .add_permits(usize::try_from(charge).expect("usize has 32 bits at least"));
    }
}

/// All of a node's connections together. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    node: Arc<Budget>,
    connection_bytes: u64,
}

impl Admission {
    pub(crate) fn new(node_bytes: u64, connection_bytes: u64) -> Self {
        Self {
            node: Arc::new(Budget::new(node_bytes)),
            connection_bytes,
        }
    }

    /// The share of one more connection.
    pub(crate) fn connection(&self) -> ConnectionAdmission {
        let own = Arc::new(Budget::new(self.connection_bytes));
        ConnectionAdmission {
            node: Arc::clone(&self.node),
            own,
        }
    }
}

/// One connection, for all of its sessions. Cheap to clone. At most one request per session waits.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionAdmission {
    node: Arc<Budget>,
    own: Arc<Budget>,
}

impl ConnectionAdmission {
    /// Waits for `bytes`. More than there ever are count as all there are, so that a large message never sticks.
    ///
    /// # Cancel safety
    /// Nothing is taken unless it completes; the place in the row is lost.
    pub(crate) async fn admit(&self, bytes: u64) -> Permit {
        // The connection's first: one that has used up its own does not wait in the node's row.
        let own = self.own.charge(bytes);
        self.own.take(own).await;
        let mut permit = Permit {
            admission: self.clone(),
            bytes,
            charges: Charges { own, node: 0 },
        };
        let node = self.node.charge(bytes);
        self.node.take(node).await;
        permit.charges.node = node;
        permit
    }

    /// As `admit`, without waiting.
    pub(crate) fn try_admit(&self, bytes: u64) -> Option<Permit> {
        let charges = Charges {
            own: self.own.charge(bytes),
            node: self.node.charge(bytes),
        };
        if !self.own.try_take(charges.own) {
            return None;
        }
        if !self.node.try_take(charges.node) {
            self.own.give_back(charges.own);
            return None;
        }
        Some(Permit {
            admission: self.clone(),
            bytes,
            charges,
        })
    }

    /// A permit for nothing, to merge others into.
    pub(crate) fn nothing(&self) -> Permit {
        Permit {
            admission: self.clone(),
            bytes: 0,
            charges: Charges::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Charges {
    own: u32,
    node: u32,
}

/// Admitted bytes; they are free again when they are released or this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: ConnectionAdmission,
    /// As asked for.
    bytes: u64,
    /// As taken: less than `bytes` if a request was cut down.
    charges: Charges,
}

impl Permit {
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes another permit of the same connection in.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        let more = std::mem::take(&mut other.charges);
        self.charges.own = self.charges.own.saturating_add(more.own);
        self.charges.node = self.charges.node.saturating_add(more.node);
    }

    /// Gives so many bytes back.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        // Where a request was cut down, the last bytes are the ones that were never taken.
        let keep = self.bytes;
        let own = surplus(&mut self.charges.own, keep);
        let node = surplus(&mut self.charges.node, keep);
        self.admission.own.give_back(own);
        self.admission.node.give_back(node);
    }
}

/// What of `charged` is not needed for `keep` bytes any more.
fn surplus(charged: &mut u32, keep: u64) -> u32 {
    let needed = u32::try_from(keep).unwrap_or(u32::MAX).min(*charged);
    let free = *charged - needed;
    *charged = needed;
    free
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn permits_of_a_connection_end_at_its_share() {
        let admission = Admission::new(1_000, 100);
        let (one, other) = (admission.connection(), admission.connection());
        let mut held = one.admit(100).await;
        assert!(one.try_admit(1).is_none());
        assert!(other.try_admit(100).is_some());
        held.release(40);
        assert_eq!(held.bytes(), 60);
        assert!(one.try_admit(40).is_some());
    }

    #[tokio::test]
    async fn permits_of_the_node_end_at_its_share() {
        let admission = Admission::new(150, 100);
        let (one, other) = (admission.connection(), admission.connection());
        let held = one.admit(100).await;
        assert!(other.try_admit(51).is_none());
        assert!(other.try_admit(50).is_some());
        drop(held);
        assert!(other.try_admit(100).is_some());
    }

    #[tokio::test]
    async fn waiting_is_first_come_first_served() {
        let connection = Admission::new(100, 100).connection();
        let held = connection.admit(100).await;
        let mut large = Box::pin(connection.admit(90));
        let mut small = Box::pin(connection.admit(20));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(small.as_mut().now_or_never().is_none());
        drop(held);
        let large = large.await;
        assert!(small.as_mut().now_or_never().is_none());
        drop(large);
        assert_eq!(small.await.bytes(), 20);
    }

    #[tokio::test]
    async fn more_than_there_is_takes_all_and_gives_all_back() {
        let connection = Admission::new(100, 50).connection();
        let mut held = connection.admit(1_000).await;
        assert!(connection.try_admit(1).is_none());
        held.release(990);
        assert!(connection.try_admit(40).is_some());
        assert!(connection.try_admit(41).is_none());
        drop(held);
        assert!(connection.try_admit(50).is_some());
    }

    #[tokio::test]
    async fn merged_permit_gives_back_what_both_took() {
        let connection = Admission::new(100, 100).connection();
        let mut all = connection.nothing();
        all.merge(connection.admit(30).await);
        all.merge(connection.admit(50).await);
        assert!(connection.try_admit(21).is_none());
        drop(all);
        assert!(connection.try_admit(100).is_some());
    }

    #[tokio::test]
    async fn cancelled_wait_takes_nothing() {
        let connection = Admission::new(100, 1_000).connection();
        let held = connection.admit(100).await;
        assert!(connection.admit(50).now_or_never().is_none());
        drop(held);
        assert!(connection.try_admit(100).is_some());
    }
}
