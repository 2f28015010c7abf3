//! What is said of a watch.

use serde_json::{Map, Value};

use crate::plan::PlanError;

/// What is said of a watch and was not looked at yet: names, and values as in JSON.
///
/// `null` counts as not said, and a list of one as what is in it, as it does in Consul's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(Map<String, Value>);

impl Parameters {
    /// Nothing is known of the names yet.
    pub const fn new(said: Map<String, Value>) -> Self {
        Self(said)
    }

    /// Takes a value of any kind.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let value = match self.0.remove(name)? {
            Value::Array(mut items) if items.len() == 1 => items.remove(0),
            value @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_)) => value,
        };
        (!value.is_null()).then_some(value)
    }

    /// Takes a text. `None`: it is not there, or empty.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, PlanError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(PlanError::Mistyped {
                    name,
                    wanted: "a string",
                })
            }
        }
    }

    /// Takes something that is on or off; off if it is not there.
    pub fn switch(&mut self, name: &'static str) -> Result<bool, PlanError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(on),
            Some(Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                Err(PlanError::Mistyped {
                    name,
                    wanted: "a boolean",
                })
            }
        }
    }

    /// Takes a list of texts; a text is a list of one. `None`: it is not there.
    pub fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, PlanError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text])),
            Some(Value::Array(items)) => {
                let texts = items.into_iter().enumerate().map(|(at, item)| match item {
                    Value::String(text) => Ok(text),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        Err(PlanError::MistypedItem { name, at })
                    }
                });
                texts.collect::<Result<_, _>>().map(Some)
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                Err(PlanError::Mistyped {
                    name,
                    wanted: "a string or []string",
                })
            }
        }
    }

    /// Fails if there is something that nobody took.
    pub(crate) fn finish(self) -> Result<(), PlanError> {
        let mut names: Vec<_> = self.0.into_iter().map(|(name, _)| name).collect();
        if names.is_empty() {
            return Ok(());
        }
        names.sort_unstable();
        Err(PlanError::Unknown(names))
    }
}
