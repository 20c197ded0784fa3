//! Class exchange (40): declare, delete, bindings from exchange to exchange.

use warren_types::Table;

use super::class;
use crate::text::ShortString;

class! { 40;
    Declare = 10 [u16] {
        exchange: ShortString,
        kind: ShortString,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        no_wait: bool,
        arguments: Table,
    } []
    DeclareOk = 11 [] {} []
    Delete = 20 [u16] { exchange: ShortString, if_unused: bool, no_wait: bool } []
    DeleteOk = 21 [] {} []
    Bind = 30 [u16] {
        destination: ShortString,
        source: ShortString,
        routing_key: ShortString,
        no_wait: bool,
        arguments: Table,
    } []
    BindOk = 31 [] {} []
    Unbind = 40 [u16] {
        destination: ShortString,
        source: ShortString,
        routing_key: ShortString,
        no_wait: bool,
        arguments: Table,
    } []
    /// 51, not 41: the number RabbitMQ's clients expect.
    UnbindOk = 51 [] {} []
}
