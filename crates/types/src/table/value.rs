//! The values a field table holds, one variant per AMQP type tag. Not here: their bytes (`wire`).

use bytes::Bytes;

use super::Table;

/// A 32-bit float kept as its bits, so that equality and hashing are exact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Float32(pub u32);

/// A 64-bit float kept as its bits, so that equality and hashing are exact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Float64(pub u64);

impl Float32 {
    #[must_use]
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl Float64 {
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// `unscaled` divided by ten to the power `scale`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Decimal {
    pub scale: u8,
    pub unscaled: u32,
}

/// A field's value. Two values are equal only if their types are, too.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Value {
    /// Tag `t`.
    Bool(bool),
    /// Tag `b`.
    I8(i8),
    /// Tag `B`.
    U8(u8),
    /// Tag `s`.
    I16(i16),
    /// Tag `u`.
    U16(u16),
    /// Tag `I`.
    I32(i32),
    /// Tag `i`.
    U32(u32),
    /// Tag `l`.
    I64(i64),
    /// Tag `L`: signed as well, kept apart only so that a round trip changes nothing.
    I64Upper(i64),
    /// Tag `f`.
    F32(Float32),
    /// Tag `d`.
    F64(Float64),
    /// Tag `D`.
    Decimal(Decimal),
    /// Tag `S`: text by custom, any bytes by the standard.
    LongString(Bytes),
    /// Tag `A`.
    Array(Vec<Value>),
    /// Tag `T`: seconds since the Unix epoch.
    Timestamp(u64),
    /// Tag `F`.
    Table(Table),
    /// Tag `V`.
    #[default]
    Void,
    /// Tag `x`.
    Bytes(Bytes),
}

impl Value {
    /// An integer of any width. Timestamps are not integers.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::I8(it) => Some(i64::from(*it)),
            Self::U8(it) => Some(i64::from(*it)),
            Self::I16(it) => Some(i64::from(*it)),
            Self::U16(it) => Some(i64::from(*it)),
            Self::I32(it) => Some(i64::from(*it)),
            Self::U32(it) => Some(i64::from(*it)),
            Self::I64(it) | Self::I64Upper(it) => Some(*it),
            Self::Bool(_)
            | Self::F32(_)
            | Self::F64(_)
            | Self::Decimal(_)
            | Self::LongString(_)
            | Self::Array(_)
            | Self::Timestamp(_)
            | Self::Table(_)
            | Self::Void
            | Self::Bytes(_) => None,
        }
    }

    /// A long string that is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::LongString(it) = self {
            std::str::from_utf8(it).ok()
        } else {
            None
        }
    }

    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(it) = self {
            Some(*it)
        } else {
            None
        }
    }

    #[must_use]
    pub fn as_table(&self) -> Option<&Table> {
        if let Self::Table(it) = self {
            Some(it)
        } else {
            None
        }
    }

    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(it) = self {
            Some(it)
        } else {
            None
        }
    }
}

impl From<bool> for Value {
    fn from(it: bool) -> Self {
        Self::Bool(it)
    }
}

impl From<i32> for Value {
    fn from(it: i32) -> Self {
        Self::I32(it)
    }
}

impl From<u32> for Value {
    fn from(it: u32) -> Self {
        Self::U32(it)
    }
}

impl From<i64> for Value {
    fn from(it: i64) -> Self {
        Self::I64(it)
    }
}

impl From<f64> for Value {
    fn from(it: f64) -> Self {
        Self::F64(Float64(it.to_bits()))
    }
}

impl From<&str> for Value {
    fn from(it: &str) -> Self {
        Self::LongString(Bytes::copy_from_slice(it.as_bytes()))
    }
}

impl From<String> for Value {
    fn from(it: String) -> Self {
        Self::LongString(Bytes::from(it))
    }
}

impl From<Vec<Value>> for Value {
    fn from(it: Vec<Value>) -> Self {
        Self::Array(it)
    }
}

impl From<Table> for Value {
    fn from(it: Table) -> Self {
        Self::Table(it)
    }
}
