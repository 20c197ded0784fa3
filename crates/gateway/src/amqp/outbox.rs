//! What is on its way to the client: deliveries not encoded yet, and those encoded whose bytes are not in the socket.
//! Not here: encoding (`deliver`), the socket (`wire`).

use std::collections::VecDeque;

use warren_shard::api::{Delivery, Target};
use warren_shard::{Credit, Held};
use warren_types::{ConsumerId, Position};

/// Encoded bytes beyond which deliveries wait.
pub(super) const OUT_BYTES_MAX: usize = 1 << 20;
/// Deliveries of one consumer are one entry until they have so many bytes.
const ENTRY_BYTES: u64 = 64 * 1024;

/// A delivery that is settled by being written, or some of one consumer that give credit back by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flying {
    pub(super) consumer: ConsumerId,
    pub(super) target: Target,
    pub(super) held: Held,
    pub(super) credit: Credit,
    pub(super) no_ack: bool,
}

/// Bounded by the credit of the connection's consumers.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    backlog: VecDeque<(ConsumerId, VecDeque<Delivery>)>,
    /// With the count of output bytes up to its end.
    flying: VecDeque<(u64, Flying)>,
    /// Output bytes that have gone into the socket.
    written: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, consumer: ConsumerId, deliveries: Vec<Delivery>) {
        match self.backlog.back_mut() {
            Some((last, waiting)) if *last == consumer => waiting.extend(deliveries),
            _ => self.backlog.push_back((consumer, deliveries.into())),
        }
    }

    pub(super) fn next(&mut self) -> Option<(ConsumerId, Delivery)> {
        loop {
            let (consumer, waiting) = self.backlog.front_mut()?;
            if let Some(delivery) = waiting.pop_front() {
                return Some((*consumer, delivery));
            }
            self.backlog.pop_front();
        }
    }

    /// Deliveries of one consumer that are not encoded yet.
    pub(super) fn waiting(&self, consumer: ConsumerId) -> usize {
        let waiting = self.backlog.iter().filter(|(of, _)| *of == consumer);
        waiting.map(|(_, deliveries)| deliveries.len()).sum()
    }

    /// Takes out what waits for one consumer.
    pub(super) fn take(&mut self, consumer: ConsumerId) -> Vec<Delivery> {
        let mut taken = Vec::new();
        self.backlog.retain_mut(|(of, waiting)| {
            let hit = *of == consumer;
            if hit {
                taken.extend(waiting.drain(..));
            }
            !hit
        });
        taken
    }

    /// Takes out one delivery that waits.
    pub(super) fn remove(&mut self, consumer: ConsumerId, position: Position) -> Option<Delivery> {
        let waiting = self.backlog.iter_mut().filter(|(of, _)| *of == consumer);
        for (_, waiting) in waiting {
            if let Some(at) = waiting.iter().position(|it| it.position == position) {
                return waiting.remove(at);
            }
        }
        None
    }

    /// A delivery was appended to the output, which has so many bytes now.
    pub(super) fn encoded(&mut self, output_bytes: usize, it: Flying) {
        let end = self.written + u64::try_from(output_bytes).unwrap_or(u64::MAX);
        if let Some((last_end, last)) = self.flying.back_mut()
            && last.consumer == it.consumer
            && !last.no_ack
            && !it.no_ack
            && last.credit.bytes < ENTRY_BYTES
        {
            last.credit.messages += it.credit.messages;
            last.credit.bytes = last.credit.bytes.saturating_add(it.credit.bytes);
            *last_end = end;
            return;
        }
        self.flying.push_back((end, it));
    }

    /// Deliveries without ack of one consumer that are encoded and not in the socket.
    pub(super) fn flying_without_ack(&self, consumer: ConsumerId) -> usize {
        let flying = self.flying.iter().map(|(_, it)| it);
        flying
            .filter(|it| it.consumer == consumer && it.no_ack)
            .count()
    }

    /// Takes those out.
    pub(super) fn take_flying_without_ack(&mut self, consumer: ConsumerId) -> Vec<Flying> {
        let mut taken = Vec::new();
        self.flying.retain(|(_, it)| {
            let hit = it.consumer == consumer && it.no_ack;
            if hit {
                taken.push(*it);
            }
            !hit
        });
        taken
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// The next entry that is in the socket, whole.
    pub(super) fn landed(&mut self) -> Option<Flying> {
        let (end, _) = self.flying.front()?;
        if *end > self.written {
            return None;
        }
        self.flying.pop_front().map(|(_, it)| it)
    }
}

#[cfg(test)]
mod tests {
    use warren_types::{QueueId, ShardId};

    use super::*;

    fn flying(position: u64) -> Flying {
        Flying {
            consumer: ConsumerId(1),
            target: Target {
                queue: QueueId(1),
                shard: ShardId(1),
            },
            held: Held {
                position: Position(position),
                attempt: Default::default(),
            },
            credit: Credit {
                messages: 1,
                bytes: 1,
            },
            no_ack: true,
        }
    }

    #[test]
    fn delivery_lands_when_its_last_byte_is_written() {
        let mut outbox = Outbox::default();
        outbox.encoded(10, flying(1));
        outbox.encoded(25, flying(2));
        outbox.wrote(9);
        assert!(outbox.landed().is_none());
        outbox.wrote(1);
        assert_eq!(outbox.landed().unwrap().held.position, Position(1));
        assert!(outbox.landed().is_none());
        // 15 bytes are left in the output; 5 more come.
        outbox.encoded(20, flying(3));
        outbox.wrote(20);
        assert_eq!(outbox.landed().unwrap().held.position, Position(2));
        assert_eq!(outbox.landed().unwrap().held.position, Position(3));
    }

    #[test]
    fn deliveries_with_ack_land_together_and_give_all_their_credit() {
        let mut outbox = Outbox::default();
        let with_ack = |position| Flying {
            no_ack: false,
            ..flying(position)
        };
        outbox.encoded(10, with_ack(1));
        outbox.encoded(20, with_ack(2));
        outbox.encoded(30, flying(3));
        outbox.encoded(40, with_ack(4));
        outbox.wrote(19);
        assert!(outbox.landed().is_none());
        outbox.wrote(21);
        let landed: Vec<u64> = std::iter::from_fn(|| outbox.landed())
            .map(|it| it.credit.bytes)
            .collect();
        assert_eq!(landed, [2, 1, 1]);
    }
}
