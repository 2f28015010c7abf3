//! Whole nodes in one process and in virtual time, on disks in memory and with calls and messages at the test's command.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test harness"
)]

pub mod archives;
pub mod played;
mod seat;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use lictor_catalog::{Action, Builder, Found, KvPair, KvWrite, Query};
use lictor_machine::{Instant, Machine, NodeId, Now, Token, UnixMillis};
use lictor_node::store::{LogStore, MemoryDisk, StateStore};
use lictor_node::{
    Answer, Call, CallFailure, CallId, ClusterId, Config, Effect, InboundId, Input, Node, Reject, Reply,
    Request, Target,
};
use lictor_raft::{Fetch, Fetched, Message, ReadMode, Role};

pub use seat::{LogJob, Seat, StateJob};

pub const fn n(id: u128) -> NodeId {
    NodeId(id)
}

pub fn address(id: NodeId) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + id.0 as u16))
}

#[derive(Debug)]
pub enum Packet {
    Raft {
        from: NodeId,
        to: NodeId,
        cluster: ClusterId,
        message: Message,
    },
    Call {
        from: NodeId,
        id: CallId,
        to: NodeId,
        call: Call,
    },
    Reply {
        from: NodeId,
        to: NodeId,
        id: CallId,
        reply: Reply,
    },
}

pub struct World {
    pub now: Instant,
    pub seats: BTreeMap<NodeId, Seat>,
    pub wire: VecDeque<Packet>,
    /// Links that are cut, one way each.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Replies of writes to these servers get lost.
    pub deaf: BTreeSet<NodeId>,
    inbound: BTreeMap<InboundId, (NodeId, NodeId, CallId)>,
    next: u64,
    leaders: BTreeMap<u64, NodeId>,
    clusters: BTreeSet<ClusterId>,
}

impl World {
    pub fn new() -> Self {
        Self {
            now: Instant::from_millis(1),
            seats: BTreeMap::new(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            inbound: BTreeMap::new(),
            next: 0,
            leaders: BTreeMap::new(),
            clusters: BTreeSet::new(),
        }
    }

    /// Servers 1 to `size` that know each other's addresses and expect `expect`.
    pub fn of(size: u128, expect: u32, configure: impl Fn(&mut Config)) -> Self {
        let mut world = Self::new();
        for id in 1..=size {
            let contacts: Vec<u128> = (1..=size).collect();
            world.add(id, expect, &contacts, &configure);
        }
        world
    }

    /// Three servers that have founded a cluster and have a leader.
    pub fn founded(configure: impl Fn(&mut Config)) -> (Self, NodeId) {
        let mut world = Self::of(3, 3, configure);
        let leader = world.elect();
        world.run(Duration::from_secs(2));
        (world, leader)
    }

    pub fn add(&mut self, id: u128, expect: u32, contacts: &[u128], configure: impl Fn(&mut Config)) {
        let id = n(id);
        let mut config = Config::new(id, format!("server-{}", id.0), address(id), id.0 * 7919);
        config.expect = expect;
        configure(&mut config);
        let contacts = contacts.iter().map(|id| address(n(*id))).collect();
        self.start(config, MemoryDisk::new(), contacts);
    }

    fn start(&mut self, config: Config, disk: MemoryDisk, contacts: Vec<SocketAddr>) {
        let (mut log, mut state) = disk.open().unwrap();
        let boot = log.load(1 << 20).unwrap();
        let mut rows = Builder::new();
        let mark = state.load(&mut |row| {
            rows.add(row).unwrap();
            Ok(())
        });
        let mark = mark.unwrap();
        let published = rows.finish(mark.applied.index).unwrap();
        let node = Node::start(config.clone(), boot, (published.clone(), mark), self.time()).unwrap();
        let id = config.id;
        let seat = Seat {
            node,
            config,
            disk,
            log,
            state,
            alive: true,
            log_jobs: VecDeque::new(),
            state_jobs: VecDeque::new(),
            hold_log: false,
            hold_state: false,
            crash_after: None,
            answers: BTreeMap::new(),
            published,
            standing: None,
            events: Vec::new(),
            contacts: contacts.clone(),
            left: false,
            removed: false,
            expelled: BTreeSet::new(),
            wakes: 0,
        };
        self.seats.insert(id, seat);
        self.input(id, Input::Contacts(contacts)).unwrap();
    }

    pub fn time(&self) -> Now {
        let wall = UnixMillis(1_700_000_000_000 + self.now.as_nanos() / 1_000_000);
        Now { mono: self.now, wall }
    }

    pub fn seat(&mut self, id: NodeId) -> &mut Seat {
        self.seats.get_mut(&id).unwrap()
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.seats.keys().copied().collect()
    }

    pub fn crash(&mut self, id: NodeId) {
        let seat = self.seat(id);
        seat.alive = false;
        seat.disk.crash();
        seat.log_jobs.clear();
        seat.state_jobs.clear();
        // Whoever waits for its replies learns that there will be none.
        let gone: Vec<InboundId> = self
            .inbound
            .iter()
            .filter(|(_, (_, to, _))| *to == id)
            .map(|(id, _)| *id)
            .collect();
        for inbound in gone {
            let (caller, _, call) = self.inbound.remove(&inbound).unwrap();
            self.call_failed(caller, call, true);
        }
    }

    pub fn restart(&mut self, id: NodeId) {
        let seat = self.seats.remove(&id).unwrap();
        self.start(seat.config, seat.disk, seat.contacts);
    }

    pub fn cut_off(&mut self, id: NodeId) {
        for other in self.ids().into_iter().filter(|other| *other != id) {
            self.cut.insert((id, other));
            self.cut.insert((other, id));
        }
    }

    pub fn separate(&mut self, a: u128, b: u128) {
        self.cut.insert((n(a), n(b)));
        self.cut.insert((n(b), n(a)));
    }

    pub fn input(&mut self, id: NodeId, input: Input) -> Result<(), Reject> {
        let now = self.time();
        let result = self.seat(id).node.handle(now, input);
        self.drain(id);
        result
    }

    fn call_failed(&mut self, caller: NodeId, id: CallId, maybe_sent: bool) {
        if self.seats.get(&caller).is_some_and(|seat| seat.alive) {
            let detail = "unreachable".to_owned();
            let result = Err(CallFailure { maybe_sent, detail });
            let _ = self.input(caller, Input::CallDone { id, result });
        }
    }

    /// Takes and carries out whatever the node wants done.
    pub fn drain(&mut self, id: NodeId) {
        loop {
            let mut failed = Vec::new();
            let seat = self.seats.get_mut(&id).unwrap();
            if !seat.alive {
                return;
            }
            while let Some(effect) = seat.node.poll_effect() {
                match effect {
                    Effect::Persist(batch) => seat.log_jobs.push_back(LogJob::Write(batch)),
                    Effect::SaveNotes(notes) => seat.log_jobs.push_back(LogJob::Notes(notes)),
                    Effect::Store(batch) => {
                        assert!(seat.state_jobs.is_empty(), "one at a time");
                        seat.state_jobs.push_back(StateJob::Write(batch));
                    }
                    Effect::ReplaceState(meta) => {
                        let replacing = |job: &StateJob| matches!(job, StateJob::Replace(_));
                        assert!(!seat.state_jobs.iter().any(replacing), "two replacements");
                        seat.state_jobs.push_back(StateJob::Replace(meta));
                    }
                    Effect::StoreWhole { applied, state } => {
                        seat.state_jobs.push_back(StateJob::Whole(applied, state));
                    }
                    Effect::Send { to, cluster, message } => {
                        self.wire.push_back(Packet::Raft {
                            from: id,
                            to,
                            cluster,
                            message,
                        });
                    }
                    Effect::Fetch { id: fetch, what } => {
                        let Fetch::Entries {
                            first,
                            last,
                            max_bytes,
                        } = what
                        else {
                            panic!("the driver is asked for a chunk")
                        };
                        let entries = seat.log.reader().entries(first, last, max_bytes).unwrap();
                        let data = Fetched::Entries(entries);
                        seat.node
                            .handle(Now::at(self.now), Input::Fetched { id: fetch, data })
                            .unwrap();
                    }
                    Effect::Publish(published) => {
                        assert!(published.state.index() >= seat.published.index());
                        seat.published = published.state;
                    }
                    Effect::Standing(standing) => seat.standing = Some(standing),
                    Effect::Call {
                        id: call_id,
                        to,
                        call,
                        ..
                    } => {
                        let to = match to {
                            Target::Node(id) => Some(id),
                            Target::Address(at) => Some(n(u128::from(at.port() - 10_000))),
                        };
                        match to {
                            Some(to) => self.wire.push_back(Packet::Call {
                                from: id,
                                id: call_id,
                                to,
                                call,
                            }),
                            None => failed.push(call_id),
                        }
                    }
                    Effect::Reply { id: inbound, reply } => {
                        let (to, me, call) = self
                            .inbound
                            .remove(&inbound)
                            .expect("replied twice, or to nobody");
                        assert_eq!(me, id);
                        self.wire.push_back(Packet::Reply {
                            from: id,
                            to,
                            id: call,
                            reply,
                        });
                    }
                    Effect::Answer { token, answer } => {
                        if let Answer::Readable { index } = answer {
                            assert!(seat.published.index() >= index, "readable before it is published");
                        }
                        assert!(seat.answers.insert(token, answer).is_none(), "answered twice");
                    }
                    Effect::Event(event) => seat.events.push(event),
                    Effect::Address(_) => {}
                    Effect::Expel(server) => {
                        seat.expelled.insert(server);
                    }
                    Effect::Removed => {
                        assert!(!seat.removed, "removed twice");
                        seat.removed = true;
                    }
                    Effect::Stopped => {
                        assert!(seat.state_jobs.is_empty(), "left with rows on their way");
                        assert!(!seat.left, "left twice");
                        seat.left = true;
                    }
                }
            }
            let status = seat.node.raft_status();
            if status.role == Role::Leader {
                assert_eq!(
                    *self.leaders.entry(status.term.0).or_insert(id),
                    id,
                    "election safety"
                );
            }
            self.clusters.extend(seat.node.notes().cluster);
            assert!(self.clusters.len() <= 1, "two clusters");
            if failed.is_empty() && !self.work(id) {
                return;
            }
            for call in failed {
                self.call_failed(id, call, false);
            }
        }
    }

    /// Does one job of each store that is not held. Whether there was any.
    fn work(&mut self, id: NodeId) -> bool {
        let seat = self.seats.get_mut(&id).unwrap();
        let mut inputs = Vec::new();
        if !seat.hold_log && !seat.log_jobs.is_empty() {
            if seat.crash_after == Some(0) {
                self.crash(id);
                return true;
            }
            seat.crash_after = seat.crash_after.map(|left| left - 1);
            inputs.extend(seat.work_log());
        }
        let seat = self.seats.get_mut(&id).unwrap();
        if !seat.hold_state {
            inputs.extend(seat.work_state());
        }
        let now = self.time();
        for input in &inputs {
            let _ = self.seat(id).node.handle(now, input.clone());
        }
        !inputs.is_empty()
    }

    /// Delivers everything that is on its way, and what comes of it.
    pub fn settle(&mut self) {
        for id in self.ids() {
            self.drain(id);
        }
        for _ in 0..200_000 {
            let Some(packet) = self.wire.pop_front() else {
                return;
            };
            self.deliver(packet);
        }
        panic!("the world does not settle");
    }

    pub fn deliver(&mut self, packet: Packet) {
        let alive = |world: &Self, id: NodeId| world.seats.get(&id).is_some_and(|seat| seat.alive);
        match packet {
            Packet::Raft {
                from,
                to,
                cluster,
                message,
            } => {
                if alive(self, to) && !self.cut.contains(&(from, to)) {
                    let _ = self.input(
                        to,
                        Input::Raft {
                            from,
                            cluster,
                            message,
                        },
                    );
                }
            }
            Packet::Call { from, id, to, .. }
                if from != to
                    && (!alive(self, to)
                        || self.cut.contains(&(from, to))
                        || self.cut.contains(&(to, from))) =>
            {
                self.call_failed(from, id, false);
            }
            Packet::Call { from, id, to, call } => self.deliver_call(from, id, to, call),
            Packet::Reply { from, to, id, reply } => {
                let write = matches!(reply, Reply::Written { .. });
                if self.cut.contains(&(from, to)) || (write && self.deaf.contains(&to)) {
                    self.call_failed(to, id, true);
                } else if alive(self, to) {
                    let _ = self.input(
                        to,
                        Input::CallDone {
                            id,
                            result: Ok(reply),
                        },
                    );
                }
            }
        }
    }

    /// Hands a call to a server, wherever links are cut.
    pub fn deliver_call(&mut self, from: NodeId, id: CallId, to: NodeId, call: Call) {
        self.next += 1;
        let inbound = InboundId(self.next);
        self.inbound.insert(inbound, (from, to, id));
        let _ = self.input(
            to,
            Input::Call {
                id: inbound,
                from,
                call,
            },
        );
    }

    /// Hands a call to a server as if `from` had made it. Its reply ends up on the wire, to `from`.
    pub fn call(&mut self, from: NodeId, to: NodeId, call: Call) {
        self.next += 1;
        let id = InboundId(self.next);
        self.inbound.insert(id, (from, to, CallId(self.next)));
        self.input(to, Input::Call { id, from, call }).unwrap();
    }

    /// Takes the replies to `to` off the wire.
    pub fn replies(&mut self, to: NodeId) -> Vec<Reply> {
        let (mine, others): (Vec<_>, Vec<_>) = self
            .wire
            .drain(..)
            .partition(|packet| matches!(packet, Packet::Reply { to: at, .. } if *at == to));
        self.wire = others.into();
        let reply = |packet| match packet {
            Packet::Reply { reply, .. } => reply,
            other => panic!("{other:?}"),
        };
        mine.into_iter().map(reply).collect()
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.settle();
            self.now = self.now + Duration::from_millis(10);
            let now = self.time();
            for id in self.ids() {
                let seat = self.seat(id);
                if seat.alive {
                    if seat
                        .node
                        .poll_timeout()
                        .is_some_and(|deadline| deadline.at <= now.mono)
                    {
                        seat.wakes += 1;
                        seat.node.handle_timeout(now);
                        let left = seat.node.poll_timeout();
                        assert!(
                            left.is_none_or(|left| left.at > now.mono),
                            "a deadline that is not serviced"
                        );
                    }
                    self.drain(id);
                }
            }
        }
        self.settle();
    }

    pub fn leader(&self) -> Option<NodeId> {
        let leads = |seat: &&Seat| seat.alive && seat.node.raft_status().role == Role::Leader;
        let leading = self.seats.values().filter(leads);
        leading
            .max_by_key(|seat| seat.node.raft_status().term)
            .map(|seat| seat.config.id)
    }

    pub fn elect(&mut self) -> NodeId {
        for _ in 0..300 {
            self.run(Duration::from_millis(100));
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("no leader in thirty seconds");
    }

    pub fn follower(&self, leader: NodeId) -> NodeId {
        let follows = |id: &NodeId| *id != leader && self.seats[id].alive;
        self.ids().into_iter().find(follows).unwrap()
    }

    pub fn request(&mut self, at: NodeId, request: Request) -> Token {
        self.next += 1;
        let token = Token(self.next);
        self.input(at, Input::Request { token, request }).unwrap();
        token
    }

    pub fn set(&mut self, at: NodeId, key: &str, value: &str) -> Token {
        self.request(at, Request::Write(set(key, value)))
    }

    pub fn read(&mut self, at: NodeId, mode: ReadMode) -> Token {
        self.request(at, Request::Read(mode))
    }

    pub fn get(&self, at: NodeId, key: &str) -> Option<String> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let found = self.seats[&at].published.query(&Query::KvGet(key)).1;
        let Found::Entry(entry) = found else {
            panic!("{found:?}")
        };
        entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
    }

    pub fn answer(&self, at: NodeId, token: Token) -> Option<&Answer> {
        self.seats[&at].answers.get(&token)
    }

    /// Whether everybody alive holds the same state.
    pub fn agree(&self) -> bool {
        let alive = self.seats.values().filter(|seat| seat.alive);
        let digests: BTreeSet<u64> = alive.map(|seat| seat.node.state().digest()).collect();
        digests.len() == 1
    }

    /// The name of the one cluster, if one was founded.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.clusters.first().copied()
    }
}

pub fn pair(key: &str, value: &str) -> KvPair {
    KvPair {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        flags: 0,
    }
}

pub fn set(key: &str, value: &str) -> Action {
    Action::Kv(KvWrite::Set(pair(key, value)))
}
