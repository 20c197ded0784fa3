//! Fanout exchanges: every binding, whatever the routing key (AMQP 0-9-1, 3.1.3.2). Not here: other kinds.

use super::{Targets, destinations::Destinations, hop::Hop};

#[derive(Clone, Debug, Default)]
pub(super) struct FanoutRoutes {
    all: Destinations,
}

impl FanoutRoutes {
    pub(super) fn bind(&mut self, hop: Hop) {
        self.all.add(hop, 1);
    }

    pub(super) fn unbind(&mut self, hop: &Hop) {
        self.all.remove(hop, 1);
    }

    pub(super) fn route(&self, out: &mut Targets) {
        self.all.route(out);
    }
}
