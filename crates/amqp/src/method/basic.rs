//! Class basic (60): publish, consume, get, settle. The messages a server sends (deliver, get-ok, return) are written
//! straight from their parts in `content`; the structs here are what a client decodes.

use warren_types::Table;

use super::class;
use crate::{bookkeeping::DeliveryTag, text::ShortString};

class! { 60;
    Qos = 10 [] { prefetch_size: u32, prefetch_count: u16, global: bool } []
    QosOk = 11 [] {} []
    Consume = 20 [u16] {
        queue: ShortString,
        consumer_tag: ShortString,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        no_wait: bool,
        arguments: Table,
    } []
    ConsumeOk = 21 [] { consumer_tag: ShortString } []
    /// Sent by clients, and by a server to clients with the capability `consumer_cancel_notify`.
    Cancel = 30 [] { consumer_tag: ShortString, no_wait: bool } []
    CancelOk = 31 [] { consumer_tag: ShortString } []
    Publish = 40 [u16] { exchange: ShortString, routing_key: ShortString, mandatory: bool, immediate: bool } []
    Return = 50 [] { reply_code: u16, reply_text: ShortString, exchange: ShortString, routing_key: ShortString } []
    Deliver = 60 [] {
        consumer_tag: ShortString,
        delivery_tag: DeliveryTag,
        redelivered: bool,
        exchange: ShortString,
        routing_key: ShortString,
    } []
    Get = 70 [u16] { queue: ShortString, no_ack: bool } []
    /// `message_count` counts the ready messages that remain.
    GetOk = 71 [] {
        delivery_tag: DeliveryTag,
        redelivered: bool,
        exchange: ShortString,
        routing_key: ShortString,
        message_count: u32,
    } []
    GetEmpty = 72 [ShortString] {} []
    /// From a client it settles a delivery, from a server it confirms a publish.
    Ack = 80 [] { delivery_tag: DeliveryTag, multiple: bool } []
    Reject = 90 [] { delivery_tag: DeliveryTag, requeue: bool } []
    RecoverAsync = 100 [] { requeue: bool } []
    Recover = 110 [] { requeue: bool } []
    RecoverOk = 111 [] {} []
    /// From a server it refuses a publish; `requeue` means nothing there.
    Nack = 120 [] { delivery_tag: DeliveryTag, multiple: bool, requeue: bool } []
}
