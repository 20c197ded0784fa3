//! A set of hops with the number of bindings that lead to each, read far more often than changed. Not here: when a hop is in it.

use std::sync::Arc;

use super::{Targets, hop::Hop};

/// By hop. One vector, so that a message runs over it without following pointers; a change while another topology shares it
/// copies it, 32 bytes per hop. Most sets hold one hop, which then needs no vector.
#[derive(Clone, Debug, Default)]
pub(super) enum Destinations {
    #[default]
    Empty,
    One(Hop, u64),
    Many(Arc<Vec<(Hop, u64)>>),
}

impl Destinations {
    /// `count` more bindings (or parts of a weight) lead to `hop`.
    pub(super) fn add(&mut self, hop: Hop, count: u64) {
        match self {
            Self::Empty => *self = Self::One(hop, count),
            Self::One(known, counted) if *known == hop => *counted += count,
            Self::One(..) => {
                let Self::One(known, counted) = std::mem::take(self) else {
                    return;
                };
                let mut both = vec![(known, counted), (hop, count)];
                both.sort_unstable();
                *self = Self::Many(Arc::new(both));
            }
            Self::Many(all) => {
                let all = Arc::make_mut(all);
                match all.binary_search_by(|(it, _)| it.cmp(&hop)) {
                    Ok(at) => {
                        if let Some((_, counted)) = all.get_mut(at) {
                            *counted += count;
                        }
                    }
                    Err(at) => all.insert(at, (hop, count)),
                }
            }
        }
    }

    /// `count` fewer; a hop to which none leads leaves the set.
    pub(super) fn remove(&mut self, hop: &Hop, count: u64) {
        match self {
            Self::Empty => {}
            Self::One(known, counted) => {
                if known == hop {
                    *counted = counted.saturating_sub(count);
                    if *counted == 0 {
                        *self = Self::Empty;
                    }
                }
            }
            Self::Many(all) => {
                let all = Arc::make_mut(all);
                let Ok(at) = all.binary_search_by(|(it, _)| it.cmp(hop)) else {
                    return;
                };
                if let Some((_, counted)) = all.get_mut(at) {
                    *counted = counted.saturating_sub(count);
                    if *counted == 0 {
                        all.remove(at);
                    }
                }
                match all.pop() {
                    None => *self = Self::Empty,
                    Some((last, counted)) if all.is_empty() => *self = Self::One(last, counted),
                    Some(last) => all.push(last),
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(..) => 1,
            Self::Many(all) => all.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<&Hop> {
        match self {
            Self::Empty => None,
            Self::One(hop, _) => (at == 0).then_some(hop),
            Self::Many(all) => all.get(at).map(|(hop, _)| hop),
        }
    }

    /// In the order of the hops, with what is counted for each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Hop, u64)> {
        let (one, many) = match self {
            Self::Empty => (None, &[][..]),
            Self::One(hop, count) => (Some((hop, *count)), &[][..]),
            Self::Many(all) => (None, all.as_slice()),
        };
        one.into_iter()
            .chain(many.iter().map(|(hop, count)| (hop, *count)))
    }

    /// The message goes to all of them.
    pub(super) fn route(&self, out: &mut Targets) {
        match self {
            Self::Empty => {}
            Self::One(hop, _) => out.begin_set().add(hop),
            Self::Many(all) => {
                let set = out.begin_set();
                for (hop, _) in all.iter() {
                    set.add(hop);
                }
            }
        }
    }
}
