//! Raft under random misfortune: loss, duplication, any order, slow disks, crashes at any write, cut links, compaction. The harness asserts
//! safety at every step; afterwards, when all is calm, the cluster must agree and go on.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Cluster, n};
use lictor_machine::{Machine, Now, Rng, Token};
use lictor_raft::{Config, Event, Input, MembersError, Outcome, ReadMode};

const STEPS: u64 = 2000;

fn small_windows(config: &mut Config) {
    config.append_bytes_max = 100.try_into().unwrap();
    config.window_messages = 3.try_into().unwrap();
    config.window_bytes = 300.try_into().unwrap();
    config.apply_bytes_max = 120.try_into().unwrap();
    config.tail_bytes = 200;
    config.uncommitted_bytes_max = 1000.try_into().unwrap();
}

/// What the runs must have met in all, so that they mean something.
#[derive(Debug, Default)]
struct Met {
    committed: usize,
    lost: usize,
    reads: usize,
    reads_failed: usize,
    crashes: usize,
    snapshots: u64,
    transfers: usize,
    reconfigured: usize,
    removed: usize,
}

struct Run {
    cluster: Cluster,
    rng: Rng,
    proposed: u64,
    /// Requests, and where they were made; those at a server that crashed since are gone.
    open: BTreeSet<(u128, Token)>,
    met: Met,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let size = if rng.chance(1, 2) { 3 } else { 5 };
        let mut cluster = Cluster::with(size, small_windows);
        if rng.chance(1, 2) {
            for spare in 1..=2 {
                cluster.add(n(size + spare), common::Disk::default());
            }
        }
        for id in cluster.ids() {
            cluster.server(id).auto_persist = false;
        }
        Self {
            cluster,
            rng,
            proposed: 0,
            open: BTreeSet::new(),
            met: Met::default(),
        }
    }

    fn somebody(&mut self) -> u128 {
        1 + u128::from(self.rng.below(self.cluster.servers.len() as u64))
    }

    fn alive(&self, id: u128) -> bool {
        self.cluster.servers[&n(id)].alive
    }

    fn step(&mut self) {
        let id = self.somebody();
        match self.rng.below(100) {
            0..=44 => self.deliver(),
            45..=64 => {
                if self.alive(id) {
                    self.cluster.persist_one(n(id));
                }
            }
            65..=79 => {
                let nanos = self.rng.below(40_000_000);
                self.cluster.tick(Duration::from_nanos(nanos));
            }
            80..=87 => self.propose(),
            88..=91 => self.read(id),
            92 if self.rng.chance(1, 3) => self.crash(id),
            92..=94 => {
                if !self.alive(id) {
                    self.cluster.restart(n(id));
                    self.cluster.server(n(id)).auto_persist = false;
                }
            }
            95 => self.compact(id),
            96 => {
                let other = self.somebody();
                if id != other {
                    self.cluster.cut.insert((n(id), n(other)));
                }
            }
            97 => self.cluster.heal(),
            98 if self.rng.chance(1, 2) => self.transfer(id),
            98 => self.reconfigure(),
            _ => {
                let peer = self.somebody();
                if self.alive(id) && peer != id {
                    self.cluster
                        .input(n(id), Input::Unreachable { peer: n(peer) })
                        .unwrap();
                }
            }
        }
    }

    /// Delivers, doubles or loses some message, whichever was sent first.
    fn deliver(&mut self) {
        if self.cluster.wire.len() > 200 {
            self.cluster.wire.drain(..100);
        }
        let len = self.cluster.wire.len();
        if len == 0 {
            return;
        }
        // Mostly in order, and sometimes a very late one.
        let within = if self.rng.chance(1, 10) { len } else { len.min(4) };
        let at = self.rng.below(within as u64) as usize;
        let lost = self.rng.chance(1, 20);
        let doubled = self.rng.chance(1, 20);
        let (from, to, message) = if doubled {
            self.cluster.wire[at].clone()
        } else {
            self.cluster.wire.remove(at).unwrap()
        };
        let cut = self.cluster.cut.contains(&(from, to));
        if !lost && !cut && self.cluster.servers[&to].alive {
            self.cluster.deliver(from, to, message);
        }
    }

    fn propose(&mut self) {
        let Some(leader) = self.cluster.leader() else {
            return;
        };
        self.proposed += 1;
        let token = self.cluster.token();
        let data = format!("{:<8}", self.proposed).into();
        if self.cluster.input(leader, Input::Propose { token, data }).is_ok() {
            self.open.insert((leader.0, token));
        }
    }

    fn read(&mut self, id: u128) {
        let mode = if self.rng.chance(1, 2) {
            ReadMode::Lease
        } else {
            ReadMode::Quorum
        };
        if self.alive(id)
            && let Ok(token) = self.cluster.read(n(id), mode)
        {
            self.open.insert((id, token));
        }
    }

    fn crash(&mut self, id: u128) {
        if self.alive(id) {
            self.settle_accounts();
            self.cluster.crash(n(id));
            self.open.retain(|(at, _)| *at != id);
            self.met.crashes += 1;
        }
    }

    fn compact(&mut self, id: u128) {
        if self.alive(id) {
            let through = self.cluster.server(n(id)).disk.applied;
            self.cluster.input(n(id), Input::Compact { through }).unwrap();
        }
    }

    fn transfer(&mut self, to: u128) {
        let Some(leader) = self.cluster.leader() else {
            return;
        };
        let token = self.cluster.token();
        let to = Some(n(to));
        if self.cluster.input(leader, Input::Transfer { token, to }).is_ok() {
            self.open.insert((leader.0, token));
        }
    }

    /// Any members at all.
    fn reconfigure(&mut self) {
        let Some(leader) = self.cluster.leader() else {
            return;
        };
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        for id in self.cluster.ids() {
            match self.rng.below(5) {
                0 => {}
                1 => learners.push(id.0),
                _ => voters.push(id.0),
            }
        }
        if let Ok(token) = self.cluster.reconfigure(leader, voters, learners) {
            self.open.insert((leader.0, token));
        }
    }

    /// Takes the answered requests off the list.
    fn settle_accounts(&mut self) {
        let (cluster, met) = (&self.cluster, &mut self.met);
        self.open.retain(|(at, token)| {
            let server = &cluster.servers[&n(*at)];
            if server.committed.contains_key(token) {
                met.committed += 1;
                return false;
            }
            match server.resolved.get(token) {
                None => return true,
                Some(Outcome::Read { .. }) => met.reads += 1,
                Some(Outcome::ReadFailed) => met.reads_failed += 1,
                Some(Outcome::Lost) => met.lost += 1,
                // Rare: a snapshot has to overtake a leader that was.
                Some(Outcome::Unknown) => {}
                Some(Outcome::Reconfigured { .. }) => met.reconfigured += 1,
                Some(Outcome::Transferred | Outcome::TransferFailed) => met.transfers += 1,
            }
            false
        });
    }

    /// Everything is mended: within a few seconds there is a leader, everybody has applied the same, and every request is answered.
    fn calm(&mut self) {
        let cluster = &mut self.cluster;
        cluster.heal();
        for id in cluster.ids() {
            if !cluster.server(id).alive {
                cluster.restart(id);
            }
            cluster.server(id).auto_persist = true;
            cluster.persist(id);
        }
        cluster.run(Duration::from_secs(10));
        let leader = cluster.leader().expect("a leader, when all is well");
        let status = cluster.raft(leader).status();
        assert!(
            !status.is_changing_members(),
            "a change without an end: {status:?}"
        );
        // Everybody becomes a member again, so that everybody learns what became of its requests.
        let everybody: Vec<u128> = cluster.ids().into_iter().map(|id| id.0).collect();
        match cluster.reconfigure(leader, everybody, []) {
            Ok(token) => {
                cluster.run(Duration::from_secs(5));
                assert!(cluster.is_reconfigured(leader, token));
            }
            Err(reject) => assert_eq!(reject, MembersError::Unchanged.into()),
        }
        let leader = cluster.leader().expect("a leader, when all is well");
        let last = cluster.propose(leader, "last");
        cluster.run(Duration::from_secs(5));
        assert!(cluster.server(leader).committed.contains_key(&last));
        let state = cluster.state(leader);
        for id in cluster.ids() {
            assert_eq!(cluster.state(id), state, "{id:?}");
            self.met.snapshots += cluster.server(id).disk.installs;
            let events = &cluster.server(id).events;
            self.met.removed += events.iter().filter(|event| **event == Event::Removed).count();
            let status = cluster.raft(id).status();
            assert_eq!(status.applied, status.last.index, "{id:?}");
            assert_eq!(status.writes_in_flight, 0);
            assert!(
                status.peers.iter().all(|peer| peer.bytes_in_flight == 0),
                "{status:?}"
            );
        }
        self.settle_accounts();
        assert_eq!(self.open, BTreeSet::new(), "requests without an answer");
        let mut sorted = state.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), state.len(), "something was applied twice");
    }
}

#[test]
fn safety_always_and_progress_in_calm() {
    let mut met = Met::default();
    for seed in 0..200 {
        let mut run = Run::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..STEPS {
                run.step();
            }
            run.calm();
        }));
        assert!(outcome.is_ok(), "seed {seed} failed, see above");
        met.committed += run.met.committed;
        met.lost += run.met.lost;
        met.reads += run.met.reads;
        met.reads_failed += run.met.reads_failed;
        met.crashes += run.met.crashes;
        met.snapshots += run.met.snapshots;
        met.transfers += run.met.transfers;
        met.reconfigured += run.met.reconfigured;
        met.removed += run.met.removed;
    }
    assert!(met.committed > 2000 && met.reads > 1000, "{met:?}");
    assert!(met.lost > 0 && met.reads_failed > 0, "{met:?}");
    assert!(
        met.crashes > 200 && met.snapshots > 20 && met.transfers > 20,
        "{met:?}"
    );
    assert!(met.reconfigured > 100 && met.removed > 20, "{met:?}");
}

/// A driver that wakes the machine at its deadlines, and only then, is never asked to do so twice for nothing.
#[test]
fn every_deadline_is_serviced_when_it_is_due() {
    for seed in 0..20 {
        let mut run = Run::new(seed);
        for _ in 0..STEPS / 3 {
            run.step();
            for id in run.cluster.ids() {
                let now = run.cluster.now;
                let server = run.cluster.server(id);
                if !server.alive {
                    continue;
                }
                let due = server.raft.poll_timeout().filter(|deadline| deadline.at <= now);
                if let Some(due) = due {
                    server.raft.handle_timeout(Now::at(now));
                    let left = server.raft.poll_timeout();
                    assert!(left.is_none_or(|left| left.at > now), "{due:?} stays: {left:?}");
                    run.cluster.drain(id);
                }
            }
        }
    }
}
