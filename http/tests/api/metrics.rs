//! What the agent counts about itself, and the machine that it runs on.

use lictor_http::{Config, Cpu, Host, Limits};
use serde_json::{Value, json};

use crate::support::{Site, eventually};

fn prometheus() -> Site {
    let config = Config {
        prometheus: true,
        ..Config::default()
    };
    Site::with(config, Limits::default())
}

#[test]
fn requests_are_timed_by_endpoint_and_method() {
    let site = Site::new();
    let samples = || -> Vec<(String, u64)> {
        let response = site.ask("GET /v1/agent/metrics");
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        let report: Value = serde_json::from_str(response.text()).unwrap();
        assert_eq!(report["Points"], json!([]));
        let time = report["Timestamp"].as_str().unwrap();
        assert!(time.ends_with("0 +0000 UTC") && time.len() == 29, "{time}");
        let samples = report["Samples"].as_array().unwrap().iter();
        samples
            .inspect(|sample| {
                let field = |name: &str| sample[name].as_f64().unwrap();
                assert!(field("Min") <= field("Mean") && field("Mean") <= field("Max"));
                assert!((field("Rate") * 10.0 - field("Sum")).abs() < 1e-6 && field("Stddev") >= 0.0);
                assert_eq!(sample["Labels"], json!({}));
            })
            .map(|sample| {
                let name = sample["Name"].as_str().unwrap().to_owned();
                (name, sample["Count"].as_u64().unwrap())
            })
            .collect()
    };
    for _ in 0..3 {
        site.ask("GET /v1/kv/a/b");
    }
    site.ask("PUT /v1/kv/a\n\nx");
    site.ask("POST /v1/kv/a");
    site.ask("GET /v1/nope");
    // What came in the interval that is on is told when that is over, but for the first one.
    let mut seen = Vec::new();
    eventually("the samples are told", || {
        seen = samples();
        !seen.is_empty()
    });
    seen.retain(|(name, _)| !name.contains("agent.metrics"));
    let expected = ["GET.v1.kv._", "POST.v1.kv._", "PUT.v1.kv._"].map(|name| format!("consul.http.{name}"));
    assert_eq!(
        seen.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

#[test]
fn totals_for_prometheus() {
    let site = prometheus();
    for _ in 0..3 {
        site.ask("GET /v1/kv/a/b");
    }
    for request in [
        "GET /v1/agent/metrics?format=prometheus",
        "GET /v1/agent/metrics\nAccept: application/openmetrics-text;version=1.0.0",
    ] {
        let response = site.ask(request);
        assert_eq!(
            response.header("Content-Type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        let text = response.text();
        for line in [
            "# TYPE consul_http_GET_v1_kv__ summary",
            "consul_http_GET_v1_kv___count 3",
            "# TYPE lictor_http_requests gauge",
            "# TYPE lictor_http_connections gauge",
            "lictor_http_refused{limit=\"http_max_conns\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(
            text.contains("consul_http_GET_v1_kv__{quantile=\"0.99\"} "),
            "{text}"
        );
    }
    let json = site.ask("GET /v1/agent/metrics?format=bogus");
    assert_eq!(json.header("Content-Type"), Some("application/json"));
}

#[test]
fn prometheus_must_be_wanted() {
    Site::new()
        .ask("GET /v1/agent/metrics?format=prometheus")
        .assert_text(
            415,
            "Prometheus is not enabled since its retention time is not positive",
        );
}

#[test]
fn the_machine_is_told_of() {
    let site = Site::new();
    *site.memory.host.lock().unwrap() = Host {
        cpus: vec![Cpu {
            vendor_id: "GenuineIntel".to_owned(),
            ..Cpu::default()
        }],
        ..Host::default()
    };
    let host = || -> Value { serde_json::from_str(site.ask("GET /v1/agent/host").text()).unwrap() };
    let found = host();
    let keys: Vec<_> = found.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["Memory", "CPU", "Host", "Disk", "CollectionTime", "Errors"]
    );
    assert_eq!(found["CPU"][0]["vendorId"], "GenuineIntel");
    assert_eq!(found["Memory"]["usedPercent"], 0);
    assert_eq!(found["Host"]["bootTime"], 0);
    assert_eq!(found["Disk"]["inodesUsedPercent"], 0);
    assert!(found["CollectionTime"].as_u64().unwrap() > 1_600_000_000_000_000_000);
    assert_eq!(found["Errors"], Value::Null);
    site.memory.host.lock().unwrap().errors = vec!["/proc: gone".to_owned()];
    assert_eq!(host()["Errors"], json!(["/proc: gone"]));
}
