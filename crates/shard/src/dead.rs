//! Where a dead letter goes by the topology at hand, and how it is written down there (features B44 to B46). Not here: which messages die
//! (`warren-queue`'s dispatch), how those of a queue are moved (`leader::dead_letter`), those that a full queue refused (`surplus`).

use std::collections::BTreeMap;

use warren_codec::StoredMessageView;
use warren_queue::death::{self, Death};
use warren_queue::entry::{MoveTarget, SettleReason};
use warren_queue::rows::SaidAt;
use warren_topology::{Published, Targets, Topology};
use warren_types::{
    DeadLetter, ExchangeName, Message, Priority, Properties, PropertiesBuilder, QueueId,
    RoutingKey, ShardId,
};

/// Where one dead letter goes.
pub(crate) enum Way {
    To(Vec<MoveTarget>),
    /// Nothing takes it.
    Nowhere,
    /// Only queues that it came from, through no consumer's hands (features B46).
    Circle,
}

/// The queues that a message of `from` goes to when it dies of `reason`.
pub(crate) fn way(
    topology: &Topology,
    from: QueueId,
    reason: SettleReason,
    target: &DeadLetter,
    view: &StoredMessageView,
) -> Way {
    let Some(queue) = topology.queue_by_id(from) else {
        return Way::Nowhere;
    };
    let (key, further) = match &target.routing_key {
        Some(key) => (key.as_str(), Vec::new()),
        None => (view.routing_key(), further_keys(&view.properties)),
    };
    let dead = Published::new(target.exchange.as_str(), key)
        .with_further_keys(&further)
        .with_properties(&view.properties)
        .from_broker();
    let mut routed = Targets::new();
    let Ok(()) = topology.route(queue.vhost, &dead, &mut routed) else {
        return Way::Nowhere; // the exchange is missing
    };
    let (mut all, mut circles) = (BTreeMap::<ShardId, Vec<QueueId>>::new(), false);
    for to in routed.iter() {
        let there = topology.queue_by_id(to.queue);
        let there = there.map(|it| it.name.as_str());
        let here = queue.name.as_str();
        if there.is_some_and(|there| {
            death::closes_cycle(&view.properties, view.died, here, reason, there)
        }) {
            circles = true;
            continue;
        }
        all.entry(to.shard).or_default().push(to.queue);
    }
    let targets = all.into_iter();
    let targets = targets.map(|(shard, queues)| MoveTarget { shard, queues });
    let targets: Vec<MoveTarget> = targets.collect();
    match (targets.is_empty(), circles) {
        (false, _) => Way::To(targets),
        (true, true) => Way::Circle,
        (true, false) => Way::Nowhere,
    }
}

/// Why, whence and whereto a message goes on.
pub(crate) struct Passing<'a> {
    /// The name of the queue it leaves.
    pub(crate) queue: &'a str,
    pub(crate) reason: SettleReason,
    pub(crate) exchange: &'a ExchangeName,
    /// `None`: its own.
    pub(crate) routing_key: Option<&'a RoutingKey>,
    /// Seconds since the Unix epoch.
    pub(crate) time_s: u64,
    /// What consumers said of it there.
    pub(crate) said: &'a [SaidAt],
}

/// The message as it goes on. `None`: its routing key is none of ours, so it cannot.
pub(crate) fn passed_on(
    view: &StoredMessageView,
    passing: &Passing<'_>,
    priority: Priority,
    group_hash: u64,
    fairness_hash: u64,
) -> Option<Message> {
    let routing_key = match passing.routing_key {
        Some(key) => key.clone(),
        None => RoutingKey::try_from(view.routing_key()).ok()?,
    };
    let death = Death {
        queue: passing.queue,
        reason: passing.reason,
        exchange: view.exchange(),
        routing_key: view.routing_key(),
        time_s: passing.time_s,
        replaces_key: passing.routing_key.is_some(),
        died_before: view.died,
        said: passing.said,
    };
    let written = death::buried(&view.properties, &death);
    let keeps_words = written.is_some() && !passing.said.is_empty();
    let properties: Properties = written.unwrap_or_else(|| view.properties.clone());
    Some(Message {
        exchange: passing.exchange.clone(),
        routing_key,
        properties,
        body: view.body.clone(),
        priority,
        ttl_ms: None,
        delay_ms: None,
        group_hash,
        fairness_hash,
        dedup_hash: 0,
        user: view.user().and_then(|it| it.try_into().ok()),
        trace: view.trace.clone(),
        died: view.died || death::reason_name(passing.reason).is_some() || keeps_words,
    })
}

/// A message of a delayed exchange that is due, as it goes on to its queues: as it was published (features B11). `None`: its names are
/// none of ours.
pub(crate) fn due(
    view: &StoredMessageView,
    priority: Priority,
    group_hash: u64,
    fairness_hash: u64,
) -> Option<Message> {
    Some(Message {
        exchange: ExchangeName::try_from(view.exchange()).ok()?,
        routing_key: RoutingKey::try_from(view.routing_key()).ok()?,
        properties: view.properties.clone(),
        body: view.body.clone(),
        priority,
        // It has begun to live now.
        ttl_ms: view.properties.expiration().and_then(|it| it.parse().ok()),
        delay_ms: None,
        group_hash,
        fairness_hash,
        dedup_hash: 0,
        user: view.user().and_then(|it| it.try_into().ok()),
        trace: view.trace.clone(),
        died: view.died,
    })
}

/// A message that stays in its queue under another priority (features X10): as it was published otherwise, with what consumers said of it,
/// for what is left of its time.
pub(crate) fn reprioritised(
    message: Message,
    passing: &Passing<'_>,
    priority: u8,
    left_ms: Option<u64>,
) -> Message {
    let death = Death {
        queue: passing.queue,
        reason: passing.reason,
        exchange: "",
        routing_key: "",
        time_s: passing.time_s,
        replaces_key: false,
        died_before: message.died,
        said: passing.said,
    };
    let with_words = death::buried(&message.properties, &death);
    let keeps_words = with_words.is_some();
    let properties = with_words.unwrap_or_else(|| message.properties.clone());
    let changed = PropertiesBuilder::from(&properties)
        .priority(priority)
        .build();
    Message {
        died: message.died || keeps_words,
        properties: changed.unwrap_or(properties),
        ttl_ms: left_ms,
        ..message
    }
}

/// Those of `CC` that are keys: other values were refused when the message came.
fn further_keys(properties: &Properties) -> Vec<RoutingKey> {
    let keys = death::further_keys(properties).into_iter();
    keys.filter_map(|it| RoutingKey::try_from(it.as_str()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use warren_queue::entry::{AttemptOutcome, Said};
    use warren_types::{ShardTime, Table};

    use super::*;

    #[test]
    fn another_priority_leaves_the_message_as_it_was_for_what_is_left_of_its_time() {
        let headers = Table::new().with("x-death", "the publisher's own");
        let properties = PropertiesBuilder::new()
            .priority(2)
            .expiration("9000")
            .headers(&headers)
            .build()
            .unwrap();
        let message = Message {
            exchange: ExchangeName::try_from("orders").unwrap(),
            routing_key: RoutingKey::try_from("new").unwrap(),
            properties,
            body: bytes::Bytes::from_static(b"body"),
            priority: Priority::DEFAULT,
            ttl_ms: Some(9_000),
            delay_ms: None,
            group_hash: 0,
            fairness_hash: 0,
            dedup_hash: 0,
            user: None,
            trace: bytes::Bytes::new(),
            died: false,
        };
        let said = Said::new(AttemptOutcome::Failed, "no answer", "", "w");
        let said = [SaidAt {
            at: ShardTime(5_000),
            said: said.unwrap(),
        }];
        let exchange = ExchangeName::try_from("").unwrap();
        let passing = |said| Passing {
            queue: "orders",
            reason: SettleReason::DeadLettered,
            exchange: &exchange,
            routing_key: None,
            time_s: 5,
            said,
        };
        let plain = reprioritised(message.clone(), &passing(&[]), 9, Some(70));
        assert_eq!(plain.properties.priority(), Some(9));
        assert_eq!((plain.ttl_ms, plain.died), (Some(70), false));
        assert_eq!(plain.properties.expiration(), Some("9000"));
        assert_eq!(
            (plain.exchange.as_str(), plain.routing_key.as_str()),
            ("orders", "new")
        );
        let own = plain.properties.headers().unwrap();
        assert_eq!(own.get_str("x-death"), Some("the publisher's own"));

        let spoken_of = reprioritised(message, &passing(&said), 9, None);
        let headers = spoken_of.properties.headers().unwrap();
        assert!(spoken_of.died && headers.get_array("x-attempts").is_some());
        assert_eq!((spoken_of.ttl_ms, headers.get("x-death")), (None, None));
    }
}
