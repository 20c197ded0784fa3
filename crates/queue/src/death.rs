//! What a dead letter's headers tell of its deaths, and when dead-lettering goes round in circles (features B44 to B46).
//! Not here: where it goes (`warren-topology`), moving it (`store::command::move_out`, `warren-shard`).
//!
//! Only what the broker wrote counts: a message that never died here may carry an `x-death` of its publisher, which is data, and is
//! written over by the first death.

use warren_types::{Properties, PropertiesBuilder, Property, Table, Value};

use crate::attempts;
use crate::entry::SettleReason;
use crate::rows::SaidAt;

const X_DEATH: &str = "x-death";
const CC: &str = "CC";
const BCC: &str = "BCC";
/// Entries of `x-death` kept; beyond it the oldest goes. One per queue and reason, so only long chains of queues reach it.
pub const DEATHS_MAX: usize = 64;

/// One death, as it is written down.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// The queue it died in.
    pub queue: &'a str,
    pub reason: SettleReason,
    /// As it was published (or dead-lettered) into that queue.
    pub exchange: &'a str,
    pub routing_key: &'a str,
    /// Seconds since the Unix epoch.
    pub time_s: u64,
    /// It goes on under another routing key: `CC` is dropped.
    pub replaces_key: bool,
    /// The message's headers are the broker's own: it died before.
    pub died_before: bool,
    /// What consumers said of it in that queue.
    pub said: &'a [SaidAt],
}

/// The name of a reason in `x-death`; `None`: not one that dead-letters.
#[must_use]
pub fn reason_name(reason: SettleReason) -> Option<&'static str> {
    match reason {
        SettleReason::Rejected => Some("rejected"),
        SettleReason::Expired => Some("expired"),
        SettleReason::Dropped => Some("maxlen"),
        SettleReason::DeliveryLimit => Some("delivery_limit"),
        SettleReason::Acked
        | SettleReason::DeadLettered
        | SettleReason::NoAck
        | SettleReason::Purged => None,
    }
}

/// The properties that a dead letter goes on with. `None`: they cannot be written (headers that were odd before); it keeps them.
#[must_use]
pub fn buried(properties: &Properties, death: &Death<'_>) -> Option<Properties> {
    let mut headers = properties.headers().unwrap_or_default();
    if reason_name(death.reason).is_none() {
        return with_words(properties, headers, death);
    }
    let keys = keys(&headers, death.routing_key);
    let mut deaths = if death.died_before {
        own_deaths(&headers)
    } else {
        Vec::new()
    };
    let reason = reason_name(death.reason)?;
    let same = |it: &Table| {
        it.get_str("queue") == Some(death.queue) && it.get_str("reason") == Some(reason)
    };
    let entry = match deaths.iter().position(same) {
        Some(at) => again(deaths.remove(at))?,
        None => first(properties, death, reason, keys)?,
    };
    deaths.insert(0, entry);
    deaths.truncate(DEATHS_MAX);
    let deaths = deaths.into_iter().map(Value::Table).collect();
    headers.remove(X_DEATH);
    headers.insert(X_DEATH, Value::Array(deaths)).ok()?;
    let facts = [
        ("queue", death.queue),
        ("reason", reason),
        ("exchange", death.exchange),
    ];
    for (name, value) in facts {
        let (first, last) = (
            format!("x-first-death-{name}"),
            format!("x-last-death-{name}"),
        );
        if !death.died_before || headers.get(&first).is_none() {
            headers.remove(&first);
            headers.insert(&first, value).ok()?;
        }
        headers.remove(&last);
        headers.insert(&last, value).ok()?;
    }
    headers.remove(BCC);
    if death.replaces_key {
        headers.remove(CC);
    }
    let _too_much = attempts::write(&mut headers, death.said, death.died_before); // it is a dead letter all the same
    PropertiesBuilder::from(properties)
        .headers(&headers)
        .remove(Property::Expiration)
        .build()
        .ok()
}

/// A message that is sent on without having died takes along what was said of it: its headers are the broker's own then, and what its
/// publisher wrote as if it had died goes. `None`: nothing was said.
fn with_words(
    properties: &Properties,
    mut headers: Table,
    death: &Death<'_>,
) -> Option<Properties> {
    if death.said.is_empty() {
        return None;
    }
    if !death.died_before {
        headers.remove(X_DEATH);
        for name in ["queue", "reason", "exchange"] {
            headers.remove(&format!("x-first-death-{name}"));
            headers.remove(&format!("x-last-death-{name}"));
        }
    }
    if !attempts::write(&mut headers, death.said, death.died_before) {
        return None;
    }
    PropertiesBuilder::from(properties)
        .headers(&headers)
        .build()
        .ok()
}

/// Whether going to `queue` closes a circle that no consumer has broken: it died there before, and of nothing but the broker's own
/// reasons since (features B46). `reason` is why it dies now, in `here`.
#[must_use]
pub fn closes_cycle(
    properties: &Properties,
    died_before: bool,
    here: &str,
    reason: SettleReason,
    queue: &str,
) -> bool {
    if reason == SettleReason::Rejected {
        return false;
    }
    if here == queue {
        return true;
    }
    if !died_before {
        return false;
    }
    let deaths = own_deaths(&properties.headers().unwrap_or_default());
    let Some(at) = deaths
        .iter()
        .position(|it| it.get_str("queue") == Some(queue))
    else {
        return false;
    };
    let since = deaths.iter().take(at + 1);
    since
        .into_iter()
        .all(|it| it.get_str("reason") != Some("rejected"))
}

/// The routing keys beside the message's own that a dead letter goes by: `CC`, unless the key is replaced.
#[must_use]
pub fn further_keys(properties: &Properties) -> Vec<String> {
    let Some(Value::Array(keys)) = properties.header(CC) else {
        return Vec::new();
    };
    keys.iter()
        .filter_map(|it| Some(it.as_str()?.to_owned()))
        .collect()
}

fn own_deaths(headers: &Table) -> Vec<Table> {
    let deaths = headers.get_array(X_DEATH).unwrap_or_default();
    deaths
        .iter()
        .filter_map(|it| it.as_table().cloned())
        .collect()
}

fn keys(headers: &Table, routing_key: &str) -> Vec<Value> {
    let cc = headers.get_array(CC).unwrap_or_default();
    std::iter::once(Value::from(routing_key))
        .chain(cc.iter().cloned())
        .collect()
}

fn again(mut entry: Table) -> Option<Table> {
    let count = entry.get_int("count").unwrap_or(0).saturating_add(1);
    entry.remove("count");
    entry.insert("count", Value::I64(count)).ok()?;
    Some(entry)
}

fn first(
    properties: &Properties,
    death: &Death<'_>,
    reason: &'static str,
    keys: Vec<Value>,
) -> Option<Table> {
    let mut entry = Table::new();
    entry.insert("count", Value::I64(1)).ok()?;
    entry.insert("exchange", death.exchange).ok()?;
    entry.insert("queue", death.queue).ok()?;
    entry.insert("reason", reason).ok()?;
    entry.insert("routing-keys", Value::Array(keys)).ok()?;
    entry.insert("time", Value::Timestamp(death.time_s)).ok()?;
    if let Some(expiration) = properties.expiration() {
        entry.insert("original-expiration", expiration).ok()?;
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(queue: &str, reason: SettleReason, died_before: bool) -> Death<'_> {
        Death {
            queue,
            reason,
            exchange: "orders",
            routing_key: "new",
            time_s: 7,
            replaces_key: false,
            died_before,
            said: &[],
        }
    }

    fn published(headers: &Table) -> Properties {
        PropertiesBuilder::new()
            .content_type("text/plain")
            .expiration("5000")
            .headers(headers)
            .build()
            .unwrap()
    }

    fn deaths(properties: &Properties) -> Vec<(String, String, i64)> {
        let of = |it: &Table, name: &str| it.get_str(name).unwrap().to_owned();
        own_deaths(&properties.headers().unwrap())
            .iter()
            .map(|it| {
                (
                    of(it, "queue"),
                    of(it, "reason"),
                    it.get_int("count").unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn first_death_is_written_down_and_the_ttl_goes() {
        let cc = Value::Array(vec![Value::from("also")]);
        let headers = Table::new()
            .with("mine", "x")
            .with("CC", cc)
            .with("BCC", "y");
        let dead = buried(
            &published(&headers),
            &death("q", SettleReason::Expired, false),
        )
        .unwrap();
        let headers = dead.headers().unwrap();
        assert_eq!(dead.expiration(), None);
        assert_eq!(dead.content_type(), Some("text/plain"));
        assert_eq!(headers.get_str("mine"), Some("x"));
        assert!(headers.get("CC").is_some() && headers.get("BCC").is_none());
        assert_eq!(headers.get_str("x-first-death-queue"), Some("q"));
        assert_eq!(headers.get_str("x-last-death-reason"), Some("expired"));
        let entry = own_deaths(&headers).remove(0);
        assert_eq!(entry.get_str("original-expiration"), Some("5000"));
        assert_eq!(entry.get_str("exchange"), Some("orders"));
        let keys: Vec<&str> = entry
            .get_array("routing-keys")
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(keys, ["new", "also"]);
        assert_eq!(entry.get("time"), Some(&Value::Timestamp(7)));
    }

    #[test]
    fn deaths_of_one_queue_and_reason_are_counted_newest_first() {
        let once = buried(
            &published(&Table::new()),
            &death("a", SettleReason::Rejected, false),
        )
        .unwrap();
        let twice = buried(&once, &death("b", SettleReason::Expired, true)).unwrap();
        let thrice = buried(&twice, &death("a", SettleReason::Rejected, true)).unwrap();
        let expected = [("a", "rejected", 2), ("b", "expired", 1)];
        let expected: Vec<_> = expected
            .iter()
            .map(|it| (it.0.to_owned(), it.1.to_owned(), it.2))
            .collect();
        assert_eq!(deaths(&thrice), expected);
        let headers = thrice.headers().unwrap();
        assert_eq!(headers.get_str("x-first-death-queue"), Some("a"));
        assert_eq!(headers.get_str("x-last-death-queue"), Some("a"));
    }

    #[test]
    fn x_death_of_a_publisher_is_data_and_counts_for_nothing() {
        let forged = Table::new().with("queue", "q").with("reason", "expired");
        let headers = Table::new().with(X_DEATH, Value::Array(vec![Value::Table(forged)]));
        let published = published(&headers);
        assert!(!closes_cycle(
            &published,
            false,
            "here",
            SettleReason::Expired,
            "q"
        ));
        let dead = buried(&published, &death("here", SettleReason::Expired, false)).unwrap();
        assert_eq!(deaths(&dead).len(), 1);
    }

    #[test]
    fn cycle_without_a_rejected_hop_is_seen_one_with_is_not() {
        let expired = buried(
            &published(&Table::new()),
            &death("a", SettleReason::Expired, false),
        )
        .unwrap();
        assert!(closes_cycle(
            &expired,
            true,
            "b",
            SettleReason::Expired,
            "a"
        ));
        assert!(!closes_cycle(
            &expired,
            true,
            "b",
            SettleReason::Rejected,
            "a"
        ));
        assert!(!closes_cycle(
            &expired,
            true,
            "b",
            SettleReason::Expired,
            "c"
        ));
        let rejected = buried(&expired, &death("b", SettleReason::Rejected, true)).unwrap();
        assert!(!closes_cycle(
            &rejected,
            true,
            "c",
            SettleReason::Expired,
            "a"
        ));
        assert!(closes_cycle(
            &expired,
            true,
            "b",
            SettleReason::Dropped,
            "b"
        ));
    }

    #[test]
    fn replaced_key_drops_cc() {
        let cc = Value::Array(vec![Value::from("also")]);
        let published = published(&Table::new().with("CC", cc));
        assert_eq!(further_keys(&published), ["also"]);
        let mut death = death("q", SettleReason::Rejected, false);
        death.replaces_key = true;
        let dead = buried(&published, &death).unwrap();
        assert!(dead.headers().unwrap().get("CC").is_none());
    }
}
