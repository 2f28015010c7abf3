//! Running one seed: a pool forms, faults happen, and in the calm that follows everybody's view must become the truth and stay it.

use core::fmt;
use core::time::Duration;
use std::io::Write;

use bytes::Bytes;
use lictor_gossip::{Config, QueryParams};
use lictor_machine::{Instant, Rng};

use super::air::{Trouble, Weather};
use super::controls::Keeps;
use super::oracles::{Bounds, Oracles, tables_match};
use super::swarm::{Fault, Options, one_of};
use super::tally::Tally;
use super::trace::{Record, Trace};
use super::truth::Fate;
use super::view;
use super::world::World;
use crate::oracles::{Check, Violation, ensure};
use crate::queue::Queue;

/// Members at most: newcomers come until there are so many.
const SEATS_MAX: usize = 90;

/// How many members are known to everybody from the beginning, to be joined.
const SEEDS: usize = 3;

/// How often a pool is asked whether it has converged.
const POLL: Duration = Duration::from_secs(1);

/// How long nothing may happen once it has.
const QUIET: Duration = Duration::from_mins(1);

/// A run that held every property.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it did.
    pub tally: Tally,
    /// How long after the beginning of calm all views were the truth.
    pub converged_after: Duration,
    /// The digest of its trace.
    pub hash: u64,
    /// The length of its trace.
    pub records: u64,
}

/// A run that did not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What did not hold.
    pub violation: Violation,
    options: String,
    tail: Vec<String>,
    replay: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n{}\n", self.options)?;
        writeln!(f, "VIOLATED {}\n", self.violation)?;
        write!(f, "replay: {}", self.replay)
    }
}

/// Runs options to their end. The trace goes to `out` as it grows.
pub fn run_options(options: &Options, out: Option<&mut dyn Write>) -> Result<Report, Box<Failure>> {
    let mut run = Run::new(options, out);
    run.all().map_err(|violation| {
        Box::new(Failure {
            violation,
            options: options.to_string(),
            tail: run.world.trace().map_or_else(Vec::new, Trace::tail),
            replay: format!(
                "cargo run --release -p lictor-sim -- --kind gossip --members {} --seed {} --trace",
                options.members, options.seed
            ),
        })
    })
}

/// After how long a calm pool must agree with the truth, whatever happened before.
///
/// The slowest ways: a suspicion that nobody confirms, at the worst local health; then members that hold each other for dead find each
/// other again, by the reconnections of all of them together; and an exchange of everything brings what gossip did not.
pub fn convergence_bound(config: &Config, members: usize) -> Duration {
    let spread = (members.max(10) as f64).log10().ceil() as u32;
    let suspicion = (config.probe_interval * config.suspicion_mult * spread).max(config.suspicion_min)
        * config.suspicion_max_timeout_mult;
    let probing = (config.probe_interval + config.probe_timeout) * (config.awareness_max + 1) * 4;
    suspicion
        + probing
        + config.reconnect_interval * 12
        + config.push_pull_interval * 6
        + config.stream_timeout * 3
}

/// What will be done to the members.
#[derive(Debug)]
enum Act {
    Fault(Fault, Duration),
    Start(usize, Keeps),
    Mend(usize),
    Speed(usize),
    Heal(u64),
}

struct Run<'o, 'w> {
    options: &'o Options,
    world: World<'w, Oracles>,
    rng: Rng,
    acts: Queue<Act>,
    /// Which of the partitions and cuts is the latest.
    pattern: u64,
    /// Seats that never come back.
    lost: Vec<usize>,
    said: u64,
    joined_by: Instant,
}

impl<'o, 'w> Run<'o, 'w> {
    fn new(options: &'o Options, out: Option<&'w mut dyn Write>) -> Self {
        let common = options.common();
        let spread = ((SEATS_MAX + 1) as f64).log10().ceil() as u32;
        let bounds = Bounds {
            // A round sends what it has to several members, and may reach the limit with the first of them.
            transmissions: common.retransmit_mult * (spread + 1) + common.gossip_nodes as u32,
            broadcasts: SEATS_MAX * 8 + 1000,
            tombstones: SEATS_MAX,
        };
        let settings = options.clone();
        let mut world = World::new(
            options.seed,
            Weather::calm(),
            Box::new(move |identity| settings.config(identity)),
            Oracles::new(bounds),
        );
        world.record_to(out);
        Self {
            options,
            world,
            rng: Rng::new(options.seed ^ 0xfa_0175),
            acts: Queue::default(),
            pattern: 0,
            lost: Vec::new(),
            said: 0,
            joined_by: Instant::MAX,
        }
    }

    fn all(&mut self) -> Result<Report, Violation> {
        self.form()?;
        self.storm()?;
        let converged_after = self.calm()?;
        self.quiet()?;
        let counts = self.world.watch().counts();
        let mut tally = self.world.tally().clone();
        tally.false_deaths = counts.false_deaths;
        tally.delivered = counts.delivered;
        tally.responses = counts.responses;
        let trace = self.world.trace();
        Ok(Report {
            tally,
            converged_after,
            hash: trace.map_or(0, Trace::hash),
            records: trace.map_or(0, Trace::count),
        })
    }

    fn form(&mut self) -> Check {
        self.world.record(Record::Phase("the pool forms"));
        for at in 0..self.options.members {
            self.newcomer(at < SEEDS, format!("m{at}"));
            let when = self.world.now() + self.rng.between(Duration::ZERO, Duration::from_secs(2));
            self.acts.push(when, Act::Start(at, Keeps::Nothing));
        }
        if self.options.early {
            return Ok(());
        }
        self.act_until(self.world.now() + Duration::from_secs(2))?;
        let took = self.converge(convergence_bound(&self.options.common(), self.options.members))?;
        self.joined_by = self.world.now();
        self.world.record(Record::Phase(if took.is_zero() {
            "formed at once"
        } else {
            "formed"
        }));
        Ok(())
    }

    fn newcomer(&mut self, server: bool, name: String) -> usize {
        let next = self.world.scene().members.len();
        let seeds = (0..SEEDS.min(self.options.members))
            .filter(|seed| *seed != next)
            .collect();
        self.world.add(name, server, seeds)
    }

    fn storm(&mut self) -> Check {
        self.world.record(Record::Phase("faults"));
        self.world.set_weather(self.options.weather.clone());
        let begin = self.world.now();
        for (fault, mean) in &self.options.faults {
            let when = begin + self.gap(*mean);
            self.acts.push(when, Act::Fault(*fault, *mean));
        }
        self.act_until(begin + self.options.faults_for)
    }

    /// Everything is mended, and everybody who is to come back does.
    fn calm(&mut self) -> Result<Duration, Violation> {
        while let Some((_, act)) = self.acts.pop(Instant::MAX) {
            match act {
                Act::Start(at, keeps) => self.start(at, keeps)?,
                Act::Fault(..) | Act::Mend(_) | Act::Speed(_) | Act::Heal(_) => {}
            }
        }
        // Whom everybody is told to join must be there, or those who remember nobody would never meet.
        for at in 0..SEEDS.min(self.options.members) {
            self.world.start(at, Keeps::All)?;
        }
        self.world.calm();
        let begin = self.world.now();
        while (0..self.world.scene().members.len()).any(|at| self.world.is_frozen(at)) {
            self.world.run_for(POLL)?;
        }
        let config = self.options.common();
        let bound = convergence_bound(&config, self.world.scene().members.len());
        self.converge(bound)?;
        let took = self.world.now().since(begin);
        // Probes that began while there were faults may still fail, and be contradicted.
        self.world
            .run_for((config.probe_interval + config.probe_timeout) * (config.awareness_max + 1) * 2)?;
        self.converge(bound)?;
        Ok(took)
    }

    fn quiet(&mut self) -> Check {
        self.world.record(Record::Phase("quiet"));
        let before = self.world.tally().clone();
        self.world.watch_mut().settle(true);
        self.world.run_for(QUIET)?;
        self.world.watch_mut().settle(false);
        let up = self.world.up();
        for at in &up {
            if let Some(machine) = self.world.machine(*at) {
                tables_match(self.world.watch(), *at, machine)?;
            }
        }
        let config = self.options.common();
        let probes = QUIET.as_secs_f64() / config.probe_interval.as_secs_f64();
        // A probe and its answer, and as much again for what is passed on about coordinates and events.
        let allowed = 4.0 * probes * up.len() as f64;
        let sent = self.world.tally().datagrams - before.datagrams;
        ensure("calm is quiet", sent as f64 <= allowed, || {
            format!(
                "{sent} datagrams among {} members in {QUIET:?}, {allowed:.0} are enough",
                up.len()
            )
        })?;
        let scene = self.world.scene();
        let oracles = self.world.watch();
        oracles.unanswered(
            scene,
            Instant::from_nanos(scene.now.as_nanos() - QUIET.as_nanos() as u64),
        )?;
        oracles.events_heard(scene, self.joined_by)
    }

    /// Lets time pass until everybody's view is the truth. Returns how long that took.
    fn converge(&mut self, bound: Duration) -> Result<Duration, Violation> {
        let begin = self.world.now();
        loop {
            let Some(wrong) = view::difference(&self.world) else {
                return Ok(self.world.now().since(begin));
            };
            ensure(
                "convergence after calm",
                self.world.now().since(begin) < bound,
                || format!("after {bound:?} {wrong}"),
            )?;
            self.world.run_for(POLL)?;
        }
    }

    fn act_until(&mut self, until: Instant) -> Check {
        while let Some((at, act)) = self.acts.pop(until) {
            self.world.run_until(at)?;
            self.act(act)?;
        }
        self.world.run_until(until)
    }

    fn act(&mut self, act: Act) -> Check {
        match act {
            Act::Fault(fault, mean) => {
                let when = self.world.now() + self.gap(mean);
                self.acts.push(when, Act::Fault(fault, mean));
                self.happen(fault)
            }
            Act::Start(at, keeps) => self.start(at, keeps),
            Act::Mend(at) => {
                self.world.set_trouble(at, Trouble::default());
                Ok(())
            }
            Act::Speed(at) => {
                self.world.slow_down(at, Duration::ZERO);
                Ok(())
            }
            Act::Heal(pattern) => {
                if pattern == self.pattern {
                    self.world.heal_partitions();
                }
                Ok(())
            }
        }
    }

    fn start(&mut self, at: usize, keeps: Keeps) -> Check {
        if self.lost.contains(&at) {
            return Ok(());
        }
        self.world.start(at, keeps)
    }

    fn happen(&mut self, fault: Fault) -> Check {
        let up = self.world.up();
        let Some(at) = self.rng.pick(&up).copied() else {
            return Ok(());
        };
        let broken = self.broken();
        match fault {
            Fault::Crash => self.crash(at),
            Fault::PowerCut => {
                self.world.power_cut();
                for at in up {
                    self.restart_later(at);
                }
            }
            Fault::Freeze => self.world.freeze(at, broken),
            Fault::Slow => {
                let by = Duration::from_millis(one_of(&mut self.rng, &[50, 300, 1500]));
                self.world.slow_down(at, by);
                self.later(broken, Act::Speed(at));
            }
            Fault::Lossy => {
                let loss_permille = one_of(&mut self.rng, &[100, 300, 500, 900]);
                let trouble = Trouble {
                    loss_permille,
                    ..Trouble::default()
                };
                self.world.set_trouble(at, trouble);
                self.later(broken, Act::Mend(at));
            }
            Fault::OnePlane => {
                let no_datagrams = self.rng.chance(1, 2);
                let trouble = Trouble {
                    no_datagrams,
                    no_streams: !no_datagrams,
                    ..Trouble::default()
                };
                self.world.set_trouble(at, trouble);
                self.later(broken, Act::Mend(at));
            }
            Fault::Partition => {
                let groups = self.rng.below(2) as u32 + 2;
                let members = self.world.scene().members.len();
                let groups: Vec<(usize, u32)> = (0..members)
                    .map(|at| (at, self.rng.below(u64::from(groups)) as u32))
                    .collect();
                self.world.partition(&groups);
                self.heal_later(broken);
            }
            Fault::Cut => {
                for _ in 0..=self.rng.below(up.len() as u64 * 2) {
                    let to = *self.rng.pick(&up).unwrap_or(&at);
                    let from = *self.rng.pick(&up).unwrap_or(&at);
                    if from != to {
                        self.world.cut(from, to);
                    }
                }
                self.heal_later(broken);
            }
            // Those whom everybody is told to join do not leave: the others would not look for them any more, and they, when they come
            // back, would know only each other.
            Fault::Leave if at < SEEDS => {}
            Fault::Leave => {
                self.world.leave(at)?;
                if self.rng.chance(1, 2) {
                    self.restart_later(at);
                }
            }
            Fault::Replace => self.replace()?,
            Fault::Force => self.force(at)?,
            Fault::Newcomer => {
                let seats = self.world.scene().members.len();
                if seats < SEATS_MAX {
                    let new = self.newcomer(false, format!("m{seats}"));
                    self.start(new, Keeps::Nothing)?;
                }
            }
            Fault::Retag => {
                self.said += 1;
                let value = self.said.to_string();
                self.world.retag(at, "version", &value)?;
            }
            Fault::Event => {
                self.said += 1;
                let payload = Bytes::from(self.said.to_string());
                let (id, now) = (self.world.scene().members[at].id, self.world.now());
                self.world.watch_mut().will_fire(id, payload.clone(), now);
                self.world.fire(at, "deploy", payload)?;
            }
            Fault::Query => {
                let timeout = self.rng.chance(1, 2).then_some(Duration::from_secs(5));
                let relay = self.rng.below(3) as u8;
                self.world.query(
                    at,
                    QueryParams {
                        name: "uptime".to_owned(),
                        payload: Bytes::new(),
                        nodes: Vec::new(),
                        tags: Vec::new(),
                        relay,
                        acks: relay > 0,
                        timeout,
                    },
                )?;
            }
        }
        Ok(())
    }

    fn crash(&mut self, at: usize) {
        self.world.crash(at);
        // Some never come back.
        if self.rng.chance(4, 5) {
            self.restart_later(at);
        }
    }

    fn restart_later(&mut self, at: usize) {
        let keeps = match self.rng.below(4) {
            0 => Keeps::Nothing,
            1 => Keeps::Older,
            _ => Keeps::All,
        };
        let broken = self.broken();
        if self.rng.chance(1, 4) {
            self.world.move_away(at);
        }
        self.later(broken, Act::Start(at, keeps));
    }

    /// A machine dies for good, and another gets its name.
    fn replace(&mut self) -> Check {
        let scene = self.world.scene();
        let seats = scene.members.len();
        let gone: Vec<usize> = (SEEDS..seats)
            .filter(|at| scene.members[*at].fate == Fate::Crashed && !self.lost.contains(at))
            .collect();
        let Some(at) = self.rng.pick(&gone).copied() else {
            return Ok(());
        };
        if seats >= SEATS_MAX {
            return Ok(());
        }
        self.lost.push(at);
        let name = self.world.scene().members[at].name.clone();
        self.world.count_replacement();
        let new = self.newcomer(false, name);
        self.start(new, Keeps::Nothing)
    }

    /// Somebody is given up for good, by an operator who believes what one member says.
    fn force(&mut self, at: usize) -> Check {
        let Some(machine) = self.world.machine(at) else {
            return Ok(());
        };
        let failed: Vec<usize> = machine
            .members()
            .filter(|member| member.state == lictor_gossip::MemberState::Failed)
            .filter_map(|member| self.world.scene().seat_of(member.id))
            .filter(|seat| *seat >= SEEDS)
            .collect();
        let Some(whom) = self.rng.pick(&failed).copied() else {
            return Ok(());
        };
        let prune = self.rng.chance(1, 3);
        self.world.force_leave(at, whom, prune).map(drop)
    }

    fn later(&mut self, after: Duration, act: Act) {
        self.acts.push(self.world.now() + after, act);
    }

    fn heal_later(&mut self, after: Duration) {
        self.pattern += 1;
        self.later(after, Act::Heal(self.pattern));
    }

    fn broken(&mut self) -> Duration {
        self.rng
            .between(Duration::from_millis(100), self.options.broken_for)
    }

    /// Around the mean, and never far from it.
    fn gap(&mut self, mean: Duration) -> Duration {
        self.rng.between(mean / 10, mean * 2)
    }
}
