//! The credit of one consumer on its session: what the client has granted, what of it is lent to the shard's leader, and what must not
//! be lent because the client does not read. Pure. Not here: the leader's books (`queue`), sending (`consume`).
//!
//! Credit is lent in messages as far as the client's goes, in bytes only as far as there is room to write: so what waits for a slow
//! client is bounded, whatever it has granted.

use warren_shard::Credit;

/// Bytes are lent again when so much of the window is free.
const LEND_BYTES_PART: i128 = 2;
/// More bytes than this are as good as unlimited.
const BYTES_MAX: i128 = 1 << 62;

/// The client asked for more than is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CreditError {
    /// The frame grants nothing.
    Nothing,
    /// With it the client would have more than the limit.
    TooMuch { limit_messages: u32 },
}

#[derive(Debug)]
pub(super) struct ConsumerCredit {
    /// Not used by deliveries. Negative after a prefetch was lowered below what is held.
    messages: i64,
    bytes: i128,
    /// 0: the client grants by hand.
    prefetch: u32,
    messages_max: u32,
    /// The leader has so many messages that it has not used,
    lent_messages: u64,
    /// and so many bytes: fewer than none after a message that was larger, which the leader's books know, too.
    lent_bytes: i128,
    /// Delivered, not written yet.
    unwritten_bytes: u64,
    window_bytes: u64,
    /// Settles without a result; beyond the limit credit waits for them.
    uncommitted: u64,
    /// Freed by settles, waiting for others to commit.
    waiting: Credit,
    is_recalling: bool,
}

impl ConsumerCredit {
    /// # Errors
    /// The prefetch or the credit is beyond the limit.
    pub(super) fn new(
        prefetch: u32,
        credit: Credit,
        messages_max: u32,
        window_bytes: u64,
    ) -> Result<Self, CreditError> {
        let messages = if prefetch == 0 {
            credit.messages
        } else {
            u64::from(prefetch)
        };
        if messages > u64::from(messages_max) {
            return Err(CreditError::TooMuch {
                limit_messages: messages_max,
            });
        }
        // With a prefetch the number of messages is the limit, unless bytes are named.
        let bytes = if prefetch != 0 && credit.bytes == 0 {
            BYTES_MAX
        } else {
            i128::from(credit.bytes).min(BYTES_MAX)
        };
        Ok(Self {
            messages: i64::try_from(messages).unwrap_or(i64::MAX),
            bytes,
            prefetch,
            messages_max,
            lent_messages: 0,
            lent_bytes: 0,
            unwritten_bytes: 0,
            window_bytes,
            uncommitted: 0,
            waiting: Credit::default(),
            is_recalling: false,
        })
    }

    /// The client is back on a new stream and says anew what it wants; it holds so much already. What is lent stays lent.
    ///
    /// # Errors
    /// The prefetch or the credit is beyond the limit.
    pub(super) fn reopen(
        &mut self,
        prefetch: u32,
        credit: Credit,
        held: Credit,
    ) -> Result<(), CreditError> {
        let mut anew = Self::new(prefetch, credit, self.messages_max, self.window_bytes)?;
        if prefetch != 0 {
            anew.messages -= i64::try_from(held.messages).unwrap_or(i64::MAX);
            anew.bytes -= i128::from(held.bytes);
        }
        let (lent_messages, lent_bytes) = (self.lent_messages, self.lent_bytes);
        let is_recalling = self.is_recalling;
        *self = Self {
            lent_messages,
            lent_bytes,
            is_recalling,
            unwritten_bytes: self.unwritten_bytes,
            uncommitted: self.uncommitted,
            ..anew
        };
        Ok(())
    }

    /// The shard's leader has changed: what was to be called back is asked anew.
    pub(super) fn forget_recall(&mut self) {
        self.is_recalling = false;
    }

    /// The greater of the prefetch and 1,000.
    pub(super) fn uncommitted_max(&self) -> u32 {
        self.prefetch.max(1_000)
    }

    /// The client grants more.
    ///
    /// # Errors
    /// Nothing is granted.
    pub(super) fn grant(&mut self, credit: Credit) -> Result<(), CreditError> {
        if credit == Credit::default() {
            return Err(CreditError::Nothing);
        }
        let messages = self
            .messages
            .saturating_add(i64::try_from(credit.messages).unwrap_or(i64::MAX));
        if messages > i64::from(self.messages_max) {
            return Err(CreditError::TooMuch {
                limit_messages: self.messages_max,
            });
        }
        self.messages = messages;
        self.add_bytes(credit.bytes);
        Ok(())
    }

    fn add_bytes(&mut self, bytes: u64) {
        self.bytes = (self.bytes + i128::from(bytes)).min(BYTES_MAX);
    }

    /// A new prefetch, in force at once.
    ///
    /// # Errors
    /// It is beyond the limit, or zero: credit by hand is chosen when the stream is opened.
    pub(super) fn set_prefetch(&mut self, prefetch: u32) -> Result<(), CreditError> {
        if prefetch == 0 {
            return Err(CreditError::Nothing);
        }
        if prefetch > self.messages_max {
            return Err(CreditError::TooMuch {
                limit_messages: self.messages_max,
            });
        }
        self.messages += i64::from(prefetch) - i64::from(self.prefetch);
        self.prefetch = prefetch;
        Ok(())
    }

    /// What is to be lent to the leader now; noted as lent.
    pub(super) fn lend(&mut self) -> Option<Credit> {
        if self.is_recalling {
            return None;
        }
        let messages = u64::try_from(self.messages)
            .unwrap_or(0)
            .saturating_sub(self.lent_messages);
        let window = i128::from(self.window_bytes);
        let room = window - i128::from(self.unwritten_bytes);
        let bytes = room.min(self.bytes) - self.lent_bytes;
        let is_short = self.lent_bytes <= 0 || bytes >= window / LEND_BYTES_PART;
        let bytes = match u64::try_from(bytes) {
            Ok(bytes) if is_short || messages > 0 => bytes,
            Ok(_) | Err(_) => 0,
        };
        let add = Credit { messages, bytes };
        if add == Credit::default() {
            return None;
        }
        self.lent_messages += add.messages;
        self.lent_bytes += i128::from(add.bytes);
        Some(add)
    }

    /// How much must be called back, since the client has lowered its prefetch; noted as being called back.
    pub(super) fn recall(&mut self) -> Option<Credit> {
        let keep = u64::try_from(self.messages).unwrap_or(0);
        let surplus = self.lent_messages.saturating_sub(keep);
        if surplus == 0 || self.is_recalling {
            return None;
        }
        self.is_recalling = true;
        Some(Credit {
            messages: surplus,
            bytes: 0,
        })
    }

    /// Everything is to be called back.
    pub(super) fn recall_all(&mut self) -> Credit {
        self.is_recalling = true;
        Credit {
            messages: u64::MAX,
            bytes: u64::MAX,
        }
    }

    /// The leader has given credit back.
    pub(super) fn recalled(&mut self, credit: Credit) {
        self.is_recalling = false;
        self.lent_messages = self.lent_messages.saturating_sub(credit.messages);
        let there = self.lent_bytes.max(0);
        self.lent_bytes -= i128::from(credit.bytes).min(there);
    }

    /// A delivery came and waits to be written.
    pub(super) fn delivered(&mut self, bytes: u64) {
        self.lent_messages = self.lent_messages.saturating_sub(1);
        self.lent_bytes -= i128::from(bytes);
        self.unwritten_bytes = self.unwritten_bytes.saturating_add(bytes);
        self.messages -= 1;
        self.bytes -= i128::from(bytes);
        if self.prefetch == 0 {
            // A message may overdraw the bytes once: the next grant counts in full.
            self.bytes = self.bytes.max(0);
        }
    }

    pub(super) fn written(&mut self, bytes: u64) {
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(bytes);
    }

    /// The client has settled a delivery of so many bytes.
    pub(super) fn settled(&mut self, bytes: u64) {
        self.uncommitted += 1;
        if self.prefetch == 0 {
            return;
        }
        self.waiting.messages += 1;
        self.waiting.bytes = self.waiting.bytes.saturating_add(bytes);
        self.free();
    }

    /// So many settles have their results.
    pub(super) fn committed(&mut self, settles: u64) {
        self.uncommitted = self.uncommitted.saturating_sub(settles);
        self.free();
    }

    /// A delivery was settled through another door, or never reached the client.
    pub(super) fn returned(&mut self, bytes: u64) {
        if self.prefetch != 0 {
            self.messages += 1;
            self.add_bytes(bytes);
        }
    }

    fn free(&mut self) {
        if self.uncommitted <= u64::from(self.uncommitted_max()) {
            let freed = std::mem::take(&mut self.waiting);
            self.messages = self
                .messages
                .saturating_add(i64::try_from(freed.messages).unwrap_or(i64::MAX));
            self.add_bytes(freed.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 1_000;

    fn credit(messages: u64, bytes: u64) -> Credit {
        Credit { messages, bytes }
    }

    fn by_hand(messages: u64, bytes: u64) -> ConsumerCredit {
        ConsumerCredit::new(0, credit(messages, bytes), 100_000, WINDOW).unwrap()
    }

    fn prefetch(messages: u32) -> ConsumerCredit {
        ConsumerCredit::new(messages, Credit::default(), 100_000, WINDOW).unwrap()
    }

    #[test]
    fn nothing_is_lent_that_was_not_granted() {
        assert_eq!(by_hand(0, 0).lend(), None);
        let mut some = by_hand(5, 400);
        assert_eq!(some.lend(), Some(credit(5, 400)));
        assert_eq!(some.lend(), None);
        some.delivered(100);
        assert_eq!(some.lend(), None);
        some.grant(credit(2, 50)).unwrap();
        assert_eq!(some.lend(), Some(credit(2, 50)));
    }

    #[test]
    fn bytes_are_lent_as_far_as_there_is_room_to_write() {
        let mut some = by_hand(50, 1_000_000);
        assert_eq!(some.lend(), Some(credit(50, WINDOW)));
        some.delivered(600);
        some.delivered(600);
        assert_eq!(some.lend(), None);
        some.written(600);
        // 200 of them make good what the second message overdrew.
        assert_eq!(some.lend(), Some(credit(0, 600)));
        some.written(600);
        assert_eq!(some.lend(), Some(credit(0, 600)));
    }

    #[test]
    fn messages_larger_than_the_window_come_one_after_the_other() {
        for mut some in [prefetch(10), by_hand(10, 1_000_000)] {
            // As the leader counts, which hands out while something is left.
            let mut leader = 0;
            for _ in 0..5 {
                leader += some.lend().map_or(0, |it| i128::from(it.bytes));
                assert!(leader > 0, "{some:?}");
                leader -= 3 * i128::from(WINDOW);
                some.delivered(3 * WINDOW);
                assert_eq!(some.lend().map_or(0, |it| it.bytes), 0, "it is not written");
                some.written(3 * WINDOW);
            }
        }
    }

    #[test]
    fn prefetch_is_refilled_by_settles() {
        let mut some = prefetch(2);
        assert_eq!(some.lend(), Some(credit(2, WINDOW)));
        some.delivered(10);
        some.delivered(10);
        some.written(20);
        assert_eq!(some.lend().map(|it| it.messages), None);
        some.settled(10);
        assert_eq!(some.lend().map(|it| it.messages), Some(1));
    }

    #[test]
    fn credit_waits_for_commits_when_too_many_settles_are_under_way() {
        let mut some = prefetch(1);
        for _ in 0..1_001 {
            assert_eq!(some.lend().map(|it| it.messages), Some(1));
            some.delivered(1);
            some.written(1);
            some.settled(1);
        }
        assert!(some.lend().is_none_or(|it| it.messages == 0));
        some.committed(1);
        assert_eq!(some.lend().map(|it| it.messages), Some(1));
    }

    #[test]
    fn lowered_prefetch_is_called_back() {
        let mut some = prefetch(10);
        assert!(some.lend().is_some());
        some.delivered(1);
        some.set_prefetch(4).unwrap();
        assert_eq!(some.recall(), Some(credit(6, 0)));
        assert_eq!(some.recall(), None);
        assert_eq!(some.lend(), None);
        some.recalled(credit(6, 0));
        assert!(some.lend().is_none_or(|it| it.messages == 0));
        some.settled(1);
        assert_eq!(some.lend().map(|it| it.messages), Some(1));
    }

    #[test]
    fn lowered_prefetch_below_what_is_held_sends_nothing() {
        let mut some = prefetch(3);
        assert!(some.lend().is_some());
        for _ in 0..3 {
            some.delivered(1);
            some.written(1);
        }
        some.set_prefetch(1).unwrap();
        for _ in 0..2 {
            some.settled(1);
            assert!(some.lend().is_none_or(|it| it.messages == 0));
        }
        some.settled(1);
        assert_eq!(some.lend().map(|it| it.messages), Some(1));
    }

    #[test]
    fn large_message_overdraws_once_and_never_sticks() {
        let mut some = by_hand(10, 100);
        assert_eq!(some.lend(), Some(credit(10, 100)));
        some.delivered(5_000);
        some.written(5_000);
        // The leader is at 4,900 below nothing, and at nothing then.
        assert_eq!(some.lend(), Some(credit(0, 4_900)));
        assert_eq!(some.lend(), None);
        some.grant(credit(1, 100)).unwrap();
        assert_eq!(some.lend(), Some(credit(1, 100)));
    }

    #[test]
    fn absurd_grants_are_refused() {
        let too_much = CreditError::TooMuch {
            limit_messages: 100_000,
        };
        assert_eq!(
            by_hand(1, 1).grant(Credit::default()),
            Err(CreditError::Nothing)
        );
        assert_eq!(by_hand(1, 1).grant(credit(100_000, 1)), Err(too_much));
        assert_eq!(prefetch(1).set_prefetch(0), Err(CreditError::Nothing));
        assert_eq!(prefetch(1).set_prefetch(u32::MAX), Err(too_much));
        assert!(ConsumerCredit::new(u32::MAX, Credit::default(), 100_000, WINDOW).is_err());
        assert!(by_hand(1, 1).grant(credit(1, u64::MAX)).is_ok());
    }

    /// Whatever happens, the leader never has more than the client granted, nor more bytes than there is room for.
    #[test]
    fn random_steps_keep_the_bounds() {
        let seed = rand::random::<u64>();
        println!("seed {seed}");
        let mut random = seed;
        let mut next = |below: u64| {
            random = warren_types::mix(random.wrapping_add(0x9e37_79b9_7f4a_7c15));
            random % below
        };
        let mut some = prefetch(20);
        let mut held: Vec<u64> = Vec::new();
        let mut unwritten: Vec<u64> = Vec::new();
        for _ in 0..20_000 {
            match next(6) {
                0 | 1 if some.lent_messages > 0 && some.lent_bytes > 0 => {
                    let most = if next(20) == 0 { 3_000 } else { 300 };
                    let bytes = next(most);
                    some.delivered(bytes);
                    held.push(bytes);
                    unwritten.push(bytes);
                }
                2 => unwritten.drain(..).for_each(|bytes| some.written(bytes)),
                3 => held.drain(..).for_each(|bytes| some.settled(bytes)),
                4 => some.committed(next(20)),
                5 => some
                    .set_prefetch(1 + u32::try_from(next(40)).unwrap())
                    .unwrap(),
                _ => {}
            }
            if let Some(surplus) = some.recall() {
                some.recalled(surplus);
            }
            // Nothing to lend is fine.
            let _lent = some.lend();
            assert!(some.lent_messages <= u64::from(some.prefetch));
            let waiting: u64 = unwritten.iter().sum();
            let taken = some.lent_bytes + i128::from(waiting);
            assert!(taken <= i128::from(WINDOW), "{some:?}");
        }
    }
}
