//! Length limits whose overflow drops the head (features B41, B42): what is too much gives way, oldest of the lowest priority first.
//! Not here: refusing publishes (the shard's leader does, when it makes an entry).
//!
//! The surplus is taken out of the ready messages in the step in which it appears, before anybody may be handed it; the fact follows.
//! Where the oldest messages are not at hand, they are read first, and until then nothing more than the limit counts as ready.

use super::io::{Action, Actions};
use super::leaving::{self, Leaving};
use super::level::Next;
use super::proposals::Proposals;
use super::queue::Queue;

pub(super) fn trim(queue: &mut Queue, out: &mut Actions) {
    if !queue.is_over_limit() {
        return;
    }
    let mut proposals = Proposals::default();
    while queue.is_over_limit() && leaving::room(queue) > 0 && trim_one(queue, &mut proposals, out)
    {
    }
    proposals.propose(queue.id, out);
}

/// False: nothing more can be dropped now.
fn trim_one(queue: &mut Queue, proposals: &mut Proposals, out: &mut Actions) -> bool {
    let (in_flight, delayed, claimed_end) = (&queue.in_flight, &queue.delayed, queue.claimed_end);
    for level in queue.levels.iter_mut().rev() {
        let next = level.next(|level, position| {
            position < claimed_end
                && (level.is_apart(position)
                    || in_flight.get(position).is_some()
                    || delayed.contains_key(&position))
        });
        let (position, stored) = match next {
            Next::Nothing => continue,
            Next::Cold(from) => {
                if level.load.is_none() {
                    level.ask(from);
                    out.list.push(Action::Load {
                        queue: queue.id,
                        priority: level.priority,
                        from,
                    });
                }
                return false;
            }
            Next::Back(position) => {
                let (stored, _) = level.take_back(position).expect("its block is at hand");
                (position, stored)
            }
            Next::Fresh(position) => {
                let stored = level.take_fresh().expect("the front block has it");
                (position, stored)
            }
        };
        let priority = level.priority;
        leaving::leave(
            queue,
            position,
            priority,
            &stored,
            Leaving::Overflow,
            proposals,
        );
        return true;
    }
    false
}
