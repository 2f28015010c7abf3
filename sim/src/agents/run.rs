//! Running one seed of agents: a cluster forms, servers and clients come and go under faults and load, and in the calm that follows all must be
//! as it should be.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeSet;
use std::io::Write;

use lictor_machine::{Instant, NodeId, Rng};
use lictor_node::agent::Pool;

use super::pace::Plan;
use super::post::Tally;
use super::swarm::{Deed, Fault, Options};
use super::world::{KEYS, World};
use crate::gossip::air::Weather;
use crate::gossip::trace::Trace;
use crate::gossip::truth::Fate;
use crate::gossip::view;
use crate::oracles::{Check, Violation, ensure};
use crate::queue::Queue;
use crate::workload::{Change, Freshness, Op};

/// Servers that may come beside those that found the cluster.
const SPARES: usize = 4;

/// What a run that held every property did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Servers replaced.
    pub replaced: u64,
    /// The longest time without an acknowledged write.
    pub longest_silence: Duration,
    /// How long after the last fault there was a leader.
    pub leader_after: Duration,
    /// How long after the last fault everybody knew of everybody, and the right servers voted.
    pub agreed_after: Duration,
    /// How long after that the catalog was the truth.
    pub synced_after: Duration,
    /// Services that were there then, in all calms together.
    pub services: u64,
    /// What happened to what runs on agents.
    pub tally: Tally,
    /// Writes of others that were acknowledged.
    pub outside: u64,
    /// Archives restored.
    pub restored: u64,
    /// How often a reader saw something change.
    pub seen: u64,
    /// The digest of its trace.
    pub hash: u64,
}

impl Report {
    /// Adds those of another run: sums of counts, the longest of times.
    pub fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.elections += other.elections;
        self.replaced += other.replaced;
        self.longest_silence = self.longest_silence.max(other.longest_silence);
        self.leader_after = self.leader_after.max(other.leader_after);
        self.agreed_after = self.agreed_after.max(other.agreed_after);
        self.synced_after = self.synced_after.max(other.synced_after);
        self.services += other.services;
        self.tally.add(&other.tally);
        self.outside += other.outside;
        self.restored += other.restored;
        self.seen += other.seen;
        self.hash ^= other.hash;
    }
}

/// A run that did not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What did not hold.
    pub violation: Violation,
    pub(super) options: String,
    pub(super) tail: Vec<String>,
    /// How to have it again.
    pub(super) replay: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n{}\n", self.options)?;
        writeln!(f, "VIOLATED {}\n", self.violation)?;
        write!(
            f,
            "replay: cargo run --release -p lictor-sim -- {} --trace",
            self.replay
        )
    }
}

/// Runs options to their end. The trace goes to `out` as it grows.
pub fn run_options(options: &Options, out: Option<&mut dyn Write>) -> Result<Report, Box<Failure>> {
    #[allow(unused_mut, reason = "changed only by sabotage")]
    let mut plan = Plan::new(options.seed, options.servers, SPARES, options.pace);
    #[cfg(feature = "sabotage")]
    {
        plan.sabotage = options.sabotage;
    }
    let mut run = Run {
        options,
        world: World::new(plan, out),
        rng: Rng::new(options.seed ^ 0xa9e0),
        acts: Queue::default(),
        pattern: 0,
        replacing: None,
        report: Report::default(),
    };
    run.all().map_err(|violation| {
        Box::new(Failure {
            violation,
            options: options.to_string(),
            tail: Trace::tail(run.world.trace()),
            replay: options.replay(),
        })
    })
}

#[derive(Debug)]
pub(super) enum Act {
    Fault(Fault, Duration),
    Deed(Deed, Duration),
    Start(usize),
    Heal(u64),
    Ask,
    /// A server that has been replaced goes for good.
    Retire(usize),
    FreeDisk(usize),
}

pub(super) struct Run<'o, 'w> {
    pub(super) options: &'o Options,
    pub(super) world: World<'w>,
    pub(super) rng: Rng,
    acts: Queue<Act>,
    pattern: u64,
    /// The old server and the new one.
    replacing: Option<(usize, usize)>,
    report: Report,
}

impl Run<'_, '_> {
    fn all(&mut self) -> Result<Report, Violation> {
        self.world.phase("the cluster forms");
        for at in 0..self.options.servers {
            self.world.start(at)?;
        }
        for _ in 0..self.options.clients {
            self.newcomer()?;
        }
        self.settle()?;
        for _ in 0..self.options.spells {
            self.storm()?;
            self.calm()?;
            self.rest()?;
        }
        self.world.last_look()?;
        let world = &self.world;
        Ok(Report {
            writes: world.acknowledged,
            elections: world.elections,
            longest_silence: world.longest_silence,
            tally: world.tally,
            outside: world.outside.acknowledged,
            restored: world.outside.restored,
            seen: world.readers.seen,
            hash: world.trace().hash(),
            ..self.report.clone()
        })
    }

    fn newcomer(&mut self) -> Check {
        let seats = self.world.scene().members.len();
        if seats >= self.options.seats_max {
            return Ok(());
        }
        let at = self.world.add(format!("c{seats}"), false);
        self.world.start(at)
    }

    fn storm(&mut self) -> Check {
        self.world.phase("faults");
        self.world.air().set_weather(self.options.weather.clone());
        let begin = self.world.now();
        for (fault, mean) in &self.options.faults {
            let when = begin + self.gap(*mean);
            self.acts.push(when, Act::Fault(*fault, *mean));
        }
        for (deed, mean) in &self.options.deeds {
            let when = begin + self.gap(*mean);
            self.acts.push(when, Act::Deed(*deed, *mean));
        }
        self.acts.push(begin, Act::Ask);
        let end = begin + self.options.faults_for;
        while let Some((at, act)) = self.acts.pop(end) {
            self.world.run_for(at.since(self.world.now()))?;
            self.act(act)?;
        }
        self.world.run_for(end.since(self.world.now()))
    }

    fn act(&mut self, act: Act) -> Check {
        match act {
            Act::Fault(fault, mean) => {
                let when = self.world.now() + self.gap(mean);
                self.acts.push(when, Act::Fault(fault, mean));
                self.happen(fault)
            }
            Act::Deed(deed, mean) => {
                let when = self.world.now() + self.gap(mean);
                self.acts.push(when, Act::Deed(deed, mean));
                self.do_deed(deed)
            }
            Act::FreeDisk(at) => {
                self.world.fill_disk(at, false);
                Ok(())
            }
            Act::Start(at) => self.world.start(at),
            Act::Heal(pattern) => {
                if pattern == self.pattern {
                    self.world.phase("partitions heal");
                    self.world.air().heal();
                }
                Ok(())
            }
            Act::Ask => {
                let when = self.world.now() + self.gap(self.options.ask_interval);
                self.acts.push(when, Act::Ask);
                self.ask()
            }
            Act::Retire(at) => self.retire(at),
        }
    }

    /// A client asks one of the servers that are up.
    fn ask(&mut self) -> Check {
        let servers: Vec<usize> = self
            .world
            .up()
            .into_iter()
            .filter(|at| *at < self.options.servers + SPARES)
            .collect();
        let Some(at) = self.rng.pick(&servers).copied() else {
            return Ok(());
        };
        let key = self.rng.below(u64::from(KEYS)) as u8;
        let value = self.world.next_token + 1;
        let op = match self.rng.below(100) {
            0..60 if self.options.keys => Op::Write(Change::Set { key, value }),
            60..80 => Op::Get {
                key,
                freshness: Freshness::Default,
            },
            80..90 => Op::Get {
                key,
                freshness: Freshness::Consistent,
            },
            99 => Op::Transfer,
            _ => Op::Get {
                key,
                freshness: Freshness::Stale,
            },
        };
        self.world.request(at, op)
    }

    fn happen(&mut self, fault: Fault) -> Check {
        let up = self.world.up();
        let Some(at) = self.rng.pick(&up).copied() else {
            return Ok(());
        };
        let broken = self
            .rng
            .between(Duration::from_millis(200), self.options.broken_for);
        match fault {
            Fault::Crash | Fault::Move => {
                self.world.crash(at)?;
                if fault == Fault::Move {
                    self.world.move_away(at);
                }
                self.later(broken, Act::Start(at));
            }
            Fault::PowerCut => {
                let all_move = self.rng.chance(1, 2);
                self.world.phase("power cut");
                for at in up {
                    self.world.crash(at)?;
                    if all_move {
                        self.world.move_away(at);
                    }
                    let after = self.rng.between(Duration::from_millis(200), broken);
                    self.later(after, Act::Start(at));
                }
            }
            Fault::Freeze => self.world.freeze(at, broken),
            Fault::Partition => {
                for at in 0..self.world.scene().members.len() {
                    let group = self.rng.below(2) as u32;
                    self.world.air().set_group(at, group);
                }
                self.world.phase("a partition");
                self.heal_later(broken);
            }
            Fault::Cut => {
                for _ in 0..=self.rng.below(up.len() as u64) {
                    let to = *self.rng.pick(&up).unwrap_or(&at);
                    let from = *self.rng.pick(&up).unwrap_or(&at);
                    if from != to {
                        self.world.air().cut(from, to);
                    }
                }
                self.world.phase("single directions are cut");
                self.heal_later(broken);
            }
            Fault::Replace => self.replace()?,
            Fault::Leave => {
                if !self.is_server(at) {
                    self.world.leave(at)?;
                }
            }
            Fault::Newcomer => self.newcomer()?,
            Fault::Return => {
                let all = 0..self.world.scene().members.len();
                let left: Vec<usize> = all
                    .filter(|at| self.world.scene().members[*at].fate == Fate::Left && !self.is_server(*at))
                    .collect();
                if let Some(at) = self.rng.pick(&left).copied() {
                    self.world.start(at)?;
                }
            }
            Fault::LoseDisk | Fault::Rename | Fault::Reimage | Fault::Bury if self.is_server(at) => {}
            Fault::LoseDisk => {
                self.world.crash(at)?;
                self.world.lose_disk(at);
                self.later(broken, Act::Start(at));
            }
            Fault::Rename => {
                self.world.crash(at)?;
                self.world.rename(at);
                self.later(broken, Act::Start(at));
            }
            Fault::Reimage if self.world.scene().members.len() < self.options.seats_max => {
                self.world.retire(at);
                self.world.crash(at)?;
                let name = self.world.scene().members[at].name.clone();
                let new = self.world.add(name, false);
                self.later(broken, Act::Start(new));
            }
            Fault::Reimage => {}
            Fault::Bury => {
                self.world.retire(at);
                self.world.crash(at)?;
            }
        }
        Ok(())
    }

    /// A new server comes; when it votes, or a while later, an old one goes for good.
    fn replace(&mut self) -> Check {
        if let Some((old, new)) = self.replacing {
            // One at a time, as an operator would: the next when the configuration has the new one and not the old one.
            let done = self
                .leaders_voters()
                .is_some_and(|voters| voters.contains(&self.id(new)) && !voters.contains(&self.id(old)));
            if !done {
                return Ok(());
            }
            self.replacing = None;
        }
        let servers = 0..self.options.servers + SPARES;
        let new = servers
            .clone()
            .find(|at| self.world.scene().members[*at].fate == Fate::Unborn);
        let olds: Vec<usize> = servers
            .filter(|at| self.world.scene().members[*at].life > 0 && !self.world.is_retired(*at))
            .collect();
        let (Some(new), Some(old)) = (new, self.rng.pick(&olds).copied()) else {
            return Ok(());
        };
        self.replacing = Some((old, new));
        self.report.replaced += 1;
        self.world.start(new)?;
        let after = self.rng.between(Duration::from_secs(14), Duration::from_secs(22));
        self.later(after, Act::Retire(old));
        Ok(())
    }

    /// An old server goes, if the new one votes already; otherwise later.
    fn retire(&mut self, at: usize) -> Check {
        let Some((_, new)) = self.replacing.filter(|(old, _)| *old == at) else {
            return Ok(());
        };
        let ready = self
            .leaders_voters()
            .is_some_and(|voters| voters.contains(&self.id(new)));
        if !ready {
            self.later(Duration::from_secs(2), Act::Retire(at));
            return Ok(());
        }
        self.world.retire(at);
        if self.rng.chance(1, 2) && self.world.scene().members[at].fate == Fate::Running {
            self.world.leave(at)
        } else {
            self.world.crash(at)
        }
    }

    fn leaders_voters(&self) -> Option<BTreeSet<NodeId>> {
        let leader = self.world.leader()?;
        let status = self.world.agent(leader)?.server()?.raft_status();
        (!status.is_changing_members()).then_some(status.members.voters)
    }

    fn id(&self, at: usize) -> NodeId {
        self.world.scene().members[at].id
    }

    fn is_server(&self, at: usize) -> bool {
        at < self.options.servers + SPARES
    }

    fn calm(&mut self) -> Check {
        while let Some((_, act)) = self.acts.pop(Instant::MAX) {
            match act {
                Act::Start(at) if !self.world.is_retired(at) => self.world.start(at)?,
                Act::FreeDisk(at) => self.world.fill_disk(at, false),
                Act::Start(_) | Act::Fault(..) | Act::Deed(..) | Act::Heal(_) | Act::Ask | Act::Retire(_) => {
                }
            }
        }
        self.world.phase("calm");
        self.world.air().heal();
        self.world.air().set_weather(Weather::calm());
        while self.world.up().iter().any(|at| self.world.is_frozen(*at)) {
            self.world.run_for(self.options.pace.poll())?;
        }
        let begin = self.world.now();
        let (leader, agreed) = self.settle()?;
        let report = &mut self.report;
        report.leader_after = report.leader_after.max(leader.since(begin));
        report.agreed_after = report.agreed_after.max(agreed.since(begin));
        report.synced_after = report.synced_after.max(self.world.now().since(agreed));
        report.services += self.world.services();
        Ok(())
    }

    /// Waits until there is a leader, until agents know of each other, and until the catalog is the truth. Returns when the former two
    /// were so.
    fn settle(&mut self) -> Result<(Instant, Instant), Violation> {
        let pace = self.options.pace;
        let (leader_within, agreed_within) = (pace.leader_within(), pace.agreed_within());
        let begin = self.world.now();
        let mut leader_at = None;
        loop {
            let now = self.world.now();
            if leader_at.is_none() && self.world.leader().is_some_and(|leader| self.serves(leader)) {
                leader_at = Some(now);
            }
            ensure(
                "a leader after calm",
                leader_at.is_some() || now.since(begin) < leader_within,
                || format!("no leader within {leader_within:?}: {}", self.standings()),
            )?;
            let Some(wrong) = self.difference() else {
                self.sync()?;
                return Ok((leader_at.unwrap_or(now), now));
            };
            ensure(
                "agents agree after calm",
                now.since(begin) < agreed_within,
                || format!("after {agreed_within:?} {wrong}; {}", self.standings()),
            )?;
            self.world.run_for(pace.poll())?;
        }
    }

    /// Waits until the catalog is the truth.
    fn sync(&mut self) -> Check {
        let pace = self.options.pace;
        let begin = self.world.now();
        while let Some(wrong) = self.world.catalog_difference() {
            ensure(
                "the catalog is the truth after calm",
                self.world.now().since(begin) < pace.synced_within(),
                || format!("after {:?} {wrong}", pace.synced_within()),
            )?;
            self.world.run_for(pace.poll())?;
        }
        Ok(())
    }

    /// Whether a leader has committed something in its term.
    fn serves(&self, leader: usize) -> bool {
        self.world
            .agent(leader)
            .and_then(|agent| agent.server())
            .is_some_and(|server| {
                let status = server.raft_status();
                status.commit >= status.last.index
            })
    }

    /// The first thing that is not as it should be.
    fn difference(&self) -> Option<String> {
        let lan = |at: usize| self.world.agent(at)?.pool(Pool::Lan);
        if let Some(wrong) = view::difference_of(self.world.scene(), lan) {
            return Some(wrong);
        }
        let Some(leader) = self.world.leader() else {
            return Some("there is no leader".to_owned());
        };
        let up = self.world.up();
        let well: BTreeSet<NodeId> = up
            .iter()
            .filter(|at| self.is_server(**at))
            .map(|at| self.id(*at))
            .collect();
        for at in up {
            let Some(server) = self.world.agent(at).and_then(|agent| agent.server()) else {
                continue;
            };
            let status = server.raft_status();
            let members = &status.members;
            let right =
                members.voters == well && members.learners.is_empty() && !status.is_changing_members();
            if status.leader != Some(self.id(leader)) || !right {
                return Some(format!(
                    "m{at} follows {:?} in {members:?}; the leader is m{leader}, and the servers that are well are {well:?}",
                    status.leader
                ));
            }
        }
        None
    }

    fn rest(&mut self) -> Check {
        self.world.phase("rest");
        // What is left of agents that are no more goes in its own time; so does a service that is critical.
        let quiet_from = (!self.world.has_remains()).then(|| self.world.catalog_index());
        let reaped = self.world.tally.reaped;
        self.world.run_for(self.options.pace.rest())?;
        let quiet = |holds, wrong| ensure("calm is quiet", holds, || wrong);
        let wrong = self.difference();
        quiet(wrong.is_none(), wrong.unwrap_or_default())?;
        if let Some(index) = quiet_from.filter(|_| self.world.tally.reaped == reaped) {
            let later = self.world.catalog_index();
            let wrong = format!("the catalog is written to: from index {index} to {later}");
            quiet(later == index, wrong)?;
        }
        self.sync()
    }

    fn standings(&self) -> String {
        let lines = self.world.up().into_iter().filter_map(|at| {
            let status = self.world.agent(at)?.server()?.raft_status();
            Some(format!(
                "\n    m{at}: {:?} in T{}, leader {:?}, commit {}, last {:?}, {:?}",
                status.role, status.term, status.leader, status.commit, status.last, status.members
            ))
        });
        lines.collect()
    }

    pub(super) fn later(&mut self, after: Duration, act: Act) {
        self.acts.push(self.world.now() + after, act);
    }

    fn heal_later(&mut self, after: Duration) {
        self.pattern += 1;
        self.later(after, Act::Heal(self.pattern));
    }

    fn gap(&mut self, mean: Duration) -> Duration {
        self.rng.between(mean / 10, mean * 2)
    }
}
