//! What the hot paths cost: `cargo bench -p lictor-catalog`.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lictor_catalog::{
    Action, Changes, Command, Interest, Key, KvPair, KvWrite, Query, State, Touch, Touched, Watches,
};
use lictor_machine::{Index, UnixMillis};

const KEYS: u64 = 100_000;
const VALUE_LEN: usize = 256;

/// A thousand directories of a hundred keys each.
fn key(number: u64) -> Key {
    Key::from(format!("service-{:03}/key-{:05}", number % 1000, number))
}

fn set(number: u64, fill: u8) -> Command {
    let pair = KvPair {
        key: key(number),
        value: Bytes::from(vec![fill; VALUE_LEN]),
        flags: 0,
    };
    Command {
        stamp: UnixMillis(0),
        action: Action::Kv(KvWrite::Set(pair)),
    }
}

fn full() -> State {
    let mut state = State::new();
    for number in 0..KEYS {
        let applied = state.apply(Index(number + 1), &set(number, 0), &mut Changes::default());
        applied.expect("the indexes go up");
    }
    state
}

fn apply(c: &mut Criterion) {
    let mut state = full();
    let commands: Vec<_> = (0..1000)
        .flat_map(|number| [1, 2].map(|fill| set(number * 97, fill)))
        .collect();
    let mut next = commands.iter().cycle();
    let mut step = move |state: &mut State| {
        let mut changes = Changes::default();
        let index = state.index().next();
        let command = next.next().expect("a cycle has no end");
        black_box(state.apply(index, command, &mut changes)).expect("the indexes go up");
        changes
    };
    c.bench_function("apply set of 256 B among 100k keys", |b| {
        b.iter(|| step(&mut state));
    });
    c.bench_function("the same, a snapshot taken before each", |b| {
        b.iter(|| {
            let snapshot = state.clone();
            let changes = step(&mut state);
            (snapshot, changes)
        });
    });
}

fn read(c: &mut Criterion) {
    let state = full();
    let get = Query::KvGet(key(4711));
    let list = Query::KvList(Key::from_static(b"service-042/"));
    let keys = Query::KvKeys {
        prefix: Key::from_static(b"service-042/"),
        separator: Bytes::from_static(b"/"),
    };
    let top = Query::KvKeys {
        prefix: Key::new(),
        separator: Bytes::from_static(b"/"),
    };
    for (name, query) in [
        ("get", get),
        ("list 100 of 100k", list),
        ("keys of 100 of 100k", keys),
        ("1000 top keys of 100k", top),
    ] {
        c.bench_function(name, |b| b.iter(|| state.query(black_box(&query))));
    }
    c.bench_function("clone of 100k keys", |b| b.iter(|| black_box(&state).clone()));
}

fn wake(c: &mut Criterion) {
    let mut watches = Watches::new(usize::MAX);
    let mut subscribe = |interest| watches.subscribe(interest, 0_u64).expect("there is no limit");
    for number in 0..5000 {
        subscribe(Interest::KvKey(key(number)));
        let directory = key(number % 1000).slice(.."service-000/".len());
        subscribe(Interest::KvPrefix(directory));
    }
    let elsewhere = Touched::These(vec![Touch::Kv(Key::from_static(b"other-000/key-00000"))]);
    let mut woken = Vec::new();
    c.bench_function("take_touched, none of 10k watchers", |b| {
        b.iter(|| watches.take_touched(black_box(&elsewhere), &mut woken));
    });
    let touched = Touched::These(vec![Touch::Kv(key(1))]);
    let subscribe = |woken: Vec<u64>| (woken, Interest::KvKey(key(1)));
    c.bench_function("subscribe, and take_touched, one of 10k watchers", |b| {
        b.iter_batched(
            || subscribe(Vec::with_capacity(8)),
            |(mut woken, interest)| {
                watches.subscribe(interest, 0).expect("there is no limit");
                watches.take_touched(black_box(&touched), &mut woken);
                woken
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, apply, read, wake);
criterion_main!(benches);
