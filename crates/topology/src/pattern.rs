//! Patterns over names: regular expressions that are matched in linear time. Not here: what they are for (`permission`).
//!
//! A pattern is kept as its text, whatever it is; one that this version cannot compile matches nothing. So a change of what compiles
//! never makes replicas differ.

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// A pattern takes at most so much memory when compiled, and so much for its lazy automaton.
const COMPILED_BYTES_MAX: usize = 256 << 10;
const NESTING_MAX: u32 = 32;
/// Not followed by: of all look-around only this, and only where a pattern begins.
const NOT_FOLLOWED: &str = "^(?!";

/// Why a pattern cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PatternError {
    #[error("it has {bytes} bytes; the limit is {}", Pattern::BYTES_MAX)]
    TooLong { bytes: usize },
    #[error("look-around and back-references are not available, but for one leading ^(?!…)")]
    LookAround,
    #[error("it is no regular expression, or one that is too large: {reason}")]
    Invalid { reason: Box<str> },
}

/// An unanchored pattern. The empty one matches nothing (RabbitMQ's rule for permissions).
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Nothing,
    Everything,
    Regex(Regex),
    /// Matches the second, and not the first.
    Unless(Regex, Regex),
}

impl Pattern {
    pub const BYTES_MAX: usize = 1_024;

    /// Keeps the text; see [`Pattern::check`] for whether it can match.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            matcher: compile(text).unwrap_or(Matcher::Nothing),
        }
    }

    /// Whether a text is a pattern that can be used.
    ///
    /// # Errors
    /// [`PatternError`]: it matches nothing.
    pub fn check(text: &str) -> Result<(), PatternError> {
        compile(text).map(|_| ())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Takes time linear in the name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Nothing => false,
            Matcher::Everything => true,
            Matcher::Regex(regex) => regex.is_match(name),
            Matcher::Unless(not, regex) => !not.is_match(name) && regex.is_match(name),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// A text to put into a pattern that means itself.
#[must_use]
pub(crate) fn escape(text: &str) -> String {
    regex::escape(text)
}

fn compile(text: &str) -> Result<Matcher, PatternError> {
    if text.len() > Pattern::BYTES_MAX {
        return Err(PatternError::TooLong { bytes: text.len() });
    }
    match text {
        "" => Ok(Matcher::Nothing),
        ".*" | "^.*$" | "^.*" => Ok(Matcher::Everything),
        _ => match text.strip_prefix(NOT_FOLLOWED) {
            Some(rest) => unless(rest),
            None => regex(text).map(Matcher::Regex),
        },
    }
}

/// `^(?!A)B` is "not `^A`, and `^B`", as long as no alternative stands beside it.
fn unless(rest: &str) -> Result<Matcher, PatternError> {
    let close = closing(rest).ok_or(PatternError::LookAround)?;
    let (not, then) = rest.split_at(close);
    let then = then.strip_prefix(')').ok_or(PatternError::LookAround)?;
    if has_alternative(then) {
        return Err(PatternError::LookAround);
    }
    Ok(Matcher::Unless(
        regex(&format!("^(?:{not})"))?,
        regex(&format!("^(?:{then})"))?,
    ))
}

/// Where the group that is open at the start is closed.
fn closing(text: &str) -> Option<usize> {
    at_level(text, |it, depth| it == ')' && depth == 0)
}

fn has_alternative(text: &str) -> bool {
    at_level(text, |it, depth| it == '|' && depth == 0).is_some()
}

/// The first character outside of classes and escapes of which `wanted` is true, told with the groups open around it.
fn at_level(text: &str, wanted: impl Fn(char, u32) -> bool) -> Option<usize> {
    let (mut depth, mut in_class, mut escaped) = (0_u32, false, false);
    for (at, it) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        if !in_class && wanted(it, depth) {
            return Some(at);
        }
        match it {
            '\\' => escaped = true,
            '[' if !in_class => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn regex(text: &str) -> Result<Regex, PatternError> {
    if ["(?=", "(?!", "(?<=", "(?<!"]
        .iter()
        .any(|it| text.contains(it))
    {
        return Err(PatternError::LookAround);
    }
    RegexBuilder::new(text)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| PatternError::Invalid {
            reason: error.to_string().lines().last().unwrap_or_default().into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_is_unanchored_and_the_empty_one_matches_nothing() {
        assert!(Pattern::new("der").matches("orders"));
        assert!(!Pattern::new("^der").matches("orders"));
        assert!(!Pattern::new("").matches(""));
        assert!(!Pattern::new("^$").matches("orders"));
        assert!(Pattern::new(".*").matches(""));
    }

    #[test]
    fn pattern_with_leading_not_followed_is_understood() {
        let pattern = Pattern::new(r"^(?!amq\.).*");
        assert!(pattern.matches("orders"));
        assert!(pattern.matches("amq"));
        assert!(!pattern.matches("amq.direct"));
        let pattern = Pattern::new(r"^(?!(a|b)[)]\)x).+y$");
        assert!(!pattern.matches("a))xy"));
        assert!(pattern.matches("c))xy"));
        assert!(!pattern.matches("c))xz"));
    }

    #[test]
    fn pattern_with_other_look_around_or_too_large_is_refused_and_matches_nothing() {
        for text in [
            "^(?!a)b|c",
            "a(?=b)",
            "(?<!a)b",
            r"(a)\1",
            "(",
            "(?:a{1000}){1000}",
        ] {
            assert!(Pattern::check(text).is_err(), "{text}");
            assert!(!Pattern::new(text).matches("abc"), "{text}");
        }
        assert!(Pattern::check(&"a".repeat(1_025)).is_err());
        assert!(Pattern::check(&"(".repeat(1_000)).is_err());
    }
}
