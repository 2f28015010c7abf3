//! Documents: each key's setting, each refusal's text.

use super::super::not_yet::{ENTERPRISE, NOT_YET};
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
        "client_addr": "c", "addresses": {"http": "ah", "dns": "ad"}, "ports": {"http": 1, "server": 2, "dns": 26, "serf_lan": 3, "serf_wan": 4},
        "retry_join": ["r1", "r2"], "retry_interval": "5s", "encrypt": "e",
        "tls": {"defaults": {"ca_file": "ca", "cert_file": "ce", "key_file": "ke"}},
        "log_level": "l", "log_json": true, "performance": {"raft_multiplier": 4, "rpc_hold_timeout": "7s", "leave_drain_time": "ld"},
        "raft_trailing_logs": 6,
        "limits": {"http_max_conns": 27, "http_max_requests": 28, "http_max_blocking_queries": 29, "http_max_body_bytes": 30,
                   "http_max_answer_bytes": 31, "http_max_conns_per_client": 7, "kv_max_value_size": 8, "txn_max_req_len": 9,
                   "snapshot_max_bytes": 32, "snapshot_max_state_bytes": 33},
        "default_query_time": "dq", "max_query_time": "mq", "session_ttl_min": "st", "disable_http_unprintable_char_filter": true,
        "http_config": {"response_headers": {"X-A": "b"}}, "advertise_addr_wan": "aw", "start_join": ["s1"],
        "start_join_wan": ["s2"], "retry_join_wan": ["r3"], "retry_interval_wan": "6s", "retry_max": 10, "retry_max_wan": 11,
        "rejoin_after_leave": true, "leave_on_terminate": true, "skip_leave_on_interrupt": true,
        "reconnect_timeout": "rt", "reconnect_timeout_wan": "rw", "disable_coordinates": true, "disable_remote_exec": false,
        "gossip_lan": {"gossip_interval": "gi", "gossip_nodes": 12, "probe_interval": "pi", "probe_timeout": "pt",
                       "retransmit_mult": 13, "suspicion_mult": 14},
        "gossip_wan": {"gossip_nodes": 15}, "node_meta": {"k": "v"}, "primary_datacenter": "pd",
        "autopilot": {"cleanup_dead_servers": false, "last_contact_threshold": "lc", "max_trailing_logs": 16,
                      "min_quorum": 17, "server_stabilization_time": "ss"},
        "check_output_max_size": 18, "check_update_interval": "cu", "discard_check_output": true, "enable_script_checks": true,
        "enable_local_script_checks": false, "services": [{"name": "sv"}], "check": {"name": "ck"}, "alt_domain": "al",
        "recursors": ["rc"], "watches": [{"type": "w"}, {"Any": [1, {"a": null}]}],
        "dns_config": {"a_record_limit": 19, "allow_stale": false, "disable_compression": true, "enable_additional_node_meta_txt": false,
                       "enable_truncate": true, "max_stale": "ms", "node_ttl": "nt", "only_passing": true, "recursor_strategy": "rs",
                       "recursor_timeout": "rt", "service_ttl": {"a": "st"}, "soa": {"expire": 20, "min_ttl": 21, "refresh": 22, "retry": 23},
                       "srv_priority_meta": "sp", "udp_answer_limit": 24, "zone_meta": "zm", "zone_min_instances": 25},
        "telemetry": {"disable_hostname": true, "filter_default": false, "metrics_prefix": "mp", "prefix_filter": ["+a"],
                      "prometheus_retention_time": "pr"}
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
        snapshot_max_bytes: Some(32),
        snapshot_max_state_bytes: Some(33),
        default_query_time: text_of("dq"),
        max_query_time: text_of("mq"),
        session_ttl_min: text_of("st"),
        disable_http_unprintable_char_filter: Some(true),
        response_headers: [("X-A".to_owned(), "b".to_owned())].into(),
        advertise_addr_wan: text_of("aw"),
        ports_serf_lan: Some(3),
        ports_serf_wan: Some(4),
        start_join: vec!["s1".to_owned()],
        start_join_wan: vec!["s2".to_owned()],
        retry_join_wan: vec!["r3".to_owned()],
        retry_interval_wan: text_of("6s"),
        retry_max: Some(10),
        retry_max_wan: Some(11),
        rejoin_after_leave: Some(true),
        leave_on_terminate: Some(true),
        skip_leave_on_interrupt: Some(true),
        leave_drain_time: text_of("ld"),
        reconnect_timeout: text_of("rt"),
        reconnect_timeout_wan: text_of("rw"),
        disable_coordinates: Some(true),
        disable_remote_exec: Some(false),
        gossip_lan: GossipSettings {
            gossip_interval: text_of("gi"),
            gossip_nodes: Some(12),
            probe_interval: text_of("pi"),
            probe_timeout: text_of("pt"),
            retransmit_mult: Some(13),
            suspicion_mult: Some(14),
        },
        gossip_wan: GossipSettings {
            gossip_nodes: Some(15),
            ..GossipSettings::default()
        },
        node_meta: [("k".to_owned(), "v".to_owned())].into(),
        primary_datacenter: text_of("pd"),
        autopilot_cleanup_dead_servers: Some(false),
        autopilot_last_contact_threshold: text_of("lc"),
        autopilot_max_trailing_logs: Some(16),
        autopilot_min_quorum: Some(17),
        autopilot_server_stabilization_time: text_of("ss"),
        http_max_conns: Some(27),
        http_max_requests: Some(28),
        http_max_blocking_queries: Some(29),
        http_max_body_bytes: Some(30),
        http_max_answer_bytes: Some(31),
        check_output_max_size: Some(18),
        check_update_interval: text_of("cu"),
        discard_check_output: Some(true),
        enable_script_checks: Some(true),
        enable_local_script_checks: Some(false),
        services: vec![[("Name".to_owned(), "sv".into())].into_iter().collect()],
        checks: vec![[("Name".to_owned(), "ck".into())].into_iter().collect()],
        addresses_dns: text_of("ad"),
        ports_dns: Some(26),
        alt_domain: text_of("al"),
        recursors: vec!["rc".to_owned()],
        watches: vec![
            [("type".to_owned(), "w".into())].into_iter().collect(),
            [("Any".to_owned(), serde_json::json!([1, {"a": null}]))]
                .into_iter()
                .collect(),
        ],
        dns_a_record_limit: Some(19),
        dns_allow_stale: Some(false),
        dns_disable_compression: Some(true),
        dns_enable_additional_node_meta_txt: Some(false),
        dns_enable_truncate: Some(true),
        dns_max_stale: text_of("ms"),
        dns_node_ttl: text_of("nt"),
        dns_only_passing: Some(true),
        dns_recursor_strategy: text_of("rs"),
        dns_recursor_timeout: text_of("rt"),
        dns_service_ttl: [("a".to_owned(), "st".to_owned())].into(),
        dns_soa_expire: Some(20),
        dns_soa_min_ttl: Some(21),
        dns_soa_refresh: Some(22),
        dns_soa_retry: Some(23),
        dns_srv_priority_meta: text_of("sp"),
        dns_udp_answer_limit: Some(24),
        dns_zone_meta: text_of("zm"),
        dns_zone_min_instances: Some(25),
        telemetry_disable_hostname: Some(true),
        telemetry_filter_default: Some(false),
        telemetry_metrics_prefix: text_of("mp"),
        telemetry_prefix_filter: vec!["+a".to_owned()],
        telemetry_prometheus_retention_time: text_of("pr"),
    };
    assert!(read(text).unwrap() == expected);
}

#[test]
fn keys_match_in_any_case_and_the_last_one_wins() {
    let read = read(
        r#"{"LOG_level": "a", "Ports": {"HTTP": 1}, "log_level": "b", "log_level": "c", "node_name": null}"#,
    )
    .unwrap();
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
        refusal(r#"{"ports": {"https": 8501}}"#),
        "1 error occurred:\n\t* config key ports.https is not supported yet"
    );
}

#[test]
fn every_key_of_the_list_is_refused_by_name() {
    assert!(NOT_YET.is_sorted() && ENTERPRISE.is_sorted());
    let not_yet = NOT_YET.iter().map(|path| (path, "is not supported yet"));
    let enterprise = ENTERPRISE
        .iter()
        .map(|path| (path, "is not supported: it belongs to Consul Enterprise"));
    for (path, why) in not_yet.chain(enterprise) {
        let value = match *path {
            "disable_anonymous_signature" | "disable_update_check" => "false",
            "dns_config.use_cache" | "enable_debug" | "enable_syslog" | "ui" => "true",
            _ => "1",
        };
        let document = path
            .rsplit('.')
            .fold(value.to_owned(), |inner, key| format!("{{\"{key}\": {inner}}}"));
        assert_eq!(
            refusal(&document),
            format!("1 error occurred:\n\t* config key {path} {why}")
        );
    }
}

#[test]
fn what_is_true_anyway_may_be_said() {
    let text = r#"{"disable_anonymous_signature": true, "disable_update_check": true, "enable_debug": false,
                   "enable_syslog": false, "ui": false, "ports": {"https": -1, "grpc": -1}, "dns_config": {"use_cache": false}}"#;
    assert!(read(text).unwrap() == Settings::default());
    assert_eq!(
        refusal(r#"{"ui": "no"}"#),
        "1 error(s) decoding:\n\n* 'ui' expected type 'bool', got unconvertible type 'string'"
    );
}

#[test]
fn definitions_are_spelled_as_the_api_does() {
    let settings = read(
        r#"{"services": [{"name": "a", "tags": ["t"], "check": {"id": "c", "ttl": "1s", "header": {"x": ["y"]}}, "checks": [{"tcp": "b"}],
            "meta": {"k": "v"}, "tagged_addresses": {"lan": {"address": "l", "port": 1}}}], "check": {"id": "d", "service_id": "a"}}"#,
    )
    .unwrap();
    assert_eq!(
        Value::from(settings.services[0].clone()),
        serde_json::json!({"Name": "a", "Tags": ["t"], "Meta": {"k": "v"}, "TaggedAddresses": {"lan": {"Address": "l", "Port": 1}},
            "Checks": [{"TCP": "b"}, {"CheckID": "c", "TTL": "1s", "Header": {"x": ["y"]}}]})
    );
    assert_eq!(
        Value::from(settings.checks[0].clone()),
        serde_json::json!({"ID": "d", "ServiceID": "a"})
    );
}

#[test]
fn definitions_with_unknown_keys_or_types() {
    for (text, message) in [
        (
            r#"{"service": {"name": "x", "bogus": 1}}"#,
            "1 error occurred:\n\t* invalid config key service.bogus",
        ),
        (
            r#"{"services": [{"name": "x"}, {"checks": [{}, {"script": "a"}]}]}"#,
            "1 error occurred:\n\t* invalid config key services[1].checks[1].script",
        ),
        (
            r#"{"checks": [{"os_service": "a"}]}"#,
            "1 error occurred:\n\t* config key checks[0].os_service is not supported yet",
        ),
        (
            r#"{"service": {"TaggedAddresses": {}, "EnableTagOverride": true}}"#,
            "2 errors occurred:\n\t* invalid config key service.TaggedAddresses\n\t* invalid config key service.EnableTagOverride",
        ),
        (
            r#"{"check": {"CheckID": "a"}}"#,
            "1 error occurred:\n\t* invalid config key check.CheckID",
        ),
        (
            r#"{"check": {"ttl": 10}}"#,
            "1 error(s) decoding:\n\n* 'check.ttl' expected type 'string', got unconvertible type 'float64'",
        ),
        (
            r#"{"checks": {"name": "a"}}"#,
            "1 error(s) decoding:\n\n* 'checks': source data must be an array or slice, got map",
        ),
        (
            r#"{"service": {"meta": 5, "name": 5, "port": "x", "tags": "a"}}"#,
            "4 error(s) decoding:\n\n* 'service.meta' expected a map, got 'float64'\n* 'service.name' expected type 'string', got unconvertible type 'float64'\n* 'service.port' expected type 'int', got unconvertible type 'string'\n* 'service.tags': source data must be an array or slice, got string",
        ),
        (
            r#"{"service": {"tagged_addresses": {"lan": "1.2.3.4"}}}"#,
            "1 error(s) decoding:\n\n* 'service.tagged_addresses[lan]' expected a map, got 'string'",
        ),
        (
            r#"{"check": {"header": {"a": "b"}}}"#,
            "1 error(s) decoding:\n\n* 'check.header[a]': source data must be an array or slice, got string",
        ),
        (
            r#"{"dns_config": {"soa": {"min_ttl": -1, "expire": "a"}}}"#,
            "2 error(s) decoding:\n\n* cannot parse 'dns_config.soa.min_ttl', -1 overflows uint\n* 'dns_config.soa.expire' expected type 'uint32', got unconvertible type 'string'",
        ),
    ] {
        assert_eq!(refusal(text), message, "{text}");
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
            r#"{"node_meta": {"a": 5}}"#,
            "'node_meta[a]' expected type 'string', got unconvertible type 'float64'",
        ),
        (
            r#"{"autopilot": {"min_quorum": -1}}"#,
            "cannot parse 'autopilot.min_quorum', -1 overflows uint",
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
