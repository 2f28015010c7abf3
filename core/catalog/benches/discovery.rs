//! What registering and finding services costs: `cargo bench -p lictor-catalog --bench discovery`.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lictor_catalog::{
    Action, Changes, CheckDef, Command, NodeDef, Query, Registration, SERF_HEALTH, ServiceDef, State, Status,
};
use lictor_machine::{Index, UnixMillis};

const NODES: u64 = 5000;
const SERVICES_PER_NODE: u64 = 4;
/// As many services as make groups of 50 instances.
const NAMES: u64 = NODES * SERVICES_PER_NODE / 50;

fn node(number: u64) -> NodeDef {
    NodeDef {
        name: format!("node-{number:05}").into(),
        address: format!("10.0.{}.{}", number / 256, number % 256).into(),
        ..NodeDef::default()
    }
}

fn register(registration: Registration) -> Command {
    Command {
        stamp: UnixMillis(0),
        action: Action::Register(Box::new(registration)),
    }
}

/// The instance `at` of a node, with a check of its own that says `output`.
fn instance(number: u64, at: u64, output: &str) -> Command {
    let name = format!("service-{:04}", (number * SERVICES_PER_NODE + at) % NAMES);
    let id = format!("{name}-{at}");
    register(Registration {
        node: node(number),
        skip_node_update: true,
        checks: vec![CheckDef {
            id: format!("service:{id}").into(),
            name: format!("Service '{name}' check").into(),
            status: Status::Passing,
            output: output.into(),
            service_id: id.as_str().into(),
            kind: "http".into(),
            ..CheckDef::default()
        }],
        service: Some(ServiceDef {
            id: id.into(),
            name: name.into(),
            tags: ["production".into(), "v1".into()].into(),
            port: 8080,
            ..ServiceDef::default()
        }),
    })
}

fn apply(state: &mut State, command: &Command) -> Changes {
    let mut changes = Changes::default();
    let index = Index(state.index().0 + 1);
    let applied = state.apply(index, command, &mut changes);
    black_box(applied).expect("the indexes go up");
    changes
}

fn full() -> State {
    let mut state = State::new();
    for number in 0..NODES {
        let up = CheckDef {
            id: SERF_HEALTH.into(),
            name: "Serf Health Status".into(),
            status: Status::Passing,
            output: "Agent alive and reachable".into(),
            ..CheckDef::default()
        };
        let host = Registration {
            node: node(number),
            checks: vec![up],
            ..Registration::default()
        };
        apply(&mut state, &register(host));
        for at in 0..SERVICES_PER_NODE {
            apply(
                &mut state,
                &instance(number, at, "HTTP GET http://localhost/health: 200 OK"),
            );
        }
    }
    state
}

fn writes(c: &mut Criterion) {
    let mut state = full();
    let commands: Vec<_> = (0..1000)
        .flat_map(|number| ["one", "two"].map(|output| instance(number * 5 % NODES, 1, output)))
        .collect();
    let mut next = commands.iter().cycle();
    let mut step = move |state: &mut State| apply(state, next.next().expect("a cycle has no end"));
    c.bench_function("a check of one of 20k instances says something new", |b| {
        b.iter(|| step(&mut state));
    });
    c.bench_function("the same, a snapshot taken before each", |b| {
        b.iter(|| {
            let snapshot = state.clone();
            let changes = step(&mut state);
            (snapshot, changes)
        });
    });
    let same = instance(17, 2, "HTTP GET http://localhost/health: 200 OK");
    c.bench_function("an instance is registered as it is", |b| {
        b.iter(|| apply(&mut state, &same));
    });
}

fn reads(c: &mut Criterion) {
    let state = full();
    let service = "service-0042".to_owned();
    let health = Query::HealthService {
        service: service.clone(),
        connect: false,
    };
    c.bench_function("health of 50 instances", |b| {
        b.iter(|| state.query(black_box(&health)));
    });
    c.bench_function("the index of that", |b| {
        b.iter(|| state.index_of(black_box(&health)));
    });
    let nodes = Query::ServiceNodes {
        service,
        connect: false,
    };
    c.bench_function("50 instances", |b| b.iter(|| state.query(black_box(&nodes))));
    let names = Query::Services { node_meta: vec![] };
    c.bench_function("all services", |b| b.iter(|| state.query(black_box(&names))));
    let critical = Query::HealthState {
        status: Some(Status::Critical),
        node_meta: vec![],
    };
    c.bench_function("critical checks among 25k", |b| {
        b.iter(|| state.query(black_box(&critical)));
    });
    let export = state.export();
    c.bench_function("export of all rows", |b| {
        b.iter(|| black_box(&export).chunk(&lictor_catalog::Cursor::start(), usize::MAX));
    });
}

criterion_group!(benches, writes, reads);
criterion_main!(benches);
