//! Checks of this agent, and how well its services are.

use std::time::Duration;

use lictor_catalog::Status;
use lictor_local::{CheckMethod, Probe, ProbeTls, Thresholds};
use serde_json::{Value, json};

use crate::support::{Response, Site};

const SCRIPTS: &str = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true";

fn register(site: &Site, body: &Value) -> Response {
    site.ask(&format!("PUT /v1/agent/check/register\n\n{body}"))
}

fn register_service(site: &Site, body: &Value, query: &str) -> Response {
    site.ask(&format!("PUT /v1/agent/service/register{query}\n\n{body}"))
}

#[track_caller]
fn put(site: &Site, target: &str) {
    site.ask(&format!("PUT /v1/agent/{target}")).assert_text(200, "");
}

/// The checks by their ids, each as `status output type`.
#[track_caller]
fn checks(site: &Site) -> Vec<String> {
    let response = site.ask("GET /v1/agent/checks");
    let checks: Value = serde_json::from_str(response.text()).unwrap();
    let checks = checks.as_object().unwrap().iter();
    checks
        .map(|(id, check)| {
            assert_eq!(check["CheckID"], **id);
            let [status, output, kind] =
                ["Status", "Output", "Type"].map(|name| check[name].as_str().unwrap());
            format!("{id} {status} {output} {kind}")
        })
        .collect()
}

#[test]
fn a_check_of_the_node() {
    let site = Site::new();
    let body =
        json!({"name": "b", "ID": "bb", "ttl": "5s", "NOTES": "n<", "Status": "warning", "Token": "t"});
    register(&site, &body).assert_is("HTTP/1.1 200 OK\nContent-Length: 0\nVary: Accept-Encoding\n\n");
    site.ask("GET /v1/agent/checks?filter=Name==b").assert_text(
        200,
        concat!(
            r#"{"bb":{"Node":"n1","CheckID":"bb","Name":"b","Status":"warning","Notes":"n\u003c","Output":"","ServiceID":"","#,
            r#""ServiceName":"","ServiceTags":[],"Type":"ttl","Definition":{},"CreateIndex":0,"ModifyIndex":0}}"#
        ),
    );
    assert_eq!(&*site.memory.running.check("bb").token, "t");
    site.ask("GET /v1/agent/checks?filter=Name==c")
        .assert_text(200, "{}");
    site.ask("GET /v1/agent/checks?filter=Bogus==1").assert_text(
        500,
        "Failed to create boolean expression evaluator: Selector \"Bogus\" is not valid",
    );
    put(&site, "check/deregister/bb");
    put(&site, "check/deregister/bb");
    site.ask("GET /v1/agent/checks").assert_text(200, "{}");
    site.ask("PUT /v1/agent/check/deregister/")
        .assert_text(500, "CheckID missing");
}

#[test]
fn checks_that_make_no_sense() {
    let site = Site::new();
    let refused = |status: u16, body: Value, text: &str| {
        register(&site, &body).assert_text(status, text);
    };
    refused(400, json!(null), "Missing check name");
    refused(400, json!({"Status": "foo"}), "Missing check name");
    refused(400, json!({"Name": "a", "Status": "Passing"}), "Bad check status");
    refused(
        400,
        json!({"Name": "a", "Status": "maint", "HTTP": "x"}),
        "Bad check status",
    );
    refused(
        500,
        json!({"Name": "a", "TTL": "5s", "ServiceID": "no\"pe"}),
        "ServiceID \"no\\\"pe\" does not exist",
    );
    refused(
        500,
        json!({"Name": "a", "Args": ["ls"], "Interval": "5s", "service_id": "x"}),
        "ServiceID \"x\" does not exist",
    );
    for args in ["Args", "args", "ScriptArgs", "script_args"] {
        refused(500, json!({"Name": "a", args: ["ls"], "Interval": "5s"}), SCRIPTS);
    }
    refused(
        500,
        json!({"Name": "a", "docker_container_id": "x", "Args": ["x"], "Interval": "5s"}),
        SCRIPTS,
    );
    for (body, text) in [
        (json!({}), "TTL must be > 0 for TTL checks"),
        (json!({"TTL": "-5s"}), "TTL must be > 0 for TTL checks"),
        (json!({"TTL": -5}), "TTL must be > 0 for TTL checks"),
        (json!({"Interval": "5s"}), "TTL must be > 0 for TTL checks"),
        (
            json!({"DockerContainerID": "x", "Shell": "sh", "Interval": "5s"}),
            "TTL must be > 0 for TTL checks",
        ),
        (
            json!({"HTTP": "http://x"}),
            "Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            json!({"GRPC": "x", "Interval": "-1s"}),
            "Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            json!({"Args": ["ls"], "TTL": "5s"}),
            "Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            json!({"UDP": "x:1"}),
            "Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            json!({"H2PING": "x:1"}),
            "Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            json!({"HTTP": "x", "TTL": "5s", "Interval": "5s"}),
            "Interval and TTL cannot both be specified",
        ),
        (
            json!({"AliasNode": "x", "HTTP": "x", "Interval": "5s"}),
            "Interval cannot be set for Alias checks",
        ),
        (
            json!({"AliasService": "x", "TTL": "5s"}),
            "TTL must be not be set for Alias checks",
        ),
        (
            json!({"TTL": "5s", "OutputMaxSize": -1}),
            "MaxOutputMaxSize must be positive",
        ),
    ] {
        let mut alone = body.clone();
        alone["Name"] = "a".into();
        refused(400, alone, &format!("Invalid check: {text}"));
        let with_name = json!({"Name": "x", "Checks": [body]});
        register_service(&site, &with_name, "").assert_text(400, &format!("Invalid check: {text}"));
    }
    for ttl in ["-5s".into(), Value::from(-1)] {
        let body = json!({"Name": "x", "Check": {"TTL": ttl}});
        register_service(&site, &body, "").assert_text(400, "Invalid check: TTL must be > 0 for TTL checks");
    }
    let body = json!({"Name": "x", "Check": {"TTL": "5s", "Status": "foo"}});
    register_service(&site, &body, "")
        .assert_text(400, "Status for checks must 'passing', 'warning', 'critical'");
    let body = json!({"Name": "x", "Check": {"Args": ["ls"], "Interval": "5s"}});
    register_service(&site, &body, "").assert_text(500, SCRIPTS);
    let body = json!({"Name": "x", "Checks": [{"TTL": "5s", "CheckID": "a"}, {"TTL": "5s", "CheckID": "A"}]});
    register_service(&site, &body, "").assert_text(400, "Invalid check: two checks have the ID \"A\"");
    let body = json!({"Name": "a", "TTL": "5s", "FailuresBeforeWarning": 3, "FailuresBeforeCritical": 2});
    register(&site, &body).assert_text(
        400,
        "FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
    );
    assert_eq!(site.memory.running.take_changes(), []);
}

#[test]
fn checks_that_cannot_be_read() {
    let site = Site::new();
    for (body, text) in [
        ("", "EOF"),
        (r#"{"Name":"#, "unexpected EOF"),
        (
            r#"{"CheckID":"a","Name":"a","TTL":"5s"}"#,
            r#"json: unknown field "CheckID""#,
        ),
        (r#"{"Name":"a","Script":"ls"}"#, r#"json: unknown field "Script""#),
        (r#"{"Name":"a","Node":"x"}"#, r#"json: unknown field "Node""#),
        (r#"{"Name":"a","Type":"ttl"}"#, r#"json: unknown field "Type""#),
        (
            r#"{"Name":"a","OSService":"x"}"#,
            r#"json: unknown field "OSService""#,
        ),
        (
            r#"{"Name":5}"#,
            "json: cannot unmarshal number into Go struct field .Name of type string",
        ),
        (
            r#"{"Name":"a","Header":{"a":"b"}}"#,
            "json: cannot unmarshal string into Go struct field .Header of type []string",
        ),
        (
            r#"{"Name":"a","TTL":"1e10"}"#,
            r#"time: unknown unit "e" in duration "1e10""#,
        ),
        (r#"{"Name":"a","TTL":""}"#, r#"time: invalid duration """#),
        (
            r#"{"Name":"a","TTL":"5s","Timeout":"x"}"#,
            r#"time: invalid duration "x""#,
        ),
        (
            r#"{"Name":"a","TTL":"5s","deregister_critical_service_after":"x"}"#,
            r#"time: invalid duration "x""#,
        ),
    ] {
        site.ask(&format!("PUT /v1/agent/check/register\n\n{body}"))
            .assert_text(400, &format!("Request decode failed: {text}"));
    }
}

/// How the check is done that a body describes.
#[track_caller]
fn method(body: Value) -> CheckMethod {
    let site = Site::new();
    let mut body = body;
    body["Name"] = "c".into();
    register(&site, &body).assert_text(200, "");
    site.memory.running.check("c").method
}

#[test]
fn ways_to_check() {
    let probe = |body: Value| match method(body) {
        CheckMethod::Probe {
            probe,
            interval,
            timeout,
        } => {
            assert_eq!(
                (interval, timeout),
                (Duration::from_secs(10), Some(Duration::from_secs(3)))
            );
            Probe::clone(&probe)
        }
        other @ (CheckMethod::Ttl(_) | CheckMethod::Alias { .. } | CheckMethod::Maintenance) => {
            panic!("{other:?}")
        }
    };
    let often = |mut body: Value| {
        body["Interval"] = "10s".into();
        body["Timeout"] = 3_000_000_000_u64.into();
        probe(body)
    };
    let tls = ProbeTls {
        skip_verify: true,
        server_name: "n".to_owned(),
    };
    assert_eq!(
        method(json!({"TTL": 5_000_000_000_u64})),
        CheckMethod::Ttl(Duration::from_secs(5))
    );
    assert_eq!(
        method(json!({"AliasNode": "n2", "AliasService": "web", "Interval": "5s"})),
        CheckMethod::Alias {
            node: "n2".into(),
            service: "web".into()
        }
    );
    assert_eq!(
        often(json!({
            "HTTP": "http://x", "TCP": "x:1", "GRPC": "x:2", "Method": "POST", "Body": "b", "Header": {"a": ["b", "c"]},
            "DisableRedirects": true, "TLSServerName": "n", "tls_skip_verify": true,
        })),
        Probe::Http {
            url: "http://x".to_owned(),
            method: "POST".to_owned(),
            headers: vec![("a".to_owned(), vec!["b".to_owned(), "c".to_owned()])],
            body: "b".to_owned(),
            disable_redirects: true,
            tls: tls.clone(),
        }
    );
    assert_eq!(
        often(json!({"TCP": "x:1", "GRPC": "x:2", "Args": []})),
        Probe::Tcp {
            address: "x:1".to_owned(),
            tls: None
        }
    );
    assert_eq!(
        often(json!({"TCP": "x:1", "TCPUseTLS": true, "TLSServerName": "n", "TLSSkipVerify": true})),
        Probe::Tcp {
            address: "x:1".to_owned(),
            tls: Some(tls.clone())
        }
    );
    assert_eq!(
        often(json!({"UDP": "x:1"})),
        Probe::Udp {
            address: "x:1".to_owned()
        }
    );
    assert_eq!(
        often(json!({"GRPC": "x:2/s", "GRPCUseTLS": true, "TLSServerName": "n", "TLSSkipVerify": true})),
        Probe::Grpc {
            target: "x:2/s".to_owned(),
            tls: Some(tls)
        }
    );
    assert_eq!(
        often(json!({"H2PING": "x:1"})),
        Probe::H2Ping {
            address: "x:1".to_owned(),
            tls: Some(ProbeTls::default())
        }
    );
    assert_eq!(
        often(json!({"H2PING": "x:1", "H2PingUseTLS": false})),
        Probe::H2Ping {
            address: "x:1".to_owned(),
            tls: None
        }
    );
}

#[test]
fn when_results_count() {
    let site = Site::new();
    register(
        &site,
        &json!({
            "Name": "a", "TCP": "x:1", "Interval": "10s", "SuccessBeforePassing": 2, "FailuresBeforeWarning": 3,
            "FailuresBeforeCritical": 4, "DeregisterCriticalServiceAfter": "90m", "OutputMaxSize": 7, "Status": "passing",
        }),
    )
    .assert_text(200, "");
    let spec = site.memory.running.check("a");
    let thresholds = Thresholds {
        success_before_passing: 2,
        failures_before_warning: Some(3),
        failures_before_critical: 4,
    };
    assert_eq!(spec.thresholds, thresholds);
    assert_eq!(spec.deregister_after, Duration::from_mins(90));
    assert_eq!((spec.output_max, spec.status), (7, Some(Status::Passing)));
    register(
        &site,
        &json!({"Name": "b", "TTL": "5s", "SuccessBeforePassing": -1}),
    )
    .assert_text(200, "");
    assert_eq!(site.memory.running.check("b").thresholds, Thresholds::default());
}

#[test]
fn checks_of_a_service() {
    let site = Site::new();
    let body = json!({
        "Name": "ck", "Check": {"TTL": "5s", "ServiceID": "other", "ProxyHTTP": "x"},
        "Checks": [
            {"TTL": "6s", "CheckID": "mine", "Name": "nm", "Notes": "no", "Status": "passing"},
            {"HTTP": "http://127.0.0.1:1", "Interval": "100s", "Status": "warning"},
        ],
    });
    let service = |body: &Value, query: &str| register_service(&site, body, query).assert_text(200, "");
    service(&body, "");
    assert_eq!(
        checks(&site),
        [
            "mine passing  ttl",
            "service:ck:1 critical  ttl",
            "service:ck:3 warning  http"
        ]
    );
    let one = json!({"Name": "ck", "Check": {"TTL": "5s"}});
    for query in ["", "?replace-existing-checks=1", "?replace-existing-checks=false"] {
        service(&one, query);
        assert_eq!(checks(&site).len(), 4, "{query}");
    }
    service(&one, "?replace-existing-checks");
    assert_eq!(checks(&site), ["service:ck critical  ttl"]);
    for nothing in [json!({}), json!(null), json!({"TTL": "0s"})] {
        service(&json!({"Name": "ck", "Check": nothing}), "");
        assert_eq!(checks(&site).len(), 1);
    }
    service(&json!({"Name": "ck"}), "?replace-existing-checks=true");
    assert_eq!(checks(&site), [""; 0]);
}

#[test]
fn telling_a_check_how_it_is() {
    let site = Site::new();
    register(&site, &json!({"Name": "a/b", "TTL": "1m"})).assert_text(200, "");
    register(&site, &json!({"Name": "tcp", "TCP": "x:1", "Interval": "1m"})).assert_text(200, "");
    let of_it = |site: &Site| checks(site).swap_remove(0);
    for (target, found) in [
        ("pass/a/b", "a/b passing  ttl"),
        ("warn/a%2Fb?note=h+%3C", "a/b warning h < ttl"),
        ("fail/a/b?note=", "a/b critical  ttl"),
    ] {
        put(&site, &format!("check/{target}"));
        assert_eq!(of_it(&site), found, "{target}");
    }
    put(
        &site,
        "check/update/a/b\n\n{\"status\":\"warning\",\"OUTPUT\":\"x\"}",
    );
    assert_eq!(of_it(&site), "a/b warning x ttl");
    for (target, status, text) in [
        ("pass/nope", 500, "CheckID \"nope\" does not have associated TTL"),
        ("warn/", 500, "CheckID \"\" does not have associated TTL"),
        ("fail/tcp", 500, "CheckID \"tcp\" does not have associated TTL"),
        (
            "update/tcp\n\n{\"Status\":\"passing\"}",
            500,
            "CheckID \"tcp\" does not have associated TTL",
        ),
        ("update/a/b", 400, "Request decode failed: EOF"),
        ("update/a/b\n\nnull", 400, "Invalid check status: ''"),
        (
            "update/a/b\n\n{\"Status\":\"foo\"}",
            400,
            "Invalid check status: 'foo'",
        ),
        (
            "update/nope\n\n{\"Status\":\"foo\"}",
            400,
            "Invalid check status: 'foo'",
        ),
        (
            "update/a/b\n\n{\"Bogus\":\"foo\"}",
            400,
            "Request decode failed: json: unknown field \"Bogus\"",
        ),
        (
            "update/a/b\n\n{\"Status\":5}",
            400,
            "Request decode failed: json: cannot unmarshal number into Go struct field checkUpdate.Status of type string",
        ),
        (
            "update/a/b\n\n[]",
            400,
            "Request decode failed: json: cannot unmarshal array into Go value of type agent.checkUpdate",
        ),
    ] {
        site.ask(&format!("PUT /v1/agent/check/{target}"))
            .assert_text(status, text);
    }
    assert_eq!(of_it(&site), "a/b warning x ttl");
    site.ask("GET /v1/agent/check/pass/a/b")
        .assert_text(405, "method GET not allowed");
}

/// A site with the services `w1` and `w2` of the name `web`, each with a check that passes.
fn webs() -> Site {
    let site = Site::new();
    for id in ["w2", "w1"] {
        let body = json!({"Name": "web", "ID": id, "Check": {"TTL": "1m", "Status": "passing"}});
        register_service(&site, &body, "").assert_text(200, "");
    }
    site
}

#[track_caller]
fn health(site: &Site, target: &str, status: u16, word: &str) {
    let path = format!("GET /v1/agent/health/service/{target}");
    let response = site.ask(&path);
    assert_eq!(
        (response.status(), response.header("X-Consul-Reason")),
        (status, Some(word)),
        "{target}"
    );
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    for text in [
        format!("{path}?format=text"),
        format!("{path}\nAccept: text/plain, */*"),
    ] {
        let response = site.ask(&text);
        response.assert_text(status, word);
        assert_eq!(response.header("Content-Type"), Some("text/plain"));
        assert_eq!(response.header("X-Consul-Reason"), Some(word));
    }
}

#[test]
fn how_well_services_are() {
    let site = webs();
    let body = json!({"Name": "bare"});
    register_service(&site, &body, "").assert_text(200, "");
    for target in ["id/w1", "id/w2", "name/web", "name/bare"] {
        health(&site, target, 200, "passing");
    }
    put(&site, "check/warn/service:w1");
    health(&site, "id/w1", 429, "warning");
    health(&site, "id/w2", 200, "passing");
    health(&site, "name/web", 429, "warning");
    put(&site, "check/fail/service:w2?note=out");
    health(&site, "name/web", 503, "critical");
    health(&site, "id/w1", 429, "warning");
    put(&site, "service/maintenance/w1?enable=true");
    health(&site, "id/w1", 503, "maintenance");
    health(&site, "name/web", 503, "maintenance");
    health(&site, "id/w2", 503, "critical");
    put(&site, "service/maintenance/w1?enable=false");
    register(&site, &json!({"Name": "nodes", "TTL": "1m"})).assert_text(200, "");
    health(&site, "name/bare", 503, "critical");
}

#[test]
fn how_well_services_are_in_detail() {
    let site = webs();
    register(
        &site,
        &json!({"Name": "nodes", "Notes": "n", "TTL": "1m", "Status": "warning"}),
    )
    .assert_text(200, "");
    let service = |id: &str| {
        format!(
            r#"{{"ID":"{id}","Service":"web","Tags":[],"Meta":{{}},"Port":0,"Address":"","Weights":{{"Passing":1,"Warning":1}},"EnableTagOverride":false}}"#
        )
    };
    let check = |id: &str, name: &str, status: &str, notes: &str, service: (&str, &str)| {
        format!(
            concat!(
                r#"{{"Node":"n1","CheckID":"{}","Name":"{}","Status":"{}","Notes":"{}","Output":"","ServiceID":"{}","ServiceName":"{}","#,
                r#""ServiceTags":null,"Type":"","Definition":{{"Interval":"0s","Timeout":"0s","DeregisterCriticalServiceAfter":"0s","#,
                r#""HTTP":"","Header":null,"Method":"","Body":"","TLSSkipVerify":false,"TCP":""}},"CreateIndex":0,"ModifyIndex":0}}"#
            ),
            id, name, status, notes, service.0, service.1
        )
    };
    let one = |id: &str| {
        format!(
            r#"{{"AggregatedStatus":"warning","Service":{},"Checks":[{},{}]}}"#,
            service(id),
            check("nodes", "nodes", "warning", "n", ("", "")),
            check(
                &format!("service:{id}"),
                "Service 'web' check",
                "passing",
                "",
                (id, "web")
            )
        )
    };
    site.ask("GET /v1/agent/health/service/id/w1?format=bogus")
        .assert_text(429, &one("w1"));
    site.ask("GET /v1/agent/health/service/name/web")
        .assert_text(429, &format!("[{},{}]", one("w1"), one("w2")));
}

#[test]
fn services_that_are_not_there() {
    let site = Site::new();
    let missing = r#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"#;
    for (target, reason, json) in [
        ("id/nope", "ServiceId nope not found", missing),
        ("name/nope", "ServiceName nope Not Found", "[]"),
    ] {
        let path = format!("GET /v1/agent/health/service/{target}");
        let response = site.ask(&path);
        response.assert_text(404, json);
        assert_eq!(response.header("X-Consul-Reason"), Some(reason));
        let response = site.ask(&format!("{path}?format=text"));
        response.assert_text(404, reason);
        assert_eq!(response.header("Content-Type"), Some("text/plain"));
    }
    for (target, text) in [
        ("id/", "Missing serviceID"),
        ("name/?format=text", "Missing service Name"),
    ] {
        site.ask(&format!("GET /v1/agent/health/service/{target}"))
            .assert_text(500, &format!("Bad request: {text}"));
    }
    // What a client sends must not become a header of its own.
    let response = site.ask("GET /v1/agent/health/service/id/a%C2%85b");
    assert_eq!(response.status(), 400, "it cannot be printed");
    site.ask("GET /v1/agent/health/service").assert_text(404, "");
    site.ask("GET /v1/agent/health/service/").assert_text(404, "");
}
