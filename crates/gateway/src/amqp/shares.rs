//! How a channel's consumers share what the client takes unacknowledged: each has a limit of its own, all of them together another
//! (features C31), and both may change while they consume (C32). Pure: says what to lend to queues' leaders and what to call back.
//! Not here: consumers whose credit the leader refills by itself (`consume`), sending (`lend`).

use warren_types::ConsumerId;

/// Lent at once to a consumer without any limit; more as that is encoded.
const UNLIMITED_LOAN: u64 = 512;

/// One consumer's part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Share {
    /// Messages it may have lent and held together; 0 = no limit of its own.
    pub(super) limit: u32,
    /// With its queue's leader, not used by a delivery yet.
    lent: u64,
    /// Delivered to this session and not settled by the client.
    held: u64,
    /// Of those, not encoded yet.
    unsent: u64,
    /// The leader said that messages wait for its credit.
    asked: bool,
    /// What is lent was called back, and has not come yet.
    recalling: bool,
    /// When it last got something, for taking turns.
    turn: u64,
}

impl Share {
    pub(super) fn with_limit(limit: u32) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// For the successor of a consumer of which the client holds so much.
    pub(super) fn inherit(limit: u32, held: u64) -> Self {
        Self {
            limit,
            held,
            ..Self::default()
        }
    }

    pub(super) fn delivered(&mut self, messages: u64) {
        self.lent = self.lent.saturating_sub(messages);
        self.held += messages;
        self.unsent += messages;
    }

    pub(super) fn encoded(&mut self) {
        self.unsent = self.unsent.saturating_sub(1);
    }

    /// Settled by the client, or lost to another before it was encoded.
    pub(super) fn settled(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    pub(super) fn dropped_unsent(&mut self) {
        self.encoded();
        self.settled();
    }

    /// The leader said that messages wait. If it is lent messages, they wait for bytes, which come as the client reads.
    pub(super) fn ask(&mut self) {
        self.asked = self.lent == 0;
    }

    pub(super) fn recalled(&mut self, messages: u64) {
        self.lent = self.lent.saturating_sub(messages);
        self.recalling = false;
    }

    pub(super) fn is_recalling(&self) -> bool {
        self.recalling
    }

    fn used(&self) -> u64 {
        self.lent + self.held
    }

    /// What it could be lent more, the shared limit aside.
    fn want(&self, is_shared: bool) -> u64 {
        match (self.limit, is_shared) {
            (0, true) => u64::MAX,
            (0, false) => UNLIMITED_LOAN.saturating_sub(self.lent + self.unsent),
            (limit, _) => u64::from(limit).saturating_sub(self.used()),
        }
    }

    fn is_over(&self) -> bool {
        self.limit > 0 && self.used() > u64::from(self.limit)
    }
}

/// What is to be asked of a queue's leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Move {
    Lend { consumer: ConsumerId, messages: u64 },
    Recall { consumer: ConsumerId },
}

/// A consumer and its part. `takes`: it consumes; one that does not still counts for what it has.
pub(super) struct Party<'a> {
    pub(super) consumer: ConsumerId,
    pub(super) takes: bool,
    pub(super) share: &'a mut Share,
}

/// Shares out what is free, to those first whose messages wait, then to those longest without. `limit` is the channel's (0 = none).
/// Where one waits and all is lent, what others have not used is called back.
pub(super) fn balance(
    limit: u32,
    turn: &mut u64,
    parties: &mut [Party<'_>],
    moves: &mut Vec<Move>,
) {
    let is_shared = limit > 0;
    let began = *turn;
    let used: u64 = parties.iter().map(|it| it.share.used()).sum();
    let mut free = if is_shared {
        u64::from(limit).saturating_sub(used)
    } else {
        u64::MAX
    };
    let is_over = is_shared && used > u64::from(limit);
    for party in parties.iter_mut().filter(|it| it.takes) {
        if (is_over || party.share.is_over()) && party.share.lent > 0 {
            recall(party, moves);
        }
    }
    parties.sort_by_key(|it| (!it.share.asked, it.share.turn, it.consumer));
    let mut waiting = parties.iter().filter(|it| may_get(it, is_shared)).count();
    for party in parties.iter_mut() {
        if free == 0 || !may_get(party, is_shared) {
            continue;
        }
        let part = (free / u64::try_from(waiting.max(1)).unwrap_or(1)).max(1);
        let messages = party.share.want(is_shared).min(part).min(free);
        waiting = waiting.saturating_sub(1);
        free -= messages;
        *turn += 1;
        party.share.turn = *turn;
        party.share.asked = false;
        party.share.lent += messages;
        let consumer = party.consumer;
        moves.push(Move::Lend { consumer, messages });
    }
    let somebody_waits = parties
        .iter()
        .any(|it| it.share.asked && may_get(it, is_shared));
    if free == 0 && somebody_waits {
        for party in parties.iter_mut() {
            // What was lent just now is likely to be used.
            let rests = party.share.lent > 0 && party.share.turn <= began;
            if party.takes && !party.share.asked && rests {
                recall(party, moves);
            }
        }
    }
}

fn may_get(party: &Party<'_>, is_shared: bool) -> bool {
    party.takes && !party.share.recalling && party.share.want(is_shared) > 0
}

fn recall(party: &mut Party<'_>, moves: &mut Vec<Move>) {
    if !party.share.recalling {
        party.share.recalling = true;
        let consumer = party.consumer;
        moves.push(Move::Recall { consumer });
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A channel whose leaders answer at once what is asked of them.
    struct Model {
        limit: u32,
        turn: u64,
        shares: Vec<Share>,
        ready: Vec<u64>,
    }

    impl Model {
        fn new(limit: u32, limits: &[u32], ready: &[u64]) -> Self {
            Self {
                limit,
                turn: 0,
                shares: limits.iter().map(|it| Share::with_limit(*it)).collect(),
                ready: ready.to_vec(),
            }
        }

        fn balance(&mut self) -> Vec<Move> {
            let mut moves = Vec::new();
            let mut parties: Vec<Party<'_>> = (0..)
                .zip(&mut self.shares)
                .map(|(number, share)| Party {
                    consumer: ConsumerId(number),
                    takes: true,
                    share,
                })
                .collect();
            balance(self.limit, &mut self.turn, &mut parties, &mut moves);
            moves
        }

        /// Leaders deliver what they may, tell who waits, and give back what is called back, until nothing moves.
        fn settle_down(&mut self) {
            for _ in 0..10_000 {
                let moves = self.balance();
                for it in &moves {
                    if let Move::Recall { consumer } = it {
                        let share = &mut self.shares[consumer.0 as usize];
                        share.recalled(share.lent);
                    }
                }
                let mut moved = !moves.is_empty();
                for (share, ready) in self.shares.iter_mut().zip(&mut self.ready) {
                    let now = share.lent.min(*ready);
                    *ready -= now;
                    share.delivered(now);
                    (0..now).for_each(|_| share.encoded());
                    moved |= now > 0;
                    if *ready > 0 && share.lent == 0 && !share.asked {
                        share.ask();
                        moved = true;
                    }
                }
                if !moved {
                    return;
                }
            }
            panic!("never comes to rest");
        }

        fn held(&self) -> Vec<u64> {
            self.shares.iter().map(|it| it.held).collect()
        }
    }

    #[test]
    fn shared_limit_holds_over_all_consumers() {
        let mut it = Model::new(5, &[0, 0], &[100, 100]);
        it.settle_down();
        assert_eq!(it.held().iter().sum::<u64>(), 5);
        assert!(it.held().iter().all(|held| *held > 0));
    }

    #[test]
    fn both_limits_hold_together() {
        let mut it = Model::new(10, &[3, 0], &[100, 100]);
        it.settle_down();
        assert_eq!(it.held(), [3, 7]);
    }

    #[test]
    fn consumer_of_an_empty_queue_gives_way_to_one_whose_messages_wait() {
        let mut it = Model::new(4, &[0, 0, 0], &[0, 100, 0]);
        it.settle_down();
        assert_eq!(it.held(), [0, 4, 0]);
    }

    #[test]
    fn one_message_at_a_time_goes_round() {
        let mut it = Model::new(1, &[0, 0], &[50, 50]);
        let mut got = [0, 0];
        for _ in 0..20 {
            it.settle_down();
            let who = it.held().iter().position(|held| *held == 1).unwrap();
            got[who] += 1;
            it.shares[who].settled();
        }
        assert_eq!(got, [10, 10]);
    }

    #[test]
    fn raised_limit_grants_at_once_and_lowered_one_waits() {
        let mut it = Model::new(2, &[0], &[100]);
        it.settle_down();
        it.limit = 6;
        it.settle_down();
        assert_eq!(it.held(), [6]);
        it.limit = 3;
        for left in [5, 4, 3, 3, 3] {
            it.shares[0].settled();
            it.settle_down();
            assert_eq!(it.held(), [left]);
        }
    }

    #[test]
    fn no_limit_at_all_goes_on_as_it_is_encoded() {
        let mut it = Model::new(0, &[0], &[5_000]);
        it.settle_down();
        assert_eq!(it.held(), [5_000]);
    }

    proptest! {
        #[test]
        fn limits_hold_and_nobody_starves(
            limit in 0u32..6, limits in vec(0u32..5, 1..5), ready in vec(0u64..30, 5), steps in vec((0usize..5, 0u32..6), 0..60),
        ) {
            let mut it = Model::new(limit, &limits, &ready[..limits.len()]);
            for (who, new_limit) in steps {
                let who = who % limits.len();
                let before = it.held();
                it.settle_down();
                let grew = it.held().iter().zip(&before).any(|(now, before)| now > before);
                let held: u64 = it.held().iter().sum();
                if it.limit > 0 && grew {
                    prop_assert!(held <= u64::from(it.limit), "{held} of {}", it.limit);
                }
                for (share, before) in it.shares.iter().zip(&before) {
                    let within = share.limit == 0 || share.held <= u64::from(share.limit) || share.held <= *before;
                    prop_assert!(within);
                }
                if new_limit == 5 { it.limit = (it.limit + 1) % 6 } else if it.shares[who].held > 0 { it.shares[who].settled() }
            }
            // Whoever settles all gets all.
            it.limit = it.limit.max(1);
            for _ in 0..400 {
                it.settle_down();
                for share in &mut it.shares {
                    if share.held > 0 { share.settled() }
                }
            }
            prop_assert_eq!(it.ready.iter().sum::<u64>(), 0);
        }
    }
}
