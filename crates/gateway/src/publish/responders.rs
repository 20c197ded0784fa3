//! Messages that want a consumer (features A33): the leaders of their queues are asked before anything is stored. A leader knows the consumers
//! of each queue as they are now, so a refusal was true while the publisher waited, and one that follows a consumer's attachment is not
//! possible. Messages for a direct reply address go there at once. Not here: what publishers are told (`grpc`).

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};
use warren_shard::api::{StatsDepth, Target, Unavailable};
use warren_types::QueueId;

use super::{Outcome, Publish, Refused};
use crate::gateway::Gateway;
use crate::replies::ReplyAddress;

/// How long the leaders of one batch's queues have to answer; what is not known then is refused, safe to try again.
const ASKED_WITHIN: Duration = Duration::from_secs(2);
/// Leaders are asked for so many queues at a time.
const ASKED_AT_ONCE: usize = 64;

/// Whether the queues of one batch have consumers, as far as it was asked.
#[derive(Default)]
pub(super) struct Responders {
    known: HashMap<QueueId, Consumers>,
    until: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Consumers {
    Some,
    None,
    Unknown,
}

impl Responders {
    /// Why a message for these queues is refused, if it is.
    pub(super) async fn refusal(
        &mut self,
        gateway: &Gateway,
        targets: Vec<Target>,
    ) -> Option<Refused> {
        let until = *self
            .until
            .get_or_insert_with(|| Instant::now() + ASKED_WITHIN);
        for some in targets.chunks(ASKED_AT_ONCE) {
            let unasked = some.iter().filter(|it| !self.known.contains_key(&it.queue));
            let asked =
                unasked.map(|it| async { (it.queue, consumers(gateway, *it, until).await) });
            let answers = join_all(asked).await;
            self.known.extend(answers);
        }
        let known = targets.iter().filter_map(|it| self.known.get(&it.queue));
        verdict(known.copied(), targets.first().map(|it| it.queue))
    }
}

async fn consumers(gateway: &Gateway, target: Target, until: Instant) -> Consumers {
    let broker = gateway.broker();
    let ask = || broker.queue_stats_in(target, StatsDepth::Consumers);
    match timeout_at(until, gateway.ask(target.queue, ask)).await {
        Ok(Some(stats)) if stats.consumers > 0 => Consumers::Some,
        // Without a queue there is no consumer.
        Ok(Some(_) | None) => Consumers::None,
        Err(_) => Consumers::Unknown,
    }
}

/// One queue with a consumer is enough; a negative answer must be certain.
fn verdict(known: impl Iterator<Item = Consumers>, first: Option<QueueId>) -> Option<Refused> {
    let mut refused = Refused::NoResponders { queue: first };
    for one in known {
        match one {
            Consumers::Some => return None,
            Consumers::None => {}
            Consumers::Unknown => refused = Refused::Unavailable(Unavailable::NoQuorum),
        }
    }
    Some(refused)
}

/// What becomes of a message for a direct reply address (features C45): handed to whoever waits there, at most once, and stored nowhere.
/// `None`: it is for no such address.
pub(super) fn direct_reply(gateway: &Gateway, publish: &Publish) -> Option<Outcome> {
    let address = reply_address(publish)?;
    let message = &publish.message;
    let is_sent = gateway.reply(address, &message.properties, message.body.clone());
    Some(if is_sent {
        Outcome::Committed { queues: 0 }
    } else {
        Outcome::Unrouted
    })
}

/// Whether a message is for a direct reply address.
pub(super) fn is_direct_reply(publish: &Publish) -> bool {
    reply_address(publish).is_some()
}

fn reply_address(publish: &Publish) -> Option<ReplyAddress> {
    let message = &publish.message;
    let is_default = message.exchange.as_str().is_empty();
    ReplyAddress::parse(message.routing_key.as_str()).filter(|_| is_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: Option<QueueId> = Some(QueueId(1));

    fn of(known: &[Consumers]) -> Option<Refused> {
        verdict(known.iter().copied(), QUEUE)
    }

    #[test]
    fn one_consumer_of_any_queue_is_enough() {
        assert_eq!(of(&[Consumers::Some]), None);
        assert_eq!(of(&[Consumers::None, Consumers::Some]), None);
        assert_eq!(of(&[Consumers::Unknown, Consumers::Some]), None);
    }

    #[test]
    fn negative_answer_is_given_only_if_every_queue_is_known() {
        let nobody = Refused::NoResponders { queue: QUEUE };
        assert_eq!(of(&[Consumers::None, Consumers::None]), Some(nobody));
        let later = Refused::Unavailable(Unavailable::NoQuorum);
        assert_eq!(
            of(&[Consumers::Unknown, Consumers::None]),
            Some(later.clone())
        );
        assert_eq!(of(&[Consumers::None, Consumers::Unknown]), Some(later));
    }
}
