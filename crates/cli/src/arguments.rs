//! AMQP arguments on the command line: `--argument NAME=VALUE`. A value that is a number, true or false is one, anything else
//! is text; quotes force text. And back, for listings.

use serde_json::Value as Json;
use warren_types::{Table, Value};

/// One `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Argument {
    name: String,
    value: Value,
}

impl std::str::FromStr for Argument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("write NAME=VALUE, for example x-max-length=1000")?;
        let value = match serde_json::from_str::<Json>(value) {
            Ok(Json::Bool(it)) => Value::from(it),
            Ok(Json::Number(it)) => match (it.as_i64(), it.as_f64()) {
                (Some(whole), _) => Value::from(whole),
                (None, Some(real)) => Value::from(real),
                (None, None) => Value::from(value),
            },
            Ok(Json::String(it)) => Value::from(it),
            Ok(Json::Null | Json::Array(_) | Json::Object(_)) | Err(_) => Value::from(value),
        };
        Ok(Self {
            name: name.to_owned(),
            value,
        })
    }
}

/// The table of all arguments; a later one of a name replaces an earlier one.
pub(crate) fn table(arguments: &[Argument]) -> anyhow::Result<Table> {
    let mut table = Table::new();
    for argument in arguments {
        table.remove(&argument.name);
        table.insert(&argument.name, argument.value.clone())?;
    }
    Ok(table)
}

/// For listings.
pub(crate) fn to_json(table: &Table) -> Json {
    let fields = table.iter();
    Json::Object(
        fields
            .map(|(name, value)| (name.to_owned(), value_to_json(value)))
            .collect(),
    )
}

pub(crate) fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Bool(it) => Json::from(*it),
        Value::F32(it) => Json::from(it.get()),
        Value::F64(it) => Json::from(it.get()),
        Value::Timestamp(seconds) => Json::from(*seconds),
        Value::Decimal(it) => Json::from(format!("{it:?}")),
        Value::LongString(it) | Value::Bytes(it) => {
            Json::from(String::from_utf8_lossy(it).into_owned())
        }
        Value::Array(items) => Json::Array(items.iter().map(value_to_json).collect()),
        Value::Table(table) => to_json(table),
        Value::Void => Json::Null,
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_)
        | Value::I64Upper(_) => Json::from(value.as_int()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_takes_its_type_from_its_text() {
        let parse = |text: &str| text.parse::<Argument>().unwrap();
        let list = [
            parse("x-max-length=10"),
            parse("on=true"),
            parse("mode=reject-publish"),
            parse("text=\"12\""),
            parse("real=0.5"),
            parse("x-max-length=20"),
        ];
        let json = to_json(&table(&list).unwrap());
        let expected = serde_json::json!({"x-max-length": 20, "on": true, "mode": "reject-publish", "text": "12", "real": 0.5});
        assert_eq!(json, expected);
    }

    #[test]
    fn argument_without_a_name_is_refused() {
        assert!("=1".parse::<Argument>().is_err());
        assert!("x".parse::<Argument>().is_err());
    }
}
