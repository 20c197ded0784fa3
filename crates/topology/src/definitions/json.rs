//! Argument tables as JSON objects and back. What comes from JSON becomes JSON again without a change; what AMQP clients declare with
//! types that JSON has not (bytes, times, decimals) becomes the nearest it has. Not here: sections (`document`).

use serde_json::{Map, Number, Value as Json};
use warren_types::{Table, TableError, Value};

pub(super) fn table_of(object: &Map<String, Json>) -> Result<Table, TableError> {
    let mut table = Table::new();
    for (name, value) in object {
        table.insert(name, value_of(value)?)?;
    }
    Ok(table)
}

fn value_of(json: &Json) -> Result<Value, TableError> {
    Ok(match json {
        Json::Null => Value::Void,
        Json::Bool(it) => Value::Bool(*it),
        Json::Number(it) => match it.as_i64() {
            Some(whole) => Value::I64(whole),
            None => Value::from(it.as_f64().unwrap_or_default()),
        },
        Json::String(it) => Value::from(it.as_str()),
        Json::Array(list) => {
            let list: Result<Vec<Value>, TableError> = list.iter().map(value_of).collect();
            Value::Array(list?)
        }
        Json::Object(it) => Value::Table(table_of(it)?),
    })
}

pub(super) fn object_of(table: &Table) -> Map<String, Json> {
    let fields = table.iter();
    fields
        .map(|(name, value)| (name.to_owned(), json_of(value)))
        .collect()
}

fn json_of(value: &Value) -> Json {
    let float = |it: f64| Number::from_f64(it).map_or(Json::Null, Json::Number);
    match value {
        Value::Void => Json::Null,
        Value::Bool(it) => Json::Bool(*it),
        Value::I8(it) => Json::from(*it),
        Value::U8(it) => Json::from(*it),
        Value::I16(it) => Json::from(*it),
        Value::U16(it) => Json::from(*it),
        Value::I32(it) => Json::from(*it),
        Value::U32(it) => Json::from(*it),
        Value::I64(it) | Value::I64Upper(it) => Json::from(*it),
        Value::Timestamp(it) => Json::from(*it),
        Value::F32(it) => float(f64::from(it.get())),
        Value::F64(it) => float(it.get()),
        Value::Decimal(it) => float(f64::from(it.unscaled) / 10_f64.powi(i32::from(it.scale))),
        Value::LongString(it) | Value::Bytes(it) => {
            Json::String(String::from_utf8_lossy(it).into_owned())
        }
        Value::Array(list) => list.iter().map(json_of).collect(),
        Value::Table(it) => Json::Object(object_of(it)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_come_back_as_they_were() {
        let json = json!({
            "x-max-length": 10, "x-dead-letter-exchange": "dlx", "x-single-active-consumer": true,
            "ratio": 0.5, "nothing": null, "list": [1, "two", {"three": 3}], "big": 1e300,
        });
        let object = json.as_object().unwrap();
        let table = table_of(object).unwrap();
        assert_eq!(table.get_int("x-max-length"), Some(10));
        assert_eq!(object_of(&table), *object);
    }
}
