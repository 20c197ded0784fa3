//! Direct exchanges: the routing key equals the binding's (AMQP 0-9-1, 3.1.3.1). Not here: other kinds.

use std::sync::Arc;

use super::{Target, Targets, destinations::Destinations};
use crate::maps::{HashIndex, hash_index};

#[derive(Clone, Debug)]
pub(super) struct DirectRoutes {
    by_key: HashIndex<Arc<str>, Destinations>,
}

impl DirectRoutes {
    pub(super) fn new() -> Self {
        Self {
            by_key: hash_index(),
        }
    }

    pub(super) fn bind(&mut self, key: &str, target: Target) {
        let mut destinations = self.by_key.get(key).cloned().unwrap_or_default();
        destinations.add(target);
        self.by_key.insert_mut(Arc::from(key), destinations);
    }

    pub(super) fn unbind(&mut self, key: &str, target: Target) {
        let mut destinations = self.by_key.get(key).cloned().unwrap_or_default();
        destinations.remove(target);
        if destinations.is_empty() {
            self.by_key.remove_mut(key);
        } else {
            self.by_key.insert_mut(Arc::from(key), destinations);
        }
    }

    pub(super) fn route(&self, key: &str, out: &mut Targets) {
        if let Some(destinations) = self.by_key.get(key) {
            destinations.route(out);
        }
    }
}
