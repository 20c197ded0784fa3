//! What goes on of a message, under which name its target knows it again, and how fast. Pure. Not here: taking and publishing it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use warren_client::Message;
use warren_types::{Properties, PropertiesBuilder, PropertiesError, Property, Table, Value};

/// Header whose copies were made when the message was published first.
const CC: &str = "CC";
const DELAY: &str = "x-delay";
const DELIVER_AT: &str = "x-deliver-at";
/// How much may be made up for after a pause, at a rate.
const BURST: Duration = Duration::from_millis(100);

/// A queue tells a producer's last 1,024 sequences apart, in whatever order they come: so many positions share a producer.
const BLOCK: u64 = 1_024;
/// Producers that a queue's messages have at a target, which remembers 10,000 for all who publish there. Blocks of positions take turns
/// in them: only what lies 4 million positions behind is too old for its own.
const SLOTS: u64 = 4_096;

/// What a queue's messages are called at any target. Whoever shovels the queue uses the same names: another one brings a message twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    base: String,
}

/// A message's name at its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) producer: String,
    pub(super) sequence: u64,
}

impl Names {
    pub(super) fn of(cluster_id: &str, queue_id: u64) -> Self {
        Self {
            base: format!("shovel {cluster_id} {queue_id}"),
        }
    }

    /// Under which a message is published.
    pub(super) fn of_slot(&self, position: u64) -> Name {
        let turn = position / BLOCK / SLOTS;
        Name {
            producer: format!("{} slot {}", self.base, slot(position)),
            sequence: turn * BLOCK + position % BLOCK + 1,
        }
    }

    /// Of a message whose block's slot is another block's by now. Never too old.
    pub(super) fn of_block(&self, position: u64) -> Name {
        Name {
            producer: format!("{} block {}", self.base, position / BLOCK),
            sequence: position % BLOCK + 1,
        }
    }
}

/// Which of the producers a message has.
pub(super) fn slot(position: u64) -> u64 {
    position / BLOCK % SLOTS
}

/// The times of a message in its queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) now: SystemTime,
    pub(super) enqueued: Option<SystemTime>,
    /// Of one that is not due yet.
    pub(super) due: Option<Duration>,
}

/// The message for its target: ready when it would be ready here, with what is left of its time to live, else as it is.
///
/// # Errors
/// The properties have no room for one header more.
pub(super) fn carried(message: Message, times: Times) -> Result<Message, PropertiesError> {
    let now = since_epoch(times.now);
    let headers = message.properties.headers().unwrap_or_default();
    let ttl = time_to_live(&message.properties);
    let message = without_copies(message, &headers)?;
    let wait = times.due.map(|due| due.saturating_sub(now));
    let message = message.due_in(wait.filter(|it| !it.is_zero()))?;
    let (Some(ttl), None, Some(enqueued)) = (ttl, wait, times.enqueued) else {
        // A time to live counts from when a message is due.
        return Ok(message);
    };
    let enqueued = since_epoch(enqueued);
    let age = now.saturating_sub(enqueued.max(due_by(&headers, enqueued)));
    let left = ttl.saturating_sub(age).max(Duration::from_millis(1));
    let left = left.as_millis().to_string();
    let properties = PropertiesBuilder::from(&message.properties).expiration(&left);
    Ok(message.with_properties(properties.build()?))
}

/// The copies that it asks for were made already.
fn without_copies(message: Message, headers: &Table) -> Result<Message, PropertiesError> {
    if headers.get(CC).is_none() {
        return Ok(message);
    }
    let mut rest = headers.clone();
    rest.remove(CC);
    let properties = PropertiesBuilder::from(&message.properties);
    let properties = if rest.is_empty() {
        properties.remove(Property::Headers)
    } else {
        properties.headers(&rest)
    };
    Ok(message.with_properties(properties.build()?))
}

/// One that is no number of milliseconds goes on as it is.
fn time_to_live(properties: &Properties) -> Option<Duration> {
    let text = properties.raw(Property::Expiration)?;
    let ms = std::str::from_utf8(&text).ok()?.parse().ok()?;
    Some(Duration::from_millis(ms))
}

/// When a message was due that has been in its queue since `enqueued`; its headers say how long it waited.
fn due_by(headers: &Table, enqueued: Duration) -> Duration {
    let ms = |it: i64| Duration::from_millis(u64::try_from(it).unwrap_or(0));
    match headers.get(DELIVER_AT) {
        Some(Value::Timestamp(seconds)) => Duration::from_secs(*seconds),
        Some(other) => other.as_int().map_or(enqueued, ms),
        None => enqueued.saturating_add(ms(headers.get_int(DELAY).unwrap_or(0))),
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When the next message may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between two messages; none = as fast as it goes.
    gap: Option<Duration>,
    next: Instant,
}

impl Pace {
    /// So many per second; 0 = as fast as it goes.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let gap = (rate > 0).then(|| Duration::from_secs(1) / rate.max(1));
        Self { gap, next: now }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn took(&mut self, now: Instant) {
        if let Some(gap) = self.gap {
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            self.next = self.next.max(earliest) + gap;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    fn times(now: u64, enqueued: u64) -> Times {
        Times {
            now: at(now),
            enqueued: Some(at(enqueued)),
            due: None,
        }
    }

    fn message(properties: &PropertiesBuilder) -> Message {
        Message::new("body").with_properties(properties.build().unwrap())
    }

    fn with_headers(headers: Table) -> PropertiesBuilder {
        PropertiesBuilder::new().headers(&headers)
    }

    fn expiration(message: &Message) -> String {
        let raw = message.properties.raw(Property::Expiration).unwrap();
        String::from_utf8(raw.to_vec()).unwrap()
    }

    #[test]
    fn message_without_times_stays_as_it_is() {
        let headers = Table::new().with("a", 1_i64);
        let properties = with_headers(headers).priority(9).message_id("m");
        let was = message(&properties.user_id("u").persistent());
        let is = carried(was.clone(), times(5_000, 1_000)).unwrap();
        assert_eq!((is.properties, is.body), (was.properties, was.body));
    }

    #[test]
    fn time_to_live_goes_on_from_when_the_message_was_due() {
        let ttl = PropertiesBuilder::new().expiration("10000");
        let left =
            |was: &PropertiesBuilder, times| expiration(&carried(message(was), times).unwrap());
        assert_eq!(left(&ttl, times(5_000, 1_000)), "6000");
        // Late, or a clock that goes before: never "at once or not at all", never more than it was.
        assert_eq!(left(&ttl, times(99_000, 1_000)), "1");
        assert_eq!(left(&ttl, times(1_000, 5_000)), "10000");
        let delayed = ttl.clone().headers(&Table::new().with(DELAY, 3_000_i64));
        assert_eq!(left(&delayed, times(5_000, 1_000)), "9000");
        let at_time = Table::new().with(DELIVER_AT, Value::Timestamp(4));
        assert_eq!(left(&ttl.headers(&at_time), times(5_000, 1_000)), "9000");
    }

    #[test]
    fn delay_that_is_over_is_not_waited_for_again_and_one_that_is_not_goes_on() {
        let delayed = message(&with_headers(Table::new().with(DELAY, 3_000_i64)));
        let delay = |times| {
            let is = carried(delayed.clone(), times).unwrap();
            is.properties.headers().unwrap().get_int(DELAY)
        };
        assert_eq!(delay(times(5_000, 1_000)), Some(0));
        let waits = Times {
            due: Some(Duration::from_millis(7_000)),
            ..times(5_000, 4_000)
        };
        assert_eq!(delay(waits), Some(2_000));
    }

    #[test]
    fn copies_are_not_made_again() {
        let cc = Value::Array(vec![Value::from("elsewhere")]);
        let both = Table::new().with(CC, cc.clone()).with("mine", "x");
        let is = carried(message(&with_headers(both)), times(2, 1)).unwrap();
        let expected = Table::new().with("mine", "x");
        assert_eq!(is.properties.headers(), Some(expected));
        let only = message(&with_headers(Table::new().with(CC, cc)).message_id("m"));
        let is = carried(only, times(2, 1)).unwrap();
        assert_eq!(is.properties.headers(), None);
        assert_eq!(is.properties.message_id(), Some("m"));
    }

    #[test]
    fn names_are_as_they_always_were_and_tell_clusters_and_queues_apart() {
        let names = Names::of("c", 7);
        let name = |producer: &str, sequence| Name {
            producer: producer.to_owned(),
            sequence,
        };
        assert_eq!(names.of_slot(1), name("shovel c 7 slot 0", 2));
        assert_eq!(names.of_slot(1_023), name("shovel c 7 slot 0", 1_024));
        assert_eq!(names.of_slot(1_024), name("shovel c 7 slot 1", 1));
        let turn = BLOCK * SLOTS;
        assert_eq!(names.of_slot(turn + 1), name("shovel c 7 slot 0", 1_026));
        let block = name("shovel c 7 block 4097", 6);
        assert_eq!(names.of_block(turn + 1_029), block);
        let first = |cluster, queue| Names::of(cluster, queue).of_slot(1).producer;
        assert_ne!(first("c", 1), first("d", 1));
        assert_ne!(first("c", 1), first("c", 2));
    }

    /// As a queue remembers a producer: the last sequence, and which of the 1,023 below it have come.
    #[derive(Default)]
    struct Memory {
        last: u64,
        seen: BTreeSet<u64>,
    }

    impl Memory {
        fn is_too_old(&mut self, sequence: u64) -> bool {
            self.last = self.last.max(sequence);
            self.last - sequence >= 1_024
        }
    }

    #[test]
    fn position_is_known_in_whatever_order_until_four_million_later_ones_have_come() {
        let names = Names::of("c", 7);
        let mut target: BTreeMap<String, Memory> = BTreeMap::new();
        let mut comes = |name: Name| {
            let memory = target.entry(name.producer).or_default();
            let is_new = memory.seen.insert(name.sequence);
            (is_new, memory.is_too_old(name.sequence))
        };
        let begin = 1_024 * 5 + 17;
        let far = begin + (SLOTS - 1) * BLOCK;
        // The far end first, then back and forth over it all.
        let steps = (1..200_u64).map(|it| begin + it * 7_919 * 31 % (far - begin));
        let all: Vec<u64> = [far].into_iter().chain(steps).chain([begin]).collect();
        for position in &all {
            assert_eq!(comes(names.of_slot(*position)), (true, false), "{position}");
        }
        for position in all.iter().rev() {
            let again = comes(names.of_slot(*position));
            assert_eq!(again, (false, false), "{position}");
        }
        let later = comes(names.of_slot(begin + SLOTS * BLOCK));
        assert_eq!(later, (true, false));
        let (_, is_too_old) = comes(names.of_slot(begin - 1));
        assert!(is_too_old);
        assert_eq!(comes(names.of_block(begin - 1)), (true, false));
        assert_eq!(comes(names.of_block(begin - 1)), (false, false));
    }

    #[test]
    fn pace_keeps_to_its_rate_and_makes_up_for_little() {
        let begin = Instant::now();
        let mut pace = Pace::new(100, begin);
        for _ in 0..10 {
            pace.took(begin);
        }
        assert_eq!(pace.next() - begin, Duration::from_millis(100));
        let later = begin + Duration::from_secs(60);
        let mut at_once = 0;
        while pace.next() <= later {
            pace.took(later);
            at_once += 1;
        }
        assert_eq!(at_once, 11);
        let mut free = Pace::new(0, begin);
        free.took(later);
        assert_eq!(free.next(), begin);
    }
}
