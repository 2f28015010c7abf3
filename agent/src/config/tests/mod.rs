//! Tables: each setting's effect, each rule's text.

mod dns;
mod rules;
mod running;
mod watches;

use super::address::Host;
use super::*;

fn host() -> Host {
    Host {
        name: Some("testhost".to_owned()),
        addresses: ["127.0.0.1", "203.0.113.9", "10.9.8.7"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
    }
}

/// Reads JSON as if it were the only file.
fn parse(json: &str, dev: bool) -> Result<(Config, Vec<String>), String> {
    let settings = keys::read(json)?;
    let mut warnings = Vec::new();
    build::build(settings, dev, RuntimeKind::Smol, &host(), &mut warnings)
        .map(|config| (config, warnings.into_iter().map(|warning| warning.0).collect()))
        .map_err(|error| error.to_string())
}

/// The configuration of an agent that has a data directory and `more`.
fn with(more: &str) -> Config {
    accepted(more).0
}

fn accepted(more: &str) -> (Config, Vec<String>) {
    parse(&document(more), false).unwrap_or_else(|error| panic!("{more}: {error}"))
}

fn refused(more: &str) -> String {
    match parse(&document(more), false) {
        Ok(_) => panic!("{more} was accepted"),
        Err(error) => error,
    }
}

fn document(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(r#"{{"data_dir": "/nonexistent/state"{comma} {more}}}"#)
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn defaults() {
    let seconds = Duration::from_secs;
    let (config, warnings) = accepted("");
    assert_eq!(
        config,
        Config {
            runtime: RuntimeKind::Smol,
            dev: false,
            server: false,
            bootstrap: Bootstrap::Join,
            node_name: "testhost".to_owned(),
            node_id: None,
            datacenter: "dc1".to_owned(),
            data_dir: Some("/nonexistent/state".into()),
            pid_file: None,
            bind: socket("0.0.0.0:8300"),
            advertise: socket("10.9.8.7:8300"),
            advertise_wan: socket("10.9.8.7:8300"),
            join: Join {
                at_start: Vec::new(),
                addresses: Vec::new(),
                interval: seconds(30),
                attempts_max: None,
            },
            wan: None,
            gossip: Gossip {
                gossip_interval: Duration::from_millis(200),
                gossip_nodes: 3,
                probe_interval: Duration::from_millis(400),
                probe_timeout: Duration::from_millis(200),
                retransmit_mult: 4,
                suspicion_mult: 2,
                reconnect_timeout: Duration::from_hours(72),
                rejoin_after_leave: false,
            },
            leave: Leave {
                on_terminate: true,
                on_interrupt: true,
                drain: seconds(5),
            },
            node_meta: BTreeMap::new(),
            coordinates: true,
            checks: Checks::default(),
            remote_exec: false,
            definitions: Definitions::default(),
            watches: Vec::new(),
            primary_datacenter: "dc1".to_owned(),
            autopilot: Autopilot {
                cleanup_dead_servers: true,
                last_contact_threshold: Duration::from_millis(200),
                max_trailing_logs: 250,
                min_quorum: 0,
                server_stabilization_time: seconds(10),
            },
            trust: Trust::User,
            dns: Dns {
                listen: vec![socket("127.0.0.1:8600")],
                domain: "consul".to_owned(),
                alt_domain: None,
                recursors: Vec::new(),
                recursor_timeout: seconds(2),
                recursor_strategy: RecursorStrategy::Sequential,
                node_ttl: Duration::ZERO,
                service_ttl: BTreeMap::new(),
                allow_stale: true,
                max_stale: Duration::from_hours(87_600),
                only_passing: false,
                a_record_limit: 0,
                udp_answer_limit: 3,
                enable_truncate: false,
                disable_compression: false,
                additional_node_meta: true,
                soa: Soa {
                    expire: 86_400,
                    min_ttl: 0,
                    refresh: 3600,
                    retry: 600,
                },
                zone: None,
                srv_priority_meta: None,
            },
            telemetry: Telemetry::default(),
            http: Http {
                listen: vec![socket("127.0.0.1:8500")],
                response_headers: Vec::new(),
                max_connections_per_client: Some(200),
                max_connections: Some(16_384),
                max_requests: Some(4096),
                max_blocking_queries: Some(15_000),
                max_body_bytes: Some(256 << 20),
                max_answer_bytes: Some(1 << 30),
                kv_max_value_size: 524_288,
                txn_max_request: 524_288,
                default_query_time: seconds(300),
                max_query_time: seconds(600),
                session_ttl_min: seconds(10),
                allow_unprintable_paths: false,
            },
            snapshots: crate::snapshot::Limits {
                archive_bytes: 4 << 30,
                state_bytes: 16 << 30,
            },
            raft: Raft {
                multiplier: 1,
                rpc_hold_timeout: seconds(7),
                trailing_logs: 10_240,
            },
            log: Log {
                level: LogLevel::Info,
                json: false
            },
        }
    );
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn development_mode() {
    let (config, warnings) = parse("{}", true).unwrap();
    assert!(config.dev && config.server);
    assert_eq!(config.bootstrap, Bootstrap::Alone);
    assert_eq!(config.data_dir, None);
    assert_eq!(config.bind, socket("127.0.0.1:8300"));
    assert_eq!(config.advertise, socket("127.0.0.1:8300"));
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(warnings, [""; 0]);
    let kept = parse(
        r#"{"data_dir": "/nonexistent/x", "bind_addr": "10.0.0.1", "log_level": "warn"}"#,
        true,
    )
    .unwrap()
    .0;
    assert_eq!(kept.data_dir, Some("/nonexistent/x".into()));
    assert_eq!(kept.bind, socket("10.0.0.1:8300"));
    assert_eq!(kept.log.level, LogLevel::Warn);
    for bad in [r#"{"server": false}"#, r#"{"bootstrap_expect": 3}"#] {
        assert!(
            parse(bad, true).unwrap_err().starts_with("-dev starts a "),
            "{bad}"
        );
    }
}

#[test]
fn names_and_places() {
    let config = with(
        r#""node_name": "n-1", "node_id": "8C2A9C44-6c2b-4b0e-9d53-6c1f0f6f2a11", "datacenter": "EU-west_1", "pid_file": "/run/l.pid",
           "bind_addr": "[::1]", "ports": {"server": 18300}, "performance": {"raft_multiplier": 10, "rpc_hold_timeout": "1m"},
           "raft_trailing_logs": 5, "log_level": "Err", "log_json": true"#,
    );
    assert_eq!(config.node_name, "n-1");
    assert_eq!(
        config.node_id.unwrap().to_string(),
        "8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a11"
    );
    assert_eq!(config.datacenter, "eu-west_1");
    assert_eq!(config.pid_file, Some("/run/l.pid".into()));
    assert_eq!(config.bind, socket("[::1]:18300"));
    assert_eq!(config.advertise, socket("[::1]:18300"));
    assert_eq!(
        config.raft,
        Raft {
            multiplier: 10,
            rpc_hold_timeout: Duration::from_mins(1),
            trailing_logs: 5,
        }
    );
    assert_eq!(
        config.log,
        Log {
            level: LogLevel::Error,
            json: true
        }
    );
    assert_eq!(with(r#""node_name": """#).node_name, "testhost");
    assert_eq!(
        with(r#""advertise_addr": "198.51.100.1""#).advertise,
        socket("198.51.100.1:8300")
    );
    assert_eq!(with(r#""advertise_addr": """#).advertise, socket("10.9.8.7:8300"));
}

#[test]
fn the_http_api() {
    let http = |more: &str| with(more).http;
    assert_eq!(
        http(r#""client_addr": "127.0.0.1  10.0.0.1 127.0.0.1""#).listen,
        [socket("127.0.0.1:8500"), socket("10.0.0.1:8500")]
    );
    assert_eq!(http(r#""client_addr": """#).listen, [socket("127.0.0.1:8500")]);
    assert_eq!(
        http(r#""client_addr": "10.0.0.1", "addresses": {"http": "::"}, "ports": {"http": 80}"#).listen,
        [socket("[::]:80")]
    );
    for off in [0, -1] {
        assert_eq!(http(&format!(r#""ports": {{"http": {off}}}"#)).listen, []);
    }
    let tuned = http(
        r#""limits": {"http_max_conns_per_client": 15000, "kv_max_value_size": 1, "txn_max_req_len": 2},
           "default_query_time": "1s", "max_query_time": "2s", "session_ttl_min": "3s", "disable_http_unprintable_char_filter": true,
           "http_config": {"response_headers": {"X-B": "b c", "X-A": ""}}"#,
    );
    assert_eq!(tuned.max_connections_per_client, Some(15000));
    assert_eq!((tuned.kv_max_value_size, tuned.txn_max_request), (1, 2));
    assert_eq!(
        (tuned.default_query_time, tuned.max_query_time),
        (Duration::from_secs(1), Duration::from_secs(2))
    );
    assert_eq!(tuned.session_ttl_min, Duration::from_secs(3));
    assert_eq!(
        http(r#""session_ttl_min": "0s""#).session_ttl_min,
        Duration::from_secs(10)
    );
    assert!(tuned.allow_unprintable_paths);
    assert_eq!(
        tuned.response_headers,
        [
            ("X-A".to_owned(), String::new()),
            ("X-B".to_owned(), "b c".to_owned())
        ]
    );
    assert_eq!(
        http(r#""limits": {"http_max_conns_per_client": 0}"#).max_connections_per_client,
        None
    );
    let limited = http(
        r#""limits": {"http_max_conns": 1, "http_max_requests": 2, "http_max_blocking_queries": 3, "http_max_body_bytes": 4,
                       "http_max_answer_bytes": 0}"#,
    );
    assert_eq!(
        (limited.max_connections, limited.max_requests),
        (Some(1), Some(2))
    );
    assert_eq!(
        (
            limited.max_blocking_queries,
            limited.max_body_bytes,
            limited.max_answer_bytes
        ),
        (Some(3), Some(4), None)
    );
}

#[test]
fn joining() {
    let join = with(r#""retry_join": ["10.0.0.1", "a:9", "10.0.0.1", "[::1]:7"], "retry_interval": "1s", "ports": {"server": 5}"#).join;
    let shown: Vec<_> = join.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.1:5", "a:9", "[::1]:7"]);
    assert_eq!(join.interval, Duration::from_secs(1));
}

#[test]
fn joining_once_or_so_often() {
    let config = with(
        r#""start_join": ["10.0.0.1", "10.0.0.1"], "retry_max": 3, "reconnect_timeout": "9h", "rejoin_after_leave": true"#,
    );
    let shown: Vec<_> = config.join.at_start.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.1:8300"]);
    assert_eq!(config.join.attempts_max, Some(3));
    assert_eq!(config.gossip.reconnect_timeout, Duration::from_hours(9));
    assert!(config.gossip.rejoin_after_leave);
}

#[test]
fn other_data_centers() {
    let wan = with(r#""server": true"#).wan.unwrap();
    assert_eq!(
        wan.gossip,
        Gossip {
            gossip_interval: Duration::from_millis(500),
            gossip_nodes: 4,
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            retransmit_mult: 4,
            suspicion_mult: 6,
            reconnect_timeout: Duration::from_hours(72),
            rejoin_after_leave: false,
        }
    );
    assert_eq!(wan.join.addresses, []);
    let config = with(
        r#""server": true, "start_join_wan": ["a"], "retry_join_wan": ["b:1"], "retry_interval_wan": "2s", "retry_max_wan": 4,
           "reconnect_timeout_wan": "1h", "gossip_wan": {"probe_interval": "9s"}, "ports": {"serf_wan": 8300, "serf_lan": 8300},
           "advertise_addr": "192.0.2.1", "advertise_addr_wan": "192.0.2.2", "primary_datacenter": "DC9""#,
    );
    let wan = config.wan.unwrap();
    let shown = |list: &[JoinAddress]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&wan.join.at_start), ["a:8300"]);
    assert_eq!(shown(&wan.join.addresses), ["b:1"]);
    assert_eq!(wan.join.interval, Duration::from_secs(2));
    assert_eq!(wan.join.attempts_max, Some(4));
    assert_eq!(wan.gossip.reconnect_timeout, Duration::from_hours(1));
    assert_eq!(wan.gossip.probe_interval, Duration::from_secs(9));
    assert_eq!(config.advertise_wan, socket("192.0.2.2:8300"));
    assert_eq!(config.primary_datacenter, "dc9");
    assert_eq!(config.gossip.probe_interval, Duration::from_millis(400));
    assert_eq!(with(r#""server": true, "ports": {"serf_wan": -1}"#).wan, None);
    assert_eq!(with(r#""ports": {"serf_wan": -1}"#).wan, None);
}

#[test]
fn the_timing_of_gossip() {
    let config = with(
        r#""gossip_lan": {"gossip_interval": "1ms", "gossip_nodes": 2, "probe_interval": "3ms", "probe_timeout": "3ms",
                          "retransmit_mult": 5, "suspicion_mult": 6}, "disable_coordinates": true"#,
    );
    assert_eq!(
        config.gossip,
        Gossip {
            gossip_interval: Duration::from_millis(1),
            gossip_nodes: 2,
            probe_interval: Duration::from_millis(3),
            probe_timeout: Duration::from_millis(3),
            retransmit_mult: 5,
            suspicion_mult: 6,
            reconnect_timeout: Duration::from_hours(72),
            rejoin_after_leave: false,
        }
    );
    assert!(!config.coordinates);
}

#[test]
fn leaving() {
    let leave = |more: &str| {
        let leave = with(more).leave;
        (leave.on_terminate, leave.on_interrupt)
    };
    assert_eq!(leave(""), (true, true));
    assert_eq!(leave(r#""server": true"#), (false, false));
    assert_eq!(
        leave(r#""leave_on_terminate": false, "skip_leave_on_interrupt": true"#),
        (false, false)
    );
    assert_eq!(
        leave(r#""server": true, "leave_on_terminate": true, "skip_leave_on_interrupt": false"#),
        (true, true)
    );
    let development = parse("{}", true).unwrap().0.leave;
    assert!(!development.on_terminate && !development.on_interrupt);
    let drained = with(r#""performance": {"leave_drain_time": "0s"}"#);
    assert_eq!(drained.leave.drain, Duration::ZERO);
}

#[test]
fn what_a_node_says_of_itself_and_what_autopilot_begins_with() {
    let config = with(
        r#""node_meta": {"rack": "7", "a_b-C": ""},
           "autopilot": {"cleanup_dead_servers": false, "last_contact_threshold": "1s", "max_trailing_logs": 0,
                         "min_quorum": 3, "server_stabilization_time": "2s"}"#,
    );
    let meta: Vec<_> = config
        .node_meta
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(meta, [("a_b-C", ""), ("rack", "7")]);
    assert_eq!(
        config.autopilot,
        Autopilot {
            cleanup_dead_servers: false,
            last_contact_threshold: Duration::from_secs(1),
            max_trailing_logs: 0,
            min_quorum: 3,
            server_stabilization_time: Duration::from_secs(2),
        }
    );
    let pair = |key: &str, value: &str| refused(&format!(r#""node_meta": {{"{key}": "{value}"}}"#));
    let refusal = |key: &str, value: &str, why: &str| {
        format!("node_meta invalid: Couldn't load metadata pair ('{key}', '{value}'): {why}")
    };
    let (key, value) = ("k".repeat(129), "v".repeat(513));
    for (key, value, why) in [
        ("", "x", "Key cannot be blank"),
        ("a.b", "x", "Key contains invalid characters"),
        (
            "consul-x",
            "x",
            "Key prefix 'consul-' is reserved for internal use",
        ),
        (&key, "x", "Key is too long (limit: 128 characters)"),
        ("k", &value, "Value is too long (limit: 512 characters)"),
    ] {
        assert_eq!(pair(key, value), refusal(key, value, why));
    }
    let many: Vec<_> = (0..65).map(|number| format!(r#""k{number}": """#)).collect();
    assert_eq!(
        refused(&format!(r#""node_meta": {{{}}}"#, many.join(","))),
        "node_meta invalid: Node metadata cannot contain more than 64 key/value pairs"
    );
}

#[test]
fn trusting() {
    let Trust::Shared(key) = with(r#""encrypt": "bGljdG9yLXBlcmYtaGFybmVzcy1rZXktMzItYnl0ZXM=""#).trust
    else {
        panic!("encrypt makes a shared key");
    };
    assert_eq!(key.bytes(), b"lictor-perf-harness-key-32-bytes");
    assert_eq!(format!("{key:?}"), "SharedKey(hidden)");
    assert_eq!(
        with(r#""tls": {"defaults": {"ca_file": "a", "cert_file": "b", "key_file": "c"}}"#).trust,
        Trust::Files {
            ca_file: "a".into(),
            cert_file: "b".into(),
            key_file: "c".into(),
            domain: None
        }
    );
    let named = r#""domain": "Example.ORG.", "tls": {"defaults": {"ca_file": "a", "cert_file": "b", "key_file": "c"}}"#;
    let Trust::Files { domain, .. } = with(named).trust else {
        panic!("tls.defaults makes a trust in files");
    };
    assert_eq!(domain.as_deref(), Some("example.org"));
    assert_eq!(
        with(r#""tls": {"defaults": {}}, "encrypt": """#).trust,
        Trust::User
    );
}

#[test]
fn bootstrapping() {
    let enabled = "bootstrap = true: do not enable unless necessary";
    for (more, bootstrap, warnings) in [
        (r#""server": true"#, Bootstrap::Join, &[][..]),
        (
            r#""server": true, "bootstrap": true"#,
            Bootstrap::Alone,
            &[enabled],
        ),
        (
            r#""server": true, "bootstrap_expect": 1"#,
            Bootstrap::Alone,
            &[
                "BootstrapExpect is set to 1; this is the same as Bootstrap mode.",
                enabled,
            ],
        ),
        (
            r#""server": true, "bootstrap_expect": 2"#,
            Bootstrap::Expect(2),
            &[
                "bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance.",
                "bootstrap_expect > 0: expecting 2 servers",
            ],
        ),
        (
            r#""server": true, "bootstrap_expect": 3"#,
            Bootstrap::Expect(3),
            &["bootstrap_expect > 0: expecting 3 servers"],
        ),
        (
            r#""server": true, "bootstrap_expect": 4"#,
            Bootstrap::Expect(4),
            &[
                "bootstrap_expect is even number: A cluster with an even number of servers does not achieve optimum fault tolerance.",
                "bootstrap_expect > 0: expecting 4 servers",
            ],
        ),
    ] {
        let (config, given) = accepted(more);
        assert_eq!(config.bootstrap, bootstrap, "{more}");
        assert_eq!(given, warnings, "{more}");
    }
    assert_eq!(
        accepted(r#""node_name": "bad name""#).1,
        [
            r#"Node name "bad name" will not be discoverable via DNS due to invalid characters. Valid characters include all alpha-numerics and dashes."#
        ]
    );
}
