//! A single active consumer is activated: its fencing number is the queue's highest from now on (guarantee G24).
//! Not here: which consumer it is (`dispatch`): the store knows of none.

use super::super::Store;
use super::super::apply::queue_or_gone;
use crate::entry::Activate;
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

/// A number that is not higher than the last one changes nothing; the effect tells the one in force.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Activate,
    out: &mut Output,
) -> Reply {
    let (queue, _) = queue_or_gone!(store, rows, it.queue);
    queue.fencing = queue.fencing.max(it.fencing);
    out.effects.push(Effect::Activated {
        queue: it.queue,
        fencing: queue.fencing,
    });
    Reply::Activated {
        fencing: queue.fencing,
    }
}
