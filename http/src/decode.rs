//! JSON that clients send: names in any letter case, `null` for what is absent, and errors in the words that they know.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize as _;
use serde_json::Value;

use crate::text::{Signed, parse_duration};

/// Standard base64 that must be padded, but does not look at the bits that padding leaves over.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Reads the first JSON value of `body`; what follows it is not looked at. The error is a text for the client.
pub(crate) fn parse(body: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start();
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    Value::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| {
        if error.is_eof() {
            "unexpected EOF".to_owned()
        } else {
            format!("invalid JSON: {error}")
        }
    })
}

/// The type of a JSON value, as errors name it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The items of an array; `null` has none. `name` is the type as errors name it.
pub(crate) fn items(value: Value, name: &str) -> Result<Vec<Value>, String> {
    items_at(value, &format!("value of type {name}"))
}

/// The same; `place` is what errors call it, see [`Fields::new`].
pub(crate) fn items_at(value: Value, place: &str) -> Result<Vec<Value>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items),
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            Err(format!("json: cannot unmarshal {} into Go {place}", kind(&other)))
        }
    }
}

/// The members of an object, to be taken out one by one.
#[derive(Debug)]
pub(crate) struct Fields {
    /// How errors name the object that the members are of, such as `KVTxnOp.KV`.
    path: &'static str,
    members: Vec<(String, Value)>,
}

impl Fields {
    /// The members of `value`; `null` has none. `path` names the object in errors about its members, `place` in errors
    /// about itself, such as `value of type api.TxnOp`.
    pub(crate) fn new(value: Value, path: &'static str, place: &str) -> Result<Self, String> {
        let members = match value {
            Value::Null => Vec::new(),
            Value::Object(members) => members.into_iter().collect(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                return Err(format!("json: cannot unmarshal {} into Go {place}", kind(&other)));
            }
        };
        Ok(Self { path, members })
    }

    /// Takes a member out; of several, the last one counts. `None` if it is absent or `null`.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let mut found = None;
        self.members.retain_mut(|(key, value)| {
            let hit = key.eq_ignore_ascii_case(name);
            if hit && !value.is_null() {
                found = Some(value.take());
            }
            !hit
        });
        found
    }

    /// Takes a string out; absent is empty. `kind_name` is its type as errors name it.
    pub(crate) fn string(&mut self, name: &str, kind_name: &str) -> Result<String, String> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.mismatch(name, kind(&other), kind_name)),
        }
    }

    /// Takes an unsigned number of 64 bits out; absent is 0.
    pub(crate) fn uint(&mut self, name: &str) -> Result<u64, String> {
        self.unsigned(name, "uint64")
    }

    /// The same, for a type that errors name otherwise.
    pub(crate) fn unsigned(&mut self, name: &str, kind_name: &str) -> Result<u64, String> {
        match self.take(name) {
            None => Ok(0),
            Some(Value::Number(number)) => number
                .as_u64()
                .ok_or_else(|| self.mismatch(name, &format!("number {number}"), kind_name)),
            Some(other) => Err(self.mismatch(name, kind(&other), kind_name)),
        }
    }

    /// Takes a truth value out; absent is false.
    pub(crate) fn bool(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(other) => Err(self.mismatch(name, kind(&other), "bool")),
        }
    }

    /// Takes a truth value out; `None` if it is absent.
    pub(crate) fn optional_bool(&mut self, name: &str) -> Result<Option<bool>, String> {
        let is_there = self.peek(name).is_some();
        Ok(Some(self.bool(name)?).filter(|_| is_there))
    }

    /// What [`Self::take`] would take out.
    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        let of_name = |(key, value): &&(String, Value)| key.eq_ignore_ascii_case(name) && !value.is_null();
        self.members.iter().rfind(of_name).map(|(_, value)| value)
    }

    /// Takes a number with a fraction out; absent is 0.
    pub(crate) fn float(&mut self, name: &str) -> Result<f64, String> {
        match self.take(name) {
            None => Ok(0.0),
            Some(value) => self.as_float(name, &value),
        }
    }

    /// Takes an array of numbers with fractions out; absent is empty, and `null` among them is 0.
    pub(crate) fn floats(&mut self, name: &str) -> Result<Vec<f64>, String> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|item| self.as_float(name, item)).collect(),
            Some(other) => Err(self.mismatch(name, kind(&other), "[]float64")),
        }
    }

    fn as_float(&self, name: &str, value: &Value) -> Result<f64, String> {
        if value.is_null() {
            return Ok(0.0);
        }
        let number = value.as_f64();
        number.ok_or_else(|| self.mismatch(name, kind(value), "float64"))
    }

    /// Takes a whole number out; absent is 0.
    pub(crate) fn int(&mut self, name: &str) -> Result<i64, String> {
        match self.take(name) {
            None => Ok(0),
            Some(Value::Number(number)) => number
                .as_i64()
                .ok_or_else(|| self.mismatch(name, &format!("number {number}"), "int")),
            Some(other) => Err(self.mismatch(name, kind(&other), "int")),
        }
    }

    /// Takes an array of texts out; absent is empty, and so is `null` among them.
    pub(crate) fn strings(&mut self, name: &str) -> Result<Vec<String>, String> {
        let items = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.mismatch(name, kind(&other), "[]string")),
        };
        let texts = items.into_iter().map(|item| self.as_string(name, item));
        texts.collect()
    }

    /// Takes an object of texts out; absent is empty, and so is `null` among them.
    pub(crate) fn string_map(&mut self, name: &str) -> Result<Vec<(String, String)>, String> {
        let members = self.members(name, "map[string]string")?;
        let members = members.into_iter();
        members
            .map(|(key, value)| Ok((key, self.as_string(name, value)?)))
            .collect()
    }

    /// Takes an object out of whose members the names are free; absent is empty. `kind_name` is its type as errors name it.
    pub(crate) fn members(&mut self, name: &str, kind_name: &str) -> Result<Vec<(String, Value)>, String> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Object(members)) => Ok(members.into_iter().collect()),
            Some(other) => Err(self.mismatch(name, kind(&other), kind_name)),
        }
    }

    /// Takes an object out, to be read member by member; `None` if it is absent. See [`Fields::new`] for `path`.
    pub(crate) fn object(&mut self, name: &str, path: &'static str) -> Result<Option<Self>, String> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        Self::new(value, path, &self.place(name, path)).map(Some)
    }

    /// What errors call the member `name`, which is of type `kind_name`; see [`Fields::new`].
    pub(crate) fn place(&self, name: &str, kind_name: &str) -> String {
        format!("struct field {}.{name} of type {kind_name}", self.path)
    }

    /// Lets the member `name` be called `alias` too; where it has both names, what is under its own counts.
    pub(crate) fn alias(&mut self, alias: &str, name: &str) {
        let Some(value) = self.take(alias) else { return };
        if self.peek(name).is_none() {
            self.members.push((name.to_owned(), value));
        }
    }

    /// Takes members out that mean nothing here, whatever they are.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    fn as_string(&self, name: &str, value: Value) -> Result<String, String> {
        match value {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(self.mismatch(name, kind(&other), "string"))
            }
        }
    }

    /// Takes a duration out: a text such as `1m30s`, or a number of nanoseconds; absent is 0. One below 0 is an error.
    pub(crate) fn duration(&mut self, name: &str) -> Result<Duration, String> {
        let negative = |value: &Value| format!("{name} must not be negative, and is {value}");
        let Some(value) = self.take(name) else {
            return Ok(Duration::ZERO);
        };
        match &value {
            Value::String(text) => match parse_duration(text)? {
                Signed::Positive(duration) => Ok(duration),
                Signed::Negative => Err(negative(&value)),
            },
            Value::Number(number) => {
                let nanos = number.as_f64().unwrap_or(f64::INFINITY);
                if nanos < 0.0 {
                    return Err(negative(&value));
                }
                // What is beyond 63 bits does not fit the texts that durations are given out as.
                if nanos >= i64::MAX as f64 {
                    return Err(format!("time: invalid duration \"{number}\""));
                }
                Ok(Duration::from_nanos(nanos as u64))
            }
            other @ (Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => Err(format!(
                "strconv.ParseFloat: parsing {}: invalid syntax",
                lictor_catalog::quote(other.to_string().as_bytes())
            )),
        }
    }

    /// Takes bytes out, which are given in base64 or as an array of numbers; absent is empty.
    pub(crate) fn blob(&mut self, name: &str) -> Result<Bytes, String> {
        match self.take(name) {
            None => Ok(Bytes::new()),
            Some(Value::String(text)) => from_base64(text),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| {
                    if item.is_null() {
                        return Ok(0);
                    }
                    let byte = item.as_u64().and_then(|number| u8::try_from(number).ok());
                    byte.ok_or_else(|| self.mismatch(name, kind(item), "uint8"))
                })
                .collect(),
            Some(other) => Err(self.mismatch(name, kind(&other), "[]uint8")),
        }
    }

    /// Refuses members that were not taken out.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.members.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "json: unknown field {}",
                lictor_catalog::quote(name.as_bytes())
            )),
        }
    }

    fn mismatch(&self, name: &str, found: &str, wanted: &str) -> String {
        format!(
            "json: cannot unmarshal {found} into Go struct field {}.{name} of type {wanted}",
            self.path
        )
    }
}

/// Decodes base64, in which line breaks do not count.
fn from_base64(text: String) -> Result<Bytes, String> {
    let text = if text.contains(['\r', '\n']) {
        text.replace(['\r', '\n'], "")
    } else {
        text
    };
    BASE64.decode(&text).map(Bytes::from).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            // The group that is not complete.
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
                text.trim_end_matches('=').len() / 4 * 4
            }
        };
        format!("illegal base64 data at input byte {at}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::new(parse(text.as_bytes()).unwrap(), "Op.KV", "value of type api.Op").unwrap()
    }

    #[test]
    fn only_the_first_value_counts() {
        assert_eq!(parse(b" [1] garbage ]"), Ok(serde_json::json!([1])));
        assert_eq!(parse(b""), Err("EOF".to_owned()));
        assert_eq!(parse(b" \n"), Err("EOF".to_owned()));
        assert_eq!(parse(b"[{\"a\":"), Err("unexpected EOF".to_owned()));
        assert!(parse(b"[x]").unwrap_err().starts_with("invalid JSON: "));
        assert!(parse("[".repeat(100_000).as_bytes()).is_err(), "depth is bounded");
    }

    #[test]
    fn names_in_any_case_and_null_is_absent() {
        let mut some = fields(r#"{"KEY":"a","key":"b","flags":18446744073709551615,"Value":null}"#);
        assert_eq!(some.string("Key", "string"), Ok("b".to_owned()));
        assert_eq!(some.uint("Flags"), Ok(u64::MAX));
        assert_eq!(some.blob("Value"), Ok(Bytes::new()));
        assert_eq!(some.finish(), Ok(()));
        assert_eq!(
            fields(r#"{"Bo\"gus":1}"#).finish(),
            Err(r#"json: unknown field "Bo\"gus""#.to_owned())
        );
        assert_eq!(fields("null").finish(), Ok(()));
    }

    #[test]
    fn members_with_two_names() {
        let mut some = fields(r#"{"snake_case":"a","own":"b","OTHER":"c","third":null,"own_name":"d"}"#);
        some.alias("snake_case", "SnakeCase");
        some.alias("other", "Own");
        some.alias("own_name", "Third");
        assert_eq!(some.string("SnakeCase", "string"), Ok("a".to_owned()));
        assert_eq!(some.string("Own", "string"), Ok("b".to_owned()));
        assert_eq!(some.string("Third", "string"), Ok("d".to_owned()));
        assert_eq!(some.finish(), Ok(()));
    }

    #[test]
    fn mismatches_name_the_field() {
        let error = |text: &str, wanted: &str| {
            format!("json: cannot unmarshal {text} into Go struct field Op.KV.Flags of type {wanted}")
        };
        for (value, found) in [
            ("\"5\"", "string"),
            ("-5", "number -5"),
            ("1.5", "number 1.5"),
            ("{}", "object"),
            ("true", "bool"),
            ("[]", "array"),
        ] {
            assert_eq!(
                fields(&format!("{{\"flags\":{value}}}")).uint("Flags"),
                Err(error(found, "uint64"))
            );
        }
        let five = || fields(r#"{"Flags":5}"#);
        assert_eq!(
            five().string("Flags", "api.KVOp"),
            Err(error("number", "api.KVOp"))
        );
        assert_eq!(five().blob("Flags"), Err(error("number", "[]uint8")));
        assert_eq!(
            Fields::new(Value::Bool(true), "", "value of type api.Op").unwrap_err(),
            "json: cannot unmarshal bool into Go value of type api.Op"
        );
        assert_eq!(
            items(serde_json::json!({}), "api.Ops"),
            Err("json: cannot unmarshal object into Go value of type api.Ops".to_owned())
        );
    }

    #[test]
    fn truth_values_and_fractions() {
        let one = |value: &str| fields(&format!("{{\"v\":{value}}}"));
        let error = |found: &str, wanted: &str| {
            format!("json: cannot unmarshal {found} into Go struct field Op.KV.v of type {wanted}")
        };
        assert_eq!(one("true").bool("V"), Ok(true));
        assert_eq!(one("null").bool("v"), Ok(false));
        assert_eq!(one("null").optional_bool("v"), Ok(None));
        assert_eq!(one("false").optional_bool("V"), Ok(Some(false)));
        assert_eq!(one("1").optional_bool("v"), Err(error("number", "bool")));
        assert_eq!(one("\"yes\"").bool("v"), Err(error("string", "bool")));
        assert_eq!(one("1.5").float("V"), Ok(1.5));
        assert_eq!(one("-7").float("v"), Ok(-7.0));
        assert_eq!(one("null").float("v"), Ok(0.0));
        assert_eq!(one("\"a\"").float("v"), Err(error("string", "float64")));
        assert_eq!(one("[1,null,2.5]").floats("v"), Ok(vec![1.0, 0.0, 2.5]));
        assert_eq!(one("null").floats("v"), Ok(vec![]));
        assert_eq!(one("5").floats("v"), Err(error("number", "[]float64")));
        assert_eq!(one("[\"a\"]").floats("v"), Err(error("string", "float64")));
        assert_eq!(one("-1").unsigned("v", "uint"), Err(error("number -1", "uint")));
    }

    #[test]
    fn durations_are_texts_or_nanoseconds() {
        let duration = |value: &str| fields(&format!("{{\"v\":{value}}}")).duration("V");
        for (value, nanos) in [
            ("\"1m0.5s\"", 60_500_000_000),
            ("1500000", 1_500_000),
            ("1.5e9", 1_500_000_000),
            ("0", 0),
            ("null", 0),
        ] {
            assert_eq!(duration(value), Ok(Duration::from_nanos(nanos)), "{value}");
        }
        for (value, error) in [
            ("\"zz\"", "time: invalid duration \"zz\""),
            ("\"10\"", "time: missing unit in duration \"10\""),
            ("\"-5s\"", "V must not be negative, and is \"-5s\""),
            ("-5", "V must not be negative, and is -5"),
            ("1e19", "time: invalid duration \"1e+19\""),
            ("true", "strconv.ParseFloat: parsing \"true\": invalid syntax"),
        ] {
            assert_eq!(duration(value), Err(error.to_owned()));
        }
    }

    #[test]
    fn blobs() {
        let blob = |value: &str| fields(&format!("{{\"v\":{value}}}")).blob("v");
        assert_eq!(blob("\"YmFy\""), Ok(Bytes::from_static(b"bar")));
        assert_eq!(blob("\"Ym\\nFy\""), Ok(Bytes::from_static(b"bar")));
        assert_eq!(blob("\"\""), Ok(Bytes::new()));
        assert_eq!(blob("[98,97,null]"), Ok(Bytes::from_static(b"ba\0")));
        for (value, at) in [("YmF", 0), ("Ym!y", 2), ("YmFy=", 4), ("YmFyYg=", 4)] {
            assert_eq!(
                blob(&format!("\"{value}\"")),
                Err(format!("illegal base64 data at input byte {at}")),
                "{value}"
            );
        }
        assert!(blob("[256]").is_err());
    }
}
