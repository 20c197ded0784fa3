//! The trie of a topic exchange's patterns: a clone shares everything, a change copies one path. Not here: keys (`positions`).

use std::sync::Arc;

use super::{
    pattern::Part,
    positions::{Positions, Words},
};
use crate::{
    maps::{HashIndex, hash_index},
    route::{Targets, destinations::Destinations, hop::Hop},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Patterns that end here.
    here: Destinations,
    words: Children,
    /// After `*`.
    one: Option<Arc<Node>>,
    /// After `#`.
    any: Option<Arc<Node>>,
}

/// By the pattern's next word. Most nodes have one child or none.
#[derive(Clone, Debug, Default)]
enum Children {
    #[default]
    None,
    One(Arc<str>, Arc<Node>),
    Many(HashIndex<Arc<str>, Arc<Node>>),
}

impl Children {
    fn get_or_add(&mut self, word: &str) -> &mut Arc<Node> {
        let is_other = matches!(self, Self::One(known, _) if **known != *word);
        if is_other && let Self::One(known, child) = std::mem::take(self) {
            let mut many = hash_index();
            many.insert_mut(known, child);
            *self = Self::Many(many);
        }
        if let Self::None = self {
            *self = Self::One(Arc::from(word), Arc::default());
        }
        match self {
            Self::None => unreachable!("it has a child: given above"),
            Self::One(_, child) => child,
            Self::Many(many) => {
                if !many.contains_key(word) {
                    many.insert_mut(Arc::from(word), Arc::default());
                }
                many.get_mut(word).expect("it is there: added above")
            }
        }
    }

    fn get_mut(&mut self, word: &str) -> Option<&mut Arc<Node>> {
        match self {
            Self::None => None,
            Self::One(known, child) => (**known == *word).then_some(child),
            Self::Many(many) => many.get_mut(word),
        }
    }

    fn remove(&mut self, word: &str) {
        match self {
            Self::None => {}
            Self::One(known, _) => {
                if **known == *word {
                    *self = Self::None;
                }
            }
            Self::Many(many) => {
                many.remove_mut(word);
                if many.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        let no_words = matches!(self.words, Children::None);
        self.here.is_empty() && no_words && self.one.is_none() && self.any.is_none()
    }

    pub(super) fn add(&mut self, parts: &[Part<'_>], hop: Hop) {
        let mut node = self;
        for part in parts {
            let child = match part {
                Part::Word(word) => node.words.get_or_add(word),
                Part::One => node.one.get_or_insert_default(),
                Part::Any => node.any.get_or_insert_default(),
            };
            node = Arc::make_mut(child);
        }
        node.here.add(hop, 1);
    }

    /// Nodes that lead nowhere any more go with it.
    pub(super) fn remove(&mut self, parts: &[Part<'_>], hop: &Hop) {
        let Some((part, rest)) = parts.split_first() else {
            self.here.remove(hop, 1);
            return;
        };
        let child = match part {
            Part::Word(word) => self.words.get_mut(word),
            Part::One => self.one.as_mut(),
            Part::Any => self.any.as_mut(),
        };
        let Some(child) = child else { return };
        let child = Arc::make_mut(child);
        child.remove(rest, hop);
        if child.is_empty() {
            match part {
                Part::Word(word) => self.words.remove(word),
                Part::One => self.one = None,
                Part::Any => self.any = None,
            }
        }
    }

    pub(super) fn find(&self, key: &str, out: &mut Targets) {
        self.visit(Positions::one(0), &Words::new(key), out);
    }

    /// `at` are all places of the key at which the pattern up to here can end; never empty. The depth is that of a pattern: at
    /// most 256 words.
    fn visit(&self, at: Positions, key: &Words<'_>, out: &mut Targets) {
        if at.contains(key.end()) {
            self.here.route(out);
        }
        if let Some(one) = &self.one {
            one.visit_some(key.after_any(at), key, out);
        }
        if let Some(any) = &self.any {
            any.visit(at.and_on(key.end()), key, out);
        }
        match &self.words {
            Children::None => {}
            Children::One(word, child) => child.visit_some(key.after_word(at, word), key, out),
            Children::Many(many) => visit_many(many, at, key, out),
        }
    }

    fn visit_some(&self, at: Positions, key: &Words<'_>, out: &mut Targets) {
        if !at.is_empty() {
            self.visit(at, key, out);
        }
    }
}

/// Looks up each word of the key, or each child if there are fewer.
fn visit_many(
    many: &HashIndex<Arc<str>, Arc<Node>>,
    at: Positions,
    key: &Words<'_>,
    out: &mut Targets,
) {
    if let Some(place) = at.single() {
        if let Some(child) = key.word(place).and_then(|word| many.get(word)) {
            child.visit(Positions::one(place + 1), key, out);
        }
        return;
    }
    let groups = key.groups();
    if many.size() < groups.len() {
        // The order does not show: what is found is sorted.
        for (word, child) in many.iter() {
            child.visit_some(key.after_word(at, word), key, out);
        }
        return;
    }
    for (word, places) in groups {
        let next = Words::after_places(at, *places);
        if !next.is_empty()
            && let Some(child) = many.get(*word)
        {
            child.visit(next, key, out);
        }
    }
}
