//! Deliveries that end in one, and of which some are dead letters (features X4, ADR 0081): where those go is found out first, in parts, so
//! that they begin their way in the entry that ends the others. Not here: dead letters for themselves (`dead_letter`), that dispatch has made
//! sure of all (`warren-queue`), the entry (`settles`).

use warren_queue::dispatch::io::OutputsId;
use warren_queue::entry::{EndedDelivery, Ending, MoveOut, Settle};
use warren_queue::outcome::WhyNotTogether;
use warren_queue::store::ReadMessage;
use warren_types::{DeadLetterStrategy, Position, PositionRange};

use super::mover::{Job, MESSAGES_MAX};
use super::work::Leading;
use crate::replica::tap::Request;

/// Dead letters times the queues they go to, of one request: their names are all in one entry.
const COPIES_MAX: usize = 16_384;

/// Deliveries that end in one as soon as it is known where the dead letters among them go.
#[derive(Debug, Clone)]
pub(super) struct Dying {
    outputs: OutputsId,
    deliveries: Vec<EndedDelivery>,
    /// What is certain; remarks stand first.
    endings: Vec<Ending>,
    /// To be looked at, the last first.
    unknown: Vec<Settle>,
    copies: usize,
}

impl Leading {
    /// Dispatch has made sure of all deliveries.
    pub(super) fn propose_together(
        &mut self,
        outputs: OutputsId,
        deliveries: Vec<EndedDelivery>,
        endings: Vec<Ending>,
    ) {
        let mut dying = Dying {
            outputs,
            deliveries,
            endings: Vec::with_capacity(endings.len()),
            unknown: Vec::new(),
            copies: 0,
        };
        for ending in endings {
            match ending {
                Ending::Settle(it) if self.is_dead_letter(&it) => dying.unknown.extend(parts(&it)),
                Ending::Remark(_)
                | Ending::Settle(_)
                | Ending::Return(_)
                | Ending::Park(_)
                | Ending::MoveOut(_) => dying.endings.push(ending),
            }
        }
        self.look_at_dying(dying);
    }

    /// Asks for the next of the messages, or proposes all.
    fn look_at_dying(&mut self, mut dying: Dying) {
        let Some(it) = dying.unknown.pop() else {
            return self.propose_ends(dying.outputs, dying.deliveries, dying.endings);
        };
        let (queue, ranges) = (it.queue, it.ranges.clone());
        let ticket = self.mover.begin(Job::Together(it, dying));
        self.mailbox.ask(Request::Read {
            ticket,
            queue,
            ranges,
        });
    }

    pub(super) fn dying_read(&mut self, it: &Settle, mut dying: Dying, messages: Vec<ReadMessage>) {
        let ways = self.ways(it, messages);
        dying.copies += ways.moves.iter().map(copies).sum::<usize>();
        let keeps = ways.strategy == DeadLetterStrategy::AtLeastOnce && !ways.nowhere.is_empty();
        let why = if ways.gone.is_empty() {
            // Kept until something is bound is nothing that an entry could say.
            (keeps || dying.copies > COPIES_MAX).then_some(WhyNotTogether::DeadLetter)
        } else {
            Some(WhyNotTogether::Left)
        };
        if let Some(why) = why {
            return self.refuse_together(dying.deliveries, why);
        }
        let moves = ways.moves.into_iter().map(Ending::MoveOut);
        dying.endings.extend(moves);
        dying.endings.extend(ways.circles.map(Ending::Park));
        if !ways.nowhere.is_empty() {
            dying.endings.push(Ending::Settle(Settle {
                queue: it.queue,
                ranges: ways.nowhere,
                reason: it.reason,
            }));
        }
        self.look_at_dying(dying);
    }
}

/// As many as are read at once.
fn parts(it: &Settle) -> Vec<Settle> {
    let positions = it.ranges.iter().flat_map(|range| range.positions());
    let positions: Vec<Position> = positions.collect();
    let parts = positions.chunks(MESSAGES_MAX).map(|some| Settle {
        queue: it.queue,
        ranges: PositionRange::collect(some.iter().copied()),
        reason: it.reason,
    });
    parts.collect()
}

fn copies(it: &MoveOut) -> usize {
    let queues: usize = it.targets.iter().map(|it| it.queues.len()).sum();
    let messages: u64 = it.ranges.iter().map(|it| it.count).sum();
    queues.saturating_mul(usize::try_from(messages).unwrap_or(usize::MAX))
}
