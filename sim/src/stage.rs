//! A stage for scripts: a few bare Raft servers, where nothing happens but what the script says. Messages wait until they are delivered,
//! writes until they are completed, time until it is moved. All oracles look on.
//!
//! Servers are numbered from 1, as in the papers. A broken property, or a machine that refuses what it should take, panics.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_machine::{Instant, NodeId, Now, Token};
use lictor_raft::{Body, Config, Message, Role, Status};

use crate::disk::{Disk, LogWrite, StateWrite};
use crate::host::{Act, Host, Setup, Stimulus};
use crate::oracles::{Bounds, Check, Oracles};
use crate::raft_host::RaftHost;
use crate::workload::{Answer, Change, Freshness, Op, Target};

/// More steps than any script takes: what goes on for longer goes on for ever.
const STEPS_MAX: usize = 100_000;

/// A message that waits to be delivered.
#[derive(Clone, Debug)]
pub struct Flight {
    /// The sender.
    pub from: u8,
    /// The receiver.
    pub to: u8,
    /// What it says.
    pub message: Message,
    bytes: Bytes,
}

/// See the module.
pub struct Stage {
    setup: Setup,
    now: Instant,
    servers: Vec<Server>,
    /// What waits to be delivered, in order.
    pub flights: Vec<Flight>,
    cut: BTreeSet<(u8, u8)>,
    answers: BTreeMap<Token, Answer>,
    next_token: u64,
    oracles: Oracles,
}

struct Server {
    host: Option<RaftHost>,
    disk: Disk,
    /// Writes are not completed.
    held: bool,
    /// Reads fail.
    unreadable: bool,
    /// True time at the start of this life.
    since: Instant,
    seed: u64,
}

impl Stage {
    /// The settings that scripts begin with: an election timeout of a second, a log that is kept whole.
    pub fn setup(servers: u8) -> Setup {
        let mut raft = Config::lan(NodeId(0), 0);
        raft.election_timeout = Duration::from_secs(1);
        raft.heartbeat_interval = Duration::from_millis(100);
        raft.max_clock_drift_permille = 0;
        let servers: Vec<NodeId> = (1..=u128::from(servers)).map(NodeId).collect();
        Setup {
            expect: servers.len(),
            spares: 0,
            servers,
            raft,
            store_every: 1_000_000,
            trailing: 0,
            chunk_bytes: 100,
        }
    }

    /// Servers that have just been started for the first time; the first of them is founding the cluster.
    pub fn new(setup: Setup) -> Self {
        let ids = setup.servers.clone();
        let bounds = Bounds {
            bytes_in_flight: usize::MAX,
            writes_in_flight: 1000,
        };
        let server = |_: &NodeId| Server {
            host: None,
            disk: Disk::default(),
            held: false,
            unreadable: false,
            since: Instant::ZERO,
            seed: 0,
        };
        let mut stage = Self {
            now: Instant::from_millis(1),
            servers: ids.iter().map(server).collect(),
            flights: Vec::new(),
            cut: BTreeSet::new(),
            answers: BTreeMap::new(),
            next_token: 0,
            oracles: Oracles::new(ids, bounds, 4),
            setup,
        };
        for n in stage.all() {
            stage.restart(n);
        }
        stage
    }

    /// A cluster with server 1 as its leader, at rest.
    pub fn with_leader(setup: Setup) -> Self {
        let mut stage = Self::new(setup);
        // A server that has just started waits for the lease of a leader that it may have heard in an earlier life.
        stage.pass(stage.setup.raft.election_timeout);
        stage.elect(1);
        stage
    }

    /// All servers.
    pub fn all(&self) -> Vec<u8> {
        (1..=self.servers.len() as u8).collect()
    }

    /// Raft's view of a server that is up.
    pub fn status(&self, n: u8) -> Status {
        self.up(n).status()
    }

    /// The server's log as it is on disk.
    pub fn disk(&self, n: u8) -> &Disk {
        &self.servers[seat(n)].disk
    }

    /// Whether the server is up.
    pub fn is_up(&self, n: u8) -> bool {
        self.servers[seat(n)].host.is_some()
    }

    /// Lets time pass without anybody noticing.
    pub fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// Wakes a server whose deadline has come, or moves time to its deadline first.
    pub fn time_out(&mut self, n: u8) {
        let deadline = self.up(n).deadline();
        let deadline = deadline.unwrap_or_else(|| panic!("n{n} waits for nothing"));
        let at = Instant::from_nanos(self.servers[seat(n)].since.as_nanos() + deadline.as_nanos());
        self.now = self.now.max(at);
        let now = self.local(n);
        self.up_mut(n).wake(now);
        self.turn(n);
    }

    /// Lets time pass, with everybody waking when they want, and everything delivered and written at once.
    pub fn run(&mut self, duration: Duration) {
        self.run_but(duration, |_| false);
    }

    /// As [`Stage::run`], but for messages that `waits` names: they stay where they are.
    pub fn run_but(&mut self, duration: Duration, waits: impl Fn(&Flight) -> bool) {
        let end = self.now + duration;
        for _ in 0..STEPS_MAX {
            self.settle_but(&waits);
            let due = |n: &u8| {
                let server = &self.servers[seat(*n)];
                let deadline = server.host.as_ref()?.deadline()?;
                Some((
                    Instant::from_nanos(server.since.as_nanos() + deadline.as_nanos()),
                    *n,
                ))
            };
            let Some((at, n)) = self
                .all()
                .iter()
                .filter_map(due)
                .min()
                .filter(|(at, _)| *at <= end)
            else {
                self.now = self.now.max(end);
                return;
            };
            self.now = self.now.max(at);
            let now = self.local(n);
            self.up_mut(n).wake(now);
            self.turn(n);
        }
        panic!("time stands still");
    }

    /// Delivers every message and completes every write until nothing is left to do. No time passes.
    pub fn settle(&mut self) {
        self.settle_but(|_| false);
    }

    /// As [`Stage::settle`], but for messages that `waits` names: they stay where they are.
    pub fn settle_but(&mut self, waits: impl Fn(&Flight) -> bool) {
        for _ in 0..STEPS_MAX {
            let wrote = self
                .all()
                .into_iter()
                .any(|n| !self.servers[seat(n)].held && self.write(n));
            if wrote {
                continue;
            }
            let Some(next) = self.flights.iter().position(|flight| !waits(flight)) else {
                return;
            };
            let flight = self.flights.remove(next);
            self.deliver(flight);
        }
        panic!("the servers do not come to rest: {:?}", self.flights);
    }

    /// Delivers a message, unless its link is cut or its receiver is down.
    pub fn deliver(&mut self, flight: Flight) {
        let Flight { from, to, bytes, .. } = flight;
        if !self.cut.contains(&(from, to)) && self.is_up(to) {
            self.give(
                to,
                Stimulus::Message {
                    from: id(from),
                    bytes,
                },
            );
        }
    }

    /// Takes the messages that `wanted` names out of the network, to be delivered or forgotten by the script.
    pub fn take(&mut self, wanted: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let (taken, left) = core::mem::take(&mut self.flights).into_iter().partition(wanted);
        self.flights = left;
        taken
    }

    /// Gives a server an input.
    pub fn give(&mut self, n: u8, stimulus: Stimulus) {
        if let Err(detail) = self.try_give(n, stimulus) {
            panic!("n{n} refuses: {detail}");
        }
    }

    /// Gives a server an input that it may refuse.
    pub fn try_give(&mut self, n: u8, stimulus: Stimulus) -> Result<(), String> {
        let now = self.local(n);
        self.up_mut(n).handle(now, stimulus)?;
        self.turn(n);
        Ok(())
    }

    /// A message that nobody sent, as the transport would hand it over.
    pub fn forge(&self, from: u8, to: u8, message: Message) -> Flight {
        let bytes = Bytes::from(lictor_node::wire::encode_raft(
            crate::raft_host::CLUSTER,
            &message,
        ));
        Flight {
            from,
            to,
            message,
            bytes,
        }
    }

    /// Cuts one direction of a link. What is under way is lost on arrival.
    pub fn cut(&mut self, from: u8, to: u8) {
        self.cut.insert((from, to));
    }

    /// Cuts a server off from all others.
    pub fn isolate(&mut self, n: u8) {
        for other in self.all() {
            self.cut(n, other);
            self.cut(other, n);
        }
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// From now on the server's writes do not complete.
    pub fn hold_disk(&mut self, n: u8) {
        self.servers[seat(n)].held = true;
    }

    /// They do again, the next time the script lets things happen.
    pub fn release_disk(&mut self, n: u8) {
        self.servers[seat(n)].held = false;
    }

    /// Completes whatever the server waits for to be written. Whether there was anything.
    pub fn write(&mut self, n: u8) -> bool {
        if self.begin_write(n) {
            self.finish_write(n);
            return true;
        }
        let disk = &mut self.servers[seat(n)].disk;
        if disk.begin_state() {
            let applied = disk
                .finish_state(RaftHost::decoder())
                .unwrap_or_else(|detail| panic!("n{n}: {detail}"));
            self.give(n, Stimulus::StateStored(applied.index));
            return true;
        }
        false
    }

    /// Begins to write what the server has issued so far. Whether there was anything.
    pub fn begin_write(&mut self, n: u8) -> bool {
        self.servers[seat(n)].disk.begin().is_some()
    }

    /// What was begun to be written is on disk, and reported.
    pub fn finish_write(&mut self, n: u8) {
        let disk = &mut self.servers[seat(n)].disk;
        let finished = disk.finish().unwrap_or_else(|detail| panic!("n{n}: {detail}"));
        self.expect(|oracles| oracles.durable(seat(n), &finished.durable));
        if let Some(through) = finished.through {
            self.give(n, Stimulus::Persisted(through));
        }
    }

    /// From now on the server's disk cannot be read.
    pub fn fail_reads(&mut self, n: u8) {
        self.servers[seat(n)].unreadable = true;
    }

    /// Kills a server. Of its unfinished writes the first `kept` are on disk.
    pub fn crash(&mut self, n: u8, kept: usize) {
        let server = &mut self.servers[seat(n)];
        server.host = None;
        let durable = server
            .disk
            .crash_keeping(kept)
            .unwrap_or_else(|detail| panic!("n{n}: {detail}"));
        self.expect(|oracles| oracles.crashed(seat(n), &durable));
    }

    /// Starts a server that is down.
    pub fn restart(&mut self, n: u8) {
        let server = &mut self.servers[seat(n)];
        server.seed += 10;
        server.since = self.now;
        (server.held, server.unreadable) = (false, false);
        let now = Now::default();
        let seed = server.seed + u64::from(n);
        let mut host = RaftHost::boot(&self.setup, id(n), seed, &mut server.disk, now)
            .unwrap_or_else(|detail| panic!("n{n}: {detail}"));
        let founded = host.found(&self.setup, now);
        founded.unwrap_or_else(|detail| panic!("n{n}: {detail}"));
        let booted = self.oracles.booted(seat(n), server.disk.durable(), host.state());
        booted.unwrap_or_else(|violation| panic!("n{n}: {violation}"));
        server.host = Some(host);
        self.turn(n);
    }

    /// Has a server campaign and win, with nothing appended anywhere else: its appends wait in the network.
    pub fn elect_silently(&mut self, n: u8) {
        for _ in 0..20 {
            self.time_out(n);
            self.settle_but(is_append);
            if self.status(n).role == Role::Leader {
                return;
            }
        }
        panic!("n{n} is not elected: {:?}", self.status(n));
    }

    /// Has a server campaign, and all others hear of it and of what follows.
    pub fn elect(&mut self, n: u8) {
        for _ in 0..20 {
            if self.status(n).role == Role::Leader {
                self.settle();
                return;
            }
            self.time_out(n);
            self.settle();
        }
        panic!("n{n} is not elected: {:?}", self.status(n));
    }

    /// Asks a server to set key 0; the value is the token's number.
    pub fn propose(&mut self, n: u8) -> Token {
        let value = self.next_token + 1;
        self.ask(n, Op::Write(Change::Set { key: 0, value }))
    }

    /// Asks a server to read key 0.
    pub fn read(&mut self, n: u8, freshness: Freshness) -> Token {
        self.ask(n, Op::Get { key: 0, freshness })
    }

    /// Asks a server for other members.
    pub fn reconfigure(&mut self, n: u8, target: Target) -> Token {
        self.ask(n, Op::Reconfigure(target))
    }

    /// Asks a server.
    pub fn ask(&mut self, n: u8, op: Op) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.oracles.asked(seat(n), token, op);
        self.give(n, Stimulus::Request(token, op));
        token
    }

    /// The answer to a request, if there is one.
    pub fn answer(&self, token: Token) -> Option<Answer> {
        self.answers.get(&token).copied()
    }

    /// Mends everything, and expects all servers to agree on a leader and on the log, and nothing to be left open.
    pub fn expect_recovery(&mut self) {
        self.heal();
        for n in self.all() {
            self.release_disk(n);
            if !self.is_up(n) {
                self.restart(n);
            }
        }
        self.run(self.setup.raft.election_timeout * 20);
        self.expect_everybody();
        let statuses: Vec<Status> = self.all().into_iter().map(|n| self.status(n)).collect();
        let leader = statuses.iter().find(|status| status.role == Role::Leader);
        let leader = leader.unwrap_or_else(|| panic!("nobody leads: {statuses:#?}"));
        for status in &statuses {
            assert_eq!(
                (status.leader, status.term),
                (Some(leader.id), leader.term),
                "{statuses:#?}"
            );
            assert_eq!(
                (status.commit, status.applied, status.last),
                (leader.last.index, leader.last.index, leader.last),
                "{statuses:#?}"
            );
        }
        self.expect(|oracles| oracles.at_rest(&statuses));
        for n in self.all() {
            let image = self.servers[seat(n)].disk.durable().clone();
            self.expect(|oracles| oracles.final_scan(seat(n), &image));
        }
    }

    /// Makes everybody a voter, if somebody is not.
    fn expect_everybody(&mut self) {
        let leader = self
            .all()
            .into_iter()
            .find(|n| self.status(*n).role == Role::Leader);
        let leader = leader.unwrap_or_else(|| panic!("nobody leads: {self:?}"));
        if self.status(leader).members.voters.len() == self.servers.len() {
            return;
        }
        let token = self.reconfigure(leader, Target::everybody(self.servers.len()));
        self.run(self.setup.raft.election_timeout * 10);
        let answer = self.answer(token);
        assert!(
            matches!(answer, Some(Answer::Reconfigured { .. })),
            "{answer:?}: {self:?}"
        );
    }

    fn up(&self, n: u8) -> &RaftHost {
        self.servers[seat(n)]
            .host
            .as_ref()
            .unwrap_or_else(|| panic!("n{n} is down"))
    }

    fn up_mut(&mut self, n: u8) -> &mut RaftHost {
        self.servers[seat(n)]
            .host
            .as_mut()
            .unwrap_or_else(|| panic!("n{n} is down"))
    }

    fn local(&self, n: u8) -> Now {
        Now::at(Instant::from_nanos(
            self.now.as_nanos() - self.servers[seat(n)].since.as_nanos(),
        ))
    }

    fn expect(&mut self, look: impl FnOnce(&mut Oracles) -> Check) {
        if let Err(violation) = look(&mut self.oracles) {
            panic!("{violation}");
        }
    }

    /// Carries out what a server wants done: sends wait in the network, writes on the disk.
    fn turn(&mut self, n: u8) {
        let now = self.local(n);
        let at = seat(n);
        let mut acts = Vec::new();
        let Server { host, disk, .. } = &mut self.servers[at];
        let Some(host) = host else { return };
        while let Some(act) = host
            .poll(now, disk)
            .unwrap_or_else(|detail| panic!("n{n}: {detail}"))
        {
            acts.push(act);
        }
        if host.fault().is_some() {
            self.crash(n, 0);
            return;
        }
        let status = host.status();
        for act in &acts {
            if let Act::Persist(batch) = act {
                self.expect(|oracles| oracles.issued(at, batch));
            }
        }
        self.expect(|oracles| oracles.turned(at, &status));
        for act in acts {
            self.perform(n, act);
        }
    }

    fn perform(&mut self, n: u8, act: Act) {
        let at = seat(n);
        let disk = &mut self.servers[at].disk;
        match act {
            Act::Persist(batch) => disk.issue(LogWrite::Batch(batch)),
            Act::Store(batch) => disk.issue_state(StateWrite::Batch(batch)),
            Act::ReplaceState(meta) => disk.issue_state(StateWrite::Replace(meta)),
            Act::StoreWhole(applied, state) => disk.issue_state(StateWrite::Whole(applied, state)),
            Act::Send { to, message, bytes } => {
                self.expect(|oracles| oracles.sent(at, to, &message));
                self.flights.push(Flight {
                    from: n,
                    to: to.0 as u8,
                    message,
                    bytes,
                });
            }
            Act::Fetch {
                id,
                first,
                last,
                max_bytes,
            } => {
                let entries = disk.entries(first, last, max_bytes);
                let entries = if self.servers[at].unreadable {
                    Err("the simulated disk failed".into())
                } else {
                    entries
                };
                self.give(n, Stimulus::Fetched(id, entries));
            }
            Act::Answer(token, answer) => {
                self.expect(|oracles| oracles.answered(at, token, &answer));
                self.answers.insert(token, answer);
            }
            Act::Applied(entries) => self.expect(|oracles| oracles.applied(at, &entries)),
            Act::Publish { state, touched } => self.expect(|oracles| oracles.published(at, &state, &touched)),
            Act::Mark(_) => {}
            Act::SaveNotes(_) | Act::Call { .. } | Act::Reply { .. } => panic!("n{n} is no bare Raft server"),
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<Status> = self
            .servers
            .iter()
            .filter_map(|server| server.host.as_ref().map(Host::status))
            .collect();
        f.debug_struct("Stage")
            .field("now", &self.now)
            .field("servers", &statuses)
            .field("flights", &self.flights)
            .finish_non_exhaustive()
    }
}

/// Whether a message carries entries, or could.
pub fn is_append(flight: &Flight) -> bool {
    matches!(flight.message.body, Body::Append { .. })
}

fn seat(n: u8) -> usize {
    usize::from(n) - 1
}

fn id(n: u8) -> NodeId {
    NodeId(u128::from(n))
}
