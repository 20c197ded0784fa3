//! Where a binding leads, as routing tables hold it. Not here: the binding (`binding`).

use warren_types::ExchangeName;

use super::Target;

/// A queue is reached; an exchange routes on by its name, so that a table never holds another table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Hop {
    Queue(Target),
    Exchange(ExchangeName),
}
