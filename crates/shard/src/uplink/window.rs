//! How many bytes of a node's publishes may be under way to a shard's leader: as many as keep it at work, no more. What is under way is
//! served in order, so whoever comes next waits for all of it; what is not yet under way takes turns (`waiting`).
//! Not here: the batches themselves (`pending`).

use std::time::Duration;

/// Always allowed: a few batches, so that the next is there when one is done.
const BYTES_MIN: usize = 512 << 10;
/// Never more, however far away the leader is.
const BYTES_MAX: usize = 32 << 20;
/// Of a result's time, what is no more than a quarter over the fastest and this, is not yet a queue; twice that is one.
const NOT_QUEUED: Duration = Duration::from_millis(1);

/// Grows slowly while results come about as fast as they can, shrinks at once when they do not. That the fastest result shows the distance to
/// the leader, and what is added to it queues, is the idea of TCP Vegas (Brakmo and Peterson, 1995).
#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    /// The fastest result by this link.
    fastest: Option<Duration>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bytes: BYTES_MIN,
            fastest: None,
        }
    }
}

impl Window {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A result for so many bytes took so long. `was_full`: publishes may have waited for room.
    pub(super) fn answered(&mut self, bytes: usize, took: Duration, was_full: bool) {
        let fastest = self.fastest.map_or(took, |known| known.min(took));
        self.fastest = Some(fastest);
        let queued = took.saturating_sub(fastest);
        let none = fastest / 4 + NOT_QUEUED;
        if queued > none * 2 {
            self.bytes = (self.bytes - self.bytes / 8).max(BYTES_MIN);
        } else if was_full && queued <= none {
            self.bytes = self.bytes.saturating_add(bytes / 8).min(BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A leader this far away that stores so many bytes per millisecond, and a publisher without end: the window in the end, and how long
    /// the last result took.
    fn flood(distance: Duration, per_ms: usize) -> (usize, Duration) {
        let (mut window, mut took) = (Window::default(), distance);
        window.answered(1_000, distance, false);
        for _ in 0..4_000 {
            let stored = u32::try_from(window.bytes() / per_ms).unwrap();
            took = distance.max(MS * stored);
            window.answered(128 << 10, took, true);
        }
        (window.bytes(), took)
    }

    #[test]
    fn window_near_leader_stays_small_however_much_is_published() {
        let (bytes, took) = flood(2 * MS, 50 << 10);
        assert!(bytes <= 2 * BYTES_MIN, "{bytes}");
        assert!(took <= 15 * MS, "{took:?}");
    }

    #[test]
    fn window_far_leader_is_kept_at_work() {
        // 40 ms away at 100 KiB per millisecond: 4,000 KiB are always under way.
        let (bytes, took) = flood(40 * MS, 100 << 10);
        assert!(bytes >= 4_000 << 10, "{bytes}");
        assert!(took <= 70 * MS, "{took:?}");
    }

    #[test]
    fn window_leader_as_fast_as_one_likes_has_a_bound() {
        let (bytes, _) = flood(1_000 * MS, 1 << 30);
        assert_eq!(bytes, BYTES_MAX);
    }

    #[test]
    fn window_of_who_never_fills_it_stays() {
        let mut window = Window::default();
        for _ in 0..1_000 {
            window.answered(1_000, MS, false);
        }
        assert_eq!(window.bytes(), BYTES_MIN);
    }
}
