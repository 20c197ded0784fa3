//! What the leader does to the facts of publishes before they are proposed: durations become times, refused messages lose their bytes.
//! Not here: which are refused (`rooms`), the entry (`batcher`).

use bytes::{Bytes, BytesMut};
use warren_queue::dispatch::DELAY_MS_MAX;
use warren_queue::entry::IndexRange;
use warren_types::{Facts, ShardTime};

/// Durations become shard time. A message lives for the lesser of its own time and the queue's, from when it is due (features B43).
pub(super) fn set_times(facts: &mut Facts, now: ShardTime, ttl_ms: Option<u64>) {
    for due in facts.due.iter_mut().flatten() {
        due.0 = due.0.min(DELAY_MS_MAX).saturating_add(now.0);
    }
    if ttl_ms.is_some() {
        facts.expiry.resize(facts.size.len(), None);
    }
    for (index, expiry) in facts.expiry.iter_mut().enumerate() {
        let own = expiry.map(|it| it.0);
        let Some(life) = own.into_iter().chain(ttl_ms).min() else {
            continue;
        };
        let from = facts.due.get(index).copied().flatten().unwrap_or(now);
        *expiry = Some(ShardTime(from.0.saturating_add(life)));
    }
}

/// Takes out the bytes of messages that are refused.
pub(super) fn without(facts: &mut Facts, payload: &Bytes, full: &[IndexRange]) -> Bytes {
    let mut kept = BytesMut::with_capacity(payload.len());
    let mut from = 0;
    for (index, size) in (0_u32..).zip(&mut facts.size) {
        let to = from + *size as usize;
        if full
            .iter()
            .any(|it| (it.first..it.first + it.count).contains(&index))
        {
            *size = 0;
        } else if let Some(message) = payload.get(from..to) {
            kept.extend_from_slice(message);
        }
        from = to;
    }
    for refused in full {
        let (first, count) = (refused.first as usize, refused.count as usize);
        let sizes = facts.body_size.iter_mut().skip(first);
        sizes.take(count).for_each(|it| *it = 0);
    }
    kept.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(sizes: &[u32]) -> Facts {
        Facts {
            size: sizes.to_vec(),
            body_size: sizes.to_vec(),
            ..Facts::default()
        }
    }

    #[test]
    fn messages_live_for_the_lesser_time_counted_from_when_they_are_due() {
        let mut facts = facts(&[1, 1, 1, 1]);
        facts.expiry = vec![None, Some(ShardTime(50)), Some(ShardTime(500)), None];
        facts.due = vec![None, None, None, Some(ShardTime(1_000))];
        set_times(&mut facts, ShardTime(10_000), Some(100));
        let at = |time| Some(ShardTime(time));
        let expected = vec![at(10_100), at(10_050), at(10_100), at(11_100)];
        assert_eq!(facts.expiry, expected);
        assert_eq!(facts.due, vec![None, None, None, at(11_000)]);
    }

    #[test]
    fn refused_messages_keep_their_index_and_lose_their_bytes() {
        let mut facts = facts(&[2, 3, 4]);
        let payload = Bytes::from_static(b"aabbbcccc");
        let full = [IndexRange { first: 1, count: 1 }];
        let kept = without(&mut facts, &payload, &full);
        assert_eq!(&kept[..], b"aacccc");
        assert_eq!(facts.size, vec![2, 0, 4]);
        assert_eq!(facts.body_size, vec![2, 0, 4]);
    }
}
