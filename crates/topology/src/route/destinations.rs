//! A set of queues with the number of bindings that lead to each, read far more often than changed. Not here: when a queue is in it.

use std::sync::Arc;

use super::{Target, Targets};

/// By queue. One vector, so that a message runs over it without following pointers; a change while another topology shares it
/// copies it, 24 bytes per queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Destinations {
    counted: Arc<Vec<(Target, u64)>>,
}

impl Destinations {
    pub(super) fn add(&mut self, target: Target) {
        let counted = Arc::make_mut(&mut self.counted);
        match counted.binary_search_by_key(&target, |(it, _)| *it) {
            Ok(at) => {
                if let Some((_, bindings)) = counted.get_mut(at) {
                    *bindings += 1;
                }
            }
            Err(at) => counted.insert(at, (target, 1)),
        }
    }

    pub(super) fn remove(&mut self, target: Target) {
        let counted = Arc::make_mut(&mut self.counted);
        let Ok(at) = counted.binary_search_by_key(&target, |(it, _)| *it) else {
            return;
        };
        if let Some((_, bindings)) = counted.get_mut(at) {
            *bindings -= 1;
            if *bindings == 0 {
                counted.remove(at);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    pub(super) fn route(&self, out: &mut Targets) {
        for (target, _) in self.counted.iter() {
            out.push(*target);
        }
    }
}
