//! Running one seed of processes that contend for locks: the cluster forms, everything breaks, in the calm everybody gets their lock
//! again, and when all have gone nothing is left.

use core::time::Duration;
use std::io::Write;

use lictor_catalog::{CatalogChange, CheckDef, NodeDef, Registration, SERF_HEALTH, State, Status};
use lictor_machine::{Instant, Rng};

use super::contender::{Contender, GATE, GATE_NODE};
use super::play::{Actor, Body, Play};
use super::seen::Seen;
use super::swarm::{Fault, Options};
use super::witness::Witness;
use super::writer::Writer;
use crate::agents::outside::Job;
use crate::agents::pace::Plan;
use crate::agents::run::Failure;
use crate::agents::world::World;
use crate::clock::LocalClock;
use crate::gossip::air::Weather;
use crate::gossip::trace::Trace;
use crate::oracles::{Check, Violation, ensure};
use crate::queue::Queue;
use crate::workload::Op;

/// How soon there must be a leader and a catalog with all nodes in it.
const FORMS_WITHIN: Duration = Duration::from_mins(3);

/// How soon after the faults everybody must have had their lock.
const SERVED_WITHIN: Duration = Duration::from_mins(5);

/// How soon after that everything must be gone.
const GONE_WITHIN: Duration = Duration::from_mins(3);

/// How often that is looked at.
const POLL: Duration = Duration::from_millis(250);

/// What a run that held every property did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What happened in the log.
    pub seen: Seen,
    /// How often a process could rely on what it was told: that it holds a lock.
    pub relied: u64,
    /// How often a process was answered.
    pub answered: u64,
    /// How often one counted.
    pub counted: u64,
    /// Leaders elected.
    pub elections: u64,
    /// How long after the last fault everybody had had their lock.
    pub served_after: Duration,
    /// The digest of its trace.
    pub hash: u64,
}

impl Report {
    /// Adds those of another run: sums of counts, the longest of times.
    pub fn add(&mut self, other: &Self) {
        self.seen.add(&other.seen);
        self.relied += other.relied;
        self.answered += other.answered;
        self.counted += other.counted;
        self.elections += other.elections;
        self.served_after = self.served_after.max(other.served_after);
        self.hash ^= other.hash;
    }
}

/// Runs options to their end. The trace goes to `out` as it grows.
pub fn run_options(options: &Options, out: Option<&mut dyn Write>) -> Result<Report, Box<Failure>> {
    let pace = options.pace();
    let mut plan = Plan::new(options.seed, options.servers, 0, pace);
    // Gossip has runs of its own.
    plan.watch_gossip = false;
    #[cfg(feature = "sabotage")]
    {
        plan.mistake = options.sabotage;
    }
    let mut run = Run {
        options,
        world: World::new(plan, out),
        rng: Rng::new(options.seed ^ 0x10c5),
        acts: Queue::default(),
        pattern: 0,
        served_after: Duration::ZERO,
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
enum Act {
    Fault(Fault, Duration),
    Start(usize),
    Heal(u64),
}

struct Run<'o, 'w> {
    options: &'o Options,
    world: World<'w>,
    rng: Rng,
    acts: Queue<Act>,
    pattern: u64,
    served_after: Duration,
}

impl Run<'_, '_> {
    fn all(&mut self) -> Result<Report, Violation> {
        self.form()?;
        self.storm()?;
        self.calm()?;
        self.go()?;
        let play = self.world.judge()?;
        let writers = play.writers.iter().map(|(_, writer)| writer.account.counted);
        Ok(Report {
            seen: play.witness.seen,
            relied: play.promises.relied,
            answered: play.answered,
            counted: writers.sum(),
            elections: self.world.elections,
            served_after: self.served_after,
            hash: self.world.trace().hash(),
        })
    }

    /// Agents come up, and processes on their machines once the catalog knows these.
    fn form(&mut self) -> Check {
        self.world.phase("the cluster forms");
        for number in 0..self.options.clients {
            self.world.add(format!("c{number}"), false);
        }
        self.bring_in();
        for at in 0..self.options.servers + self.options.clients {
            self.world.start(at)?;
        }
        self.set_gate(Status::Passing)?;
        self.wait("the cluster forms", FORMS_WITHIN, |run| {
            run.difference(&run.world.judge()?.witness.state)
                .map_or(Ok(None), |wrong| Ok(Some(wrong)))
        })?;
        let play = self.world.judge()?;
        let contenders = (0..play.contenders.len()).flat_map(|at| [Actor::Contender(at), Actor::Renewer(at)]);
        let actors: Vec<Actor> = contenders
            .chain((0..play.writers.len()).map(Actor::Writer))
            .collect();
        for actor in actors {
            let wait = self.rng.between(Duration::ZERO, Duration::from_secs(1));
            self.world.act_later(actor, wait);
        }
        Ok(())
    }

    fn bring_in(&mut self) {
        let options = self.options;
        let machines: Vec<String> = self
            .world
            .scene()
            .members
            .iter()
            .map(|member| member.name.clone())
            .collect();
        let witness = Witness::new(self.world.empty_state(), options.receipt_ttl);
        let mut play = Play::new(self.rng.fork(), witness, options.locks, options.counters);
        let now = self.world.now();
        for number in 0..options.contenders {
            let at = self.rng.below(machines.len() as u64) as usize;
            let habits = options.habits(&mut self.rng, number, &machines[at]);
            let body = Body::new(at, LocalClock::start(now, self.rng.below(6) as u32));
            play.contenders
                .push((body, Contender::new(self.rng.fork(), habits)));
        }
        for number in 0..options.writers {
            let at = self.rng.below(machines.len() as u64) as usize;
            let body = Body::new(at, LocalClock::start(now, 0));
            let counter = (number % usize::from(options.counters.max(1))) as u8;
            let writer = Writer::new(self.rng.fork(), counter, options.persistence());
            play.writers.push((body, writer));
        }
        self.world.play(play);
    }

    fn storm(&mut self) -> Check {
        self.world.phase("faults");
        self.world.air().set_weather(self.options.weather.clone());
        let begin = self.world.now();
        for (fault, mean) in &self.options.faults {
            let when = begin + self.gap(*mean);
            self.acts.push(when, Act::Fault(*fault, *mean));
        }
        let end = begin + self.options.faults_for;
        while let Some((at, act)) = self.acts.pop(end) {
            self.world.run_for(at.since(self.world.now()))?;
            match act {
                Act::Fault(fault, mean) => {
                    let when = self.world.now() + self.gap(mean);
                    self.acts.push(when, Act::Fault(fault, mean));
                    self.happen(fault)?;
                }
                Act::Start(at) => self.world.start(at)?,
                Act::Heal(pattern) if pattern == self.pattern => {
                    self.world.phase("partitions heal");
                    self.world.air().heal();
                }
                Act::Heal(_) => {}
            }
        }
        self.world.run_for(end.since(self.world.now()))
    }

    fn happen(&mut self, fault: Fault) -> Check {
        let up = self.world.up();
        let broken = self
            .rng
            .between(Duration::from_millis(200), self.options.broken_for);
        let contender = self.rng.below(self.options.contenders as u64) as usize;
        let Some(at) = self.rng.pick(&up).copied() else {
            return Ok(());
        };
        match fault {
            Fault::Crash => {
                self.world.crash(at)?;
                self.later(broken, Act::Start(at));
            }
            Fault::PowerCut => {
                self.world.phase("power cut");
                for at in up {
                    self.world.crash(at)?;
                    let after = self.rng.between(Duration::from_millis(200), broken);
                    self.later(after, Act::Start(at));
                }
            }
            Fault::Freeze => self.world.freeze(at, broken),
            Fault::Stall => self.world.stall(Actor::Contender(contender), broken),
            Fault::Standstill => {
                self.world.freeze(at, broken);
                let play = self.world.judge()?;
                let there = play
                    .contenders
                    .iter()
                    .enumerate()
                    .filter(|(_, (body, _))| body.at == at);
                let there: Vec<usize> = there.map(|(number, _)| number).collect();
                for number in there {
                    self.world.stall(Actor::Contender(number), broken);
                }
            }
            Fault::Kill => self.world.kill(contender, broken),
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
            Fault::Seclude => {
                let Some(leader) = self.world.leader() else {
                    return Ok(());
                };
                for at in 0..self.world.scene().members.len() {
                    self.world.air().set_group(at, u32::from(at == leader));
                }
                self.world.freeze(leader, broken * 4 / 5);
                self.world.phase("the leader is alone");
                self.heal_later(broken);
            }
            Fault::Transfer => {
                let leader = self.world.leader();
                if let Some(leader) = leader {
                    self.world.request(leader, Op::Transfer)?;
                }
            }
            Fault::Flip => {
                let better = self.rng.chance(1, 2);
                self.set_gate(if better { Status::Passing } else { Status::Critical })?;
            }
            Fault::PassBy => self.world.pass_by(),
            Fault::Restore => {
                let restore = self.rng.chance(2, 3);
                self.world.archive_or_restore(restore)?;
            }
        }
        Ok(())
    }

    /// Everything is well again: everybody gets their lock once more, and gives it back.
    fn calm(&mut self) -> Check {
        while let Some((_, act)) = self.acts.pop(Instant::MAX) {
            match act {
                Act::Start(at) => self.world.start(at)?,
                Act::Fault(..) | Act::Heal(_) => {}
            }
        }
        self.world.phase("calm");
        self.world.air().heal();
        self.world.air().set_weather(Weather::calm());
        self.set_gate(Status::Passing)?;
        let begin = self.world.now();
        if let Some(play) = self.world.processes_mut() {
            for (_, contender) in &mut play.contenders {
                contender.count_anew();
            }
        }
        self.wait("everybody gets their lock after calm", SERVED_WITHIN, |run| {
            run.world.sweep();
            let contenders = &run.world.judge()?.contenders;
            let without = contenders.iter().position(|(_, contender)| contender.turns == 0);
            Ok(without.map(|number| format!("p{number} has not had its lock")))
        })?;
        self.served_after = self.world.now().since(begin);
        Ok(())
    }

    /// All processes go; then there is no session any more, no lock is held, and none is kept from anybody.
    fn go(&mut self) -> Check {
        self.world.phase("all go");
        if let Some(play) = self.world.processes_mut() {
            play.contenders
                .iter_mut()
                .for_each(|(_, contender)| contender.leaving = true);
            play.writers
                .iter_mut()
                .for_each(|(_, writer)| writer.leaving = true);
        }
        self.wait("when all have gone nothing is left", GONE_WITHIN, |run| {
            run.world.sweep();
            Ok(run.world.judge()?.remains())
        })?;
        self.world.counters_are_right()?;
        self.wait("requests are answered", FORMS_WITHIN, |run| Ok(run.world.owed()))?;
        self.world.last_look()
    }

    /// Lets time pass until nothing is wrong any more.
    fn wait(
        &mut self,
        property: &'static str,
        within: Duration,
        wrong: impl Fn(&mut Self) -> Result<Option<String>, Violation>,
    ) -> Check {
        let begin = self.world.now();
        while let Some(wrong) = wrong(self)? {
            let waited = self.world.now().since(begin);
            ensure(property, waited < within, || format!("after {waited:?}: {wrong}"))?;
            self.world.run_for(POLL)?;
        }
        Ok(())
    }

    /// The first thing that the catalog does not know yet.
    fn difference(&self, state: &State) -> Option<String> {
        let members = self.world.scene().members.iter();
        let machines = members.map(|member| (member.name.as_str(), SERF_HEALTH));
        let mut checks = machines.chain([(GATE_NODE, GATE)]);
        let missing = checks.find(|(node, id)| {
            let check = state.check(node, id);
            check.is_none_or(|check| check.def.status != Status::Passing)
        });
        missing.map(|(node, id)| format!("the check {id} of {node} is not passing"))
    }

    fn set_gate(&mut self, status: Status) -> Check {
        let registration = Registration {
            node: NodeDef {
                name: GATE_NODE.into(),
                address: "192.0.2.1".into(),
                ..NodeDef::default()
            },
            skip_node_update: false,
            service: None,
            checks: vec![CheckDef {
                id: GATE.into(),
                name: "people set it".into(),
                status,
                ..CheckDef::default()
            }],
        };
        let change = CatalogChange::Register(Box::new(registration));
        self.world.write_outside(Job::Own(vec![change]))
    }

    fn later(&mut self, after: Duration, act: Act) {
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
