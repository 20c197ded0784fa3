//! The credit of one publish stream, as the server keeps it: granted at the open, spent by messages, given back with their results.
//! Pure. Not here: admission, which bounds all streams together.

use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;

/// What is given back is told when it is this part of the grant.
const TELL_AT_PART: u64 = 4;

#[derive(Debug)]
pub(super) struct PublishCredit {
    grant_messages: u32,
    grant_bytes: u64,
    messages: u64,
    /// Negative while one message has overdrawn it.
    bytes: i128,
    back_messages: u64,
    back_bytes: u64,
}

impl PublishCredit {
    pub(super) fn new(messages: u32, bytes: u64) -> Self {
        Self {
            grant_messages: messages,
            grant_bytes: bytes,
            messages: u64::from(messages),
            bytes: i128::from(bytes),
            back_messages: 0,
            back_bytes: 0,
        }
    }

    pub(super) fn granted(&self) -> v1::Credit {
        v1::Credit {
            messages: self.grant_messages,
            bytes: self.grant_bytes,
        }
    }

    /// False: the message is beyond the credit, and nothing is spent.
    pub(super) fn spend(&mut self, bytes: u64) -> bool {
        if self.messages == 0 || self.bytes <= 0 {
            return false;
        }
        self.messages -= 1;
        self.bytes -= i128::from(bytes);
        true
    }

    /// A message has its result. What the publisher has is what it has been told.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.back_messages += 1;
        self.back_bytes = self.back_bytes.saturating_add(bytes);
    }

    fn is_due(&self) -> bool {
        self.back_messages >= u64::from(self.grant_messages).div_ceil(TELL_AT_PART)
            || self.back_bytes >= self.grant_bytes.div_ceil(TELL_AT_PART)
    }

    pub(super) fn has_frame(&self) -> bool {
        self.back_messages > 0 && self.is_due()
    }

    /// What is to be told now.
    pub(super) fn next_frame(&mut self) -> Option<v1::Credit> {
        if !self.has_frame() {
            return None;
        }
        let messages = u32::try_from(self.back_messages).unwrap_or(u32::MAX);
        let bytes = std::mem::take(&mut self.back_bytes);
        self.back_messages -= u64::from(messages);
        self.messages += u64::from(messages);
        self.bytes += i128::from(bytes);
        Some(v1::Credit { messages, bytes })
    }
}

/// What a client is told that spends more than it has.
pub(super) fn over_credit() -> ApiError {
    ApiError::new(
        Reason::OverCredit,
        "more was sent than the server had granted",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_beyond_the_credit_is_refused_and_costs_nothing() {
        let mut credit = PublishCredit::new(2, 100);
        assert!(credit.spend(10) && credit.spend(10));
        assert!(!credit.spend(10));
        credit.give_back(10);
        assert_eq!(
            credit.next_frame(),
            Some(v1::Credit {
                messages: 1,
                bytes: 10
            })
        );
        assert!(credit.spend(10));
        assert!(!credit.spend(10));
    }

    #[test]
    fn one_message_may_overdraw_the_bytes() {
        let mut credit = PublishCredit::new(10, 100);
        assert!(credit.spend(1_000));
        assert!(!credit.spend(1));
        credit.give_back(1_000);
        assert_eq!(
            credit.next_frame(),
            Some(v1::Credit {
                messages: 1,
                bytes: 1_000
            })
        );
        assert!(credit.spend(1));
    }

    #[test]
    fn credit_is_told_in_quarters() {
        let mut credit = PublishCredit::new(8, 1_000);
        assert!(credit.spend(1) && credit.spend(1));
        credit.give_back(1);
        assert_eq!(credit.next_frame(), None);
        credit.give_back(1);
        assert_eq!(
            credit.next_frame(),
            Some(v1::Credit {
                messages: 2,
                bytes: 2
            })
        );
        assert_eq!(credit.next_frame(), None);
    }
}
