//! The keys of watches. What they mean depends on their type, so they are kept as they are said.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::settings::Definition;
use super::values::Reader;

/// What is said of an address that is told of changes, with values of the right types.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct WatchAddress {
    pub(in super::super) path: Option<String>,
    pub(in super::super) method: Option<String>,
    pub(in super::super) timeout: Option<String>,
    pub(in super::super) headers: BTreeMap<String, Vec<String>>,
    pub(in super::super) skip_verify: Option<bool>,
}

/// Reads the watches at `value`: anything that has names.
pub(super) fn watches(reader: &mut Reader, path: &str, value: &Value, list: &mut Vec<Definition>) {
    for (at, item) in reader.items(path, value).iter().enumerate() {
        let members = reader.members(&format!("{path}[{at}]"), item);
        list.push(
            members
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        );
    }
}

/// Reads an `http_handler_config`. The error is one text that names every problem.
pub(in super::super) fn watch_address(value: &Value) -> Result<WatchAddress, String> {
    let mut reader = Reader::default();
    let mut read = WatchAddress::default();
    reader.nested("", value, &mut read, address);
    reader.finish().map(|()| read)
}

fn address(reader: &mut Reader, to: &mut WatchAddress, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "header" => {
            for (name, value) in reader.members(path, value) {
                let mut values = Vec::new();
                reader.texts(&format!("{path}[{name}]"), value, &mut values);
                to.headers.insert(name.clone(), values);
            }
        }
        "method" => reader.scalar(path, value, &mut to.method),
        "path" => reader.scalar(path, value, &mut to.path),
        "timeout" => reader.scalar(path, value, &mut to.timeout),
        "tls_skip_verify" => reader.scalar(path, value, &mut to.skip_verify),
        _ => return false,
    }
    true
}
