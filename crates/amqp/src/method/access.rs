//! Class access (30): obsolete, still sent by old clients.

use super::class;
use crate::text::ShortString;

class! { 30;
    Request = 10 [] {
        realm: ShortString,
        exclusive: bool,
        passive: bool,
        active: bool,
        write: bool,
        read: bool,
    } []
    RequestOk = 11 [] { ticket: u16 } []
}
