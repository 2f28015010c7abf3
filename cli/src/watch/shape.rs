//! What programs are told: the API's answers in the order and with the members that Consul's own client library writes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::console::Failure;

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// What there is.
    Data(Value),
    /// What has happened, the oldest first. Each is told once.
    Events(Vec<Value>),
}

type Result<T> = std::result::Result<T, serde_json::Error>;

/// A member's name, and the value that it has if it is not there. Without one it is left out then.
type Member = (&'static str, Option<fn() -> Value>);

const ENTRY: &[Member] = &[
    ("Key", Some(empty)),
    ("CreateIndex", Some(zero)),
    ("ModifyIndex", Some(zero)),
    ("LockIndex", Some(zero)),
    ("Flags", Some(zero)),
    ("Value", Some(null)),
    ("Session", Some(empty)),
];

const NODE: &[Member] = &[
    ("ID", Some(empty)),
    ("Node", Some(empty)),
    ("Address", Some(empty)),
    ("Datacenter", Some(empty)),
    ("TaggedAddresses", Some(null)),
    ("Meta", Some(null)),
    ("CreateIndex", Some(zero)),
    ("ModifyIndex", Some(zero)),
];

const CHECK: &[Member] = &[
    ("Node", Some(empty)),
    ("CheckID", Some(empty)),
    ("Name", Some(empty)),
    ("Status", Some(empty)),
    ("Notes", Some(empty)),
    ("Output", Some(empty)),
    ("ServiceID", Some(empty)),
    ("ServiceName", Some(empty)),
    ("ServiceTags", Some(null)),
    ("Type", Some(empty)),
    ("Definition", Some(object)),
    ("CreateIndex", Some(zero)),
    ("ModifyIndex", Some(zero)),
];

const DEFINITION: &[Member] = &[
    ("Interval", Some(no_time)),
    ("Timeout", Some(no_time)),
    ("DeregisterCriticalServiceAfter", Some(no_time)),
    ("HTTP", Some(empty)),
    ("Header", Some(null)),
    ("Method", Some(empty)),
    ("Body", Some(empty)),
    ("TLSSkipVerify", Some(off)),
    ("TCP", Some(empty)),
];

const SERVICE: &[Member] = &[
    ("Kind", None),
    ("ID", Some(empty)),
    ("Service", Some(empty)),
    ("Tags", Some(null)),
    ("Meta", Some(null)),
    ("Port", Some(zero)),
    ("Address", Some(empty)),
    ("TaggedAddresses", None),
    ("Weights", Some(object)),
    ("EnableTagOverride", Some(off)),
    ("CreateIndex", None),
    ("ModifyIndex", None),
    ("Proxy", None),
    ("Connect", None),
];

const EVENT: &[Member] = &[
    ("ID", Some(empty)),
    ("Name", Some(empty)),
    ("Payload", Some(null)),
    ("NodeFilter", Some(empty)),
    ("ServiceFilter", Some(empty)),
    ("TagFilter", Some(empty)),
    ("Version", Some(zero)),
    ("LTime", Some(zero)),
];

fn empty() -> Value {
    Value::String(String::new())
}

fn zero() -> Value {
    json!(0)
}

fn null() -> Value {
    Value::Null
}

fn off() -> Value {
    Value::Bool(false)
}

fn no_time() -> Value {
    json!("0s")
}

fn object() -> Value {
    json!({})
}

/// A key's entry: the first and only one.
pub(super) fn key(body: &[u8]) -> Result<News> {
    let entries: Vec<Map<String, Value>> = serde_json::from_slice(body)?;
    let entry = entries.into_iter().next();
    Ok(News::Data(
        entry.map_or(Value::Null, |entry| ordered(entry, ENTRY)),
    ))
}

/// The entries below a prefix.
pub(super) fn keys(body: &[u8]) -> Result<News> {
    list(body, |entry| ordered(entry, ENTRY)).map(data)
}

/// All services with their tags.
pub(super) fn services(body: &[u8]) -> Result<News> {
    let services: BTreeMap<String, Value> = serde_json::from_slice(body)?;
    Ok(News::Data(services.into_iter().collect()))
}

/// All nodes.
pub(super) fn nodes(body: &[u8]) -> Result<News> {
    list(body, |node| ordered(node, NODE)).map(data)
}

/// Checks.
pub(super) fn checks(body: &[u8]) -> Result<News> {
    list(body, check).map(data)
}

/// A service's instances, each with its node and checks.
pub(super) fn instances(body: &[u8]) -> Result<News> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Instance {
        node: Map<String, Value>,
        service: Map<String, Value>,
        checks: Vec<Map<String, Value>>,
    }
    let instances: Vec<Instance> = serde_json::from_slice(body)?;
    let instances = instances.into_iter().map(|instance| {
        json!({
            "Node": ordered(instance.node, NODE),
            "Service": ordered(instance.service, SERVICE),
            "Checks": instance.checks.into_iter().map(check).collect::<Vec<_>>(),
        })
    });
    Ok(News::Data(instances.collect()))
}

/// Events, the oldest first.
pub(super) fn events(body: &[u8]) -> Result<News> {
    list(body, |event| ordered(event, EVENT)).map(News::Events)
}

/// Those events that came after the last one of `before`. `None`: there is no such.
pub(super) fn after(before: &[Value], now: &[Value]) -> Option<News> {
    let id = |event: &Value| event.get("ID").cloned();
    let last = before.last().and_then(id);
    let known = now.iter().rposition(|event| last.is_some() && id(event) == last);
    let new = &now[known.map_or(0, |known| known + 1)..];
    (!new.is_empty()).then(|| News::Events(new.to_vec()))
}

/// As people read it.
pub(super) fn indented(news: &News) -> std::result::Result<String, Failure> {
    let mut text = Vec::new();
    let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, layout);
    let written = match news {
        News::Data(data) => data.serialize(&mut serializer),
        News::Events(events) => events.serialize(&mut serializer),
    };
    written.map_err(|error| Failure::new(format!("Error encoding output: {error}")))?;
    Ok(escaped(&String::from_utf8_lossy(&text)))
}

/// As programs read it.
pub(super) fn compact(news: &News) -> Result<String> {
    let text = match news {
        News::Data(data) => serde_json::to_string(data),
        News::Events(events) => serde_json::to_string(events),
    };
    text.map(|text| escaped(&text))
}

/// Without the characters that mean something in HTML, as Go writes it. They stand in strings only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}

fn data(values: Vec<Value>) -> News {
    News::Data(Value::Array(values))
}

fn list(body: &[u8], each: impl Fn(Map<String, Value>) -> Value) -> Result<Vec<Value>> {
    let values: Option<Vec<Map<String, Value>>> = serde_json::from_slice(body)?;
    Ok(values.unwrap_or_default().into_iter().map(each).collect())
}

fn check(mut check: Map<String, Value>) -> Value {
    if let Some(Value::Object(definition)) = check.get_mut("Definition") {
        let definition = ordered(std::mem::take(definition), DEFINITION);
        check.insert("Definition".to_owned(), definition);
    }
    ordered(check, CHECK)
}

/// The members in this order, and no others.
fn ordered(mut members: Map<String, Value>, order: &[Member]) -> Value {
    let mut object = Map::new();
    for (name, usual) in order {
        if let Some(value) = members.remove(*name).or_else(|| usual.map(|usual| usual())) {
            object.insert((*name).to_owned(), value);
        }
    }
    Value::Object(object)
}
