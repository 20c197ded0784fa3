//! Frames: found in a growing read buffer without copying, and written. A frame is a type, a channel number, a length,
//! that many bytes of payload and an end octet. Not here: what is in them (`method`, `content`), their order (`connection`).

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::AmqpError;

/// Bytes of a frame beside its payload: seven before, one behind.
pub const FRAME_OVERHEAD_BYTES: u32 = 8;
/// The limit for frames before tuning.
pub const FRAME_BYTES_BEFORE_TUNE: u32 = 8192;
/// What a peer may not go below (AMQP 0-9-1, frame-min-size).
pub const FRAME_BYTES_MIN: u32 = 4096;

const HEAD_BYTES: usize = 7;
const END_OCTET: u8 = 0xCE;

/// A channel of a connection; 0 is the connection itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChannelId(pub u16);

impl ChannelId {
    /// Where the connection's own methods go.
    pub const CONNECTION: Self = Self(0);
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelId({self})")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    Method = 1,
    Header = 2,
    Body = 3,
    Heartbeat = 8,
}

impl FrameKind {
    fn from_wire(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// One frame. The payload is a slice of what was read and keeps it alive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub kind: FrameKind,
    pub channel: ChannelId,
    pub payload: Bytes,
}

/// Finds frames in a read buffer. Refuses a frame by its first seven bytes; allocates nothing.
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    frame_bytes_max: u32,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_BEFORE_TUNE,
        }
    }
}

impl FrameDecoder {
    /// Sets the negotiated limit.
    pub fn set_frame_bytes_max(&mut self, bytes: u32) {
        self.frame_bytes_max = bytes;
    }

    /// Takes the next whole frame off the front of the buffer; `None` if more bytes are needed.
    ///
    /// The limit is meant for the whole frame, but a payload of that size is taken, too: clients that count without the
    /// eight bytes around it are common.
    ///
    /// # Errors
    /// 501 for an unknown frame type, a length above the limit, a wrong end octet. What follows cannot be read.
    pub fn next(&self, input: &mut BytesMut) -> Result<Option<Frame>, AmqpError> {
        let Some(&[kind, channel_high, channel_low, l3, l2, l1, l0]) =
            input.first_chunk::<HEAD_BYTES>()
        else {
            return match input.first() {
                Some(&octet) if FrameKind::from_wire(octet).is_none() => Err(unknown_type(octet)),
                _ => Ok(None),
            };
        };
        let kind = FrameKind::from_wire(kind).ok_or_else(|| unknown_type(kind))?;
        let length = u32::from_be_bytes([l3, l2, l1, l0]);
        if length > self.frame_bytes_max {
            return Err(AmqpError::frame_error(format_args!(
                "frame of {length} bytes is larger than the limit of {}",
                self.frame_bytes_max
            )));
        }
        let length = usize::try_from(length).expect("checked against the limit");
        match input.get(HEAD_BYTES + length) {
            None => Ok(None),
            Some(&END_OCTET) => {
                let mut payload = input.split_to(HEAD_BYTES + length + 1);
                payload.advance(HEAD_BYTES);
                payload.truncate(length);
                let channel = ChannelId(u16::from_be_bytes([channel_high, channel_low]));
                Ok(Some(Frame {
                    kind,
                    channel,
                    payload: payload.freeze(),
                }))
            }
            Some(octet) => Err(AmqpError::frame_error(format_args!(
                "frame ends with 0x{octet:02x} instead of 0xce"
            ))),
        }
    }
}

fn unknown_type(octet: u8) -> AmqpError {
    AmqpError::frame_error(format_args!("unknown frame type {octet}"))
}

/// Appends a frame whose payload is what `payload` writes.
pub(crate) fn put_frame(
    out: &mut BytesMut,
    kind: FrameKind,
    channel: ChannelId,
    payload: impl FnOnce(&mut BytesMut),
) {
    out.put_u8(kind as u8);
    out.put_u16(channel.0);
    let length_at = out.len();
    out.put_u32(0);
    let start = out.len();
    payload(out);
    let length = u32::try_from(out.len() - start).expect("a frame in memory is far below 4 GiB");
    if let Some(slot) = out.get_mut(length_at..start) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
    out.put_u8(END_OCTET);
}

/// Appends the head of a frame whose payload of `length` bytes and end octet the caller appends.
pub(crate) fn put_head(out: &mut BytesMut, kind: FrameKind, channel: ChannelId, length: u32) {
    out.put_u8(kind as u8);
    out.put_u16(channel.0);
    out.put_u32(length);
}

pub(crate) fn put_end(out: &mut BytesMut) {
    out.put_u8(END_OCTET);
}

/// Appends a heartbeat.
pub(crate) fn put_heartbeat(out: &mut BytesMut) {
    put_head(out, FrameKind::Heartbeat, ChannelId::CONNECTION, 0);
    put_end(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn decode(bytes: &[u8]) -> Result<Option<Frame>, Code> {
        FrameDecoder::default()
            .next(&mut BytesMut::from(bytes))
            .map_err(|error| error.code())
    }

    #[test]
    fn frame_split_anywhere_is_found_once_it_is_whole() {
        let bytes = b"\x03\x00\x07\x00\x00\x00\x03abc\xce";
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Ok(None), "{end}");
        }
        let payload = Bytes::from_static(b"abc");
        assert_eq!(
            decode(bytes),
            Ok(Some(Frame {
                kind: FrameKind::Body,
                channel: ChannelId(7),
                payload
            }))
        );
    }

    #[test]
    fn payload_is_a_slice_of_the_buffer() {
        let mut input = BytesMut::from(&b"\x03\x00\x07\x00\x00\x00\x03abc\xce"[..]);
        let address = input.as_ptr().wrapping_add(HEAD_BYTES);
        let frame = FrameDecoder::default().next(&mut input).unwrap().unwrap();
        assert_eq!(frame.payload.as_ptr(), address);
        assert!(input.is_empty());
    }

    #[test]
    fn unknown_types_are_501() {
        for kind in [0, 4, 9, 255] {
            assert_eq!(decode(&[kind]), Err(Code::FrameError));
            assert_eq!(
                decode(&[kind, 0, 0, 0, 0, 0, 0, 0xCE]),
                Err(Code::FrameError)
            );
        }
    }

    #[test]
    fn wrong_end_octet_is_501() {
        assert_eq!(
            decode(b"\x01\x00\x00\x00\x00\x00\x01aX"),
            Err(Code::FrameError)
        );
    }

    #[test]
    fn length_above_the_limit_is_501_before_the_payload_comes() {
        assert_eq!(
            decode(b"\x01\x00\x00\xff\xff\xff\xff"),
            Err(Code::FrameError)
        );
        assert_eq!(
            decode(b"\x01\x00\x00\x00\x00\x20\x01"),
            Err(Code::FrameError)
        );
        assert_eq!(decode(b"\x01\x00\x00\x00\x00\x20\x00"), Ok(None));
    }

    #[test]
    fn limit_after_tuning_tolerates_eight_bytes() {
        let mut decoder = FrameDecoder::default();
        decoder.set_frame_bytes_max(4096);
        let frame = |payload: usize| {
            let mut bytes = BytesMut::new();
            put_frame(&mut bytes, FrameKind::Body, ChannelId(1), |out| {
                out.put_bytes(0, payload)
            });
            decoder
                .next(&mut bytes)
                .map(|frame| frame.map(|it| it.payload.len()))
                .map_err(|it| it.code())
        };
        assert_eq!(frame(4096), Ok(Some(4096)));
        assert_eq!(frame(4097), Err(Code::FrameError));
    }
}
