//! What it costs to propose commands and replicate them through three nodes in memory, disks and network being infinitely fast.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::collections::VecDeque;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lictor_machine::{Index, Instant, Machine, NodeId, Now, Token};
use lictor_raft::{
    Boot, Config, Configuration, Effect, Entry, Fetched, HardState, Input, LogId, Message, Payload, Raft,
    Role, Term,
};

/// Three nodes and what is on its way between them.
struct Cluster {
    nodes: Vec<Raft>,
    wire: VecDeque<(usize, usize, Message)>,
    now: Instant,
    applied: u64,
    tokens: u64,
}

impl Cluster {
    /// The first node leads.
    fn new() -> Self {
        let members = Configuration::of((0..3).map(NodeId));
        let first = Entry {
            id: LogId::new(1, 1),
            payload: Payload::Members(members.clone()),
        };
        let boot = Boot {
            boot: 1,
            hard_state: HardState {
                term: Term(1),
                vote: None,
                commit: Index(1),
            },
            term_starts: vec![first.id],
            last_index: Index(1),
            members: vec![(first.id, members)],
            tail: vec![first],
            ..Boot::default()
        };
        let now = Instant::ZERO;
        let start = |id: u64| Raft::start(Config::lan(NodeId(id.into()), id), &boot, Now::at(now)).unwrap();
        let nodes = (0..3).map(start).collect();
        let mut cluster = Self {
            nodes,
            wire: VecDeque::new(),
            now,
            applied: 0,
            tokens: 0,
        };
        cluster.now = now + Config::lan(NodeId(0), 0).election_timeout;
        cluster.nodes[0]
            .handle(Now::at(cluster.now), Input::Campaign)
            .unwrap();
        cluster.settle();
        assert_eq!(cluster.nodes[0].role(), Role::Leader);
        cluster
    }

    fn propose(&mut self, data: &Bytes) {
        self.tokens += 1;
        let (token, data) = (Token(self.tokens), data.clone());
        self.nodes[0]
            .handle(Now::at(self.now), Input::Propose { token, data })
            .unwrap();
    }

    /// Until nothing is on its way.
    fn settle(&mut self) {
        let now = Now::at(self.now);
        loop {
            let mut quiet = true;
            for at in 0..self.nodes.len() {
                while let Some(effect) = self.nodes[at].poll_effect() {
                    quiet = false;
                    let input = match effect {
                        Effect::Persist(batch) => Input::Persisted { through: batch.id },
                        Effect::Apply(batch) => {
                            self.applied += batch.len() as u64;
                            Input::Applied {
                                through: batch.last().unwrap().entry.id.index,
                            }
                        }
                        Effect::Send { to, message } => {
                            self.wire.push_back((at, to.0 as usize, message));
                            continue;
                        }
                        Effect::Fetch { id, .. } => Input::Fetched {
                            id,
                            data: Fetched::Failed("nothing is stored".into()),
                        },
                        Effect::Restore(_) | Effect::Resolve { .. } | Effect::Event(_) => continue,
                    };
                    self.nodes[at].handle(now, input).unwrap();
                }
            }
            while let Some((from, to, message)) = self.wire.pop_front() {
                quiet = false;
                let from = NodeId(from as u128);
                self.nodes[to]
                    .handle(now, Input::Message { from, message })
                    .unwrap();
            }
            if quiet {
                return;
            }
        }
    }
}

fn replicate(c: &mut Criterion) {
    let data = Bytes::from(vec![7; 256]);
    let mut group = c.benchmark_group("propose and replicate 256 B through three nodes");
    for batch in [1_u64, 16, 128] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("batches of {batch}"), |b| {
            let mut cluster = Cluster::new();
            b.iter(|| {
                let before = cluster.applied;
                for _ in 0..batch {
                    cluster.propose(&data);
                }
                cluster.settle();
                assert_eq!(cluster.applied - before, 3 * batch);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, replicate);
criterion_main!(benches);
