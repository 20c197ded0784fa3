//! Field tables as bytes: decode, encode, check without building, look one field up without decoding the others.
//! `depth` counts the levels that may still be opened. Not here: the values themselves (`value`).

use bytes::{BufMut, Bytes, BytesMut};

use super::{Decimal, Float32, Float64, Table, TableError, Value};

type Result<T> = std::result::Result<T, TableError>;

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(bytes).ok_or(TableError::Truncated {
        needed: bytes,
        available: rest.len(),
    })?;
    *rest = tail;
    Ok(head)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(TableError::Truncated {
        needed: N,
        available: rest.len(),
    })?;
    *rest = tail;
    Ok(*head)
}

fn byte(rest: &mut &[u8]) -> Result<u8> {
    let [byte] = array::<1>(rest)?;
    Ok(byte)
}

/// Bytes after a four byte length.
fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let declared = u32::from_be_bytes(array(rest)?);
    take(rest, usize::try_from(declared).unwrap_or(usize::MAX))
}

fn key<'a>(rest: &mut &'a [u8]) -> Result<&'a str> {
    let bytes = usize::from(byte(rest)?);
    std::str::from_utf8(take(rest, bytes)?).map_err(|_| TableError::KeyNotUtf8)
}

/// Decodes a table with its length from the front of `rest`, which lies within `source`.
pub(super) fn table(source: &Bytes, rest: &mut &[u8], depth: usize) -> Result<Table> {
    let depth = depth.checked_sub(1).ok_or(TableError::TooDeep)?;
    let mut entries = sized(rest)?;
    let mut table = Table::new();
    while !entries.is_empty() {
        let key = key(&mut entries)?;
        table.push(key, value(source, &mut entries, depth)?)?;
    }
    Ok(table)
}

fn value(source: &Bytes, rest: &mut &[u8], depth: usize) -> Result<Value> {
    Ok(match byte(rest)? {
        b't' => Value::Bool(byte(rest)? != 0),
        b'b' => Value::I8(i8::from_be_bytes(array(rest)?)),
        b'B' => Value::U8(byte(rest)?),
        b's' => Value::I16(i16::from_be_bytes(array(rest)?)),
        b'u' => Value::U16(u16::from_be_bytes(array(rest)?)),
        b'I' => Value::I32(i32::from_be_bytes(array(rest)?)),
        b'i' => Value::U32(u32::from_be_bytes(array(rest)?)),
        b'l' => Value::I64(i64::from_be_bytes(array(rest)?)),
        b'L' => Value::I64Upper(i64::from_be_bytes(array(rest)?)),
        b'f' => Value::F32(Float32(u32::from_be_bytes(array(rest)?))),
        b'd' => Value::F64(Float64(u64::from_be_bytes(array(rest)?))),
        b'D' => Value::Decimal(Decimal {
            scale: byte(rest)?,
            unscaled: u32::from_be_bytes(array(rest)?),
        }),
        b'S' => Value::LongString(source.slice_ref(sized(rest)?)),
        b'x' => Value::Bytes(source.slice_ref(sized(rest)?)),
        b'T' => Value::Timestamp(u64::from_be_bytes(array(rest)?)),
        b'V' => Value::Void,
        b'F' => Value::Table(table(source, rest, depth)?),
        b'A' => {
            let depth = depth.checked_sub(1).ok_or(TableError::TooDeep)?;
            let mut elements = sized(rest)?;
            let mut values = Vec::new();
            while !elements.is_empty() {
                values.push(value(source, &mut elements, depth)?);
            }
            Value::Array(values)
        }
        tag => return Err(TableError::UnknownType { tag }),
    })
}

/// Checks the table at the front of `rest` and steps over it: succeeds exactly when decoding would, builds nothing.
pub(crate) fn validate(rest: &mut &[u8], depth: usize) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or(TableError::TooDeep)?;
    let mut entries = sized(rest)?;
    while !entries.is_empty() {
        key(&mut entries)?;
        skip_value(&mut entries, depth)?;
    }
    Ok(())
}

fn skip_value(rest: &mut &[u8], depth: usize) -> Result<()> {
    let fixed = match byte(rest)? {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' => return sized(rest).map(drop),
        b'F' => return validate(rest, depth),
        b'A' => {
            let depth = depth.checked_sub(1).ok_or(TableError::TooDeep)?;
            let mut elements = sized(rest)?;
            while !elements.is_empty() {
                skip_value(&mut elements, depth)?;
            }
            return Ok(());
        }
        tag => return Err(TableError::UnknownType { tag }),
    };
    take(rest, fixed).map(drop)
}

/// The first field named `wanted` of the table `wire` (with its length); the other fields are only stepped over.
pub(crate) fn find(wire: &Bytes, wanted: &str, depth: usize) -> Result<Option<Value>> {
    let depth = depth.checked_sub(1).ok_or(TableError::TooDeep)?;
    let mut rest: &[u8] = wire;
    let mut entries = sized(&mut rest)?;
    while !entries.is_empty() {
        if key(&mut entries)? == wanted {
            return value(wire, &mut entries, depth).map(Some);
        }
        skip_value(&mut entries, depth)?;
    }
    Ok(None)
}

/// Appends what `body` writes, after its length in four bytes.
pub(super) fn put_sized(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    body(out);
    let written = out.len() - at - size_of::<u32>();
    let length = u32::try_from(written).expect("a table in memory is far below 4 GiB");
    if let Some(slot) = out.get_mut(at..at + size_of::<u32>()) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}

pub(super) fn put_value(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Bool(it) => put(out, b't', &[u8::from(*it)]),
        Value::I8(it) => put(out, b'b', &it.to_be_bytes()),
        Value::U8(it) => put(out, b'B', &it.to_be_bytes()),
        Value::I16(it) => put(out, b's', &it.to_be_bytes()),
        Value::U16(it) => put(out, b'u', &it.to_be_bytes()),
        Value::I32(it) => put(out, b'I', &it.to_be_bytes()),
        Value::U32(it) => put(out, b'i', &it.to_be_bytes()),
        Value::I64(it) => put(out, b'l', &it.to_be_bytes()),
        Value::I64Upper(it) => put(out, b'L', &it.to_be_bytes()),
        Value::F32(it) => put(out, b'f', &it.0.to_be_bytes()),
        Value::F64(it) => put(out, b'd', &it.0.to_be_bytes()),
        Value::Timestamp(it) => put(out, b'T', &it.to_be_bytes()),
        Value::Void => put(out, b'V', &[]),
        Value::Decimal(it) => {
            put(out, b'D', &[it.scale]);
            out.put_u32(it.unscaled);
        }
        Value::LongString(it) => {
            out.put_u8(b'S');
            put_sized(out, |out| out.put_slice(it));
        }
        Value::Bytes(it) => {
            out.put_u8(b'x');
            put_sized(out, |out| out.put_slice(it));
        }
        Value::Table(it) => {
            out.put_u8(b'F');
            it.encode(out);
        }
        Value::Array(it) => {
            out.put_u8(b'A');
            put_sized(out, |out| it.iter().for_each(|value| put_value(out, value)));
        }
    }
}

fn put(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    out.put_u8(tag);
    out.put_slice(bytes);
}
