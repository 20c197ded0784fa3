//! Receipts: a delivery's name that is valid on any node. Opaque to clients: version, shard, queue, position, attempt, and a checksum
//! keyed by the cluster, so that one made up or of another cluster is told from one that is late. Pure. Not here: who owns it.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use warren_shard::Held;
use warren_shard::api::Target;
use warren_types::{Attempt, ClusterId, Position, QueueId, ShardId, Term};

const VERSION: u8 = 1;
pub(super) const RECEIPT_BYTES: usize = 1 + 4 + 5 * 8;
const CHECKED_BYTES: usize = RECEIPT_BYTES - 8;

/// One delivery, as its receipt names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Receipt {
    pub(super) target: Target,
    pub(super) held: Held,
}

/// The bytes are no receipt of this cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the receipt is not one of this cluster")]
pub(super) struct BadReceipt;

impl Receipt {
    /// Appends it.
    pub(super) fn write(&self, cluster: ClusterId, out: &mut BytesMut) {
        let mut bytes = [0_u8; CHECKED_BYTES];
        let mut place = bytes.as_mut_slice();
        place.put_u8(VERSION);
        place.put_u32(self.target.shard.0);
        place.put_u64(self.target.queue.0);
        place.put_u64(self.held.position.0);
        place.put_u64(self.held.attempt.term.0);
        place.put_u64(self.held.attempt.number);
        out.put_slice(&bytes);
        out.put_u64(checksum(cluster, &bytes));
    }

    pub(super) fn to_bytes(self, cluster: ClusterId) -> Bytes {
        let mut out = BytesMut::with_capacity(RECEIPT_BYTES);
        self.write(cluster, &mut out);
        out.freeze()
    }

    /// # Errors
    /// [`BadReceipt`]: cut, altered, made up, or of another cluster or version.
    pub(super) fn read(cluster: ClusterId, receipt: &[u8]) -> Result<Self, BadReceipt> {
        let (checked, sum) = receipt.split_at_checked(CHECKED_BYTES).ok_or(BadReceipt)?;
        let sum: [u8; 8] = sum.try_into().map_err(|_| BadReceipt)?;
        if u64::from_be_bytes(sum) != checksum(cluster, checked) {
            return Err(BadReceipt);
        }
        let (&version, mut rest) = checked.split_first().ok_or(BadReceipt)?;
        if version != VERSION {
            return Err(BadReceipt);
        }
        let (shard, rest_after) = rest.split_first_chunk().ok_or(BadReceipt)?;
        rest = rest_after;
        let mut next = || {
            let (value, rest_after) = rest.split_first_chunk().ok_or(BadReceipt)?;
            rest = rest_after;
            Ok(u64::from_be_bytes(*value))
        };
        let queue = QueueId(next()?);
        let position = Position(next()?);
        let attempt = Attempt {
            term: Term(next()?),
            number: next()?,
        };
        let target = Target {
            queue,
            shard: ShardId(u32::from_be_bytes(*shard)),
        };
        Ok(Self {
            target,
            held: Held { position, attempt },
        })
    }
}

pub(super) fn checksum(cluster: ClusterId, bytes: &[u8]) -> u64 {
    let key = cluster.0.to_be_bytes();
    let words = key.chunks(8).chain(bytes.chunks(8));
    words.fold(0x7761_7272_656e_7265, |sum, word| {
        let value = word
            .iter()
            .fold(1_u64, |value, byte| value << 8 | u64::from(*byte));
        warren_types::mix(sum.rotate_left(23) ^ value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(0x1234_5678_9abc_def0_1234_5678_9abc_def0);

    fn receipt() -> Receipt {
        Receipt {
            target: Target {
                queue: QueueId(77),
                shard: ShardId(16),
            },
            held: Held {
                position: Position(u64::MAX),
                attempt: Attempt {
                    term: Term(3),
                    number: 9,
                },
            },
        }
    }

    #[test]
    fn receipt_survives_the_trip() {
        let bytes = receipt().to_bytes(CLUSTER);
        assert_eq!(bytes.len(), RECEIPT_BYTES);
        assert_eq!(Receipt::read(CLUSTER, &bytes), Ok(receipt()));
    }

    #[test]
    fn altered_receipt_is_refused_whatever_byte_it_was() {
        let bytes = receipt().to_bytes(CLUSTER);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.to_vec();
                altered[at] ^= 1 << bit;
                assert_eq!(
                    Receipt::read(CLUSTER, &altered),
                    Err(BadReceipt),
                    "byte {at} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn cut_long_and_foreign_receipts_are_refused() {
        let bytes = receipt().to_bytes(CLUSTER);
        for length in 0..bytes.len() {
            assert_eq!(Receipt::read(CLUSTER, &bytes[..length]), Err(BadReceipt));
        }
        let mut long = bytes.to_vec();
        long.push(0);
        assert_eq!(Receipt::read(CLUSTER, &long), Err(BadReceipt));
        assert_eq!(Receipt::read(ClusterId(1), &bytes), Err(BadReceipt));
    }
}
