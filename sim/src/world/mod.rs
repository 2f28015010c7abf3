//! The world: one virtual time, one queue of events in a total order, servers with their disks and clocks, the links between them, and
//! clients.
//!
//! Events are ordered by time, and those of one time by the order in which they were scheduled; all randomness comes from the seed. So a
//! seed and its options give one run, whatever machine it is run on.

mod clients;
mod disks;
mod faults;
mod links;
mod phases;
mod seat;

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::Write;

use bytes::Bytes;
use lictor_machine::{Index, Instant, NodeId, Rng, Token};
use lictor_raft::{FetchId, Role, Status};

use crate::disk::{LogWrite, StateWrite};
use crate::host::{Act, CallLoss, Host, Mark, Stimulus};
use crate::network::{Channel, Network, Weather};
use crate::oracles::{Bounds, Check, Oracles, Violation};
use crate::report::Counters;
use crate::swarm::{Fault, Options};
use crate::trace::{Gist, Record, Trace, gist, write_gist};

use clients::Client;
use seat::Seat;

/// Something that will happen. `life` is that of the server when it was scheduled: what belongs to an earlier life does not happen.
#[derive(Debug)]
enum Event {
    Arrive(Packet),
    Notice {
        at: usize,
        life: u64,
        peer: usize,
    },
    LogWritten {
        at: usize,
        life: u64,
    },
    StateWritten {
        at: usize,
        life: u64,
    },
    Read {
        at: usize,
        life: u64,
        id: FetchId,
        first: Index,
        last: Index,
        max_bytes: usize,
    },
    Wake {
        at: usize,
        life: u64,
    },
    Turn {
        at: usize,
        life: u64,
    },
    CallOver {
        at: usize,
        life: u64,
        id: u64,
    },
    Client(usize),
    GiveUp {
        client: usize,
        token: Token,
    },
    Fault(Fault),
    Restart {
        at: usize,
    },
    Resume {
        at: usize,
        life: u64,
    },
    Heal {
        pattern: u64,
    },
    DiskWell {
        at: usize,
    },
}

#[derive(Debug)]
struct Scheduled {
    at: Instant,
    order: u64,
    event: Event,
}

#[derive(Clone, Debug)]
struct Packet {
    from: usize,
    to: usize,
    life: u64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Message { bytes: Bytes, gist: Gist },
    Call { id: u64, body: Bytes },
    Reply { id: u64, body: Bytes },
}

/// A simulated cluster.
pub struct World<'w, H: Host> {
    options: Options,
    now: Instant,
    order: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    rng: Rng,
    seats: Vec<Seat<H>>,
    network: Network,
    pattern: u64,
    /// Calls that have reached their server: by that server's number for them, who called and how.
    calls: BTreeMap<u64, (usize, u64, u64)>,
    next_call: u64,
    clients: Vec<Client>,
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
            order: 0,
            queue: BinaryHeap::new(),
            seats: servers.iter().map(|id| Seat::new(*id)).collect(),
            network: Network::new(count, Weather::calm(), rng.fork()),
            pattern: 0,
            calls: BTreeMap::new(),
            next_call: 0,
            clients: (0..options.clients)
                .map(|_| Client::new(rng.fork(), options.keys))
                .collect(),
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
        self.order += 1;
        self.queue.push(Reverse(Scheduled {
            at,
            order: self.order,
            event,
        }));
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
            let Some(Reverse(next)) = self.queue.peek() else {
                return Err(violation(
                    "liveness",
                    "nothing is going to happen any more".into(),
                ));
            };
            if next.at > until {
                self.now = until;
                return Ok(done(self));
            }
            let Some(Reverse(Scheduled { at, event, .. })) = self.queue.pop() else {
                continue;
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

    /// Starts a server that is down.
    fn start(&mut self, at: usize) -> Check {
        if self.seats[at].host.is_some() {
            return Ok(());
        }
        let bound = self.options.setup.raft.max_clock_drift_permille;
        let drift = self.rng.below(u64::from(bound) + 1) as u32 + self.excess_drift();
        let seed = self.rng.next_u64();
        let seat = &mut self.seats[at];
        seat.boot(&self.options.setup, seed, self.now, drift)
            .map_err(|detail| violation("restart", format!("server {}: {detail}", at + 1)))?;
        let state = seat.host.as_ref().map(Host::state);
        if let Some(state) = state {
            self.oracles.booted(at, seat.disk.durable(), state)?;
        }
        let life = seat.life;
        self.counters.starts += 1;
        self.did(at, "starts", life);
        let seat = &mut self.seats[at];
        let local = seat.clock.now(self.now);
        if let Some(host) = &mut seat.host {
            host.found(&self.options.setup, local)
                .map_err(|detail| violation("founding", detail))?;
        }
        self.turn(at)
    }

    /// Kills a server: it keeps what was durable, and perhaps some of what was being written.
    fn crash(&mut self, at: usize) -> Check {
        if self.seats[at].host.is_none() {
            return Ok(());
        }
        let unsettled = self.seats[at].disk.unsettled();
        let durable = self.seats[at].crash(&mut self.rng).map_err(storage)?;
        self.counters.crashes += 1;
        self.counters.lost_writes += (unsettled - durable.len()) as u64;
        self.open.retain(|_, (_, asked)| *asked != at);
        self.did(at, "crashes, losing writes", (unsettled - durable.len()) as u64);
        self.oracles.crashed(at, &durable)
    }

    fn resume(&mut self, at: usize) -> Check {
        let seat = &mut self.seats[at];
        if !core::mem::take(&mut seat.asleep) {
            return Ok(());
        }
        let life = seat.life;
        let waiting = core::mem::take(&mut seat.inbox);
        self.did(at, "wakes up, with inputs waiting", waiting.len() as u64);
        if self.rng.chance(1, 2) {
            self.turn(at)?;
        }
        for stimulus in waiting {
            if self.lives(at, life) {
                self.stimulate(at, stimulus)?;
            }
        }
        self.turn(at)
    }

    /// Gives a server an input. One that is asleep finds it later; one that is down never does.
    fn stimulate(&mut self, at: usize, stimulus: Stimulus) -> Check {
        let seat = &mut self.seats[at];
        let Some(host) = &mut seat.host else { return Ok(()) };
        if seat.asleep {
            seat.inbox.push_back(stimulus);
            return Ok(());
        }
        let local = seat.clock.now(self.now);
        if let Err(detail) = host.handle(local, stimulus)
            && host.fault().is_none()
        {
            return Err(violation(
                "inputs of an honest world are accepted",
                format!("server {}: {detail}", at + 1),
            ));
        }
        if self.stormy && self.rng.chance(self.options.batch_permille, 1000) {
            let event = Event::Turn { at, life: seat.life };
            let delay = self
                .rng
                .between(Duration::from_micros(1), Duration::from_millis(2));
            self.schedule_in(delay, event);
            return Ok(());
        }
        self.turn(at)
    }

    /// A turn of a server: deadlines, then everything it wants done.
    fn turn(&mut self, at: usize) -> Check {
        let seat = &mut self.seats[at];
        let Some(host) = seat.host.as_mut().filter(|_| !seat.asleep) else {
            return Ok(());
        };
        let local = seat.clock.now(self.now);
        if host.deadline().is_some_and(|deadline| deadline <= local.mono) {
            host.wake(local);
        }
        let mut acts = core::mem::take(&mut self.acts);
        while let Some(act) = host.poll(local, &seat.disk).map_err(storage)? {
            acts.push(act);
        }
        if let Some(fault) = host.fault() {
            acts.clear();
            self.acts = acts;
            return self.stopped(at, &fault);
        }
        for act in &acts {
            if let Act::Persist(batch) = act {
                self.trace.record(
                    self.now,
                    Record::Issued {
                        at,
                        gist: write_gist(batch),
                    },
                );
                self.oracles.issued(at, batch)?;
            }
        }
        let status = host.status();
        self.note_standing(at, &status);
        self.oracles.turned(at, &status)?;
        for act in acts.drain(..) {
            self.perform(at, act)?;
        }
        self.acts = acts;
        self.begin_writes(at);
        self.set_alarm(at);
        Ok(())
    }

    /// A machine has stopped for good. Only a failed disk may be the reason.
    fn stopped(&mut self, at: usize, fault: &str) -> Check {
        if !self.seats[at].disk_failed {
            return Err(violation(
                "fail-stop only with cause",
                format!("server {} stopped: {fault}", at + 1),
            ));
        }
        self.did(at, "stops for good", 0);
        self.crash(at)?;
        self.restart_later(at);
        Ok(())
    }

    fn note_standing(&mut self, at: usize, status: &Status) {
        let standing = (status.role, status.term, status.commit, status.applied);
        let before = core::mem::replace(&mut self.seats[at].standing, standing);
        if before == standing {
            return;
        }
        if status.role == Role::Leader && before.0 != Role::Leader {
            self.counters.elections += 1;
        }
        let (role, term, commit, applied) = standing;
        self.record(Record::Standing {
            at,
            role,
            term,
            commit,
            applied,
        });
    }

    fn perform(&mut self, at: usize, act: Act) -> Check {
        let life = self.seats[at].life;
        match act {
            Act::Persist(batch) => {
                self.counters.compactions += u64::from(batch.compact_to.is_some());
                self.counters.truncations += u64::from(batch.truncate_from.is_some());
                self.seats[at].disk.issue(LogWrite::Batch(batch));
            }
            Act::SaveNotes(notes) => self.seats[at].disk.issue(LogWrite::Notes(notes)),
            Act::Send { to, message, bytes } => {
                let to_seat = self.position(to)?;
                self.oracles.sent(at, to, &message)?;
                let gist = gist(&message);
                self.record(Record::Sent {
                    from: at,
                    to: to_seat,
                    gist,
                });
                let body = Body::Message { bytes, gist };
                self.send(
                    Packet {
                        from: at,
                        to: to_seat,
                        life,
                        body,
                    },
                    Channel::Raft(message.body.lane()),
                );
            }
            Act::Fetch {
                id,
                first,
                last,
                max_bytes,
            } => {
                let delay = self.disk_delay(at);
                self.schedule_in(
                    delay,
                    Event::Read {
                        at,
                        life,
                        id,
                        first,
                        last,
                        max_bytes,
                    },
                );
            }
            Act::Store(batch) => self.seats[at].disk.issue_state(StateWrite::Batch(batch)),
            Act::ReplaceState(meta) => self.seats[at].disk.issue_state(StateWrite::Replace(meta)),
            Act::StoreWhole(applied, state) => {
                self.seats[at].disk.issue_state(StateWrite::Whole(applied, state));
            }
            Act::Call {
                id,
                to,
                body,
                timeout,
            } => {
                let to = self.position(to)?;
                let seat = &mut self.seats[at];
                seat.calls.insert(id);
                let over = seat.clock.true_time(seat.clock.mono(self.now) + timeout);
                self.schedule(over, Event::CallOver { at, life, id });
                self.send(
                    Packet {
                        from: at,
                        to,
                        life,
                        body: Body::Call { id, body },
                    },
                    Channel::Rpc,
                );
            }
            Act::Reply { id, body } => {
                if let Some((caller, caller_life, call)) = self.calls.remove(&id) {
                    let body = Body::Reply { id: call, body };
                    self.send(
                        Packet {
                            from: at,
                            to: caller,
                            life: caller_life,
                            body,
                        },
                        Channel::Rpc,
                    );
                }
            }
            Act::Answer(token, answer) => {
                self.record(Record::Answered { at, token, answer });
                self.oracles.answered(at, token, &answer)?;
                self.client_hears(token, answer);
            }
            Act::Applied(entries) => self.oracles.applied(at, &entries)?,
            Act::Publish { state, touched } => self.oracles.published(at, &state, &touched)?,
            Act::Mark(Mark::Restored) => self.counters.snapshots += 1,
            Act::Mark(Mark::DiskStalled) => self.counters.disk_stalls += 1,
            Act::Mark(Mark::QuorumLost) => self.counters.quorums_lost += 1,
            Act::Mark(Mark::Removed) => self.counters.removals += 1,
            Act::Mark(Mark::Member(cluster)) => self.oracles.member(at, cluster)?,
        }
        Ok(())
    }

    /// Makes sure that the server is woken when its machine wants it.
    fn set_alarm(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        let Some(deadline) = seat.host.as_ref().and_then(Host::deadline) else {
            return;
        };
        let due = seat
            .clock
            .true_time(deadline)
            .max(self.now + Duration::from_nanos(1));
        if due < seat.wake_at {
            seat.wake_at = due;
            let life = seat.life;
            self.schedule(due, Event::Wake { at, life });
        }
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

fn violation(property: &'static str, detail: String) -> Violation {
    Violation { property, detail }
}

fn storage(detail: String) -> Violation {
    violation("storage contract", detail)
}
