//! Class connection (10): greeting, login, tuning, vhost, closing, blocked, token refresh.

use bytes::Bytes;
use warren_types::Table;

use super::class;
use crate::text::ShortString;

class! { 10;
    Start = 10 [] {
        version_major: u8,
        version_minor: u8,
        server_properties: Table,
        mechanisms: Bytes,
        locales: Bytes,
    } []
    StartOk = 11 [] { client_properties: Table, mechanism: ShortString, response: Bytes, locale: ShortString } []
    Secure = 20 [] { challenge: Bytes } []
    SecureOk = 21 [] { response: Bytes } []
    /// `frame_max` in bytes, `heartbeat` in seconds.
    Tune = 30 [] { channel_max: u16, frame_max: u32, heartbeat: u16 } []
    /// `frame_max` in bytes, `heartbeat` in seconds.
    TuneOk = 31 [] { channel_max: u16, frame_max: u32, heartbeat: u16 } []
    Open = 40 [] { virtual_host: ShortString } [ShortString, bool]
    OpenOk = 41 [] {} [ShortString]
    Close = 50 [] { reply_code: u16, reply_text: ShortString, class_id: u16, method_id: u16 } []
    CloseOk = 51 [] {} []
    Blocked = 60 [] { reason: ShortString } []
    Unblocked = 61 [] {} []
    UpdateSecret = 70 [] { new_secret: Bytes, reason: ShortString } []
    UpdateSecretOk = 71 [] {} []
}
