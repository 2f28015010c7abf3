//! Reading single values of a document, and noting what is wrong with them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::error::Problems;
use super::super::not_yet::{ENTERPRISE, NOT_YET};

/// Reads values into their places and gathers what is wrong with a document.
#[derive(Default)]
pub(super) struct Reader {
    /// Values of the wrong type.
    pub(super) mistyped: Vec<String>,
    /// Keys that are unknown or not supported.
    pub(super) refused: Vec<String>,
}

/// Takes one key of a section, in lower case, with its path as written. `false`: the section has no such key, or not with this value.
pub(super) type Section<T> = fn(&mut Reader, to: &mut T, path: &str, key: &str, value: &Value) -> bool;

impl Reader {
    /// Says what is wrong with the document: values of the wrong type, else keys.
    pub(super) fn finish(self) -> Result<(), String> {
        if !self.mistyped.is_empty() {
            let count = self.mistyped.len();
            let problems = self.mistyped.join("\n* ");
            return Err(format!("{count} error(s) decoding:\n\n* {problems}"));
        }
        if !self.refused.is_empty() {
            return Err(Problems(&self.refused).to_string());
        }
        Ok(())
    }

    /// Reads every key of `object` into `to`. `prefix` is its path; empty for the document itself.
    pub(super) fn section<T>(
        &mut self,
        to: &mut T,
        prefix: &str,
        object: &Map<String, Value>,
        section: Section<T>,
    ) {
        for (written, value) in object {
            let path = if prefix.is_empty() {
                written.clone()
            } else {
                format!("{prefix}.{written}")
            };
            if section(self, to, &path, &written.to_lowercase(), value) {
                continue;
            }
            let known = table_name(&path);
            self.refused.push(if ENTERPRISE.contains(&known.as_str()) {
                format!("config key {path} is not supported: it belongs to Consul Enterprise")
            } else if NOT_YET.contains(&known.as_str()) {
                format!("config key {path} is not supported yet")
            } else {
                format!("invalid config key {path}")
            });
        }
    }

    /// Reads an object of known keys into `to`.
    pub(super) fn nested<T>(&mut self, path: &str, value: &Value, to: &mut T, section: Section<T>) {
        match value {
            Value::Null => {}
            Value::Object(object) => self.section(to, path, object, section),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.not_a_map(path, value);
            }
        }
    }

    /// The same, where it makes a difference whether the object is there.
    pub(super) fn optional<T: Default>(
        &mut self,
        path: &str,
        value: &Value,
        slot: &mut Option<T>,
        section: Section<T>,
    ) {
        if !value.is_null() {
            let mut read = T::default();
            self.nested(path, value, &mut read, section);
            *slot = Some(read);
        }
    }

    /// Appends the objects of an array to `list`.
    pub(super) fn objects<T: Default>(
        &mut self,
        path: &str,
        value: &Value,
        list: &mut Vec<T>,
        section: Section<T>,
    ) {
        for (at, item) in self.items(path, value).iter().enumerate() {
            let mut read = T::default();
            self.nested(&format!("{path}[{at}]"), item, &mut read, section);
            list.push(read);
        }
    }

    /// Appends a single object to `list`.
    pub(super) fn one<T: Default>(
        &mut self,
        path: &str,
        value: &Value,
        list: &mut Vec<T>,
        section: Section<T>,
    ) {
        let mut read = None;
        self.optional(path, value, &mut read, section);
        list.extend(read);
    }

    /// Fills `slot`. JSON's `null` counts as not mentioned.
    pub(super) fn scalar<T: Scalar>(&mut self, path: &str, value: &Value, slot: &mut Option<T>) {
        if value.is_null() {
            return;
        }
        match T::of(value) {
            Some(read) => *slot = Some(read),
            None if T::UNSIGNED && value.is_i64() => {
                self.mistyped
                    .push(format!("cannot parse '{path}', {value} overflows uint"));
            }
            None => self.mistyped.push(format!(
                "'{path}' expected type '{}', got unconvertible type '{}'",
                T::NAME,
                kind(value)
            )),
        }
    }

    /// Reads a single value into a document of its own, under another name.
    pub(super) fn copy<T: Scalar + Into<Value>>(
        &mut self,
        path: &str,
        value: &Value,
        to: &mut Map<String, Value>,
        name: &str,
    ) {
        let mut slot: Option<T> = None;
        self.scalar(path, value, &mut slot);
        to.extend(slot.map(|read| (name.to_owned(), read.into())));
    }

    /// A truth about Lictor that cannot be changed: saying so is fine, and only that.
    pub(super) fn fact(&mut self, path: &str, value: &Value, is: bool) -> bool {
        let mut said = None;
        self.scalar(path, value, &mut said);
        said.is_none_or(|said: bool| said == is)
    }

    /// Appends the texts of an array to `list`.
    pub(super) fn texts(&mut self, path: &str, value: &Value, list: &mut Vec<String>) {
        for (at, item) in self.items(path, value).iter().enumerate() {
            let mut text = None;
            self.scalar(&format!("{path}[{at}]"), item, &mut text);
            list.extend(text);
        }
    }

    /// Reads an object of texts whose keys are free.
    pub(super) fn text_map(&mut self, path: &str, value: &Value, map: &mut BTreeMap<String, String>) {
        for (name, value) in self.members(path, value) {
            let mut text = None;
            self.scalar(&format!("{path}[{name}]"), value, &mut text);
            map.extend(text.map(|text| (name.clone(), text)));
        }
    }

    /// The items of an array; `null` has none.
    pub(super) fn items<'v>(&mut self, path: &str, value: &'v Value) -> &'v [Value] {
        match value {
            Value::Null => &[],
            Value::Array(items) => items,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                self.mistyped.push(format!(
                    "'{path}': source data must be an array or slice, got {}",
                    kind(value)
                ));
                &[]
            }
        }
    }

    /// The members of an object; `null` has none.
    pub(super) fn members<'v>(
        &mut self,
        path: &str,
        value: &'v Value,
    ) -> impl Iterator<Item = (&'v String, &'v Value)> + use<'v> {
        let members = match value {
            Value::Null => None,
            Value::Object(members) => Some(members),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.not_a_map(path, value);
                None
            }
        };
        members.into_iter().flatten()
    }

    fn not_a_map(&mut self, path: &str, value: &Value) {
        self.mistyped
            .push(format!("'{path}' expected a map, got '{}'", kind(value)));
    }
}

/// How the tables of refused keys call a path: in lower case, each definition as if it were the only one.
fn table_name(path: &str) -> String {
    let segments = path.split('.').map(|segment| {
        let segment = segment.split('[').next().unwrap_or(segment).to_lowercase();
        match segment.as_str() {
            "services" => "service".to_owned(),
            "checks" => "check".to_owned(),
            _ => segment,
        }
    });
    segments.collect::<Vec<_>>().join(".")
}

/// A type that a single value may have. Nothing is converted: `"true"` is not a boolean.
pub(super) trait Scalar: Sized {
    /// The type's name in messages.
    const NAME: &'static str;
    /// Whether it has no negative values.
    const UNSIGNED: bool = false;
    /// Reads a value; `None`: it is of another type.
    fn of(value: &Value) -> Option<Self>;
}

impl Scalar for bool {
    const NAME: &'static str = "bool";
    fn of(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Scalar for i64 {
    const NAME: &'static str = "int";
    fn of(value: &Value) -> Option<Self> {
        value.as_i64()
    }
}

impl Scalar for u64 {
    const NAME: &'static str = "uint";
    const UNSIGNED: bool = true;
    fn of(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Scalar for u32 {
    const NAME: &'static str = "uint32";
    const UNSIGNED: bool = true;
    fn of(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Scalar for String {
    const NAME: &'static str = "string";
    fn of(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

/// The type names that the messages of Consul's decoder use.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}
