//! What waiting costs: a process of its own, so that nothing else takes memory meanwhile.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[allow(dead_code, reason = "shared with the tests of the API")]
#[path = "../api/support/mod.rs"]
mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use lictor_http::{Config, Limits};

use crate::support::{Site, eventually};

/// What an idle watch may take with its connection.
const BYTES_MAX: usize = 40 << 10;

/// The process's memory that no file backs, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: usize = line.unwrap().trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib << 10
}

/// So many clients that wait for a change of a key, each on a connection of its own.
fn wait(site: &Site, count: usize) -> Vec<TcpStream> {
    let before = site.memory.waiting.load(Ordering::SeqCst);
    let clients = (0..count).map(|_| {
        let mut client = TcpStream::connect(site.address).unwrap();
        client
            .write_all(
                b"GET /v1/kv/some/key/of/a/usual/length?index=1&wait=10m HTTP/1.1\r\nHost: localhost:8500\r\n\
                  User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
            )
            .unwrap();
        client
    });
    let clients = clients.collect();
    eventually("they wait", || {
        site.memory.waiting.load(Ordering::SeqCst) == before + count
    });
    clients
}

#[test]
fn an_idle_watch_takes_little() {
    const COUNT: usize = 400;

    let limits = Limits {
        connections_per_client: 0,
        ..Limits::default()
    };
    let site = Site::with(Config::default(), limits);
    site.memory.set("other", "1");
    // What is made once is made now.
    drop(wait(&site, 20));
    eventually("they have left", || {
        site.memory.waiting.load(Ordering::SeqCst) == 0
    });
    let before = memory();
    let clients = wait(&site, COUNT);
    let each = memory().saturating_sub(before) / COUNT;
    assert!(
        each <= BYTES_MAX,
        "an idle watch takes {each} bytes, and {BYTES_MAX} are allowed"
    );
    drop(clients);
}
