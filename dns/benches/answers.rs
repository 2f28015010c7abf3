//! What an answer costs: from the bytes of a query to the bytes of its answer, when it was encoded before, and when it was not.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lictor_catalog::{Action, Changes, Command, NodeDef, Registration, ServiceDef, State};
use lictor_dns::{Answerer, Ask, Config, Failure, Reading, Snapshot, Source};
use lictor_machine::{Index, UnixMillis};

#[derive(Debug)]
struct Fixed(Snapshot);

#[async_trait]
impl Source for Fixed {
    fn snapshot(&self) -> Option<Snapshot> {
        Some(self.0.clone())
    }

    fn has_datacenter(&self, _name: &str) -> bool {
        false
    }

    async fn find(&self, _ask: Ask) -> Result<Reading, Failure> {
        Err(Failure::Unavailable("all there is is here".to_owned()))
    }
}

fn catalog() -> Fixed {
    let mut state = State::new();
    let mut index = 0;
    for (service, instances) in [("few", 3_u8), ("many", 50)] {
        for number in 1..=instances {
            index += 1;
            let registration = Registration {
                node: NodeDef {
                    name: format!("node-{service}-{number}").as_str().into(),
                    address: format!("10.0.{instances}.{number}").as_str().into(),
                    ..NodeDef::default()
                },
                service: Some(ServiceDef {
                    name: service.into(),
                    port: 8000,
                    ..ServiceDef::default()
                }),
                ..Registration::default()
            };
            let command = Command {
                stamp: UnixMillis(0),
                action: Action::Register(registration.into()),
            };
            let applied = state.apply(Index(index), &command, &mut Changes::default());
            assert!(applied.is_ok(), "{applied:?}");
        }
    }
    Fixed(Snapshot {
        state: Arc::new(state),
        generation: 0,
        age: Duration::ZERO,
    })
}

/// A query with an OPT record of this size, or without one.
fn query(name: &str, kind: u16, size: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(size.is_some())];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    for word in [kind, 1] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    if let Some(size) = size {
        bytes.push(0);
        for word in [41, size, 0, 0, 0] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
    }
    bytes
}

fn answers(criterion: &mut Criterion) {
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let runtime = lictor_runtime_smol::runtime();
    let mut answerer = Answerer::new(Arc::new(catalog()), Config::new("dc1"), &runtime, 1);
    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Elements(1));
    for (title, name, kind, size) in [
        ("A of a node", "node-few-1.node.consul", 1, None),
        ("A of 3", "few.service.consul", 1, None),
        ("SRV of 3", "few.service.consul", 33, None),
        ("A of 50, 512 bytes", "many.service.consul", 1, None),
        ("A of 50, 1232 bytes", "many.service.consul", 1, Some(1232)),
        ("SRV of 50, 512 bytes", "many.service.consul", 33, None),
        ("SRV of 50, 4096 bytes", "many.service.consul", 33, Some(4096)),
        ("no such name", "nope.service.consul", 1, None),
    ] {
        let query = query(name, kind, size);
        group.bench_function(title, |bencher| {
            bencher.iter(|| answerer.answer(black_box(&query), client).map(<[u8]>::len));
        });
    }
    for (title, name, kind, size) in [
        ("SRV of 3, anew", "few.service.consul", 33, None),
        ("SRV of 50, anew", "many.service.consul", 33, Some(4096)),
    ] {
        let query = query(name, kind, size);
        group.bench_function(title, |bencher| {
            bencher.iter(|| {
                answerer.forget();
                answerer.answer(black_box(&query), client).map(<[u8]>::len)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, answers);
criterion_main!(benches);
