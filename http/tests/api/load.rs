//! Too much at once, and clients that do not read or write as they should.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lictor_http::{Config, Limits};

use crate::support::{Client, Response, Site, eventually};

fn site(limits: Limits) -> Site {
    Site::with(Config::default(), limits)
}

#[track_caller]
fn assert_refused(response: &Response, limit: &str) {
    assert_eq!(
        (response.status(), response.header("Retry-After")),
        (429, Some("1"))
    );
    let expected = format!("Too busy: the limit {limit} is reached; try again later");
    assert_eq!(response.text(), expected);
}

/// How many were refused for a limit.
fn refused(site: &Site, limit: &str) -> u64 {
    let counters = site.memory.metrics.report().counters;
    let of_limit = |labels: &lictor_metrics::Labels| labels.iter().any(|(_, value)| value == limit);
    let found = counters.iter().find(|series| of_limit(&series.labels));
    found.unwrap().total.count
}

fn gauge(site: &Site, name: &str) -> f64 {
    let gauges = site.memory.metrics.report().gauges;
    gauges.iter().find(|gauge| gauge.name == name).unwrap().value
}

/// Stores so much that no socket's buffers hold it, and gives its size as JSON, at least.
fn much(site: &Site) -> usize {
    let value: &'static [u8] = vec![b'x'; 500_000].leak();
    for number in 0..32 {
        let key: &'static str = format!("much/{number}").leak();
        site.memory.set_bytes(key.as_bytes(), value, 0);
    }
    32 * 500_000 * 4 / 3
}

/// Asks for that, and does not read the answer. Nobody must have read anything before.
fn stall(site: &Site) -> Client<TcpStream> {
    let mut client = site.connect();
    client.send("GET /v1/kv/much?recurse");
    eventually("the answer is there", || {
        let samples = site.memory.metrics.report().samples;
        let mut samples = samples.iter();
        samples.any(|series| series.name == "consul.http.GET.v1.kv._" && series.total.count == 1)
    });
    client
}

#[test]
fn requests_in_flight_are_bounded() {
    let site = site(Limits {
        requests: 1,
        ..Limits::default()
    });
    let mut slow = site.connect();
    slow.send_raw(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    eventually("the slow one is in", || {
        gauge(&site, "lictor.http.requests") > 0.0
    });
    assert_refused(&site.ask("GET /v1/kv/a"), "http_max_requests");
    let keyed = site.ask("PUT /v1/kv/a\nLictor-Idempotency-Key: k\n\nv");
    assert_refused(&keyed, "http_max_requests");
    assert_eq!(
        keyed.header("Lictor-Idempotency-Key"),
        Some("understood"),
        "that keys are known does not depend on the moment"
    );
    let sees = site.ask("GET /v1/agent/metrics");
    assert_eq!(
        sees.status(),
        200,
        "whoever wants to see what is going on is let in"
    );
    slow.send_raw(b"cd");
    slow.receive(false).assert_text(200, "true");
    eventually("there is room again", || site.ask("GET /v1/kv/a").status() == 200);
    assert_eq!(refused(&site, "http_max_requests"), 2);
}

#[test]
fn blocking_queries_are_bounded_and_take_no_place_of_others() {
    let site = site(Limits {
        requests: 1,
        blocking_queries: 2,
        ..Limits::default()
    });
    site.memory.set("a", "1");
    let mut waiting: Vec<_> = (0..2).map(|_| site.connect()).collect();
    for (number, client) in waiting.iter_mut().enumerate() {
        client.send("GET /v1/kv/a?index=1&wait=10m");
        eventually("it waits", || {
            site.memory.waiting.load(Ordering::SeqCst) == number + 1
        });
    }
    assert_refused(
        &site.ask("GET /v1/kv/a?index=1&wait=10m"),
        "http_max_blocking_queries",
    );
    assert_eq!(site.ask("GET /v1/kv/a").status(), 200);
    assert_eq!(gauge(&site, "lictor.http.blocking_queries") as u64, 2);
    site.ask("PUT /v1/kv/a\n\n2").assert_text(200, "true");
    for client in &mut waiting {
        assert_eq!(client.receive(false).index(), 2);
    }
    assert_eq!(gauge(&site, "lictor.http.blocking_queries") as u64, 0);
}

#[test]
fn bodies_are_bounded_together() {
    let site = site(Limits {
        body_bytes: 1000,
        ..Limits::default()
    });
    let mut slow = site.connect();
    slow.send_raw(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nab");
    eventually("the slow one is in", || {
        gauge(&site, "lictor.http.body_bytes") > 0.0
    });
    let put = format!("PUT /v1/kv/b\n\n{}", "x".repeat(200));
    let response = site.ask(&put);
    assert_refused(&response, "http_max_body_bytes");
    assert_eq!(response.header("Connection"), Some("close"));
    drop(slow);
    eventually("there is room again", || site.ask(&put).status() == 200);
}

#[test]
fn answers_that_nobody_takes_keep_readers_out_but_not_writers() {
    let site = site(Limits {
        answer_bytes: 10_000_000,
        ..Limits::default()
    });
    much(&site);
    let stalled = stall(&site);
    assert_refused(&site.ask("GET /v1/kv/none"), "http_max_answer_bytes");
    site.ask("PUT /v1/kv/a\n\nx").assert_text(200, "true");
    drop(stalled);
    eventually("there is room again", || {
        site.ask("GET /v1/kv/a?raw").status() == 200
    });
}

#[test]
fn who_does_not_read_an_answer_holds_nobody_back_and_is_cut_off() {
    let site = site(Limits {
        write_timeout: Duration::from_millis(500),
        ..Limits::default()
    });
    let size = much(&site);
    let mut stalled = stall(&site);
    for number in 0..20 {
        site.ask(&format!("PUT /v1/kv/a\n\n{number}"))
            .assert_text(200, "true");
        site.ask("GET /v1/kv/a?raw").assert_text(200, &number.to_string());
    }
    eventually("nothing is left of it", || {
        gauge(&site, "lictor.http.answer_bytes") < 1.0 && gauge(&site, "lictor.http.connections") < 1.0
    });
    let mut rest = Vec::new();
    // Closed or reset, as the buffers happened to be.
    let _ = stalled.0.read_to_end(&mut rest);
    assert!(rest.len() < size, "{} of {size}", rest.len());
}

#[test]
fn large_answers_are_compressed_too() {
    let site = site(Limits::default());
    let size = much(&site);
    let response = site.ask("GET /v1/kv/much?recurse\nAccept-Encoding: gzip");
    assert_eq!(response.header("Content-Encoding"), Some("gzip"));
    assert!(response.body.len() < size / 10);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&response.body[..])
        .read_to_end(&mut plain)
        .unwrap();
    assert!(plain == site.ask("GET /v1/kv/much?recurse").body);
}
