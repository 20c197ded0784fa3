//! The default exchange: every queue is bound to it by its name (AMQP 0-9-1, 3.1.3.1). Not here: other exchanges.

use warren_types::QueueName;

use super::{Published, Target, Targets, hop::Hop};
use crate::maps::{HashIndex, hash_index};

#[derive(Clone, Debug)]
pub(crate) struct DefaultRoutes {
    queues: HashIndex<QueueName, Target>,
}

impl DefaultRoutes {
    pub(super) fn new() -> Self {
        Self {
            queues: hash_index(),
        }
    }

    pub(crate) fn add(&mut self, name: QueueName, target: Target) {
        self.queues.insert_mut(name, target);
    }

    pub(crate) fn remove(&mut self, name: &QueueName) {
        self.queues.remove_mut(name);
    }

    /// To this queue alone; false: it is not there.
    pub(super) fn find(&self, queue: &QueueName, out: &mut Targets) -> bool {
        let target = self.queues.get(queue);
        if let Some(&target) = target {
            out.begin_set().add(&Hop::Queue(target));
        }
        target.is_some()
    }

    pub(super) fn route(&self, message: &Published<'_>, out: &mut Targets) {
        for key in message.keys() {
            if let Some(&target) = self.queues.get(key) {
                out.begin_set().add(&Hop::Queue(target));
            }
        }
    }
}
