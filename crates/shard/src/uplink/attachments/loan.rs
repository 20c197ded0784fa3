//! What is lent to a shard's leader in one consumer's name and not used by a delivery yet, as the leader counts it. Pure.
//! Not here: who lends and how much (the sessions).

use warren_queue::dispatch::io::{Credit, Refill};

#[derive(Debug)]
pub(super) struct Loan {
    /// Below zero when the leader has given credit back, and used it, before it answered the settle that frees it.
    messages: i64,
    /// Below zero after a message that was larger than what was left.
    bytes: i64,
    /// Of what is below zero, what the leader does not know of: a new one begins at nothing.
    untold: u64,
}

impl Loan {
    pub(super) fn new(credit: Credit) -> Self {
        Self {
            messages: signed(credit.messages),
            bytes: signed(credit.bytes),
            untold: 0,
        }
    }

    /// More is lent: what the leader is to add.
    pub(super) fn add(&mut self, more: Credit) -> Credit {
        self.messages = self.messages.saturating_add(signed(more.messages));
        self.bytes = self.bytes.saturating_add(signed(more.bytes));
        let kept = self.untold.min(more.bytes);
        self.untold -= kept;
        Credit {
            messages: more.messages,
            bytes: more.bytes - kept,
        }
    }

    /// A delivery has come.
    pub(super) fn used(&mut self, body_bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(signed(body_bytes));
    }

    /// The leader gives the credit of a delivery back by itself, as the consumer has it. What that was.
    pub(super) fn refilled(&mut self, refill: Refill, body_bytes: u64) -> Credit {
        let credit = match refill {
            Refill::Nothing => Credit::default(),
            Refill::Messages => Credit {
                messages: 1,
                bytes: 0,
            },
            Refill::All => Credit {
                messages: 1,
                bytes: body_bytes,
            },
        };
        self.messages = self.messages.saturating_add(signed(credit.messages));
        self.bytes = self.bytes.saturating_add(signed(credit.bytes));
        credit
    }

    /// So much is called back: what of it was there. Without a leader it may be asked for all, which is more than there is.
    pub(super) fn recalled(&mut self, credit: Credit) -> Credit {
        let there = self.there();
        let taken = Credit {
            messages: credit.messages.min(there.messages),
            bytes: credit.bytes.min(there.bytes),
        };
        self.messages = self.messages.saturating_sub(signed(taken.messages));
        self.bytes = self.bytes.saturating_sub(signed(taken.bytes));
        taken
    }

    fn there(&self) -> Credit {
        Credit {
            messages: u64::try_from(self.messages).unwrap_or(0),
            bytes: u64::try_from(self.bytes).unwrap_or(0),
        }
    }

    /// What a new leader is lent.
    pub(super) fn report(&mut self) -> Credit {
        self.untold = u64::try_from(self.bytes.saturating_neg()).unwrap_or(0);
        self.there()
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: u64) -> Credit {
        Credit { messages: 0, bytes }
    }

    #[test]
    fn overdrawn_bytes_are_paid_before_more_is_lent() {
        let mut loan = Loan::new(Credit {
            messages: 10,
            bytes: 100,
        });
        for _ in 0..50 {
            // Until nothing is left, as a leader delivers; then what was written is lent again.
            loan.used(90);
            loan.used(90);
            assert_eq!(loan.add(bytes(180)), bytes(180));
        }
        assert_eq!(loan.report().bytes, 100);
    }

    #[test]
    fn new_leader_is_lent_no_more_than_the_old_one_had() {
        let mut loan = Loan::new(bytes(100));
        loan.used(250);
        assert_eq!(loan.report().bytes, 0);
        // It does not know of the 150.
        assert_eq!(loan.add(bytes(100)).bytes, 0);
        assert_eq!(loan.add(bytes(150)).bytes, 100);
        assert_eq!(loan.report().bytes, 100);
    }

    #[test]
    fn message_that_comes_before_the_answer_that_frees_its_credit_counts_once() {
        let messages = |messages| Credit { messages, bytes: 0 };
        let mut loan = Loan::new(messages(1));
        loan.used(0);
        loan.used(0); // by credit that is back with the leader
        assert_eq!(loan.refilled(Refill::Messages, 0), messages(1));
        assert_eq!(loan.report().messages, 0);
        loan.refilled(Refill::Messages, 0);
        assert_eq!(loan.report().messages, 1);
    }

    #[test]
    fn recall_of_all_takes_what_is_there() {
        let mut loan = Loan::new(bytes(100));
        let all = Credit {
            messages: u64::MAX,
            bytes: u64::MAX,
        };
        assert_eq!(loan.recalled(all), bytes(100));
        assert_eq!(loan.report(), bytes(0));
        loan.used(10);
        assert_eq!(loan.recalled(all), bytes(0), "there is less than nothing");
        assert_eq!(loan.add(bytes(15)), bytes(15));
        assert_eq!(loan.report(), bytes(5));
    }
}
