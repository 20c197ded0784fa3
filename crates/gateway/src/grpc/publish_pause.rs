//! What a publisher is told when it is held back, and when that is over (features A34): messages that are refused because a node is short of
//! something or a vhost is full, a batch that waits long for its time. The results say it of each message; the notice says it once, and its
//! end. Not here: what holds back (`alarms`, `quota`, `rates`).

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;

use super::error::{of_alarm, over_quota};
use super::streams::reached;
use crate::gateway::Gateway;
use crate::publish::{HeldBack, WhyHeldBack};

/// A batch that waits for its time is worth a word after this: at its limit a publisher always waits a little.
const TOLD_AFTER: Duration = Duration::from_secs(1);

type Relief = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What one publisher was told.
#[derive(Default)]
pub(super) struct Pause {
    /// Why it is held back, and when that ends.
    refused: Option<(Reason, Relief)>,
    /// When it is told of a batch that waits for its time.
    late_at: Option<Instant>,
    /// It was told of that.
    is_late: bool,
    /// When that is over, if no batch waits until then.
    over_at: Option<Instant>,
}

impl Pause {
    /// A message was refused. Says what is to be told: the reason, where it is a new one.
    pub(super) fn refused(&mut self, gateway: &Gateway, held: HeldBack) -> Option<v1::Notice> {
        let error = match held.why {
            WhyHeldBack::Low(alarm) => of_alarm(alarm),
            WhyHeldBack::OverQuota => over_quota(),
        };
        let known = self.refused.as_ref().map(|(reason, _)| *reason);
        if known == Some(error.reason()) {
            return None;
        }
        let gateway = gateway.clone();
        let relief = async move {
            match held.why {
                WhyHeldBack::Low(_) => gateway.relief(&held.targets).await,
                WhyHeldBack::OverQuota => gateway.quota_room(held.vhost).await,
            }
        };
        self.refused = Some((error.reason(), Box::pin(relief)));
        Some(paused(Some(&error)))
    }

    /// A batch begins to wait for its time.
    pub(super) fn waits(&mut self) {
        self.over_at = None;
        if !self.is_late {
            self.late_at = Some(Instant::now() + TOLD_AFTER);
        }
    }

    /// A batch goes on that has waited, or that need not. Says what is to be told.
    pub(super) fn goes_on(&mut self, has_waited: bool) -> Option<v1::Notice> {
        self.late_at = None;
        if !self.is_late {
            return None;
        }
        if has_waited {
            // A publisher that is told goes on being late until it need not wait, or has nothing that waits.
            self.over_at = Some(Instant::now() + TOLD_AFTER);
            return None;
        }
        self.in_time()
    }

    /// No batch waits any more. Nothing is told while messages are refused for another reason: that one holds.
    fn in_time(&mut self) -> Option<v1::Notice> {
        (self.is_late, self.over_at) = (false, None);
        self.refused.is_none().then(|| paused(None))
    }

    /// Waits for the next thing to tell.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn news(&mut self) -> v1::Notice {
        loop {
            if let Some(notice) = self.next().await {
                return notice;
            }
        }
    }

    async fn next(&mut self) -> Option<v1::Notice> {
        let relieved = async {
            match &mut self.refused {
                Some((_, relief)) => relief.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // either way nothing is lost
            () = relieved => {
                self.refused = None;
                Some(if self.is_late { late() } else { paused(None) })
            }
            () = reached(self.late_at) => {
                self.late_at = None;
                self.is_late = true;
                Some(late())
            }
            () = reached(self.over_at) => self.in_time(),
        }
    }
}

fn late() -> v1::Notice {
    let text = "the vhost takes no more publishes per second: batches wait for their time";
    paused(Some(&ApiError::new(Reason::LimitReached, text)))
}

/// With the reason, or that it goes on.
fn paused(why: Option<&ApiError>) -> v1::Notice {
    v1::Notice {
        kind: v1::NoticeKind::Paused.into(),
        status: why.map(ApiError::to_status),
        ..v1::Notice::default()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn reason(notice: &v1::Notice) -> Option<Reason> {
        let error = ApiError::from_status(notice.status.as_ref()?)?;
        Some(error.reason())
    }

    #[tokio::test]
    async fn batch_that_waits_is_told_after_a_while_and_its_end_when_the_next_need_not() {
        let mut pause = Pause::default();
        assert!(pause.news().now_or_never().is_none());
        pause.waits();
        assert_eq!(pause.goes_on(true), None);
        assert!(
            pause.news().now_or_never().is_none(),
            "it did not wait long"
        );
        pause.waits();
        let told = pause.news().await;
        assert_eq!(reason(&told), Some(Reason::LimitReached));
        // It stays told while batches wait.
        assert_eq!(pause.goes_on(true), None);
        pause.waits();
        assert!(pause.news().now_or_never().is_none());
        assert_eq!(pause.goes_on(true), None);
        let told = pause.goes_on(false).unwrap();
        assert_eq!((told.kind(), reason(&told)), (v1::NoticeKind::Paused, None));
        assert_eq!(pause.goes_on(false), None);
    }

    #[tokio::test]
    async fn end_of_a_wait_is_told_to_a_publisher_that_sends_nothing_more() {
        let mut pause = Pause::default();
        pause.waits();
        assert_eq!(reason(&pause.news().await), Some(Reason::LimitReached));
        assert_eq!(pause.goes_on(true), None);
        assert_eq!(reason(&pause.news().await), None);
        assert!(pause.news().now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_reason_that_ends_leaves_the_other_told() {
        let mut pause = Pause::default();
        pause.waits();
        assert_eq!(reason(&pause.news().await), Some(Reason::LimitReached));
        pause.refused = Some((Reason::OverQuota, Box::pin(std::future::ready(()))));
        assert_eq!(reason(&pause.news().await), Some(Reason::LimitReached));
        pause.refused = Some((Reason::OverQuota, Box::pin(std::future::pending())));
        assert_eq!(pause.goes_on(false), None);
    }

    #[tokio::test]
    async fn end_of_a_refusal_is_told_once() {
        let mut pause = Pause {
            refused: Some((Reason::OverQuota, Box::pin(std::future::ready(())))),
            ..Pause::default()
        };
        assert_eq!(reason(&pause.news().await), None);
        assert!(pause.news().now_or_never().is_none());
    }
}
