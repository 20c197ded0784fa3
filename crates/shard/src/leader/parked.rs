//! What has come and cannot be acted on yet: it waits in the order in which its node sent it. Not here: acting on it (`work`).

use super::work::Leading;
use crate::link::frame::{PeekUp, Up};

impl Leading {
    /// An entry travels in one piece: what comes when it is full waits for the next.
    pub(super) fn has_room_for(&self, frame: &Up) -> bool {
        !self.is_full() || !frame.carries_messages()
    }

    /// Publishes and attaches wait until this copy of the topology is as new as the one they were routed by, and their queue exists.
    pub(super) fn may_take(&self, frame: &Up) -> bool {
        match frame {
            Up::Publish(batch) | Up::Move { batch, .. } => batch.topology <= self.topology.index(),
            Up::Settle(it) => {
                let routed = it.outputs.as_ref().map(|it| it.topology);
                routed.is_none_or(|it| it <= self.topology.index())
            }
            Up::SettleTogether(it) => it.outputs.topology <= self.topology.index(),
            Up::Attach(attach) => {
                attach.topology <= self.topology.index() && !self.creating.contains(&attach.queue)
            }
            Up::Purge { queue, .. }
            | Up::Stats { queue, .. }
            | Up::Peek(PeekUp { queue, .. })
            | Up::Redrive(PeekUp { queue, .. }, _) => !self.creating.contains(queue),
            Up::Hello(_)
            | Up::Reported
            | Up::Credit { .. }
            | Up::Recall { .. }
            | Up::Return(_)
            | Up::CancelScheduled(_)
            | Up::Detach { .. } => true,
        }
    }

    pub(super) fn unpark(&mut self) {
        for node in self.links.nodes() {
            while let Some(link) = self.links.get_mut(node) {
                let hello = link.hello;
                let Some(frame) = link.parked.pop_front() else {
                    break;
                };
                if !self.may_take(&frame) || !self.has_room_for(&frame) {
                    if let Some(link) = self.links.get_mut(node) {
                        link.parked.push_front(frame);
                    }
                    break;
                }
                self.act(&hello, frame);
            }
        }
    }
}
