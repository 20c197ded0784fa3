//! What a user may do in a vhost, as declared (features E4, E6). Not here: what operations need (`access`).

use warren_types::{ExchangeName, UserName, VhostId};

use crate::pattern::{Pattern, escape};

/// Patterns over the names of a vhost's exchanges and queues. A user without one has no access to the vhost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub user: UserName,
    pub vhost: VhostId,
    /// May declare and delete.
    pub configure: Pattern,
    /// May publish to and bind to.
    pub write: Pattern,
    /// May consume from and bind from.
    pub read: Pattern,
}

/// Patterns over routing keys of one topic exchange. Without one every key is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermission {
    pub user: UserName,
    pub vhost: VhostId,
    pub exchange: ExchangeName,
    pub write: TopicPattern,
    pub read: TopicPattern,
}

/// A pattern that may name the user (`{username}`), the vhost (`{vhost}`) and the client (`{client_id}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    text: Box<str>,
}

/// What the variables of a [`TopicPattern`] stand for.
#[derive(Clone, Copy, Debug)]
pub struct TopicVariables<'a> {
    pub username: &'a str,
    pub vhost: &'a str,
    /// Empty = not known; a pattern that names it then matches nothing.
    pub client_id: &'a str,
}

const USERNAME: &str = "{username}";
const VHOST: &str = "{vhost}";
const CLIENT_ID: &str = "{client_id}";

impl TopicPattern {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.into() }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// With the values in place of their names, as themselves: whatever a name holds, it is no part of the pattern.
    #[must_use]
    pub fn expand(&self, variables: TopicVariables<'_>) -> Pattern {
        if variables.client_id.is_empty() && self.text.contains(CLIENT_ID) {
            return Pattern::new("");
        }
        let values = [
            (USERNAME, variables.username),
            (VHOST, variables.vhost),
            (CLIENT_ID, variables.client_id),
        ];
        // One pass: a value that looks like a variable stays what it is.
        let (mut out, mut rest) = (String::new(), &*self.text);
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let found = values.iter().find(|(name, _)| from.starts_with(name));
            let (taken, put) = match found {
                Some((name, value)) => (name.len(), escape(value)),
                None => (1, "{".to_owned()),
            };
            out.push_str(&put);
            rest = from.get(taken..).unwrap_or_default();
        }
        out.push_str(rest);
        Pattern::new(&out)
    }

    /// Whether a text can be used, once expanded.
    ///
    /// # Errors
    /// [`crate::PatternError`]: it matches nothing.
    pub fn check(text: &str) -> Result<(), crate::PatternError> {
        let variables = TopicVariables {
            username: "u",
            vhost: "v",
            client_id: "c",
        };
        Pattern::check(Self::new(text).expand(variables).as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str, username: &str) -> Pattern {
        TopicPattern::new(text).expand(TopicVariables {
            username,
            vhost: "/",
            client_id: "",
        })
    }

    #[test]
    fn topic_pattern_takes_values_as_text() {
        let pattern = expand(r"^{username}\.", ".*");
        assert!(!pattern.matches("anyone.x"));
        assert!(pattern.matches(".*.x"));
        assert_eq!(
            expand("^{username}{vhost}$", "{vhost}").as_str(),
            r"^\{vhost\}/$"
        );
        assert!(expand("a{2}", "u").matches("aa"));
    }

    #[test]
    fn topic_pattern_with_an_unknown_client_matches_nothing() {
        assert!(!expand("{client_id}|.*", "u").matches("x"));
    }
}
