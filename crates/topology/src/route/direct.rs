//! Direct exchanges: the routing key equals the binding's (AMQP 0-9-1, 3.1.3.1). Not here: other kinds.

use std::sync::Arc;

use super::{Published, Targets, destinations::Destinations, hop::Hop};
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

    pub(super) fn bind(&mut self, key: &str, hop: Hop) {
        match self.by_key.get_mut(key) {
            Some(destinations) => destinations.add(hop, 1),
            None => {
                self.by_key
                    .insert_mut(Arc::from(key), Destinations::One(hop, 1));
            }
        }
    }

    pub(super) fn unbind(&mut self, key: &str, hop: &Hop) {
        let Some(destinations) = self.by_key.get_mut(key) else {
            return;
        };
        destinations.remove(hop, 1);
        if destinations.is_empty() {
            self.by_key.remove_mut(key);
        }
    }

    pub(super) fn route(&self, message: &Published<'_>, out: &mut Targets) {
        for key in message.keys() {
            if let Some(destinations) = self.by_key.get(key) {
                destinations.route(out);
            }
        }
    }
}
