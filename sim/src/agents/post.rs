//! What surrounds what runs on an agent: a disk, files, probes, and those who register and ask.

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use lictor_catalog::{Status, Text};
use lictor_local::{
    self as local, AskId, CheckMethod, Definitions, Effect, Event as LocalEvent, Local, Probe, Request, RunId,
};
use lictor_machine::{NodeId, Token};
use lictor_node::agent::Input;

use super::processes::{Process, said_of, teller};
use super::records::Records;
use super::roll::{Roll, Thing, Wish};
use super::world::{Event, World, violation};
use crate::oracles::{Check, Violation, ensure};

/// How long a disk takes, at most.
const DISK_LATENCY: Duration = Duration::from_millis(2);

/// How long what is probed takes to answer, at most.
const PROBE_LATENCY: Duration = Duration::from_millis(50);

/// Who has been well for this long, probed by an agent that has been up for as long, is not removed.
const REAP_SLACK: Duration = Duration::from_hours(2);

/// See the module.
#[derive(Default)]
pub(super) struct Post {
    pub(super) records: Records,
    /// What the configuration files say.
    pub(super) files: Definitions,
    pub(super) roll: Roll,
    /// Requests without an answer.
    pub(super) wishes: BTreeMap<Token, Wish>,
    /// Probes that somebody waits for.
    pub(super) runs: BTreeSet<RunId>,
    /// The open question about this node.
    pub(super) asking: Option<AskId>,
    /// The server that is asked.
    pub(super) server: Option<NodeId>,
}

impl Post {
    /// The process ends.
    pub(super) fn stop(&mut self) {
        self.roll.stopped();
        self.wishes.clear();
        self.runs.clear();
        (self.asking, self.server) = (None, None);
    }
}

/// What happened to what runs on agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Registrations and removals that were acknowledged.
    pub done: u64,
    /// Of those, some that a full disk did not take.
    pub not_saved: u64,
    /// Services that agents removed, since they had been critical for too long.
    pub reaped: u64,
    /// Times that an agent found things of others on its node, and took them out.
    pub removed: u64,
    /// Times that an agent lost its way to the catalog.
    pub sync_failed: u64,
    /// Things that the catalog did not take.
    pub refused: u64,
    /// Changes of status.
    pub flips: u64,
    /// Questions to servers.
    pub questions: u64,
}

impl Tally {
    /// Adds another one.
    pub const fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.not_saved += other.not_saved;
        self.reaped += other.reaped;
        self.removed += other.removed;
        self.sync_failed += other.sync_failed;
        self.refused += other.refused;
        self.flips += other.flips;
        self.questions += other.questions;
    }
}

impl World<'_> {
    /// What runs on an agent, from what is on its disk and in its files.
    pub(super) fn boot_local(&mut self, at: usize, seed: u64) -> Result<Local, Violation> {
        let (seat, truth) = (&mut self.seats[at], &self.truth[at]);
        let ip = seat.place.address().ip();
        let node = local::node_def(truth.id, &truth.name, ip, ip, []);
        #[allow(unused_mut, reason = "changed only by sabotage")]
        let mut config = self.pace.local(node, seed, seat.server);
        #[cfg(feature = "sabotage")]
        {
            config.sabotage = self.sabotage;
        }
        let restart = |detail: String| violation("restart", format!("m{at}: {detail}"));
        let memory = seat.post.records.read().map_err(restart)?;
        let files = seat.post.files.clone();
        let now = seat.clock.now(self.now);
        Local::start(config, memory, files, now).map_err(|error| restart(error.to_string()))
    }

    /// An agent has started: what was acknowledged to be registered is there.
    pub(super) fn compare_with_roll(&mut self, at: usize) -> Check {
        let seat = &mut self.seats[at];
        let Some(local) = seat.agent.as_ref().and_then(|agent| agent.local()) else {
            return Ok(());
        };
        let view = local.view();
        let post = &mut seat.post;
        post.roll.files(&post.files, true);
        let wrong = post.roll.difference(&view);
        post.roll.settle(&view);
        match wrong {
            None => Ok(()),
            Some(wrong) => Err(violation(
                "what is registered survives a restart",
                format!("m{at}: {wrong}"),
            )),
        }
    }

    pub(super) fn perform_local(&mut self, at: usize, effect: Effect) -> Check {
        let life = self.truth[at].life;
        match effect {
            Effect::Answer { token, result } => self.wish_over(at, token, result),
            // Whoever looks asks the machine itself.
            Effect::Publish(_) => Ok(()),
            Effect::Probe {
                run, probe, timeout, ..
            } => {
                let Probe::Tcp { address, .. } = &*probe else {
                    return Err(violation("probes are as registered", format!("m{at}: {probe:?}")));
                };
                let address = Text::from(address.as_str());
                let hangs = self.processes.at(&address).hangs;
                let wait = if hangs {
                    timeout
                } else {
                    self.rng.between(Duration::ZERO, PROBE_LATENCY)
                };
                self.seats[at].post.runs.insert(run);
                let event = Event::Probed {
                    at,
                    life,
                    run,
                    address,
                };
                self.queue.push(self.now + wait, event);
                Ok(())
            }
            Effect::StopProbe(run) => {
                let known = self.seats[at].post.runs.remove(&run);
                ensure("probes end once", known, || {
                    format!("m{at} ends {run:?}, which is over")
                })
            }
            Effect::Ask { id, question } => self.ask_servers(at, id, question),
            Effect::Save { id, changes } => {
                let earliest = self.now + self.rng.between(DISK_LATENCY / 20, DISK_LATENCY);
                let when = self.seats[at].post.records.begin(id, changes, earliest);
                self.queue.push(when, Event::Saved { at, life });
                Ok(())
            }
            Effect::Event(event) => self.local_event(at, &event),
        }
    }

    /// A probe has found something, or nobody waits for it any more.
    pub(super) fn probed(&mut self, at: usize, run: RunId, address: &Text) -> Check {
        let status = self.processes.at(address).seen();
        let input = local::Input::Probed {
            run,
            status,
            output: said_of(address, status),
        };
        self.give(at, None, Input::Local(input))
    }

    pub(super) fn saved(&mut self, at: usize) -> Check {
        let Some((id, result)) = self.seats[at].post.records.finish() else {
            return Ok(());
        };
        self.give(at, None, Input::Local(local::Input::Saved { id, result }))
    }

    fn local_event(&mut self, at: usize, event: &LocalEvent) -> Check {
        match event {
            LocalEvent::StatusChanged { to, .. } => {
                self.tally.flips += 1;
                self.did(at, "has a check of another status", *to as u64);
            }
            LocalEvent::Reaped { service, .. } => {
                self.tally.reaped += 1;
                self.did(at, "removes a critical service", self.tally.reaped);
                self.seats[at].post.roll.reaped(service);
                let Process { status, hangs, since } = self.processes.at(&address(at, service));
                let well = status != Status::Critical && !hangs;
                let since = since.max(self.truth[at].since).max(self.seats[at].resumed_at);
                ensure(
                    "who is well is not removed",
                    !well || self.now.since(since) < REAP_SLACK,
                    || format!("m{at} removes {service}, which has been {status} since {since:?}"),
                )?;
            }
            LocalEvent::Removed { .. } => self.tally.removed += 1,
            LocalEvent::SyncFailed(_) => self.tally.sync_failed += 1,
            LocalEvent::Refused { .. } => self.tally.refused += 1,
            LocalEvent::Confirmed { .. }
            | LocalEvent::BelowThreshold { .. }
            | LocalEvent::InSync
            | LocalEvent::Trouble(_) => {}
            LocalEvent::Raised { check, to } => {
                return Err(violation(
                    "durations are long enough",
                    format!("m{at} raises one of {check} to {to:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Somebody wants something of what runs on an agent that is up.
    pub(super) fn wish(&mut self, at: usize, wish: Wish) -> Check {
        if !self.truth[at].fate.is_up() {
            return Ok(());
        }
        let post = &mut self.seats[at].post;
        if let Wish::Set(thing, entry) = &wish
            && !post.roll.ask(thing, entry.as_ref())
        {
            return Ok(());
        }
        match wish.request() {
            Some(request) => self.demand(at, wish, request),
            None => Ok(()),
        }
    }

    /// The files of an agent say this from now on. Whether it is told so, or reads them at its next start only.
    pub(super) fn write_files(&mut self, at: usize, files: Definitions, reload: bool) -> Check {
        let post = &mut self.seats[at].post;
        post.files = files;
        if !reload || !self.truth[at].fate.is_up() {
            return Ok(());
        }
        post.roll.files(&post.files, false);
        let files = post.files.clone();
        self.wish(at, Wish::Reload(files))
    }

    fn demand(&mut self, at: usize, wish: Wish, request: Request) -> Check {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.seats[at].post.wishes.insert(token, wish);
        let input = local::Input::Request { token, request };
        self.give(at, None, Input::Local(input))
    }

    fn wish_over(&mut self, at: usize, token: Token, result: Result<(), local::Error>) -> Check {
        let post = &mut self.seats[at].post;
        let Some(wish) = post.wishes.remove(&token) else {
            return Err(violation(
                "requests are answered once",
                format!("m{at} answers {token:?}, which is not open"),
            ));
        };
        let durable = match result {
            Ok(()) => true,
            Err(local::Error::NotSaved(_)) => false,
            // There may be no such check.
            Err(local::Error::NotTtl(_)) if matches!(wish, Wish::Tell) => return Ok(()),
            Err(error) => {
                return Err(violation(
                    "registrations are taken",
                    format!("m{at} refuses {wish:?}: {error}"),
                ));
            }
        };
        match wish {
            Wish::Set(thing, entry) => {
                post.roll.done(&thing, entry, durable);
                self.tally.done += 1;
                self.tally.not_saved += u64::from(!durable);
            }
            // What files say need not be saved.
            Wish::Reload(files) => post.roll.files(&files, true),
            Wish::Tell => {}
        }
        Ok(())
    }

    /// Everything on a machine that tells its checks how it is does so.
    pub(super) fn tell(&mut self, at: usize) -> Check {
        let life = self.truth[at].life;
        let wait = self
            .rng
            .between(self.pace.tell_interval / 2, self.pace.tell_interval);
        self.queue.push(self.now + wait, Event::Tell { at, life });
        let Some(local) = self.seats[at].agent.as_ref().and_then(|agent| agent.local()) else {
            return Ok(());
        };
        let view = local.view();
        for (_, check) in view.checks.iter() {
            let process = self.processes.at(&teller(check));
            if !matches!(check.spec.method, CheckMethod::Ttl(_)) || process.hangs {
                continue;
            }
            let request = Request::UpdateTtl {
                check: check.def.id.clone(),
                status: process.status,
                output: said_of(&teller(check), process.status),
            };
            self.demand(at, Wish::Tell, request)?;
        }
        Ok(())
    }

    /// The disk with what runs on an agent takes nothing, or takes it again.
    pub(super) fn fill_disk(&mut self, at: usize, full: bool) {
        self.did(at, "has a disk that is full, or is no longer", u64::from(full));
        self.seats[at].post.records.full = full;
    }

    /// Something happens to a process.
    pub(super) fn set_process(&mut self, address: Text, process: Process) {
        self.processes.set(address, process);
    }

    /// The disk of a client that is down is replaced by an empty one.
    pub(super) fn lose_disk(&mut self, at: usize) {
        self.did(at, "has lost its disk", 0);
        let seat = &mut self.seats[at];
        seat.memories = lictor_node::agent::Memories::default();
        seat.post.records.replace();
        seat.post.roll.disk_lost();
    }

    /// What an agent shows is what was registered, and every check is as what it checks.
    pub(super) fn local_difference(&self, at: usize) -> Option<String> {
        let view = self.agent(at)?.local()?.view();
        let roll = &self.seats[at].post.roll;
        let wrong = roll
            .difference(&view)
            .or_else(|| self.processes.difference(&view))?;
        Some(format!("on m{at} {wrong}"))
    }

    /// Things that may be registered with an agent by request.
    pub(super) fn registered(&self, at: usize) -> Vec<Thing> {
        self.seats[at].post.roll.registered()
    }
}

/// Where what belongs to a service, or what a check of the node is about, is found.
pub(super) fn address(at: usize, name: &str) -> Text {
    format!("m{at}/{name}").into()
}
