//! Headers exchanges: the binding's arguments against the message's headers (features B5). Not here: other kinds.

use bytes::Bytes;
use warren_types::{Table, Value};

use super::{Published, Targets, destinations::Destinations, hop::Hop};
use crate::{binding::canonical, maps::OrdMap};

pub(crate) const X_MATCH: &str = "x-match";

/// What `x-match` may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Match {
    /// All of the arguments are to match, or any of them.
    all: bool,
    /// Arguments whose names begin with `x-` count as well.
    with_x: bool,
}

/// One set of arguments, and where its bindings lead.
#[derive(Clone, Debug)]
struct Rule {
    all: bool,
    /// `None`: the header's presence is enough.
    wanted: Vec<(Box<str>, Option<Value>)>,
    destinations: Destinations,
}

/// By the arguments' bytes in the order of their names.
#[derive(Clone, Debug)]
pub(super) struct HeadersRoutes {
    rules: OrdMap<Bytes, Rule>,
}

/// # Errors
/// What is wrong with the binding's `x-match`.
pub(crate) fn check(arguments: &Table) -> Result<(), &'static str> {
    mode(arguments).map(drop)
}

fn mode(arguments: &Table) -> Result<Match, &'static str> {
    let it = |all, with_x| Ok(Match { all, with_x });
    match arguments.get(X_MATCH).map(Value::as_str) {
        None | Some(Some("all")) => it(true, false),
        Some(Some("any")) => it(false, false),
        Some(Some("all-with-x")) => it(true, true),
        Some(Some("any-with-x")) => it(false, true),
        Some(Some(_)) => Err("expected all, any, all-with-x or any-with-x"),
        Some(None) => Err("it is not a string"),
    }
}

impl Rule {
    fn new(arguments: &Table) -> Self {
        // Bindings are checked before they are made.
        let mode = mode(arguments).unwrap_or(Match {
            all: true,
            with_x: false,
        });
        let counts = |name: &str| name != X_MATCH && (mode.with_x || !name.starts_with("x-"));
        let wanted = arguments.iter().filter(|(name, _)| counts(name));
        Self {
            all: mode.all,
            wanted: wanted
                .map(|(name, value)| (name.into(), (*value != Value::Void).then(|| value.clone())))
                .collect(),
            destinations: Destinations::default(),
        }
    }

    /// No arguments: `all` matches everything, `any` nothing.
    fn matches(&self, headers: Option<&Table>) -> bool {
        let fits = |(name, wanted): &(Box<str>, Option<Value>)| {
            let found = headers.and_then(|headers| headers.get(name));
            match (found, wanted) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(found), Some(wanted)) => same(found, wanted),
            }
        };
        if self.all {
            self.wanted.iter().all(fits)
        } else {
            self.wanted.iter().any(fits)
        }
    }
}

/// Type and value; the two tags of a signed 64-bit integer are one type.
fn same(one: &Value, other: &Value) -> bool {
    let long = |value: &Value| match value {
        Value::I64(it) | Value::I64Upper(it) => Some(*it),
        Value::Bool(_)
        | Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Decimal(_)
        | Value::LongString(_)
        | Value::Array(_)
        | Value::Timestamp(_)
        | Value::Table(_)
        | Value::Void
        | Value::Bytes(_) => None,
    };
    one == other || long(one).is_some_and(|it| Some(it) == long(other))
}

impl HeadersRoutes {
    pub(super) fn new() -> Self {
        Self {
            rules: OrdMap::new_sync(),
        }
    }

    pub(super) fn bind(&mut self, arguments: &Table, hop: Hop) {
        let key = canonical(arguments);
        match self.rules.get_mut(&key) {
            Some(rule) => rule.destinations.add(hop, 1),
            None => {
                let mut rule = Rule::new(arguments);
                rule.destinations.add(hop, 1);
                self.rules.insert_mut(key, rule);
            }
        }
    }

    pub(super) fn unbind(&mut self, arguments: &Table, hop: &Hop) {
        let key = canonical(arguments);
        let Some(rule) = self.rules.get_mut(&key) else {
            return;
        };
        rule.destinations.remove(hop, 1);
        if rule.destinations.is_empty() {
            self.rules.remove_mut(&key);
        }
    }

    pub(super) fn route(&self, message: &Published<'_>, out: &mut Targets) {
        let headers = message.headers();
        for rule in self.rules.values() {
            if rule.matches(headers) {
                rule.destinations.route(out);
            }
        }
    }
}
