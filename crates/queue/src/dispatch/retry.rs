//! When a returned message is ready again (features B50). Not here: the return itself (`dispose`), the waiting (`clock`).

use warren_types::{Backoff, Retry, RetryOn, ShardTime};

use super::io::Wait;
use crate::entry::ReturnKind;

/// The longest delay there is, by whatever door: ten years.
pub const DELAY_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;

/// `None`: at once. `delivery_count` counts the failed attempts, with the one that ends if it failed.
pub(super) fn not_before(
    retry: Retry,
    wait: Wait,
    kind: ReturnKind,
    delivery_count: u32,
    now: ShardTime,
) -> Option<ShardTime> {
    match wait {
        // What is set aside is not returned.
        Wait::Not | Wait::Parked => None,
        Wait::Until(at) => Some(at).filter(|&it| it > now),
        Wait::ByPolicy => {
            let delay = delay_ms(retry, kind, delivery_count);
            (delay > 0).then(|| ShardTime(now.0.saturating_add(delay)))
        }
    }
}

fn delay_ms(retry: Retry, kind: ReturnKind, delivery_count: u32) -> u64 {
    let waits = match (retry.on, kind) {
        (RetryOn::Disabled, _) => false,
        (RetryOn::All, _) => true,
        (RetryOn::Failed, ReturnKind::Failed) | (RetryOn::Returned, ReturnKind::Untouched) => true,
        (RetryOn::Failed, ReturnKind::Untouched) | (RetryOn::Returned, ReturnKind::Failed) => false,
    };
    if !waits {
        return 0;
    }
    // A first return that did not fail waits as long as a first one that did.
    let count = delivery_count.max(1);
    let factor = match retry.backoff {
        Backoff::Linear => u64::from(count),
        Backoff::Exponential => 1_u64.checked_shl(count - 1).unwrap_or(u64::MAX),
    };
    let longest = retry.max_ms.unwrap_or(DELAY_MS_MAX).min(DELAY_MS_MAX);
    retry.min_ms.saturating_mul(factor).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(on: RetryOn, backoff: Backoff) -> Retry {
        Retry {
            on,
            min_ms: 100,
            max_ms: Some(1_000),
            backoff,
        }
    }

    #[test]
    fn retry_delay_grows_with_the_delivery_count_up_to_the_longest() {
        let linear = retry(RetryOn::Failed, Backoff::Linear);
        let delays = [1, 2, 9, 10, 11].map(|it| delay_ms(linear, ReturnKind::Failed, it));
        assert_eq!(delays, [100, 200, 900, 1_000, 1_000]);
        let exponential = retry(RetryOn::All, Backoff::Exponential);
        let delays = [1, 2, 3, 4, 5, 64, 65, u32::MAX]
            .map(|it| delay_ms(exponential, ReturnKind::Failed, it));
        assert_eq!(delays, [100, 200, 400, 800, 1_000, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn retry_delays_only_the_returns_it_names() {
        let returned = retry(RetryOn::Returned, Backoff::Linear);
        assert_eq!(delay_ms(returned, ReturnKind::Failed, 3), 0);
        assert_eq!(delay_ms(returned, ReturnKind::Untouched, 0), 100);
        let disabled = retry(RetryOn::Disabled, Backoff::Linear);
        assert_eq!(delay_ms(disabled, ReturnKind::Failed, 3), 0);
    }
}
