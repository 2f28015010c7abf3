//! What runs on the agent: services, checks, and how checks are run.

use std::sync::Arc;

use lictor_catalog::{ServiceAddress, Status, Weights};
use lictor_local::{CheckMethod, CheckSpec, Probe, ProbeTls, Thresholds};

use super::*;

fn checks(more: &str) -> Vec<CheckSpec> {
    with(more).definitions.checks
}

fn probe(check: &CheckSpec) -> (&Probe, Duration, Option<Duration>) {
    let CheckMethod::Probe {
        probe,
        interval,
        timeout,
    } = &check.method
    else {
        panic!("{check:?} does not look for itself")
    };
    (probe, *interval, *timeout)
}

#[test]
fn a_service_with_everything() {
    let services = with(
        r#""service": {"name": "web", "id": "w1", "address": "web.example", "port": 80, "tags": ["b", "a"], "meta": {"k": "v"},
            "tagged_addresses": {"lan": {"address": "10.0.0.1", "port": 81}}, "enable_tag_override": true,
            "weights": {"passing": 3, "warning": 2}, "token": "secret",
            "check": {"ttl": "1m", "notes": "single"},
            "checks": [{"id": "c1", "name": "first", "http": "http://localhost/", "interval": "5s"}]}"#,
    )
    .definitions
    .services;
    let [service] = &services[..] else {
        panic!("one service, not {services:?}")
    };
    let def = &service.def;
    assert_eq!(
        (&*def.name, &*def.id, &*def.address, def.port),
        ("web", "w1", "web.example", 80)
    );
    let tags: Vec<&str> = def.tags.iter().map(|tag| &**tag).collect();
    assert_eq!(tags, ["b", "a"]);
    assert_eq!(def.meta.get("k").map(|value| &**value), Some("v"));
    assert_eq!(
        def.tagged_addresses.get("lan"),
        Some(&ServiceAddress {
            address: "10.0.0.1".into(),
            port: 81
        })
    );
    assert!(def.enable_tag_override);
    assert_eq!(
        def.weights,
        Weights {
            passing: 3,
            warning: 2
        }
    );
    assert_eq!(&*service.token, "secret");
    // The single one comes last, as its number says.
    let notes: Vec<_> = service
        .checks
        .iter()
        .map(|check| (&*check.id, &*check.notes))
        .collect();
    assert_eq!(notes, [("c1", ""), ("", "single")]);
}

#[test]
fn one_several_and_in_several_places() {
    let definitions = with(
        r#""service": {"Name": "a"}, "services": [{"name": "b"}, {"name": "c"}], "check": {"name": "d", "ttl": "1s"},
           "CHECKS": [{"name": "e", "ttl": "1s"}, {"id": "f", "ttl": "1s", "service_id": "a", "token": "t"}]"#,
    )
    .definitions;
    let names: Vec<_> = definitions
        .services
        .iter()
        .map(|service| &*service.def.name)
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    let names: Vec<_> = definitions
        .checks
        .iter()
        .map(|check| (&*check.id, &*check.name))
        .collect();
    assert_eq!(names, [("", "d"), ("", "e"), ("f", "f")]);
    assert_eq!(
        (&*definitions.checks[2].service_id, &*definitions.checks[2].token),
        ("a", "t")
    );
    assert_eq!(
        with(r#""services": null, "service": null, "check": null"#).definitions,
        Definitions::default()
    );
}

#[test]
fn every_way_to_check() {
    let tls = ProbeTls {
        skip_verify: true,
        server_name: "name".to_owned(),
    };
    let seconds = Duration::from_secs;
    for (more, expected, timeout) in [
        (
            r#""args": ["true", "x"], "timeout": "2s""#,
            Probe::Script {
                args: vec!["true".to_owned(), "x".to_owned()],
            },
            Some(seconds(2)),
        ),
        (
            r#""ScriptArgs": ["a"], "docker_container_id": "c", "shell": "/bin/sh""#,
            Probe::Docker {
                container: "c".to_owned(),
                shell: "/bin/sh".to_owned(),
                args: vec!["a".to_owned()],
            },
            None,
        ),
        (
            r#""http": "https://a/", "method": "PUT", "body": "b", "header": {"H": ["1", "2"]}, "disable_redirects": true,
               "tls_skip_verify": true, "tls_server_name": "name""#,
            Probe::Http {
                url: "https://a/".to_owned(),
                method: "PUT".to_owned(),
                headers: vec![("H".to_owned(), vec!["1".to_owned(), "2".to_owned()])],
                body: "b".to_owned(),
                disable_redirects: true,
                tls: tls.clone(),
            },
            None,
        ),
        (
            r#""tcp": "a:1", "tcp_use_tls": true, "TLSSkipVerify": true, "tls_server_name": "name""#,
            Probe::Tcp {
                address: "a:1".to_owned(),
                tls: Some(tls),
            },
            None,
        ),
        (
            r#""udp": "a:1""#,
            Probe::Udp {
                address: "a:1".to_owned(),
            },
            None,
        ),
        (
            r#""grpc": "a:1/x", "grpc_use_tls": true"#,
            Probe::Grpc {
                target: "a:1/x".to_owned(),
                tls: Some(ProbeTls::default()),
            },
            None,
        ),
        (
            r#""h2ping": "a:1", "h2ping_use_tls": false"#,
            Probe::H2Ping {
                address: "a:1".to_owned(),
                tls: None,
            },
            None,
        ),
    ] {
        let check = &checks(&format!(
            r#""enable_local_script_checks": true, "check": {{"name": "x", "interval": "5s", {more}}}"#
        ))[0];
        assert_eq!(probe(check), (&expected, seconds(5), timeout), "{more}");
    }
    let alias = &checks(r#""check": {"name": "x", "alias_node": "n", "alias_service": "s"}"#)[0];
    assert_eq!(
        alias.method,
        CheckMethod::Alias {
            node: "n".into(),
            service: "s".into()
        }
    );
    let told = &checks(
        r#""check": {"name": "x", "ttl": "1m", "status": "passing", "notes": "n", "success_before_passing": 2,
            "failures_before_critical": 4, "failures_before_warning": 3, "output_max_size": 7,
            "DeregisterCriticalServiceAfter": "90m", "serviceid": "s"}"#,
    )[0];
    assert_eq!(
        *told,
        CheckSpec {
            name: "x".into(),
            notes: "n".into(),
            service_id: "s".into(),
            status: Some(Status::Passing),
            method: CheckMethod::Ttl(Duration::from_mins(1)),
            thresholds: Thresholds {
                success_before_passing: 2,
                failures_before_warning: Some(3),
                failures_before_critical: 4,
            },
            deregister_after: Duration::from_mins(90),
            output_max: 7,
            ..CheckSpec::default()
        }
    );
}

#[test]
fn a_part_in_the_mesh() {
    let services = with(
        r#""services": [
            {"name": "n", "connect": {"native": true}},
            {"name": "p", "kind": "connect-proxy", "port": 1, "proxy": {"destination_service_name": "d", "config": {"z": 1, "a": [2]},
                "upstreams": [{"destination_name": "u", "local_bind_port": 7}], "mesh_gateway": {"mode": "local"},
                "expose": {"checks": true, "paths": [{"path": "/p", "listener_port": 2, "local_path_port": 3, "protocol": "http"}]}}},
            {"name": "s", "port": 80, "connect": {"sidecar_service": {"check": {"ttl": "1s"}}}},
            {"name": "t", "connect": {"sidecar_service": {}}}]"#,
    )
    .definitions
    .services;
    let names: Vec<_> = services.iter().map(|service| &*service.def.name).collect();
    assert_eq!(names, ["n", "p", "s", "s-sidecar-proxy", "t", "t-sidecar-proxy"]);
    assert!(
        services[0]
            .def
            .connect
            .as_ref()
            .is_some_and(|connect| connect.native)
    );
    let proxy = Arc::clone(services[1].def.connect.as_ref().unwrap());
    assert_eq!(&*proxy.destination, "d");
    let described: serde_json::Value = serde_json::from_str(&proxy.proxy).unwrap();
    assert_eq!(described["Upstreams"][0]["DestinationName"], "u");
    assert_eq!(described["Upstreams"][0]["LocalBindPort"], 7);
    assert_eq!(described["MeshGateway"]["Mode"], "local");
    assert_eq!(described["Expose"]["Paths"][0]["ListenerPort"], 2);
    assert_eq!(described["Config"], serde_json::json!({"a": [2], "z": 1}));
    let ports: Vec<_> = services.iter().map(|service| service.def.port).collect();
    assert_eq!(ports, [0, 1, 80, 21_000, 0, 21_001]);
    assert_eq!((services[3].checks.len(), services[5].checks.len()), (1, 2));
}

#[test]
fn definitions_that_make_no_sense() {
    let scripts = "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true";
    for (more, problem) in [
        (
            r#""service": {"id": "a"}"#,
            r#"Failed to register service "": Service name missing"#.to_owned(),
        ),
        (
            r#""service": {"name": "x", "address": "0.0.0.0"}"#,
            r#"Failed to register service "x": Invalid service address"#.to_owned(),
        ),
        (
            r#""service": {"name": "x", "port": 99999}"#,
            r#"Failed to register service "x": a port must be in 0 to 65535, and one is 99999"#.to_owned(),
        ),
        (
            r#""service": {"name": "x", "meta": {"a.b": "c"}}"#,
            "invalid meta for service x: Couldn't load metadata pair ('a.b', 'c'): Key contains invalid characters"
                .to_owned(),
        ),
        (
            r#""service": {"name": "x", "weights": {"passing": 0}}"#,
            "Invalid weight definition for service x: Passing must be greater than 0".to_owned(),
        ),
        (
            r#""service": {"name": "x", "weights": {"passing": 1, "warning": -1}}"#,
            "Invalid weight definition for service x: Warning must be greater or equal than 0".to_owned(),
        ),
        (
            r#""service": {"name": "x", "weights": {"passing": 70000}}"#,
            "Invalid weight definition for service x: DNS Weight must be between 0 and 65535".to_owned(),
        ),
        (
            r#""service": {"name": "x", "check": {}}"#,
            r#"Failed to validate checks for service "x": TTL must be > 0 for TTL checks"#.to_owned(),
        ),
        (
            r#""service": {"name": "x", "checks": [{"http": "http://a"}]}"#,
            r#"Failed to validate checks for service "x": Interval must be > 0 for Script, HTTP, or TCP checks"#.to_owned(),
        ),
        (
            r#""service": {"name": "x", "check": {"args": ["a"], "interval": "5s"}}"#,
            format!("Failed to register service \"x\": {scripts}"),
        ),
        (
            r#""check": {"name": "x", "args": ["a"], "interval": "5s"}"#,
            format!("Failed to register check 'x': {scripts}"),
        ),
        (
            r#""check": {}"#,
            "Failed to register check '': Check is not valid: TTL must be > 0 for TTL checks".to_owned(),
        ),
        (
            r#""check": {"ttl": "5s"}"#,
            "Failed to register check '': CheckID missing".to_owned(),
        ),
        (
            r#""check": {"id": "x", "interval": "10s"}"#,
            "Failed to register check 'x': Check is not valid: TTL must be > 0 for TTL checks".to_owned(),
        ),
        (
            r#""check": {"name": "x", "interval": "10s", "ttl": "5s"}"#,
            "Failed to register check 'x': Check is not valid: Interval and TTL cannot both be specified".to_owned(),
        ),
        (
            r#""check": {"name": "x", "http": "http://a", "interval": "1s", "output_max_size": -1}"#,
            "Failed to register check 'x': Check is not valid: MaxOutputMaxSize must be positive".to_owned(),
        ),
        (
            r#""check": {"name": "x", "ttl": "5s", "status": "bogus"}"#,
            "Failed to register check 'x': Check is not valid: Status for checks must 'passing', 'warning', 'critical'"
                .to_owned(),
        ),
    ] {
        assert_eq!(refused(more), format!("1 error occurred:\n\t* {problem}"), "{more}");
    }
    let mesh = r#"{"name": "x", "kind": "connect-proxy"}"#;
    let in_mesh = "service \"x\": 2 errors occurred:\n\t* Proxy.DestinationServiceName must be non-empty for Connect proxy services\n\t* Port must be set for a Connect proxy";
    assert_eq!(refused(&format!(r#""service": {mesh}"#)), in_mesh);
    assert_eq!(
        refused(&format!(r#""services": [{mesh}, {{"id": "y"}}]"#)),
        format!(
            "2 errors occurred:\n\t* {in_mesh}\n\t* Failed to register service \"\": Service name missing"
        )
    );
    assert_eq!(
        refused(r#""services": [{"name": "x", "check": {}}, {"name": "y"}], "check": {"ttl": "5s"}"#),
        "2 errors occurred:\n\t* Failed to validate checks for service \"x\": TTL must be > 0 for TTL checks\n\t* Failed to register check '': CheckID missing"
    );
}

#[test]
fn what_is_allowed_and_unlikely_to_be_meant() {
    let (config, warnings) = accepted(
        r#""services": [{"name": "bad name"}, {"name": "a"}, {"name": "b", "id": "A"}], "enable_script_checks": true"#,
    );
    let names: Vec<&str> = config
        .definitions
        .services
        .iter()
        .map(|service| &*service.def.name)
        .collect();
    assert_eq!(names, ["bad name", "b"]);
    assert_eq!(
        warnings,
        [
            "using enable-script-checks without ACLs and without allow_write_http_from is DANGEROUS, use enable-local-script-checks instead",
            "Service \"a\" is defined more than once; the last definition counts",
            "Service name \"bad name\" will not be discoverable via DNS due to invalid characters. Valid characters include all alpha-numerics and dashes.",
        ]
    );
}

#[test]
fn commands_of_others_are_carried_out_only_if_that_is_said_and_with_a_warning() {
    for (more, wanted) in [
        ("", false),
        (r#""disable_remote_exec": true"#, false),
        (r#""disable_remote_exec": false"#, true),
    ] {
        let (config, warnings) = accepted(more);
        assert_eq!(config.remote_exec, wanted, "{more}");
        let dangerous = warnings.iter().filter(|text| text.contains("is DANGEROUS"));
        assert_eq!(dangerous.count(), usize::from(wanted), "{more}");
    }
}

#[test]
fn how_checks_are_run() {
    let script = r#""check": {"name": "x", "args": ["a"], "interval": "5s"}"#;
    let everywhere = with(&format!(r#""enable_script_checks": true, {script}"#));
    assert!(everywhere.checks.scripts_from_api);
    assert_eq!(everywhere.definitions.checks.len(), 1);
    let in_files = with(&format!(r#""enable_local_script_checks": true, {script}"#));
    assert!(!in_files.checks.scripts_from_api);
    assert_eq!(in_files.definitions.checks.len(), 1);
    assert_eq!(
        with(
            r#""check_update_interval": "0s", "check_output_max_size": 10, "discard_check_output": true, "enable_script_checks": false"#
        )
        .checks,
        Checks {
            scripts_from_api: false,
            update_interval: Duration::ZERO,
            output_max: 10,
            discard_output: true,
        }
    );
}

#[test]
fn services_alone_can_be_read_from_files_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_services(std::slice::from_ref(&path)).map_err(|error| error.to_string())
    };
    let (services, warnings) = read(
        r#"{"node_name": "n", "service": {"id": "q", "check": {"id": "c", "interval": "5s", "args": ["a"]}}, "check": {"ttl": "10"}}"#,
    )
    .unwrap();
    assert!(warnings.is_empty());
    assert_eq!(
        serde_json::Value::from(services[0].clone()),
        serde_json::json!({"ID": "q", "Checks": [{"CheckID": "c", "Interval": "5s", "Args": ["a"]}]})
    );
    assert_eq!(
        read(r#"{"check": {"name": "a", "ttl": "5s"}}"#).unwrap().0.len(),
        0
    );
    assert_eq!(
        read(r#"{"service": {"name": "a", "check": {"ttl": "10"}}}"#).unwrap_err(),
        "1 error occurred:\n\t* check[].ttl: invalid duration: \"10\": time: missing unit in duration \"10\""
    );
    assert!(
        read(r#"{"service": {"bogus": 1}}"#)
            .unwrap_err()
            .ends_with("invalid config key service.bogus")
    );
}
