//! Fanout exchanges: every binding, whatever the routing key (AMQP 0-9-1, 3.1.3.2). Not here: other kinds.

use super::{Target, Targets, destinations::Destinations};

#[derive(Clone, Debug, Default)]
pub(super) struct FanoutRoutes {
    all: Destinations,
}

impl FanoutRoutes {
    pub(super) fn bind(&mut self, target: Target) {
        self.all.add(target);
    }

    pub(super) fn unbind(&mut self, target: Target) {
        self.all.remove(target);
    }

    pub(super) fn route(&self, out: &mut Targets) {
        self.all.route(out);
    }
}
