//! Class queue (50): declare, delete, purge, bindings.

use warren_types::Table;

use super::class;
use crate::text::ShortString;

class! { 50;
    Declare = 10 [u16] {
        queue: ShortString,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        no_wait: bool,
        arguments: Table,
    } []
    /// `message_count` counts ready messages only.
    DeclareOk = 11 [] { queue: ShortString, message_count: u32, consumer_count: u32 } []
    Bind = 20 [u16] {
        queue: ShortString,
        exchange: ShortString,
        routing_key: ShortString,
        no_wait: bool,
        arguments: Table,
    } []
    BindOk = 21 [] {} []
    Purge = 30 [u16] { queue: ShortString, no_wait: bool } []
    PurgeOk = 31 [] { message_count: u32 } []
    Delete = 40 [u16] { queue: ShortString, if_unused: bool, if_empty: bool, no_wait: bool } []
    DeleteOk = 41 [] { message_count: u32 } []
    /// Has no `no_wait` bit.
    Unbind = 50 [u16] {
        queue: ShortString,
        exchange: ShortString,
        routing_key: ShortString,
        arguments: Table,
    } []
    UnbindOk = 51 [] {} []
}
