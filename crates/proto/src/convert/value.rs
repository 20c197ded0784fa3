//! Header and argument values: `warren.v1.Value` and the AMQP field table. Nothing is lost either way; the AMQP type letter is
//! sent where it cannot be derived. Not here: what any name means.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost_types::Timestamp;
use thiserror::Error;
use warren_types::{Decimal, Float32, Float64, Table, TableError, Value};

use crate::v1;
use crate::v1::value::Kind;

/// Tables and lists nested deeper than this are sent in AMQP's own encoding: protobuf decoders stop at 100 nested messages,
/// and a table level costs three.
pub const NESTED_LEVELS_MAX: usize = 16;

/// Why a client's value is not an AMQP value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    #[error("amqp type {letter:?} does not fit a value of kind {kind}")]
    WrongType { letter: char, kind: &'static str },
    #[error("{value} is out of range of amqp type {letter:?}")]
    OutOfRange { letter: char, value: i64 },
    #[error("a decimal has 5 bytes, not {bytes}")]
    BadDecimal { bytes: usize },
    #[error("{0}")]
    Table(#[from] TableError),
}

/// A table for a client; `None` if it holds a name twice, which a client's table cannot say.
#[must_use]
pub fn table_to_client(table: &Table) -> Option<v1::Table> {
    table_within(table, NESTED_LEVELS_MAX)
}

/// A client's table.
///
/// # Errors
/// [`ValueError`] names the first value that is not an AMQP value.
pub fn table_from_client(table: v1::Table) -> Result<Table, ValueError> {
    fields_from_client(table.fields)
}

/// A client's named values.
///
/// # Errors
/// [`ValueError`] names the first value that is not an AMQP value.
pub fn fields_from_client(fields: BTreeMap<String, v1::Value>) -> Result<Table, ValueError> {
    let mut table = Table::new();
    for (name, value) in fields {
        table.push(&name, value_from_client(value)?)?;
    }
    Ok(table)
}

/// A value for a client.
#[must_use]
pub fn value_to_client(value: &Value) -> v1::Value {
    value_within(value, NESTED_LEVELS_MAX)
}

fn table_within(table: &Table, levels: usize) -> Option<v1::Table> {
    let mut fields = BTreeMap::new();
    for (name, value) in table.iter() {
        let twice = fields.insert(name.to_owned(), value_within(value, levels));
        if twice.is_some() {
            return None;
        }
    }
    Some(v1::Table { fields })
}

fn value_within(value: &Value, levels: usize) -> v1::Value {
    let (kind, amqp_type) = match value {
        Value::Void => return v1::Value::default(),
        Value::Bool(it) => (Kind::BoolValue(*it), None),
        Value::I8(it) => (Kind::IntValue(i64::from(*it)), Some(b'b')),
        Value::U8(it) => (Kind::IntValue(i64::from(*it)), Some(b'B')),
        Value::I16(it) => (Kind::IntValue(i64::from(*it)), Some(b's')),
        Value::U16(it) => (Kind::IntValue(i64::from(*it)), Some(b'u')),
        Value::I32(it) => (Kind::IntValue(i64::from(*it)), Some(b'I')),
        Value::U32(it) => (Kind::IntValue(i64::from(*it)), Some(b'i')),
        Value::I64(it) => (Kind::IntValue(*it), None),
        Value::I64Upper(it) => (Kind::IntValue(*it), Some(b'L')),
        Value::F32(it) => (Kind::DoubleValue(widen(*it)), Some(b'f')),
        Value::F64(it) => (Kind::DoubleValue(it.get()), None),
        Value::Decimal(it) => (Kind::BytesValue(decimal_bytes(*it)), Some(b'D')),
        Value::LongString(it) => match std::str::from_utf8(it) {
            Ok(text) => (Kind::StringValue(text.to_owned()), None),
            Err(_) => (Kind::BytesValue(it.clone()), Some(b'S')),
        },
        Value::Bytes(it) => (Kind::BytesValue(it.clone()), None),
        Value::Timestamp(it) => (Kind::TimeValue(time_to_client(*it)), None),
        Value::Table(it) => match levels
            .checked_sub(1)
            .and_then(|left| table_within(it, left))
        {
            Some(table) => (Kind::TableValue(table), None),
            None => (Kind::BytesValue(encoded(value)), Some(b'F')),
        },
        Value::Array(it) => match levels.checked_sub(1) {
            Some(left) => {
                let values = it.iter().map(|value| value_within(value, left)).collect();
                (Kind::ListValue(v1::ValueList { values }), None)
            }
            None => (Kind::BytesValue(encoded(value)), Some(b'A')),
        },
    };
    v1::Value {
        kind: Some(kind),
        amqp_type: amqp_type.map_or(0, u32::from),
    }
}

/// A client's value.
///
/// # Errors
/// [`ValueError`] if its type letter does not fit its kind, or it does not fit the type.
pub fn value_from_client(value: v1::Value) -> Result<Value, ValueError> {
    let letter = value.amqp_type;
    match value.kind {
        None => derived(letter, b'V', "void", || Ok(Value::Void)),
        Some(Kind::BoolValue(it)) => derived(letter, b't', "bool", || Ok(Value::Bool(it))),
        Some(Kind::IntValue(it)) => integer(letter, it),
        Some(Kind::DoubleValue(it)) => match u8::try_from(letter) {
            Ok(b'f') => Ok(Value::F32(narrow(it))),
            _ => derived(letter, b'd', "double", || {
                Ok(Value::F64(Float64(it.to_bits())))
            }),
        },
        Some(Kind::StringValue(it)) => derived(letter, b'S', "string", || {
            Ok(Value::LongString(Bytes::from(it)))
        }),
        Some(Kind::BytesValue(it)) => bytes_value(letter, it),
        Some(Kind::TimeValue(it)) => derived(letter, b'T', "time", || {
            Ok(Value::Timestamp(time_from_client(&it)))
        }),
        Some(Kind::TableValue(it)) => derived(letter, b'F', "table", || {
            Ok(Value::Table(table_from_client(it)?))
        }),
        Some(Kind::ListValue(it)) => derived(letter, b'A', "list", || {
            let values = it.values.into_iter().map(value_from_client);
            Ok(Value::Array(values.collect::<Result<_, _>>()?))
        }),
    }
}

/// Seconds since the Unix epoch as AMQP has them; times beyond the range of a signed number keep their bits.
#[must_use]
pub fn time_to_client(seconds: u64) -> Timestamp {
    Timestamp {
        seconds: seconds.cast_signed(),
        nanos: 0,
    }
}

/// Seconds since the Unix epoch as AMQP has them; fractions of a second are dropped.
#[must_use]
pub fn time_from_client(time: &Timestamp) -> u64 {
    time.seconds.cast_unsigned()
}

/// A value that has one type only: the letter may be left out, and may not be another.
fn derived(
    letter: u32,
    only: u8,
    kind: &'static str,
    value: impl FnOnce() -> Result<Value, ValueError>,
) -> Result<Value, ValueError> {
    if letter == 0 || letter == u32::from(only) {
        value()
    } else {
        Err(wrong_type(letter, kind))
    }
}

fn wrong_type(letter: u32, kind: &'static str) -> ValueError {
    ValueError::WrongType {
        letter: char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER),
        kind,
    }
}

fn integer(letter: u32, value: i64) -> Result<Value, ValueError> {
    let type_byte = u8::try_from(letter).map_err(|_| wrong_type(letter, "int"))?;
    let narrowed = match type_byte {
        0 | b'l' => Some(Value::I64(value)),
        b'L' => Some(Value::I64Upper(value)),
        b'b' => i8::try_from(value).ok().map(Value::I8),
        b'B' => u8::try_from(value).ok().map(Value::U8),
        b's' => i16::try_from(value).ok().map(Value::I16),
        b'u' => u16::try_from(value).ok().map(Value::U16),
        b'I' => i32::try_from(value).ok().map(Value::I32),
        b'i' => u32::try_from(value).ok().map(Value::U32),
        _ => return Err(wrong_type(letter, "int")),
    };
    narrowed.ok_or(ValueError::OutOfRange {
        letter: char::from(type_byte),
        value,
    })
}

fn bytes_value(letter: u32, bytes: Bytes) -> Result<Value, ValueError> {
    match u8::try_from(letter) {
        Ok(b'S') => Ok(Value::LongString(bytes)),
        Ok(tag @ (b'F' | b'A')) => decoded(tag, &bytes),
        Ok(b'D') => decimal(&bytes),
        _ => derived(letter, b'x', "bytes", || Ok(Value::Bytes(bytes))),
    }
}

fn decimal(bytes: &Bytes) -> Result<Value, ValueError> {
    let Some((scale, Some(unscaled))) = bytes
        .split_first()
        .map(|(scale, rest)| (*scale, <[u8; 4]>::try_from(rest).ok()))
    else {
        return Err(ValueError::BadDecimal { bytes: bytes.len() });
    };
    Ok(Value::Decimal(Decimal {
        scale,
        unscaled: u32::from_be_bytes(unscaled),
    }))
}

fn decimal_bytes(decimal: Decimal) -> Bytes {
    let mut out = BytesMut::with_capacity(5);
    out.put_u8(decimal.scale);
    out.put_u32(decimal.unscaled);
    out.freeze()
}

/// What stands before the value in a table whose only field has an empty name: the table's length, the name's length, the tag.
const ONE_FIELD_HEAD: usize = 6;

/// A value in AMQP's encoding, without its tag.
fn encoded(value: &Value) -> Bytes {
    let mut table = Table::new();
    table
        .push("", value.clone())
        .expect("an empty name is short");
    let mut out = BytesMut::new();
    table.encode(&mut out);
    out.freeze().slice(ONE_FIELD_HEAD..)
}

/// A value from AMQP's encoding, without its tag.
fn decoded(tag: u8, bytes: &Bytes) -> Result<Value, ValueError> {
    let field_bytes = bytes.len() + ONE_FIELD_HEAD - size_of::<u32>();
    let length = u32::try_from(field_bytes).map_err(|_| TableError::Truncated {
        needed: field_bytes,
        available: bytes.len(),
    })?;
    let mut wire = BytesMut::with_capacity(bytes.len() + ONE_FIELD_HEAD);
    wire.put_u32(length);
    wire.put_u8(0);
    wire.put_u8(tag);
    wire.put_slice(bytes);
    let mut table = Table::decode(&wire.freeze())?;
    // Bytes after the value would have decoded as further fields.
    if table.len() != 1 {
        return Err(ValueError::Table(TableError::TrailingBytes {
            bytes: bytes.len(),
        }));
    }
    Ok(table.remove("").unwrap_or_default())
}

const F32_MANTISSA_BITS: u32 = 23;
const F64_MANTISSA_BITS: u32 = 52;

/// Exact, also for NaNs, whose payload an ordinary conversion may change.
fn widen(float: Float32) -> f64 {
    let value = float.get();
    if !value.is_nan() {
        return f64::from(value);
    }
    let sign = u64::from(float.0 >> 31) << 63;
    let mantissa = u64::from(float.0 & ((1 << F32_MANTISSA_BITS) - 1))
        << (F64_MANTISSA_BITS - F32_MANTISSA_BITS);
    f64::from_bits(sign | f64::INFINITY.to_bits() | mantissa)
}

/// The nearest 32-bit float; the inverse of [`widen`].
fn narrow(value: f64) -> Float32 {
    if !value.is_nan() {
        // Rounding is what a client asks for that names type 'f'.
        return Float32((value as f32).to_bits());
    }
    let bits = value.to_bits();
    let sign = if value.is_sign_negative() { 1 << 31 } else { 0 };
    let mantissa =
        (bits >> (F64_MANTISSA_BITS - F32_MANTISSA_BITS)) & ((1 << F32_MANTISSA_BITS) - 1);
    let mantissa = u32::try_from(mantissa).expect("masked to 23 bits");
    // A payload that lies in the lower bits only must not turn into an infinity.
    let mantissa = if mantissa == 0 { 1 } else { mantissa };
    Float32(sign | f32::INFINITY.to_bits() | mantissa)
}

#[cfg(test)]
pub(crate) mod tests;
