//! Exchanges that spread messages over their destinations by a hash: `x-consistent-hash` (by weight, and a change moves as few
//! keys as can be) and `x-modulus-hash` (features B13, B14). Not here: other kinds.
//!
//! The hash is our own and fixed for ever: a key must lead to the same queue after a restart, on every node and version.

use warren_types::{ExchangeName, Properties, Table, Value, mix, stable_hash};

use super::{Published, Targets, destinations::Destinations, hop::Hop};

pub(crate) const HASH_HEADER: &str = "hash-header";
pub(crate) const HASH_PROPERTY: &str = "hash-property";
/// Weights are binding keys; a larger one is refused.
pub(crate) const WEIGHT_MAX: u64 = 1_000_000_000;

/// What is hashed.
#[derive(Clone, Debug)]
enum By {
    RoutingKey,
    Header(Box<str>),
    Property(HashProperty),
}

/// A property that may be hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HashProperty {
    CorrelationId,
    MessageId,
    Timestamp,
}

impl HashProperty {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "correlation_id" => Some(Self::CorrelationId),
            "message_id" => Some(Self::MessageId),
            "timestamp" => Some(Self::Timestamp),
            _ => None,
        }
    }
}

impl By {
    fn new(arguments: &Table) -> Self {
        if let Some(header) = arguments.get_str(HASH_HEADER) {
            return Self::Header(header.into());
        }
        let property = arguments.get_str(HASH_PROPERTY);
        property
            .and_then(HashProperty::named)
            .map_or(Self::RoutingKey, Self::Property)
    }

    /// A hash per routing key, or the one of the header or property; a missing one counts as empty.
    fn hashes<'a>(&'a self, message: &'a Published<'a>) -> impl Iterator<Item = u64> + 'a {
        let (keys, one) = match self {
            Self::RoutingKey => (
                Some(message.keys().map(|key| stable_hash(key.as_bytes()))),
                None,
            ),
            Self::Header(name) => (None, Some(header(message.headers(), name))),
            Self::Property(which) => (None, Some(property(message.properties, *which))),
        };
        keys.into_iter().flatten().chain(one)
    }
}

fn header(headers: Option<&Table>, name: &str) -> u64 {
    match headers.and_then(|headers| headers.get(name)) {
        Some(Value::LongString(text) | Value::Bytes(text)) => stable_hash(text),
        Some(value) => match value.as_int() {
            Some(number) => stable_hash(&number.to_be_bytes()),
            None => stable_hash(b""),
        },
        None => stable_hash(b""),
    }
}

fn property(properties: Option<&Properties>, which: HashProperty) -> u64 {
    let Some(properties) = properties else {
        return stable_hash(b"");
    };
    match which {
        HashProperty::CorrelationId => {
            stable_hash(properties.correlation_id().unwrap_or("").as_bytes())
        }
        HashProperty::MessageId => stable_hash(properties.message_id().unwrap_or("").as_bytes()),
        HashProperty::Timestamp => match properties.timestamp() {
            Some(time) => stable_hash(&time.to_be_bytes()),
            None => stable_hash(b""),
        },
    }
}

/// `x-consistent-hash`: weighted rendezvous hashing. Every destination draws a number from the key's hash and its own; the lowest
/// takes the message. A destination that comes or goes moves only the keys it wins or held.
#[derive(Clone, Debug)]
pub(super) struct ConsistentRoutes {
    by: By,
    weights: Destinations,
}

impl ConsistentRoutes {
    pub(super) fn new(arguments: &Table) -> Self {
        Self {
            by: By::new(arguments),
            weights: Destinations::default(),
        }
    }

    pub(super) fn bind(&mut self, key: &str, hop: Hop) {
        self.weights.add(hop, weight(key).unwrap_or(1));
    }

    pub(super) fn unbind(&mut self, key: &str, hop: &Hop) {
        self.weights.remove(hop, weight(key).unwrap_or(1));
    }

    pub(super) fn route(&self, message: &Published<'_>, out: &mut Targets) {
        for hash in self.by.hashes(message) {
            let mut best: Option<(&Hop, u64, u64)> = None;
            for (hop, weight) in self.weights.iter() {
                let draw = mix(hash ^ identity(hop)).max(1);
                let is_better = best.is_none_or(|(_, known, known_weight)| {
                    beats((draw, weight), (known, known_weight))
                });
                if is_better {
                    best = Some((hop, draw, weight));
                }
            }
            if let Some((hop, ..)) = best {
                out.begin_set().add(hop);
            }
        }
    }
}

/// The weight that a binding key gives; `None`: it is none.
pub(crate) fn weight(key: &str) -> Option<u64> {
    let weight: u64 = key.parse().ok()?;
    (1..=WEIGHT_MAX).contains(&weight).then_some(weight)
}

/// Whether the first draw wins: its exponential variate `-ln(draw) / weight` is lower.
fn beats(one: (u64, u64), other: (u64, u64)) -> bool {
    if one.1 == other.1 {
        return one.0 > other.0;
    }
    u128::from(negative_log(one.0)) * u128::from(other.1)
        < u128::from(negative_log(other.0)) * u128::from(one.1)
}

/// `64 - log2(draw)` with 32 bits after the point; integers only, so that it is the same everywhere. `draw` is not 0.
fn negative_log(draw: u64) -> u64 {
    let zeros = draw.leading_zeros();
    let mut rest = u128::from(draw << zeros);
    let mut log = u64::from(63 - zeros.min(63));
    for _ in 0..32 {
        rest = (rest * rest) >> 63;
        log <<= 1;
        if rest >> 64 != 0 {
            log |= 1;
            rest >>= 1;
        }
    }
    (64 << 32) - log
}

/// `x-modulus-hash`: the key's hash modulo the number of destinations, in the order of their identities.
#[derive(Clone, Debug, Default)]
pub(super) struct ModulusRoutes {
    all: Destinations,
}

impl ModulusRoutes {
    pub(super) fn bind(&mut self, hop: Hop) {
        self.all.add(hop, 1);
    }

    pub(super) fn unbind(&mut self, hop: &Hop) {
        self.all.remove(hop, 1);
    }

    pub(super) fn route(&self, message: &Published<'_>, out: &mut Targets) {
        let Ok(count) = u64::try_from(self.all.len()) else {
            return;
        };
        if count == 0 {
            return;
        }
        for key in message.keys() {
            let at = usize::try_from(stable_hash(key.as_bytes()) % count).unwrap_or(0);
            if let Some(hop) = self.all.get(at) {
                out.begin_set().add(hop);
            }
        }
    }
}

fn identity(hop: &Hop) -> u64 {
    match hop {
        Hop::Queue(target) => mix(target.queue.0),
        Hop::Exchange(name) => exchange_identity(name),
    }
}

fn exchange_identity(name: &ExchangeName) -> u64 {
    mix(!stable_hash(name.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_log_is_exact_at_powers_of_two_and_falls() {
        assert_eq!(negative_log(1), 64 << 32);
        assert_eq!(negative_log(1 << 63), 1 << 32);
        assert_eq!(negative_log(1 << 40), 24 << 32);
        let half_way = negative_log(0xB504_F333_F9DE_6484);
        assert!(half_way.abs_diff((1 << 32) / 2) < 8, "{half_way}");
        assert!(negative_log(u64::MAX) < negative_log(u64::MAX - (1 << 40)));
    }

    #[test]
    fn weight_is_a_positive_number() {
        assert_eq!(weight("1"), Some(1));
        assert_eq!(weight("1000000000"), Some(WEIGHT_MAX));
        for wrong in ["", "0", "-1", "a", "1.5", "1000000001"] {
            assert_eq!(weight(wrong), None, "{wrong}");
        }
    }
}
