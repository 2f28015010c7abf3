//! The world: one virtual time, one queue of events in a total order, servers with their disks and clocks, the links between them, and
//! clients.
//!
//! Events are ordered by time, and those of one time by the order in which they were scheduled; all randomness comes from the seed. So a
//! seed and its options give one run, whatever machine it is run on.

mod clients;
mod disks;
mod event;
mod faults;
mod links;
mod lives;
mod phases;
mod seat;
mod turns;

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::Write;

use lictor_machine::{Instant, NodeId, Rng, Token};

use self::clients::Client;
use self::event::Event;
use self::seat::Seat;
use crate::host::{Act, CallLoss, Host, Stimulus};
use crate::network::{Network, Weather};
use crate::oracles::{Bounds, Check, Oracles, Violation};
use crate::queue::Queue;
use crate::report::Counters;
use crate::swarm::Options;
use crate::trace::{Record, Trace};

/// A simulated cluster.
pub struct World<'w, H: Host> {
    options: Options,
    now: Instant,
    queue: Queue<Event>,
    rng: Rng,
    seats: Vec<Seat<H>>,
    network: Network,
    pattern: u64,
    /// Calls that have reached their server: by that server's number for them, who called and how.
    calls: BTreeMap<u64, (usize, u64, u64)>,
    next_call: u64,
    clients: Vec<Client>,
    /// Counts what clients ask and hear, so that their histories have an order even where time stands still.
    moments: u64,
    next_token: u64,
    /// Requests without an answer: the client, and the server.
    open: BTreeMap<Token, (usize, usize)>,
    oracles: Oracles,
    trace: Trace<'w>,
    counters: Counters,
    undecided: u64,
    stormy: bool,
    acts: Vec<Act>,
}

impl<'w, H: Host> World<'w, H> {
    /// A cluster of servers with empty disks, none of them started. The trace goes to `out` as it grows.
    pub fn new(options: Options, out: Option<&'w mut dyn Write>) -> Self {
        let servers = options.setup.servers.clone();
        let count = servers.len();
        let raft = &options.setup.raft;
        let bounds = Bounds {
            // One append over the window, and an entry that is larger than an append should be.
            bytes_in_flight: raft.window_bytes.get() + raft.append_bytes_max.get() + 4096,
            writes_in_flight: 10_000,
        };
        let mut rng = Rng::new(options.seed);
        Self {
            now: Instant::ZERO,
            queue: Queue::default(),
            seats: servers.iter().map(|id| Seat::new(*id)).collect(),
            network: Network::new(count, Weather::calm(), rng.fork()),
            pattern: 0,
            calls: BTreeMap::new(),
            next_call: 0,
            clients: (0..options.clients)
                .map(|_| Client::new(rng.fork(), options.keys))
                .collect(),
            moments: 0,
            next_token: 0,
            open: BTreeMap::new(),
            oracles: Oracles::new(servers, bounds, options.keys),
            trace: Trace::new(out),
            counters: Counters::default(),
            undecided: 0,
            stormy: false,
            acts: Vec::new(),
            rng,
            options,
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.queue.push(at, event);
    }

    fn schedule_in(&mut self, after: Duration, event: Event) {
        self.schedule(self.now + after, event);
    }

    fn record(&mut self, record: Record) {
        self.trace.record(self.now, record);
    }

    fn did(&mut self, at: usize, what: &'static str, number: u64) {
        self.record(Record::Did { at, what, number });
    }

    /// Lets time pass until `until`, or until `done` holds. Whether it did.
    fn run_until(&mut self, until: Instant, mut done: impl FnMut(&Self) -> bool) -> Result<bool, Violation> {
        loop {
            if done(self) {
                return Ok(true);
            }
            if self.queue.is_empty() {
                return Err(violation(
                    "liveness",
                    "nothing is going to happen any more".into(),
                ));
            }
            let Some((at, event)) = self.queue.pop(until) else {
                self.now = until;
                return Ok(done(self));
            };
            self.now = at;
            self.counters.events += 1;
            self.happen(event)?;
        }
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Arrive(packet) => self.arrive(packet),
            Event::Notice { at, life, peer } if self.lives(at, life) => {
                let peer = self.seats[peer].id;
                self.stimulate(at, Stimulus::Unreachable(peer))
            }
            Event::LogWritten { at, life } if self.lives(at, life) => self.log_written(at),
            Event::StateWritten { at, life } if self.lives(at, life) => self.state_written(at),
            Event::Read {
                at,
                life,
                id,
                first,
                last,
                max_bytes,
            } if self.lives(at, life) => {
                let entries = self.seats[at]
                    .disk
                    .entries(first, last, max_bytes)
                    .map_err(storage)?;
                self.counters.fetches += 1;
                self.stimulate(at, Stimulus::Fetched(id, Ok(entries)))
            }
            Event::Wake { at, life } if self.lives(at, life) => {
                self.seats[at].wake_at = Instant::MAX;
                self.turn(at)
            }
            Event::Turn { at, life } if self.lives(at, life) => self.turn(at),
            Event::CallOver { at, life, id } if self.lives(at, life) => {
                if self.seats[at].calls.remove(&id) {
                    let result = Err(CallLoss { maybe_sent: true });
                    return self.stimulate(at, Stimulus::CallDone { id, result });
                }
                Ok(())
            }
            Event::Resume { at, life } if self.lives(at, life) => self.resume(at),
            Event::Notice { .. }
            | Event::LogWritten { .. }
            | Event::StateWritten { .. }
            | Event::Read { .. }
            | Event::Wake { .. }
            | Event::Turn { .. }
            | Event::CallOver { .. }
            | Event::Resume { .. } => Ok(()),
            Event::Client(client) => self.client_acts(client),
            Event::GiveUp { client, token } => {
                self.client_gives_up(client, token);
                Ok(())
            }
            Event::Fault(fault) => self.fault(fault),
            Event::Restart { at } => self.start(at),
            Event::Heal { pattern } => {
                if pattern == self.pattern {
                    self.heal_links();
                }
                Ok(())
            }
            Event::DiskWell { at } => {
                self.seats[at].slowness = 1;
                self.did(at, "disk is well", 0);
                Ok(())
            }
        }
    }

    fn lives(&self, at: usize, life: u64) -> bool {
        self.seats[at].life == life && self.seats[at].host.is_some()
    }

    fn position(&self, id: NodeId) -> Result<usize, Violation> {
        let found = self.seats.iter().position(|seat| seat.id == id);
        found.ok_or_else(|| {
            violation(
                "addressing",
                format!("something was meant for {id:?}, which does not exist"),
            )
        })
    }
}

fn violation(property: &'static str, detail: String) -> Violation {
    Violation { property, detail }
}

fn storage(detail: String) -> Violation {
    violation("storage contract", detail)
}
