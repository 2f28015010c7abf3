//! What an answer about a service's health costs: `cargo bench -p lictor-http`.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "in a benchmark, a panic is the report")]

#[allow(dead_code, reason = "shared with the tests of the API")]
#[path = "../tests/api/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_lite::future::block_on;
use lictor_http::{Api, Config};
use serde_json::json;
use trillium::{Conn, Handler as _, Method, Status};

use crate::support::Memory;

const INSTANCES: usize = 50;

/// Asks the API, without a socket.
fn ask(api: &Api, method: Method, target: &str, body: String, gzip: bool) -> Conn {
    let mut conn: Conn = trillium_http::Conn::new_synthetic(method, target.to_owned(), body).into();
    if gzip {
        conn.request_headers_mut().insert("Accept-Encoding", "gzip");
    }
    let conn = block_on(api.run(conn));
    assert_eq!(conn.status(), Some(Status::Ok));
    conn
}

/// Registers an instance, whose check says `output`.
fn register(api: &Api, number: usize, output: &str) {
    let body = json!({
        "Node": format!("node-{number:02}"), "Address": format!("10.0.0.{number}"),
        "TaggedAddresses": {"lan": format!("10.0.0.{number}"), "wan": format!("192.0.2.{number}")},
        "NodeMeta": {"rack": "r1", "zone": "z1"},
        "Service": {"ID": format!("web-{number}"), "Service": "web", "Tags": ["v1", "primary"], "Port": 8080,
                    "Meta": {"version": "1.2.3"}},
        "Checks": [
            {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing",
             "Output": "Agent alive and reachable"},
            {"CheckID": format!("service:web-{number}"), "Name": "Service 'web' check", "Status": "passing",
             "ServiceID": format!("web-{number}"), "Output": output},
        ],
    });
    ask(api, Method::Put, "/v1/catalog/register", body.to_string(), false);
}

fn health(criterion: &mut Criterion) {
    const TARGET: &str = "/v1/health/service/web?passing";

    let memory = Arc::new(Memory::default());
    let api = Api::new(memory.clone(), memory, Config::default());
    for number in 0..INSTANCES {
        register(
            &api,
            number,
            "HTTP GET http://10.0.0.1:8080/health: 200 OK Output: ok",
        );
    }
    let mut group = criterion.benchmark_group("health of 50 instances");
    for (name, gzip) in [("asked again", false), ("asked again, compressed", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(ask(&api, Method::Get, TARGET, String::new(), gzip)));
        });
    }
    let mut turn = 0_u64;
    for (name, gzip) in [("after a change", false), ("after a change, compressed", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    turn += 1;
                    register(&api, 7, &format!("turn {turn}"));
                },
                |()| black_box(ask(&api, Method::Get, TARGET, String::new(), gzip)),
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("filtered by what changes", |bencher| {
        bencher.iter_batched(
            || {
                turn += 1;
                format!("{TARGET}&filter=Service.Port!={turn}")
            },
            |target| black_box(ask(&api, Method::Get, &target, String::new(), false)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, health);
criterion_main!(benches);
