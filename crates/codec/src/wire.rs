//! The little of the protobuf wire format that the hot path reads and writes by hand (protobuf "Encoding", varints and
//! length-delimited fields). Not here: everything else, which is prost's.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{CodecError, malformed};

/// Bytes of a 64-bit varint at most.
const VARINT_BYTES_MAX: usize = 10;

pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.put_u8(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

/// Length-delimited field; empty = absent, as proto3 has it.
pub(crate) fn put_bytes(out: &mut BytesMut, field: u8, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    out.put_u8(field << 3 | 2);
    put_varint(out, value.len() as u64);
    out.put_slice(value);
}

/// Varint field; 0 = absent, as proto3 has it.
pub(crate) fn put_uint(out: &mut BytesMut, field: u8, value: u64) {
    if value == 0 {
        return;
    }
    out.put_u8(field << 3);
    put_varint(out, value);
}

/// One field as it lies in the bytes.
pub(crate) enum Field {
    Uint(u64),
    /// `from .. to` of the bytes.
    Bytes {
        from: usize,
        to: usize,
    },
    /// Of a fixed width: nothing that is read by hand.
    Fixed,
}

/// Walks over the fields of one message.
pub(crate) struct Fields<'a> {
    what: &'static str,
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a Bytes) -> Self {
        Self { what, bytes, at: 0 }
    }

    /// The next field's number and place; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Field)>, CodecError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Uint(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.varint()?)
                    .map_err(|_| malformed(self.what, "a length is out of range"))?;
                let from = self.at;
                self.skip(length)?;
                Field::Bytes { from, to: self.at }
            }
            5 => self.skip(4)?,
            _ => return Err(malformed(self.what, "a wire type is unknown")),
        };
        Ok(Some((key >> 3, field)))
    }

    fn skip(&mut self, count: usize) -> Result<Field, CodecError> {
        let end = self.at.checked_add(count);
        match end.filter(|&end| end <= self.bytes.len()) {
            Some(end) => self.at = end,
            None => return Err(malformed(self.what, "a field ends early")),
        }
        Ok(Field::Fixed)
    }

    fn varint(&mut self) -> Result<u64, CodecError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut value = 0_u64;
        for (place, byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if place == VARINT_BYTES_MAX - 1 && *byte > 1 {
                    break;
                }
                self.at += place + 1;
                return Ok(value);
            }
        }
        Err(malformed(self.what, "a number does not end"))
    }
}
