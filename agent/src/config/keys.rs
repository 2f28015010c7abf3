//! The configuration keys: reads one JSON document into [`Settings`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Problems;
use super::not_yet::{ENTERPRISE, NOT_YET};
use super::settings::{GossipSettings, Settings};

/// Reads one document. An error is one text that names every problem of its kind: malformed JSON, else values of the
/// wrong type, else keys that are unknown or not supported yet.
pub(super) fn read(text: &str) -> Result<Settings, String> {
    if text.trim().is_empty() {
        return Ok(Settings::default());
    }
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(document) = document else {
        return Err(format!(
            "the document must be a JSON object, not {}",
            article(&document)
        ));
    };
    let mut reader = Reader::default();
    reader.section("", &document, Reader::top);
    if !reader.mistyped.is_empty() {
        let count = reader.mistyped.len();
        return Err(format!(
            "{count} error(s) decoding:\n\n* {}",
            reader.mistyped.join("\n* ")
        ));
    }
    if !reader.refused.is_empty() {
        return Err(Problems(&reader.refused).to_string());
    }
    Ok(reader.settings)
}

#[derive(Default)]
struct Reader {
    settings: Settings,
    mistyped: Vec<String>,
    refused: Vec<String>,
}

/// Takes one key of a section, in lower case, with its path as written. `false`: the section has no such key.
type Section = fn(&mut Reader, path: &str, key: &str, value: &Value) -> bool;

impl Reader {
    fn section(&mut self, prefix: &str, object: &Map<String, Value>, section: Section) {
        for (written, value) in object {
            let path = if prefix.is_empty() {
                written.clone()
            } else {
                format!("{prefix}.{written}")
            };
            if section(self, &path, &written.to_lowercase(), value) {
                continue;
            }
            let known = path.to_lowercase();
            self.refused.push(if ENTERPRISE.contains(&known.as_str()) {
                format!("config key {path} is not supported: it belongs to Consul Enterprise")
            } else if NOT_YET.contains(&known.as_str()) {
                format!("config key {path} is not supported yet")
            } else {
                format!("invalid config key {path}")
            });
        }
    }

    fn nested(&mut self, path: &str, value: &Value, section: Section) {
        match value {
            Value::Null => {}
            Value::Object(object) => self.section(path, object, section),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.mistyped
                    .push(format!("'{path}' expected a map, got '{}'", kind(value)));
            }
        }
    }

    fn top(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let (to, bad) = (&mut self.settings, &mut self.mistyped);
        match key {
            "addresses" => self.nested(path, value, Self::addresses),
            "advertise_addr" => scalar(path, value, &mut to.advertise_addr, bad),
            "advertise_addr_wan" => scalar(path, value, &mut to.advertise_addr_wan, bad),
            "autopilot" => self.nested(path, value, Self::autopilot),
            "bind_addr" => scalar(path, value, &mut to.bind_addr, bad),
            "bootstrap" => scalar(path, value, &mut to.bootstrap, bad),
            "bootstrap_expect" => scalar(path, value, &mut to.bootstrap_expect, bad),
            "client_addr" => scalar(path, value, &mut to.client_addr, bad),
            "data_dir" => scalar(path, value, &mut to.data_dir, bad),
            "datacenter" => scalar(path, value, &mut to.datacenter, bad),
            "default_query_time" => scalar(path, value, &mut to.default_query_time, bad),
            "disable_coordinates" => scalar(path, value, &mut to.disable_coordinates, bad),
            "disable_http_unprintable_char_filter" => {
                scalar(path, value, &mut to.disable_http_unprintable_char_filter, bad);
            }
            "domain" => scalar(path, value, &mut to.domain, bad),
            "encrypt" => scalar(path, value, &mut to.encrypt, bad),
            "gossip_lan" => self.nested(path, value, Self::gossip_lan),
            "gossip_wan" => self.nested(path, value, Self::gossip_wan),
            "http_config" => self.nested(path, value, Self::http_config),
            "leave_on_terminate" => scalar(path, value, &mut to.leave_on_terminate, bad),
            "limits" => self.nested(path, value, Self::limits),
            "log_json" => scalar(path, value, &mut to.log_json, bad),
            "log_level" => scalar(path, value, &mut to.log_level, bad),
            "max_query_time" => scalar(path, value, &mut to.max_query_time, bad),
            "node_id" => scalar(path, value, &mut to.node_id, bad),
            "node_meta" => text_map(path, value, &mut to.node_meta, bad),
            "node_name" => scalar(path, value, &mut to.node_name, bad),
            "performance" => self.nested(path, value, Self::performance),
            "pid_file" => scalar(path, value, &mut to.pid_file, bad),
            "ports" => self.nested(path, value, Self::ports),
            "primary_datacenter" => scalar(path, value, &mut to.primary_datacenter, bad),
            "raft_trailing_logs" => scalar(path, value, &mut to.raft_trailing_logs, bad),
            "reconnect_timeout" => scalar(path, value, &mut to.reconnect_timeout, bad),
            "reconnect_timeout_wan" => scalar(path, value, &mut to.reconnect_timeout_wan, bad),
            "rejoin_after_leave" => scalar(path, value, &mut to.rejoin_after_leave, bad),
            "retry_interval" => scalar(path, value, &mut to.retry_interval, bad),
            "retry_interval_wan" => scalar(path, value, &mut to.retry_interval_wan, bad),
            "retry_join" => texts(path, value, &mut to.retry_join, bad),
            "retry_join_wan" => texts(path, value, &mut to.retry_join_wan, bad),
            "retry_max" => scalar(path, value, &mut to.retry_max, bad),
            "retry_max_wan" => scalar(path, value, &mut to.retry_max_wan, bad),
            "server" => scalar(path, value, &mut to.server, bad),
            "skip_leave_on_interrupt" => scalar(path, value, &mut to.skip_leave_on_interrupt, bad),
            "start_join" => texts(path, value, &mut to.start_join, bad),
            "start_join_wan" => texts(path, value, &mut to.start_join_wan, bad),
            "tls" => self.nested(path, value, Self::tls),
            _ => return false,
        }
        true
    }

    fn addresses(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let known = key == "http";
        if known {
            scalar(path, value, &mut self.settings.addresses_http, &mut self.mistyped);
        }
        known
    }

    fn autopilot(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let (to, bad) = (&mut self.settings, &mut self.mistyped);
        match key {
            "cleanup_dead_servers" => scalar(path, value, &mut to.autopilot_cleanup_dead_servers, bad),
            "last_contact_threshold" => {
                scalar(path, value, &mut to.autopilot_last_contact_threshold, bad);
            }
            "max_trailing_logs" => scalar(path, value, &mut to.autopilot_max_trailing_logs, bad),
            "min_quorum" => scalar(path, value, &mut to.autopilot_min_quorum, bad),
            "server_stabilization_time" => {
                scalar(path, value, &mut to.autopilot_server_stabilization_time, bad);
            }
            _ => return false,
        }
        true
    }

    fn gossip_lan(&mut self, path: &str, key: &str, value: &Value) -> bool {
        gossip(
            path,
            key,
            value,
            &mut self.settings.gossip_lan,
            &mut self.mistyped,
        )
    }

    fn gossip_wan(&mut self, path: &str, key: &str, value: &Value) -> bool {
        gossip(
            path,
            key,
            value,
            &mut self.settings.gossip_wan,
            &mut self.mistyped,
        )
    }

    fn http_config(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let known = key == "response_headers";
        if known {
            text_map(
                path,
                value,
                &mut self.settings.response_headers,
                &mut self.mistyped,
            );
        }
        known
    }

    fn limits(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let (to, bad) = (&mut self.settings, &mut self.mistyped);
        match key {
            "http_max_conns_per_client" => scalar(path, value, &mut to.http_max_conns_per_client, bad),
            "kv_max_value_size" => scalar(path, value, &mut to.kv_max_value_size, bad),
            "txn_max_req_len" => scalar(path, value, &mut to.txn_max_req_len, bad),
            _ => return false,
        }
        true
    }

    fn performance(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let (to, bad) = (&mut self.settings, &mut self.mistyped);
        match key {
            "leave_drain_time" => scalar(path, value, &mut to.leave_drain_time, bad),
            "raft_multiplier" => scalar(path, value, &mut to.raft_multiplier, bad),
            "rpc_hold_timeout" => scalar(path, value, &mut to.rpc_hold_timeout, bad),
            _ => return false,
        }
        true
    }

    fn ports(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let (to, bad) = (&mut self.settings, &mut self.mistyped);
        match key {
            "http" => scalar(path, value, &mut to.ports_http, bad),
            "serf_lan" => scalar(path, value, &mut to.ports_serf_lan, bad),
            "serf_wan" => scalar(path, value, &mut to.ports_serf_wan, bad),
            "server" => scalar(path, value, &mut to.ports_server, bad),
            // Turning off what is not there is true, not ignored.
            "dns" | "https" | "grpc" => return value.as_i64() == Some(-1),
            _ => return false,
        }
        true
    }

    fn tls(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let known = key == "defaults";
        if known {
            self.nested(path, value, Self::tls_defaults);
        }
        known
    }

    fn tls_defaults(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let (to, bad) = (&mut self.settings, &mut self.mistyped);
        match key {
            "ca_file" => scalar(path, value, &mut to.tls_ca_file, bad),
            "cert_file" => scalar(path, value, &mut to.tls_cert_file, bad),
            "key_file" => scalar(path, value, &mut to.tls_key_file, bad),
            _ => return false,
        }
        true
    }
}

fn gossip(path: &str, key: &str, value: &Value, to: &mut GossipSettings, bad: &mut Vec<String>) -> bool {
    match key {
        "gossip_interval" => scalar(path, value, &mut to.gossip_interval, bad),
        "gossip_nodes" => scalar(path, value, &mut to.gossip_nodes, bad),
        "probe_interval" => scalar(path, value, &mut to.probe_interval, bad),
        "probe_timeout" => scalar(path, value, &mut to.probe_timeout, bad),
        "retransmit_mult" => scalar(path, value, &mut to.retransmit_mult, bad),
        "suspicion_mult" => scalar(path, value, &mut to.suspicion_mult, bad),
        _ => return false,
    }
    true
}

/// A type that a single value may have. Nothing is converted: `"true"` is not a boolean.
trait Scalar: Sized {
    /// The type's name in messages.
    const NAME: &'static str;
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
    fn of(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Scalar for String {
    const NAME: &'static str = "string";
    fn of(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

/// Fills `slot`. JSON's `null` counts as not mentioned.
fn scalar<T: Scalar>(path: &str, value: &Value, slot: &mut Option<T>, mistyped: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    match T::of(value) {
        Some(read) => *slot = Some(read),
        None if T::NAME == u64::NAME && value.is_i64() => {
            mistyped.push(format!("cannot parse '{path}', {value} overflows uint"));
        }
        None => mistyped.push(format!(
            "'{path}' expected type '{}', got unconvertible type '{}'",
            T::NAME,
            kind(value)
        )),
    }
}

fn texts(path: &str, value: &Value, list: &mut Vec<String>, mistyped: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let mut text = None;
                scalar(&format!("{path}[{at}]"), item, &mut text, mistyped);
                list.extend(text);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            mistyped.push(format!(
                "'{path}': source data must be an array or slice, got {}",
                kind(value)
            ));
        }
    }
}

fn text_map(path: &str, value: &Value, map: &mut BTreeMap<String, String>, mistyped: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Object(entries) => {
            for (name, value) in entries {
                let mut text = None;
                scalar(&format!("{path}[{name}]"), value, &mut text, mistyped);
                if let Some(text) = text {
                    map.insert(name.clone(), text);
                }
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            mistyped.push(format!("'{path}' expected a map, got '{}'", kind(value)));
        }
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

fn article(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
