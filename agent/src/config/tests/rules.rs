//! Each rule's text.

use super::*;

#[test]
fn broken_rules() {
    for (more, message) in [
        (r#""datacenter": """#, "datacenter cannot be empty"),
        (
            r#""datacenter": "dc.1""#,
            r#"datacenter cannot be "dc.1". Please use only [a-z0-9-_]"#,
        ),
        (r#""data_dir": """#, "data_dir cannot be empty"),
        (
            r#""data_dir": "/proc/version""#,
            r#"data_dir "/proc/version" is not a directory"#,
        ),
        (
            r#""bind_addr": "1.2.3.4 1.2.3.5""#,
            "bind_addr cannot contain multiple addresses. Use 'addresses.{dns,http,https}' instead.",
        ),
        (r#""bind_addr": """#, "bind_addr cannot be empty"),
        (r#""bind_addr": "bogus""#, "bind_addr: invalid ip address: bogus"),
        (
            r#""bind_addr": "::""#,
            "no IPv6 address of this host can be advertised to others; set advertise_addr, or bind_addr to one address",
        ),
        (
            r#""advertise_addr": "0.0.0.0""#,
            "Advertise address cannot be 0.0.0.0, :: or [::]",
        ),
        (
            r#""advertise_addr": "[::]""#,
            "Advertise address cannot be 0.0.0.0, :: or [::]",
        ),
        (
            r#""ports": {"server": 0}"#,
            "ports.server must be between 1 and 65535: every agent needs it",
        ),
        (
            r#""ports": {"server": -1}"#,
            "ports.server must be between 1 and 65535: every agent needs it",
        ),
        (
            r#""server": true, "bootstrap": true, "bootstrap_expect": 3"#,
            "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive",
        ),
        (
            r#""bootstrap": true"#,
            "'bootstrap = true' requires 'server = true'",
        ),
        (
            r#""bootstrap_expect": 1"#,
            "'bootstrap = true' requires 'server = true'",
        ),
        (
            r#""bootstrap_expect": 3"#,
            "'bootstrap_expect > 0' requires 'server = true'",
        ),
        (
            r#""bootstrap_expect": -1"#,
            "bootstrap_expect cannot be -1. Must be greater than or equal to zero",
        ),
        (
            r#""bootstrap_expect": 4294967296"#,
            "bootstrap_expect cannot be 4294967296. Must be at most 4294967295",
        ),
        (
            r#""encrypt": "abc""#,
            "encrypt has invalid key: illegal base64 data at input byte 0; `lictor keygen` makes one",
        ),
        (
            r#""encrypt": "YWJj""#,
            "encrypt has invalid key: key size must be 16, 24 or 32 bytes; `lictor keygen` makes one",
        ),
        (
            r#""encrypt": "YWJj", "tls": {"defaults": {"ca_file": "x"}}"#,
            "encrypt and tls.defaults are mutually exclusive: both say whom to trust. With certificates, remove encrypt",
        ),
        (
            r#""domain": "a..b""#,
            r#"domain cannot be "a..b". Must be a DNS name"#,
        ),
        (r#""domain": """#, r#"domain cannot be "". Must be a DNS name"#),
        (
            r#""tls": {"defaults": {"ca_file": "x", "key_file": ""}}"#,
            "tls.defaults needs ca_file, cert_file and key_file together: cert_file and key_file missing",
        ),
        (
            r#""performance": {"raft_multiplier": 0}"#,
            "performance.raft_multiplier cannot be 0. Must be between 1 and 10",
        ),
        (
            r#""performance": {"raft_multiplier": 20}"#,
            "performance.raft_multiplier cannot be 20. Must be between 1 and 10",
        ),
        (
            r#""performance": {"raft_multiplier": -1}"#,
            "performance.raft_multiplier cannot be -1. Must be between 1 and 10",
        ),
        (
            r#""raft_trailing_logs": -1"#,
            "raft_trailing_logs cannot be -1. Must be greater than or equal to zero",
        ),
        (
            r#""limits": {"http_max_conns_per_client": -1}"#,
            "limits.http_max_conns_per_client cannot be -1. Must be between 1 and 4294967295, or 0 for no limit",
        ),
        (
            r#""log_level": "FOO""#,
            "Invalid log level: FOO. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]",
        ),
        (
            r#""node_id": "x""#,
            "failed to setup node ID: specified NodeID is invalid: uuid string is wrong length",
        ),
        (
            r#""retry_interval": "0s""#,
            "retry_interval cannot be 0s. Must be greater than zero",
        ),
        (
            r#""retry_interval_wan": "0s""#,
            "retry_interval_wan cannot be 0s. Must be greater than zero",
        ),
        (
            r#""reconnect_timeout": "0s""#,
            "reconnect_timeout cannot be 0s. Must be greater than zero",
        ),
        (
            r#""gossip_lan": {"probe_interval": "0s"}"#,
            "gossip_lan.probe_interval cannot be 0s. Must be greater than zero",
        ),
        (
            r#""gossip_wan": {"probe_timeout": "6s"}"#,
            "gossip_wan.probe_timeout cannot be 6s. Must be at most gossip_wan.probe_interval, 5s",
        ),
        (
            r#""retry_max": -1"#,
            "retry_max cannot be -1. Must be between 1 and 4294967295, or 0 for no limit",
        ),
        (
            r#""retry_join_wan": ["a"]"#,
            "'retry_join_wan' requires 'server = true': only servers are members of the WAN pool, and other agents reach other data centers through them",
        ),
        (
            r#""server": true, "start_join_wan": ["a"], "ports": {"serf_wan": -1}"#,
            "'start_join_wan' requires the WAN pool, which 'ports.serf_wan = -1' turns off",
        ),
        (
            r#""ports": {"serf_lan": 8301}"#,
            "ports.serf_lan cannot be 8301: an agent has one port for everything that agents say to each other, ports.server, which is 8300. Leave ports.serf_lan out, or give it the same number",
        ),
        (
            r#""ports": {"serf_wan": 8302}"#,
            "ports.serf_wan cannot be 8302: an agent has one port for everything that agents say to each other, ports.server, which is 8300. Leave ports.serf_wan out, or give it the same number",
        ),
        (
            r#""advertise_addr_wan": "0.0.0.0""#,
            "Advertise WAN address cannot be 0.0.0.0, :: or [::]",
        ),
        (
            r#""primary_datacenter": "a b""#,
            r#"acl_datacenter cannot be "a b". Please use only [a-z0-9-_]"#,
        ),
        (
            r#""autopilot": {"max_trailing_logs": -1}"#,
            "autopilot.max_trailing_logs cannot be -1. Must be greater than or equal to zero",
        ),
        (
            r#""addresses": {"dns": "unix:///x"}"#,
            "DNS address cannot be a unix socket",
        ),
        (
            r#""alt_domain": "a b""#,
            r#"alt_domain cannot be "a b". Must be a DNS name"#,
        ),
        (
            r#""ports": {"dns": 8500}"#,
            "HTTP address 127.0.0.1:8500 already configured for DNS",
        ),
        (
            r#""ports": {"dns": 8300}"#,
            "DNS address 127.0.0.1:8300 already configured for what agents say to each other (ports.server)",
        ),
        (
            r#""dns_config": {"udp_answer_limit": -1}"#,
            "dns_config.udp_answer_limit cannot be -1. Must be greater than or equal to zero",
        ),
        (
            r#""dns_config": {"a_record_limit": 4294967296}"#,
            "dns_config.a_record_limit cannot be 4294967296. Must be at most 4294967295",
        ),
        (
            r#""dns_config": {"recursor_strategy": "clever"}"#,
            r#"dns_config.recursor_strategy must be one of [sequential random], and is "clever""#,
        ),
        (
            r#""dns_config": {"recursor_timeout": "0s"}"#,
            "dns_config.recursor_timeout cannot be 0. Must be greater than zero",
        ),
        (
            r#""dns_config": {"zone_meta": "zone"}"#,
            r#"dns_config.zone_meta is "zone", and node_meta does not say which zone this node is in: set node_meta.zone"#,
        ),
        (
            r#""dns_config": {"zone_min_instances": 1}"#,
            "dns_config.zone_min_instances needs dns_config.zone_meta: the key of node_meta that names a node's zone",
        ),
        (
            r#""node_meta": {"zone": "a"}, "dns_config": {"zone_meta": "zone", "zone_min_instances": 0}"#,
            "dns_config.zone_min_instances cannot be 0. Must be between 1 and 4294967295",
        ),
        (
            r#""check_output_max_size": 0"#,
            "check_output_max_size must be positive, to discard check output use the discard_check_output flag",
        ),
        (
            r#""check_output_max_size": -1"#,
            "check_output_max_size must be positive, to discard check output use the discard_check_output flag",
        ),
        (
            r#""check_output_max_size": 65537"#,
            "check_output_max_size cannot be 65537. Must be at most 65536",
        ),
        (
            r#""node_name": "a\nb""#,
            r#"node_name "a\nb" contains control characters"#,
        ),
    ] {
        assert_eq!(refused(more), message);
    }
    let long = "n".repeat(256);
    assert_eq!(
        refused(&format!(r#""node_name": "{long}""#)),
        "node_name is 256 bytes long. At most 255 are allowed"
    );
    assert_eq!(
        refused(&format!(r#""datacenter": "{long}""#)),
        "datacenter is 256 bytes long. At most 63 are allowed"
    );
    let not_hex = "z".repeat(36);
    assert!(
        refused(&format!(r#""node_id": "{not_hex}""#))
            .starts_with("failed to setup node ID: specified NodeID is invalid: not a UUID")
    );
    assert_eq!(parse("{}", false).unwrap_err(), "data_dir cannot be empty");
}

#[test]
fn values_that_cannot_be_read_are_listed_together() {
    for (more, problem) in [
        (r#""ports": {"http": 99999}"#, "ports.http: invalid port: 99999"),
        (
            r#""ports": {"server": 65536}"#,
            "ports.server: invalid port: 65536",
        ),
        (
            r#""client_addr": "bogus""#,
            "client_addr: invalid ip address: bogus",
        ),
        (
            r#""client_addr": "unix:///x""#,
            "client_addr cannot be a unix socket",
        ),
        (
            r#""addresses": {"http": "bogus"}"#,
            "addresses.http: invalid ip address: bogus",
        ),
        (
            r#""addresses": {"http": "unix:///x"}"#,
            "addresses.http: unix sockets are not supported yet",
        ),
        (
            r#""advertise_addr": "bogus""#,
            "advertise_addr: invalid ip address: bogus",
        ),
        (
            r#""advertise_addr": "1.2.3.4 5.6.7.8""#,
            "advertise_addr: multiple addresses found: 1.2.3.4 5.6.7.8",
        ),
        (
            r#""client_addr": "{{ GetPrivateIP }}""#,
            "client_addr: address templates are not supported yet: {{ GetPrivateIP }}; write the address itself",
        ),
        (
            r#""default_query_time": "x""#,
            r#"default_query_time: invalid duration: "x": time: invalid duration "x""#,
        ),
        (
            r#""max_query_time": "1q""#,
            r#"max_query_time: invalid duration: "1q": time: unknown unit "q" in duration "1q""#,
        ),
        (
            r#""retry_interval": """#,
            r#"retry_interval: invalid duration: "": time: invalid duration """#,
        ),
        (
            r#""retry_interval": "-1s""#,
            r#"retry_interval: invalid duration: "-1s": time: negative duration "-1s""#,
        ),
        (
            r#""performance": {"rpc_hold_timeout": "10"}"#,
            r#"performance.rpc_hold_timeout: invalid duration: "10": time: missing unit in duration "10""#,
        ),
        (
            r#""retry_join": ["provider=aws tag_key=x"]"#,
            r#"retry_join: "provider=aws tag_key=x" is not supported yet: finding servers through a cloud provider comes later; name addresses"#,
        ),
        (
            r#""start_join_wan": ["a:b:c"]"#,
            r#"start_join_wan: invalid port in "a:b:c""#,
        ),
        (
            r#""advertise_addr_wan": "bogus""#,
            "advertise_addr_wan: invalid ip address: bogus",
        ),
        (
            r#""gossip_lan": {"gossip_nodes": 0}"#,
            "gossip_lan.gossip_nodes cannot be 0. Must be between 1 and 100",
        ),
        (
            r#""gossip_wan": {"suspicion_mult": 101}"#,
            "gossip_wan.suspicion_mult cannot be 101. Must be between 1 and 100",
        ),
        (
            r#""autopilot": {"last_contact_threshold": "x"}"#,
            r#"autopilot.last_contact_threshold: invalid duration: "x": time: invalid duration "x""#,
        ),
        (
            r#""check_update_interval": "x""#,
            r#"check_update_interval: invalid duration: "x": time: invalid duration "x""#,
        ),
        (
            r#""service": {"name": "x", "check": {"ttl": "10"}}"#,
            r#"check[].ttl: invalid duration: "10": time: missing unit in duration "10""#,
        ),
        (
            r#""check": {"name": "x", "deregister_critical_service_after": "-1m"}"#,
            r#"check[].deregister_critical_service_after: invalid duration: "-1m": time: negative duration "-1m""#,
        ),
        (
            r#""service": {"name": "x", "connect": {"sidecar_service": {"check": {"interval": "x"}}}}"#,
            r#"check[].interval: invalid duration: "x": time: invalid duration "x""#,
        ),
        (
            r#""dns_config": {"service_ttl": {"*": "x"}}"#,
            r#"dns_config.service_ttl["*"]: invalid duration: "x": time: invalid duration "x""#,
        ),
        (
            r#""dns_config": {"node_ttl": "1q"}"#,
            r#"dns_config.node_ttl: invalid duration: "1q": time: unknown unit "q" in duration "1q""#,
        ),
        (
            r#""addresses": {"dns": "bogus"}"#,
            "addresses.dns: invalid ip address: bogus",
        ),
        (r#""recursors": ["name"]"#, "recursors: invalid ip address: name"),
        (
            r#""recursors": ["1.2.3.4:0"]"#,
            "recursors: invalid port: 1.2.3.4:0",
        ),
        (
            r#""telemetry": {"prometheus_retention_time": "x"}"#,
            r#"telemetry.prometheus_retention_time: invalid duration: "x": time: invalid duration "x""#,
        ),
        (
            r#""retry_join": [""]"#,
            r#"retry_join: "" is neither an IP address nor a host name, with or without a port"#,
        ),
        (
            r#""http_config": {"response_headers": {"a b": "c"}}"#,
            r#"http_config.response_headers: invalid header name: "a b""#,
        ),
        (
            r#""http_config": {"response_headers": {"a": "c\r\nd"}}"#,
            r#"http_config.response_headers[a]: invalid header value: "c\r\nd""#,
        ),
    ] {
        assert_eq!(refused(more), format!("1 error occurred:\n\t* {problem}"));
    }
    assert_eq!(
        refused(r#""ports": {"http": 99999}, "default_query_time": "x""#),
        "2 errors occurred:\n\t* ports.http: invalid port: 99999\n\t* default_query_time: invalid duration: \"x\": time: invalid duration \"x\""
    );
    let many = vec![r#""a""#; 1025].join(",");
    assert!(refused(&format!(r#""retry_join": [{many}]"#)).contains("1025 entries; at most 1024"));
    let many = vec![r#""1.2.3.4""#; 33].join(",");
    assert!(refused(&format!(r#""recursors": [{many}]"#)).contains("33 entries; at most 32"));
}
