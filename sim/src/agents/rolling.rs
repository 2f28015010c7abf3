//! A rolling restart: many agents, each with several services, are restarted one after the other, the servers last. No reader may notice:
//! nothing that was well is ever seen to be critical, and no node or service vanishes, not on any server.

use core::fmt;
use core::time::Duration;
use std::io::Write;

use lictor_catalog::{ServiceDef, Text};
use lictor_local::{CheckMethod, Definitions, ServiceSpec};
use lictor_machine::Rng;
use lictor_node::agent::Input;

use super::deeds::{named, probe};
use super::pace::{Pace, Plan};
use super::post::address;
use super::roll::{Entry, Thing, Wish};
use super::run::Failure;
use super::world::{World, violation};
use crate::gossip::measure::interner;
use crate::gossip::trace::Trace;
use crate::gossip::truth::Fate;
use crate::oracles::{Check, Violation, ensure};

/// How many servers there are.
const SERVERS: usize = 3;

/// From the start of one agent to that of the next.
const START_GAP: Duration = Duration::from_millis(50);

/// How long an agent is gone for its restart: as long as it takes to start a program.
const GONE_MIN: Duration = Duration::from_millis(100);
const GONE_MAX: Duration = Duration::from_millis(1200);

/// From one agent's return to the next one's end.
const STEP: Duration = Duration::from_millis(1500);

/// The same for servers: each must have caught up before the next one goes.
const SERVER_STEP: Duration = Duration::from_secs(30);

/// How long everything may take to be as it should be, before and after.
const SYNCED_WITHIN: Duration = Duration::from_mins(30);

/// How often that is looked at.
const POLL: Duration = Duration::from_secs(5);

/// Everything that a rolling restart depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How many client agents there are.
    pub agents: usize,
    /// How many services each of them has: half of them from files, half by request.
    pub services: usize,
    /// The mistake that every agent makes with what runs on it.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<lictor_local::Sabotage>,
}

impl Options {
    /// So many agents with so many services each.
    pub const fn new(seed: u64, agents: usize, services: usize) -> Self {
        Self {
            seed,
            agents,
            services,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

/// What a rolling restart that nobody noticed did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Agents restarted, servers among them.
    pub restarts: u64,
    /// Services that were there in the end.
    pub services: u64,
    /// How often a reader saw something change while agents were restarted.
    pub seen: u64,
    /// For how long they were.
    pub took: Duration,
    /// The digest of the trace.
    pub hash: u64,
}

impl Report {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.restarts += other.restarts;
        self.services += other.services;
        self.seen += other.seen;
        self.took = self.took.max(other.took);
        self.hash ^= other.hash;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} restarts in {:.0?} of virtual time, {} services, readers saw {} changes, none for the worse; digest {:016x}",
            self.restarts, self.took, self.services, self.seen, self.hash
        )
    }
}

/// Runs a rolling restart to its end. The trace goes to `out` as it grows.
pub fn run_options(options: Options, out: Option<&mut dyn Write>) -> Result<Report, Box<Failure>> {
    let mut plan = Plan::new(options.seed, SERVERS, 0, Pace::data_center());
    plan.watch_gossip = false;
    plan.interner = Some(interner());
    #[cfg(feature = "sabotage")]
    {
        plan.sabotage = options.sabotage;
    }
    let mut rolling = Rolling {
        options,
        world: World::new(plan, out),
        rng: Rng::new(options.seed ^ 0x0011_0115),
    };
    rolling.all().map_err(|violation| {
        let Options {
            seed,
            agents,
            services,
            ..
        } = options;
        Box::new(Failure {
            violation,
            options: format!("seed {seed}, {agents} agents with {services} services each"),
            tail: Trace::tail(rolling.world.trace()),
            replay: format!("--kind rolling --agents {agents} --services {services} --seed {seed}"),
        })
    })
}

struct Rolling<'w> {
    options: Options,
    world: World<'w>,
    rng: Rng,
}

impl Rolling<'_> {
    fn all(&mut self) -> Result<Report, Violation> {
        self.world.phase("the cluster forms");
        for at in 0..SERVERS {
            self.world.start(at)?;
        }
        self.world.run_for(Duration::from_secs(10))?;
        for number in 0..self.options.agents {
            let at = self.world.add(format!("c{number}"), false);
            self.world.write_files(at, self.files(at), false)?;
            self.world.start(at)?;
            for service in self.options.services / 2..self.options.services {
                let spec = service_of(at, service);
                let thing = Thing::Service(spec.def.id.clone());
                let entry = Entry::Service(Box::new(spec));
                self.world.wish(at, Wish::Set(thing, Some(entry)))?;
            }
            self.world.run_for(START_GAP)?;
        }
        self.sync()?;
        self.world.phase("the rolling restart");
        self.world.readers.all_is_well = true;
        let (begin, seen) = (self.world.now(), self.world.readers.seen);
        for at in SERVERS..SERVERS + self.options.agents {
            self.restart(at, STEP)?;
        }
        for at in 0..SERVERS {
            self.restart(at, SERVER_STEP)?;
        }
        let took = self.world.now().since(begin);
        self.sync()?;
        self.world.last_look()?;
        Ok(Report {
            restarts: (self.options.agents + SERVERS) as u64,
            services: self.world.services(),
            seen: self.world.readers.seen - seen,
            took,
            hash: self.world.trace().hash(),
        })
    }

    /// Every other agent is killed, the others are told to stop.
    fn restart(&mut self, at: usize, step: Duration) -> Check {
        if self.rng.chance(1, 2) {
            self.world.crash(at)?;
        } else {
            self.world.stop(at)?;
            // A server hands over before it goes.
            let mut patience = 100;
            while self.world.scene().members[at].fate == Fate::Running {
                patience -= 1;
                ensure("agents stop when told to", patience > 0, || {
                    format!("m{at} does not")
                })?;
                self.world.run_for(Duration::from_millis(100))?;
            }
        }
        let gone = self.rng.between(GONE_MIN, GONE_MAX);
        self.world.run_for(gone)?;
        self.world.start(at)?;
        self.world.run_for(step)
    }

    fn files(&self, at: usize) -> Definitions {
        let numbers = 0..self.options.services / 2;
        Definitions {
            services: numbers.map(|number| service_of(at, number)).collect(),
            checks: Vec::new(),
        }
    }

    fn sync(&mut self) -> Check {
        let begin = self.world.now();
        while let Some(wrong) = self.world.catalog_difference() {
            if self.world.now().since(begin) > SYNCED_WITHIN {
                return Err(violation(
                    "the catalog is the truth after calm",
                    format!("after {SYNCED_WITHIN:?} {wrong}"),
                ));
            }
            self.world.run_for(POLL)?;
        }
        Ok(())
    }
}

impl World<'_> {
    /// Has an agent stop in good order, to come back.
    fn stop(&mut self, at: usize) -> Check {
        self.did(at, "is told to stop", 0);
        self.give(at, None, Input::Stop)
    }
}

/// One of the services of an agent, with a check that looks, or one that is told.
fn service_of(at: usize, number: usize) -> ServiceSpec {
    let id = format!("s{number}");
    let pace = Pace::data_center();
    let process = address(at, &id);
    let method = if number.is_multiple_of(3) {
        CheckMethod::Ttl(pace.tell_interval * 3)
    } else {
        probe(&process, pace.probe_interval)
    };
    let mut check = named(&format!("{id}-check"), &process);
    check.method = method;
    check.service_id = id.as_str().into();
    ServiceSpec {
        def: ServiceDef {
            id: id.as_str().into(),
            name: format!("service-{number}").into(),
            port: 8000,
            ..ServiceDef::default()
        },
        token: Text::default(),
        checks: vec![check],
    }
}
