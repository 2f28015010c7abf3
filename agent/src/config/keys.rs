//! The configuration keys: reads one JSON document into [`Settings`].

use serde_json::{Map, Value};

use super::error::Problems;
use super::not_yet::NOT_YET;
use super::settings::Settings;

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
            if NOT_YET.contains(&path.to_lowercase().as_str()) {
                self.refused
                    .push(format!("config key {path} is not supported yet"));
            } else {
                self.refused.push(format!("invalid config key {path}"));
            }
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
            "bind_addr" => scalar(path, value, &mut to.bind_addr, bad),
            "bootstrap" => scalar(path, value, &mut to.bootstrap, bad),
            "bootstrap_expect" => scalar(path, value, &mut to.bootstrap_expect, bad),
            "client_addr" => scalar(path, value, &mut to.client_addr, bad),
            "data_dir" => scalar(path, value, &mut to.data_dir, bad),
            "datacenter" => scalar(path, value, &mut to.datacenter, bad),
            "default_query_time" => scalar(path, value, &mut to.default_query_time, bad),
            "disable_http_unprintable_char_filter" => {
                scalar(path, value, &mut to.disable_http_unprintable_char_filter, bad);
            }
            "domain" => scalar(path, value, &mut to.domain, bad),
            "encrypt" => scalar(path, value, &mut to.encrypt, bad),
            "http_config" => self.nested(path, value, Self::http_config),
            "limits" => self.nested(path, value, Self::limits),
            "log_json" => scalar(path, value, &mut to.log_json, bad),
            "log_level" => scalar(path, value, &mut to.log_level, bad),
            "max_query_time" => scalar(path, value, &mut to.max_query_time, bad),
            "node_id" => scalar(path, value, &mut to.node_id, bad),
            "node_name" => scalar(path, value, &mut to.node_name, bad),
            "performance" => self.nested(path, value, Self::performance),
            "pid_file" => scalar(path, value, &mut to.pid_file, bad),
            "ports" => self.nested(path, value, Self::ports),
            "raft_trailing_logs" => scalar(path, value, &mut to.raft_trailing_logs, bad),
            "retry_interval" => scalar(path, value, &mut to.retry_interval, bad),
            "retry_join" => texts(path, value, &mut to.retry_join, bad),
            "server" => scalar(path, value, &mut to.server, bad),
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

    fn http_config(&mut self, path: &str, key: &str, value: &Value) -> bool {
        let known = key == "response_headers";
        if known {
            self.response_headers(path, value);
        }
        known
    }

    fn response_headers(&mut self, path: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::Object(headers) => {
                for (name, value) in headers {
                    let mut text = None;
                    scalar(&format!("{path}[{name}]"), value, &mut text, &mut self.mistyped);
                    if let Some(text) = text {
                        self.settings.response_headers.insert(name.clone(), text);
                    }
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.mistyped
                    .push(format!("'{path}' expected a map, got '{}'", kind(value)));
            }
        }
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
            "server" => scalar(path, value, &mut to.ports_server, bad),
            // Turning off what is not there is true, not ignored.
            "dns" | "https" | "grpc" | "serf_wan" => return value.as_i64() == Some(-1),
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
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        match read(text) {
            Ok(_) => panic!("{text} was accepted"),
            Err(message) => message,
        }
    }

    #[test]
    fn every_key_reaches_its_setting() {
        let text = r#"{
            "server": true, "bootstrap": false, "bootstrap_expect": 3, "node_name": "n", "node_id": "i",
            "datacenter": "d", "domain": "o", "data_dir": "/d", "pid_file": "/p", "bind_addr": "b", "advertise_addr": "a",
            "client_addr": "c", "addresses": {"http": "ah"}, "ports": {"http": 1, "server": 2, "dns": -1},
            "retry_join": ["r1", "r2"], "retry_interval": "5s", "encrypt": "e",
            "tls": {"defaults": {"ca_file": "ca", "cert_file": "ce", "key_file": "ke"}},
            "log_level": "l", "log_json": true, "performance": {"raft_multiplier": 4, "rpc_hold_timeout": "7s"},
            "raft_trailing_logs": 6,
            "limits": {"http_max_conns_per_client": 7, "kv_max_value_size": 8, "txn_max_req_len": 9},
            "default_query_time": "dq", "max_query_time": "mq", "disable_http_unprintable_char_filter": true,
            "http_config": {"response_headers": {"X-A": "b"}}
        }"#;
        let text_of = |text: &str| Some(text.to_owned());
        let expected = Settings {
            server: Some(true),
            bootstrap: Some(false),
            bootstrap_expect: Some(3),
            node_name: text_of("n"),
            node_id: text_of("i"),
            datacenter: text_of("d"),
            domain: text_of("o"),
            data_dir: text_of("/d"),
            pid_file: text_of("/p"),
            bind_addr: text_of("b"),
            advertise_addr: text_of("a"),
            client_addr: text_of("c"),
            addresses_http: text_of("ah"),
            ports_http: Some(1),
            ports_server: Some(2),
            retry_join: vec!["r1".to_owned(), "r2".to_owned()],
            retry_interval: text_of("5s"),
            encrypt: text_of("e"),
            tls_ca_file: text_of("ca"),
            tls_cert_file: text_of("ce"),
            tls_key_file: text_of("ke"),
            log_level: text_of("l"),
            log_json: Some(true),
            raft_multiplier: Some(4),
            rpc_hold_timeout: text_of("7s"),
            raft_trailing_logs: Some(6),
            http_max_conns_per_client: Some(7),
            kv_max_value_size: Some(8),
            txn_max_req_len: Some(9),
            default_query_time: text_of("dq"),
            max_query_time: text_of("mq"),
            disable_http_unprintable_char_filter: Some(true),
            response_headers: [("X-A".to_owned(), "b".to_owned())].into(),
        };
        assert!(read(text).unwrap() == expected);
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_one_wins() {
        let read = read(r#"{"LOG_level": "a", "Ports": {"HTTP": 1}, "log_level": "b", "log_level": "c", "node_name": null}"#).unwrap();
        assert_eq!(read.log_level.as_deref(), Some("c"));
        assert_eq!(read.ports_http, Some(1));
        assert_eq!(read.node_name, None);
        assert_eq!(
            refusal(r#"{"NodeName": "x"}"#),
            "1 error occurred:\n\t* invalid config key NodeName"
        );
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert!(read(" \n").unwrap() == Settings::default());
        assert!(read("{}").unwrap() == Settings::default());
    }

    #[test]
    fn unknown_keys_are_all_listed() {
        assert_eq!(
            refusal(r#"{"bogus": 1}"#),
            "1 error occurred:\n\t* invalid config key bogus"
        );
        assert_eq!(
            refusal(r#"{"ports": {"x": 1, "http": 5}, "_comment": 1, "ui": true}"#),
            "3 errors occurred:\n\t* invalid config key ports.x\n\t* invalid config key _comment\n\t* config key ui is not supported yet"
        );
        assert_eq!(
            refusal(r#"{"ports": {"dns": 8600}}"#),
            "1 error occurred:\n\t* config key ports.dns is not supported yet"
        );
    }

    #[test]
    fn every_key_of_the_list_is_refused_by_name() {
        assert!(NOT_YET.is_sorted());
        for path in NOT_YET {
            let document = path
                .rsplit('.')
                .fold("1".to_owned(), |inner, key| format!("{{\"{key}\": {inner}}}"));
            assert_eq!(
                refusal(&document),
                format!("1 error occurred:\n\t* config key {path} is not supported yet")
            );
        }
    }

    #[test]
    fn nothing_is_converted() {
        for (text, message) in [
            (
                r#"{"server": "true"}"#,
                "'server' expected type 'bool', got unconvertible type 'string'",
            ),
            (
                r#"{"node_name": 5}"#,
                "'node_name' expected type 'string', got unconvertible type 'float64'",
            ),
            (
                r#"{"ports": {"http": "x"}}"#,
                "'ports.http' expected type 'int', got unconvertible type 'string'",
            ),
            (
                r#"{"ports": {"http": 1.5}}"#,
                "'ports.http' expected type 'int', got unconvertible type 'float64'",
            ),
            (r#"{"ports": 5}"#, "'ports' expected a map, got 'float64'"),
            (
                r#"{"ports": [{"http": 5}]}"#,
                "'ports' expected a map, got 'slice'",
            ),
            (
                r#"{"retry_join": "x"}"#,
                "'retry_join': source data must be an array or slice, got string",
            ),
            (
                r#"{"retry_join": ["a", 5]}"#,
                "'retry_join[1]' expected type 'string', got unconvertible type 'float64'",
            ),
            (
                r#"{"default_query_time": 10}"#,
                "'default_query_time' expected type 'string', got unconvertible type 'float64'",
            ),
            (
                r#"{"limits": {"kv_max_value_size": -1}}"#,
                "cannot parse 'limits.kv_max_value_size', -1 overflows uint",
            ),
            (
                r#"{"limits": {"kv_max_value_size": true}}"#,
                "'limits.kv_max_value_size' expected type 'uint', got unconvertible type 'bool'",
            ),
            (
                r#"{"http_config": {"response_headers": {"a": 5}}}"#,
                "'http_config.response_headers[a]' expected type 'string', got unconvertible type 'float64'",
            ),
            (
                r#"{"http_config": {"response_headers": "a"}}"#,
                "'http_config.response_headers' expected a map, got 'string'",
            ),
        ] {
            assert_eq!(refusal(text), format!("1 error(s) decoding:\n\n* {message}"));
        }
        // Types come before names, as the document must be understood before it is judged.
        assert_eq!(
            refusal(r#"{"bogus": 1, "server": 1, "bootstrap": 2}"#),
            "2 error(s) decoding:\n\n* 'server' expected type 'bool', got unconvertible type 'float64'\n* 'bootstrap' expected type 'bool', got unconvertible type 'float64'"
        );
    }

    #[test]
    fn malformed_json_is_located() {
        assert!(refusal("{\n// note\n}").ends_with("at line 2 column 1"));
        assert!(refusal("{").starts_with("EOF while parsing"));
        assert_eq!(refusal("[1]"), "the document must be a JSON object, not an array");
        assert_eq!(
            refusal("\"x\""),
            "the document must be a JSON object, not a string"
        );
        assert!(refusal(&"[".repeat(100_000)).contains("recursion limit"));
    }
}
