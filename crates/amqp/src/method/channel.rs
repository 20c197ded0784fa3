//! Class channel (20): open, close, flow.

use bytes::Bytes;

use super::class;
use crate::text::ShortString;

class! { 20;
    Open = 10 [ShortString] {} []
    OpenOk = 11 [Bytes] {} []
    Flow = 20 [] { active: bool } []
    FlowOk = 21 [] { active: bool } []
    Close = 40 [] { reply_code: u16, reply_text: ShortString, class_id: u16, method_id: u16 } []
    CloseOk = 41 [] {} []
}
