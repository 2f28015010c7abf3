//! Blocking queries.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lictor_http::{Config, Limits};

use crate::support::{LONG, Site, eventually};

fn waits(site: &Site, count: usize) {
    eventually("queries wait", || {
        site.memory.waiting.load(Ordering::SeqCst) == count
    });
}

#[test]
fn a_change_answers() {
    let site = Site::new();
    site.memory.set("a", "1");
    let mut client = site.connect();
    client.send("GET /v1/kv/a?index=1&wait=10m");
    waits(&site, 1);
    site.memory.set("a", "2");
    let response = client.receive(false);
    assert_eq!((response.status(), response.index()), (200, 2));
    assert!(response.text().contains("\"Mg==\""));
}

#[test]
fn an_older_index_does_not_wait() {
    let site = Site::new();
    site.memory.set("a", "1");
    site.memory.set("a", "2");
    let mut client = site.connect();
    for query in ["index=1", "index=0", "index=", "wait=10m", "index=0&wait=10m"] {
        let response = client.ask(&format!("GET /v1/kv/a?{query}"));
        assert_eq!((response.status(), response.index()), (200, 2), "{query}");
    }
}

#[test]
fn time_out_answers_with_what_there_is() {
    let site = Site::new();
    site.memory.set("a", "1");
    let mut client = site.connect();
    for (target, status, index) in [
        ("a?index=1", 200, 1),
        ("a?index=1000", 200, 1),
        ("none?index=1", 404, 1),
    ] {
        let start = Instant::now();
        let response = client.ask(&format!("GET /v1/kv/{target}&wait=20ms"));
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!((response.status(), response.index()), (status, index), "{target}");
        assert_eq!(response.header("X-Consul-Knownleader"), Some("true"));
    }
}

#[test]
fn missing_keys_and_prefixes_can_be_waited_for() {
    let site = Site::new();
    site.memory.set("other", "1");
    let mut clients: Vec<_> = ["a", "?recurse", "?keys"]
        .map(|target| (target, site.connect()))
        .into();
    for (target, client) in &mut clients {
        let join = if target.contains('?') { '&' } else { '?' };
        client.send(&format!("GET /v1/kv/{target}{join}index=1"));
    }
    waits(&site, 3);
    site.memory.set("a", "2");
    for (target, mut client) in clients {
        let response = client.receive(false);
        assert_eq!((response.status(), response.index()), (200, 2), "{target}");
    }
}

#[test]
fn the_wait_is_bounded_and_jittered() {
    let site = Site::new();
    site.memory.set("a", "1");
    let mut client = site.connect();
    for (wait, low) in [("10s", 10), ("", 300), ("0s", 300), ("20m", 600)] {
        client.send(&format!("GET /v1/kv/a?index=1&wait={wait}"));
        waits(&site, 1);
        let asked = site.memory.last_read.lock().unwrap().take().unwrap().wait;
        let low = Duration::from_secs(low);
        assert!(low <= asked && asked <= low + low / 16, "{wait}: {asked:?}");
        drop(client);
        waits(&site, 0);
        client = site.connect();
    }
}

#[test]
fn the_wait_can_be_configured() {
    let config = Config {
        default_query_time: Duration::from_millis(20),
        max_query_time: Duration::from_millis(40),
        ..Config::default()
    };
    let site = Site::with(config, Limits::default());
    for (query, low) in [("", 20), ("&wait=10m", 40)] {
        let start = Instant::now();
        assert_eq!(site.ask(&format!("GET /v1/kv/a?index=1{query}")).status(), 404);
        assert!(start.elapsed() >= Duration::from_millis(low));
    }
}

#[test]
fn a_client_that_leaves_ends_its_query() {
    let site = Site::new();
    let mut clients: Vec<_> = (0..5).map(|_| site.connect()).collect();
    for client in &mut clients {
        client.send("GET /v1/kv/a?index=5");
    }
    waits(&site, 5);
    clients.truncate(2);
    waits(&site, 2);
    drop(clients);
    waits(&site, 0);
}

#[test]
fn a_server_that_stops_answers_its_queries() {
    let site = Site::new();
    site.memory.set("a", "1");
    let (mut waiting, mut idle) = (site.connect(), site.connect());
    idle.ask("GET /v1/kv/a")
        .assert_text(200, waiting.ask("GET /v1/kv/a").text());
    waiting.send("GET /v1/kv/a?index=1");
    waits(&site, 1);
    let start = Instant::now();
    futures_lite::future::block_on(site.server.shut_down(LONG));
    assert!(start.elapsed() < LONG, "nothing was cut");
    let response = waiting.receive(false);
    assert_eq!(
        (response.status(), response.index(), response.header("Connection")),
        (200, 1, Some("close"))
    );
    assert!(waiting.is_closed() && idle.is_closed());
}
