//! What a body begins with: who sent it, its number, and when. Times are of this process's own clock: publishers and consumers
//! are in one process.

use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};

const MAGIC: u32 = 0x5741_5252;

/// The least a body must hold.
pub(super) const HEADER_BYTES: usize = 24;

/// Who sent a message, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) publisher: u32,
    /// From 1.
    pub(super) sequence: u64,
    /// Nanoseconds of the run's clock.
    pub(super) sent_ns: u64,
}

impl Header {
    /// A body of this size that starts with it.
    pub(super) fn body(self, size_bytes: usize) -> Bytes {
        let mut body = BytesMut::zeroed(size_bytes.max(HEADER_BYTES));
        {
            let mut out: &mut [u8] = &mut body;
            out.put_u32(MAGIC);
            out.put_u32(self.publisher);
            out.put_u64(self.sequence);
            out.put_u64(self.sent_ns);
        }
        body.freeze()
    }

    /// None for a body of another program.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (magic, rest) = body.split_first_chunk::<4>()?;
        if u32::from_be_bytes(*magic) != MAGIC {
            return None;
        }
        let (publisher, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (sent, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            publisher: u32::from_be_bytes(*publisher),
            sequence: u64::from_be_bytes(*sequence),
            sent_ns: u64::from_be_bytes(*sent),
        })
    }
}

/// The run's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    pub(super) fn ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn at_ns(&self, ns: u64) -> Instant {
        self.started + std::time::Duration::from_nanos(ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_a_body_of_any_size() {
        let header = Header {
            publisher: 3,
            sequence: 1 << 40,
            sent_ns: 77,
        };
        for size in [0, HEADER_BYTES, 1000] {
            assert_eq!(Header::read(&header.body(size)), Some(header));
        }
        assert_eq!(Header::read(b"something else entirely!"), None);
        assert_eq!(Header::read(b""), None);
    }
}
