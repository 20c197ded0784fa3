//! A number is noted of a queue. Only in the build that plays the next version in tests of upgrades.

use super::super::Store;
use super::super::apply::queue_or_gone;
use crate::entry::Note;
use crate::outcome::Reply;
use crate::rows::Rows;

pub(in super::super) fn apply(store: &mut Store, rows: &dyn Rows, it: &Note) -> Reply {
    let (queue, _) = queue_or_gone!(store, rows, it.queue);
    queue.note = it.note;
    Reply::Noted
}
