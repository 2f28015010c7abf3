//! DNS and metrics.

use super::*;

#[test]
fn every_dns_setting_has_its_place() {
    let dns = with(
        r#""domain": "My.Corp.", "alt_domain": "Other.", "recursors": ["10.0.0.1", "10.0.0.2:5353", "[::1]:53", "::2"],
           "ports": {"dns": 53}, "addresses": {"dns": "127.0.0.1 10.0.0.9"}, "node_meta": {"rack": "r1"},
           "dns_config": {"allow_stale": false, "max_stale": "1m", "node_ttl": "2s", "service_ttl": {"*": "3s", "web": "4s"},
               "only_passing": true, "enable_truncate": true, "disable_compression": true, "enable_additional_node_meta_txt": false,
               "recursor_timeout": "5s", "recursor_strategy": "random", "a_record_limit": 6, "udp_answer_limit": 0, "use_cache": false,
               "soa": {"expire": 7, "min_ttl": 8, "refresh": 9, "retry": 10}, "zone_meta": "rack", "zone_min_instances": 2,
               "srv_priority_meta": "prio"}"#,
    )
    .dns;
    assert_eq!(
        dns,
        Dns {
            listen: vec![socket("127.0.0.1:53"), socket("10.0.0.9:53")],
            domain: "my.corp".to_owned(),
            alt_domain: Some("other".to_owned()),
            recursors: ["10.0.0.1:53", "10.0.0.2:5353", "[::1]:53", "[::2]:53"]
                .map(socket)
                .to_vec(),
            recursor_timeout: Duration::from_secs(5),
            recursor_strategy: RecursorStrategy::Random,
            node_ttl: Duration::from_secs(2),
            service_ttl: [
                ("*".to_owned(), Duration::from_secs(3)),
                ("web".to_owned(), Duration::from_secs(4)),
            ]
            .into(),
            allow_stale: false,
            max_stale: Duration::from_mins(1),
            only_passing: true,
            a_record_limit: 6,
            udp_answer_limit: 0,
            enable_truncate: true,
            disable_compression: true,
            additional_node_meta: false,
            soa: Soa {
                expire: 7,
                min_ttl: 8,
                refresh: 9,
                retry: 10,
            },
            zone: Some(Zone {
                node_meta: "rack".to_owned(),
                name: "r1".to_owned(),
                min_instances: 2,
            }),
            srv_priority_meta: Some("prio".to_owned()),
        }
    );
}

#[test]
fn where_dns_is_served() {
    let at = |more: &str| with(more).dns.listen;
    assert_eq!(
        at(r#""client_addr": "10.0.0.1 127.0.0.1""#),
        [socket("10.0.0.1:8600"), socket("127.0.0.1:8600")]
    );
    for off in [0, -1] {
        assert_eq!(at(&format!(r#""ports": {{"dns": {off}}}"#)), []);
    }
    // TCP of one and UDP of the other do not meet, and neither do two addresses.
    assert_eq!(
        at(r#""bind_addr": "10.0.0.1", "ports": {"dns": 8300}"#),
        [socket("127.0.0.1:8300")]
    );
    assert_eq!(with(r#""alt_domain": """#).dns.alt_domain, None);
}

#[test]
fn metrics() {
    let (config, warnings) = accepted(
        r#""telemetry": {"prometheus_retention_time": "10s", "disable_hostname": true, "metrics_prefix": "lictor",
                          "filter_default": false, "prefix_filter": ["+a.b", "-a", "bad", ""]}"#,
    );
    assert_eq!(
        config.telemetry,
        Telemetry {
            prometheus_retention: Duration::from_secs(10),
            disable_hostname: true,
            prefix: "lictor".to_owned(),
            allowed_prefixes: vec!["a.b".to_owned()],
            blocked_prefixes: vec!["a".to_owned()],
            filter_default: false,
        }
    );
    assert_eq!(
        warnings,
        [
            "Filter rule must begin with either '+' or '-': \"bad\"",
            "Cannot have empty filter rule in prefix_filter"
        ]
    );
}
