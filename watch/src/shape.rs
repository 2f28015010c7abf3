//! The API's answers in the order and with the members that Consul's own client library writes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

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
    ("ContentHash", None),
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
pub(crate) fn key(body: &[u8]) -> serde_json::Result<Value> {
    let entries: Vec<Map<String, Value>> = serde_json::from_slice(body)?;
    let entry = entries.into_iter().next();
    Ok(entry.map_or(Value::Null, |entry| ordered(entry, ENTRY)))
}

/// The entries below a prefix.
pub(crate) fn keys(body: &[u8]) -> serde_json::Result<Value> {
    list(body, |entry| ordered(entry, ENTRY)).map(Value::Array)
}

/// All services with their tags.
pub(crate) fn services(body: &[u8]) -> serde_json::Result<Value> {
    let services: BTreeMap<String, Value> = serde_json::from_slice(body)?;
    Ok(services.into_iter().collect())
}

/// All nodes.
pub(crate) fn nodes(body: &[u8]) -> serde_json::Result<Value> {
    list(body, |node| ordered(node, NODE)).map(Value::Array)
}

/// Checks.
pub(crate) fn checks(body: &[u8]) -> serde_json::Result<Value> {
    list(body, check).map(Value::Array)
}

/// A service's instances, each with its node and checks.
pub(crate) fn instances(body: &[u8]) -> serde_json::Result<Value> {
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
    Ok(instances.collect())
}

/// A service that runs on the agent that was asked.
pub(crate) fn local_service(body: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(body).map(|service| ordered(service, SERVICE))
}

/// Events, the oldest first.
pub(crate) fn events(body: &[u8]) -> serde_json::Result<Vec<Value>> {
    list(body, |event| ordered(event, EVENT))
}

fn list(body: &[u8], each: impl Fn(Map<String, Value>) -> Value) -> serde_json::Result<Vec<Value>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_all_members_in_order() {
        let entry = br#"[{"LockIndex":0,"Key":"a","Flags":7,"Value":"eA==","CreateIndex":5,"ModifyIndex":6,"LockFence":1}]"#;
        let shaped = r#"{"Key":"a","CreateIndex":5,"ModifyIndex":6,"LockIndex":0,"Flags":7,"Value":"eA==","Session":""}"#;
        assert_eq!(key(entry).unwrap().to_string(), shaped);
        assert_eq!(keys(entry).unwrap().to_string(), format!("[{shaped}]"));
        assert_eq!(key(b"[]").unwrap(), Value::Null);
        assert_eq!(keys(b"null").unwrap(), json!([]));
        assert!(key(b"{}").is_err());
    }

    #[test]
    fn services_are_in_the_order_of_their_names() {
        let shaped = services(br#"{"web":["b","a"],"db":[]}"#).unwrap();
        assert_eq!(shaped.to_string(), r#"{"db":[],"web":["b","a"]}"#);
    }

    #[test]
    fn instances_and_checks_have_the_members_of_the_client_library() {
        let body = json!([{
            "Node": {"Node": "n", "Extra": 1},
            "Service": {"ID": "w", "Tags": [], "Proxy": {"Expose": {}}, "Kind": "connect-proxy"},
            "Checks": [{"CheckID": "c", "Definition": {"Interval": "5s"}}],
        }]);
        let told = instances(body.to_string().as_bytes()).unwrap();
        assert_eq!(
            told.to_string(),
            concat!(
                r#"[{"Node":{"ID":"","Node":"n","Address":"","Datacenter":"","TaggedAddresses":null,"Meta":null,"CreateIndex":0,"ModifyIndex":0},"#,
                r#""Service":{"Kind":"connect-proxy","ID":"w","Service":"","Tags":[],"Meta":null,"Port":0,"Address":"","Weights":{},"EnableTagOverride":false,"#,
                r#""Proxy":{"Expose":{}}},"Checks":[{"Node":"","CheckID":"c","Name":"","Status":"","Notes":"","Output":"","ServiceID":"","ServiceName":"","#,
                r#""ServiceTags":null,"Type":"","Definition":{"Interval":"5s","Timeout":"0s","DeregisterCriticalServiceAfter":"0s","HTTP":"","Header":null,"#,
                r#""Method":"","Body":"","TLSSkipVerify":false,"TCP":""},"CreateIndex":0,"ModifyIndex":0}]}]"#
            )
        );
    }

    #[test]
    fn a_service_of_the_agent_has_its_hash() {
        let body = br#"{"ID":"web1","Service":"web","Tags":["a"],"Meta":{"k":"v"},"Port":80,"Address":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"ContentHash":"8b8c","Datacenter":"dc1"}"#;
        let told = r#"{"ID":"web1","Service":"web","Tags":["a"],"Meta":{"k":"v"},"Port":80,"Address":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"ContentHash":"8b8c"}"#;
        assert_eq!(local_service(body).unwrap().to_string(), told);
    }

    #[test]
    fn events_keep_their_order() {
        let body = br#"[{"ID":"2","LTime":3},{"ID":"1","Payload":"eA=="}]"#;
        let told: Vec<_> = events(body).unwrap().iter().map(Value::to_string).collect();
        assert_eq!(
            told,
            [
                r#"{"ID":"2","Name":"","Payload":null,"NodeFilter":"","ServiceFilter":"","TagFilter":"","Version":0,"LTime":3}"#,
                r#"{"ID":"1","Name":"","Payload":"eA==","NodeFilter":"","ServiceFilter":"","TagFilter":"","Version":0,"LTime":0}"#
            ]
        );
    }
}
