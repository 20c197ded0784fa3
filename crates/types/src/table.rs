//! AMQP 0-9-1 field tables: an ordered list of named, typed values. Arguments and message headers are such tables.
//! Not here: what any key means (`topology`, `queue`), and the property list that may hold a table (`properties`).

mod value;
mod wire;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::names::NAME_BYTES_MAX;

pub use value::{Decimal, Float32, Float64, Value};
pub(crate) use wire::{find as find_in_wire, validate as validate_wire};

/// How deep tables and arrays may nest; the outermost table is level 1.
pub const TABLE_DEPTH_MAX: usize = 64;

/// Why bytes are not a field table, or a value cannot be put into one. AMQP 0-9-1: 502 SYNTAX_ERROR.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TableError {
    #[error("field table ends early: {needed} bytes needed, {available} left")]
    Truncated { needed: usize, available: usize },
    #[error("{bytes} bytes follow the field table")]
    TrailingBytes { bytes: usize },
    #[error("field table nests deeper than {TABLE_DEPTH_MAX} levels")]
    TooDeep,
    #[error("unknown field type 0x{tag:02x}")]
    UnknownType { tag: u8 },
    #[error("field name is not UTF-8")]
    KeyNotUtf8,
    #[error("field name has {bytes} bytes; the limit is {NAME_BYTES_MAX}")]
    KeyTooLong { bytes: usize },
}

/// An ordered list of named values. Order, types and duplicate names are kept on a round trip; a lookup finds the first
/// of a name. Names are UTF-8 (others are refused on decode).
///
/// Strings and byte arrays of a decoded table are slices of what it was decoded from and keep that alive.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Table {
    entries: Vec<(Box<str>, Value)>,
}

impl Table {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes a whole table: its four length bytes and then exactly that many bytes. Work and memory are bounded by
    /// the input; nothing is allocated from a declared length.
    ///
    /// # Errors
    /// [`TableError`] if the bytes are not one table nested at most [`TABLE_DEPTH_MAX`] deep.
    pub fn decode(wire: &Bytes) -> Result<Self, TableError> {
        let mut rest: &[u8] = wire;
        let table = wire::table(wire, &mut rest, TABLE_DEPTH_MAX)?;
        match rest.len() {
            0 => Ok(table),
            bytes => Err(TableError::TrailingBytes { bytes }),
        }
    }

    /// Appends the table with its four length bytes. What it writes decodes to an equal table.
    pub fn encode(&self, out: &mut BytesMut) {
        wire::put_sized(out, |out| {
            for (key, value) in &self.entries {
                out.put_u8(
                    u8::try_from(key.len()).expect("names are checked when they are put in"),
                );
                out.put_slice(key.as_bytes());
                wire::put_value(out, value);
            }
        });
    }

    /// Sets the first field of that name, or appends it.
    ///
    /// # Errors
    /// [`TableError::KeyTooLong`] if the name has more than 255 bytes.
    pub fn insert(&mut self, key: &str, value: impl Into<Value>) -> Result<(), TableError> {
        match self.entries.iter_mut().find(|(name, _)| &**name == key) {
            Some((_, old)) => *old = value.into(),
            None => self.push(key, value.into())?,
        }
        Ok(())
    }

    /// Sets a field whose name is written in our own code. For names from outside use [`Table::insert`].
    ///
    /// # Panics
    /// If the name has more than 255 bytes.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.insert(key, value)
            .expect("a name in our own code is short");
        self
    }

    /// Removes every field of that name and returns the first.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let mut removed = None;
        self.entries.retain_mut(|(name, value)| {
            let hit = &**name == key;
            if hit && removed.is_none() {
                removed = Some(std::mem::take(value));
            }
            !hit
        });
        removed
    }

    /// Appends a field, also if there is one of that name: constant time, for names that are known to be distinct.
    ///
    /// # Errors
    /// [`TableError::KeyTooLong`] if the name has more than 255 bytes.
    pub fn push(&mut self, key: &str, value: Value) -> Result<(), TableError> {
        if key.len() > NAME_BYTES_MAX {
            return Err(TableError::KeyTooLong { bytes: key.len() });
        }
        self.entries.push((Box::from(key), value));
        Ok(())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// The first field of that name.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries
            .iter()
            .find(|(name, _)| &**name == key)
            .map(|(_, value)| value)
    }

    /// An integer of any width.
    #[must_use]
    pub fn get_int(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_int()
    }

    /// A long string that is UTF-8.
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    #[must_use]
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    #[must_use]
    pub fn get_table(&self, key: &str) -> Option<&Table> {
        self.get(key)?.as_table()
    }

    #[must_use]
    pub fn get_array(&self, key: &str) -> Option<&[Value]> {
        self.get(key)?.as_array()
    }
}

#[cfg(test)]
mod tests;
