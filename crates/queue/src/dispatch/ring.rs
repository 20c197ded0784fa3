//! Whose turn it is: round robin over consumers with credit, highest consumer priority first. Not here: what they get (`hand_out`).

use std::collections::VecDeque;

use super::consumer::Holder;

/// Only consumers that had credit when they joined; who spent it since is dropped when its turn comes.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Highest priority first.
    turns: Vec<(i32, VecDeque<Holder>)>,
}

impl Ring {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.iter().all(|(_, line)| line.is_empty())
    }

    /// Joins at the end of its priority's line.
    pub(super) fn join(&mut self, holder: Holder, priority: i32) {
        self.line(priority).push_back(holder);
    }

    /// Keeps its turn: nothing could be given.
    pub(super) fn rejoin_first(&mut self, holder: Holder, priority: i32) {
        self.line(priority).push_front(holder);
    }

    pub(super) fn next(&mut self) -> Option<Holder> {
        self.turns.iter_mut().find_map(|(_, line)| line.pop_front())
    }

    pub(super) fn leave(&mut self, holder: Holder) {
        for (_, line) in &mut self.turns {
            line.retain(|&it| it != holder);
        }
    }

    fn line(&mut self, priority: i32) -> &mut VecDeque<Holder> {
        let at = match self.turns.binary_search_by(|(it, _)| priority.cmp(it)) {
            Ok(at) => at,
            Err(at) => {
                self.turns.insert(at, (priority, VecDeque::new()));
                at
            }
        };
        &mut self.turns.get_mut(at).expect("found or just made").1
    }
}
