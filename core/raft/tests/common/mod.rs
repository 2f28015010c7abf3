//! A cluster of Raft nodes in one process and in virtual time: every message and every write is at the test's command.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its part"
)]
#![allow(clippy::unwrap_used, reason = "a test harness")]

mod disk;
mod members;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use lictor_machine::{Index, Instant, Machine, NodeId, Now, Token};
use lictor_raft::{
    AppendReply, Body, Committed, Config, Configuration, Effect, Entry, Event, Fetched, HardState, Input,
    LogId, Message, Outcome, Payload, Raft, ReadMode, Role, SnapshotMeta, Term, WriteBatch,
};

pub use disk::*;
pub use members::*;

pub struct Server {
    pub raft: Raft,
    pub disk: Disk,
    /// Writes that are not durable yet.
    pub writes: VecDeque<WriteBatch>,
    /// While false, writes wait until the test says so.
    pub auto_persist: bool,
    pub resolved: BTreeMap<Token, Outcome>,
    pub committed: BTreeMap<Token, LogId>,
    pub events: Vec<Event>,
    pub alive: bool,
    /// While set, reading the store fails.
    pub unreadable: bool,
}

pub struct Cluster {
    pub now: Instant,
    pub servers: BTreeMap<NodeId, Server>,
    /// Messages on their way.
    pub wire: VecDeque<(NodeId, NodeId, Message)>,
    /// Links that are cut, one way each.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub configure: fn(&mut Config),
    next_token: u64,
    /// The leader of each term: at most one, ever.
    leaders: BTreeMap<u64, NodeId>,
    /// What was applied at each index: the same everywhere, ever.
    applied: BTreeMap<Index, Entry>,
    /// The highest index that somebody outside knows to be committed.
    acknowledged: Index,
    /// Where each open read began.
    reads: BTreeMap<(NodeId, Token), Index>,
    /// How many effects each server emitted, for those who count.
    pub effects: BTreeMap<NodeId, u64>,
}

pub fn n(id: u128) -> NodeId {
    NodeId(id)
}

impl Cluster {
    pub fn new(size: u128) -> Self {
        Self::with(size, |_| {})
    }

    /// A cluster whose every log begins with the members, as if it had been founded long ago.
    pub fn with(size: u128, configure: fn(&mut Config)) -> Self {
        let members = Configuration::of((1..=size).map(NodeId));
        let first = Entry {
            id: LogId::new(1, 1),
            payload: Payload::Members(members),
        };
        let disk = Disk {
            hard: HardState {
                term: Term(1),
                vote: None,
                commit: Index(1),
            },
            entries: BTreeMap::from([(Index(1), first)]),
            ..Disk::default()
        };
        let mut cluster = Self::empty(configure);
        for id in 1..=size {
            cluster.add(NodeId(id), disk.clone());
        }
        cluster
    }

    pub fn empty(configure: fn(&mut Config)) -> Self {
        Self {
            now: Instant::from_millis(1),
            servers: BTreeMap::new(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            configure,
            next_token: 0,
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            acknowledged: Index::ZERO,
            reads: BTreeMap::new(),
            effects: BTreeMap::new(),
        }
    }

    /// Server 1 with this disk; everybody else is played by the test.
    pub fn lone(disk: Disk) -> Self {
        let mut cluster = Self::empty(|_| {});
        cluster.add(n(1), disk);
        cluster
    }

    pub fn add(&mut self, id: NodeId, mut disk: Disk) {
        let mut config = Config::lan(id, id.0 as u64);
        // The conversations speak of these times.
        config.election_timeout = Duration::from_millis(500);
        config.heartbeat_interval = Duration::from_millis(100);
        (self.configure)(&mut config);
        let raft = Raft::start(config, &disk.boot(), Now::at(self.now)).unwrap();
        let server = Server {
            raft,
            disk,
            writes: VecDeque::new(),
            auto_persist: true,
            resolved: BTreeMap::new(),
            committed: BTreeMap::new(),
            events: Vec::new(),
            alive: true,
            unreadable: false,
        };
        self.servers.insert(id, server);
    }

    pub fn server(&mut self, id: NodeId) -> &mut Server {
        self.servers.get_mut(&id).unwrap()
    }

    pub fn raft(&self, id: NodeId) -> &Raft {
        &self.servers[&id].raft
    }

    /// Loses the server's memory and every write that was not durable.
    pub fn crash(&mut self, id: NodeId) {
        let server = self.server(id);
        server.alive = false;
        server.writes.clear();
        self.reads.retain(|(at, _), _| *at != id);
    }

    pub fn restart(&mut self, id: NodeId) {
        let disk = self.server(id).disk.clone();
        self.add(id, disk);
    }

    pub fn cut_off(&mut self, id: NodeId) {
        for other in self.servers.keys().copied().filter(|other| *other != id) {
            self.cut.insert((id, other));
            self.cut.insert((other, id));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn input(&mut self, id: NodeId, input: Input) -> Result<(), lictor_raft::Reject> {
        let now = Now::at(self.now);
        let result = self.server(id).raft.handle(now, input);
        self.drain(id);
        result
    }

    /// Hands over a message as if it had just arrived.
    pub fn deliver(&mut self, from: NodeId, to: NodeId, message: Message) {
        let _ = self.input(to, Input::Message { from, message });
    }

    /// Lets time pass without delivering anything, and wakes everybody once.
    pub fn tick(&mut self, duration: Duration) {
        self.now = self.now + duration;
        for id in self.ids() {
            let now = Now::at(self.now);
            if self.servers[&id].alive {
                self.server(id).raft.handle_timeout(now);
                self.drain(id);
            }
        }
    }

    /// Everything on the wire.
    pub fn sent(&mut self) -> Vec<(NodeId, Message)> {
        self.wire
            .drain(..)
            .map(|(_, to, message)| (to, message))
            .collect()
    }

    /// Makes the lone server 1 the leader of the next term, by the vote of server 2. All its writes become durable.
    pub fn win(&mut self) {
        self.tick(Duration::from_secs(2));
        let ask = self.sent();
        let Some((
            _,
            Message {
                term,
                body: Body::PreVote { poll, .. },
            },
        )) = ask.into_iter().next()
        else {
            panic!("no pre-vote");
        };
        let granted = true;
        self.deliver(
            n(2),
            n(1),
            Message {
                term,
                body: Body::PreVoteReply { poll, granted },
            },
        );
        self.persist(n(1));
        let asked = self.sent();
        let Some((
            _,
            Message {
                body: Body::Vote { poll, .. },
                ..
            },
        )) = asked.into_iter().next()
        else {
            panic!("no vote");
        };
        let commit = LogId::ZERO;
        self.deliver(
            n(2),
            n(1),
            Message {
                term,
                body: Body::VoteReply {
                    poll,
                    granted,
                    commit,
                },
            },
        );
        assert_eq!(self.raft(n(1)).role(), Role::Leader);
    }

    /// Server `from` acknowledges everything up to `through` to the lone server 1.
    pub fn accept(&mut self, from: u128, through: u64) {
        let term = self.raft(n(1)).term().0;
        let through = Index(through);
        let body = Body::AppendReply(AppendReply::Accepted { through });
        self.deliver(n(from), n(1), message(term, body));
    }

    /// Asks for a read, whose answer must not be older than anything known when it was asked.
    pub fn read(&mut self, at: NodeId, mode: ReadMode) -> Result<Token, lictor_raft::Reject> {
        let token = self.token();
        self.reads.insert((at, token), self.acknowledged);
        let result = self.input(at, Input::Read { token, mode });
        if result.is_err() {
            self.reads.remove(&(at, token));
        }
        result.map(|()| token)
    }

    /// A new leader holds everything that was ever committed (Leader Completeness, §5.4).
    fn check_leader(&self, id: NodeId) {
        let raft = &self.servers[&id].raft;
        for (index, entry) in self.applied.range(raft.status().base.index.next()..) {
            assert_eq!(
                raft.id_at(*index),
                Some(entry.id),
                "leader completeness of {id:?}"
            );
        }
    }

    /// Whatever is applied is durable on a quorum: of the configuration in force there, or of a later one that somebody has in its log, by
    /// which it may have been counted.
    fn check_quorum(&self, id: LogId) {
        let mut tried = BTreeSet::new();
        for server in self.servers.values() {
            let last = server.raft.status().last.index;
            for index in id.index.0..=last.0.max(id.index.0) {
                let members = server.raft.members_at(Index(index));
                if !members.members().iter().all(|id| self.servers.contains_key(id)) {
                    // The test plays the others, and answers for them.
                    return;
                }
                let fresh = tried.insert((members.voters.clone(), members.outgoing.clone()));
                let enough = |group: &BTreeSet<NodeId>| {
                    let holders = group.iter().filter(|member| self.servers[*member].disk.holds(id));
                    group.is_empty() || holders.count() * 2 > group.len()
                };
                if fresh && !members.is_empty() && enough(&members.voters) && enough(&members.outgoing) {
                    return;
                }
            }
        }
        panic!("{id} was applied, and no majority holds it durably: {tried:?}");
    }

    /// Carries out whatever the node wants done; messages are put on the wire.
    pub fn drain(&mut self, id: NodeId) {
        let now = Now::at(self.now);
        loop {
            let server = self.servers.get_mut(&id).unwrap();
            if !server.alive {
                return;
            }
            let mut inputs = Vec::new();
            let mut fresh = Vec::new();
            while let Some(effect) = server.raft.poll_effect() {
                *self.effects.entry(id).or_default() += 1;
                match effect {
                    Effect::Persist(batch) => {
                        server.writes.push_back(*batch);
                    }
                    Effect::Send { to, message } => self.wire.push_back((id, to, message)),
                    Effect::Fetch { id: fetch, what } => {
                        let data = if server.unreadable {
                            Fetched::Failed("unreadable".into())
                        } else {
                            fetch_from(&server.disk, &server.raft, what)
                        };
                        inputs.push(Input::Fetched { id: fetch, data });
                    }
                    Effect::Apply(batch) => {
                        let through = batch.last().unwrap().entry.id.index;
                        for Committed { entry, token } in batch {
                            assert_eq!(entry.id.index, server.disk.applied.next(), "applied out of order");
                            server.disk.applied = entry.id.index;
                            let same = self.applied.entry(entry.id.index).or_insert_with(|| {
                                fresh.push(entry.id);
                                entry.clone()
                            });
                            assert_eq!(*same, entry, "state machine safety");
                            if let Payload::Command(data) = entry.payload {
                                server.disk.state.push(data);
                            }
                            if let Some(token) = token {
                                assert!(server.committed.insert(token, entry.id).is_none());
                                assert!(!server.resolved.contains_key(&token), "resolved, then committed");
                                self.acknowledged = self.acknowledged.max(entry.id.index);
                            }
                        }
                        inputs.push(Input::Applied { through });
                    }
                    Effect::Restore(meta) => {
                        server.disk.load_staged();
                        inputs.push(Input::Applied {
                            through: meta.last.index,
                        });
                    }
                    Effect::Resolve { token, outcome } => {
                        assert!(server.resolved.insert(token, outcome).is_none(), "resolved twice");
                        assert!(!server.committed.contains_key(&token), "committed, then resolved");
                        if let Outcome::Read { index } = outcome {
                            let floor = self.reads.get(&(id, token)).copied().unwrap_or_default();
                            assert!(index >= floor, "a stale read: {index} after {floor} was known");
                            assert!(server.disk.applied >= index, "a read before its index is applied");
                            self.acknowledged = self.acknowledged.max(index);
                        }
                    }
                    Effect::Event(event) => server.events.push(event),
                }
            }
            if server.auto_persist && !server.writes.is_empty() {
                for batch in server.writes.drain(..) {
                    server.disk.write(&batch);
                    inputs.push(Input::Persisted { through: batch.id });
                }
            }
            let leads = server.raft.role() == Role::Leader;
            let term = server.raft.term().0;
            for entry in fresh {
                self.check_quorum(entry);
            }
            if leads && !self.leaders.contains_key(&term) {
                self.check_leader(id);
            }
            if leads {
                let leader = self.leaders.entry(term).or_insert(id);
                assert_eq!(*leader, id, "election safety");
            }
            if inputs.is_empty() {
                return;
            }
            for input in inputs {
                self.server(id).raft.handle(now, input).unwrap();
            }
        }
    }

    /// Makes the oldest waiting write of the server durable.
    pub fn persist_one(&mut self, id: NodeId) -> Option<WriteBatch> {
        let batch = self.server(id).writes.pop_front()?;
        self.server(id).disk.write(&batch);
        self.input(id, Input::Persisted { through: batch.id }).unwrap();
        Some(batch)
    }

    /// Makes every waiting write of the server durable.
    pub fn persist(&mut self, id: NodeId) {
        while let Some(batch) = self.server(id).writes.pop_front() {
            self.server(id).disk.write(&batch);
            self.input(id, Input::Persisted { through: batch.id }).unwrap();
        }
    }

    /// Delivers everything on the wire, and what that causes, without time passing.
    pub fn settle(&mut self) {
        for id in self.ids() {
            self.drain(id);
        }
        for _ in 0..100_000 {
            let Some((from, to, message)) = self.wire.pop_front() else {
                return;
            };
            if !self.cut.contains(&(from, to)) && self.servers.get(&to).is_some_and(|server| server.alive) {
                self.deliver(from, to, message);
            }
        }
        panic!("the cluster does not settle");
    }

    /// Lets time pass, in small steps, delivering everything as it comes.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.settle();
            self.now = self.now + Duration::from_millis(5);
            for id in self.ids() {
                if self.servers[&id].alive {
                    let now = Now::at(self.now);
                    self.server(id).raft.handle_timeout(now);
                    self.drain(id);
                }
            }
        }
        self.settle();
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    /// The leader of the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        let leading = self
            .servers
            .iter()
            .filter(|(_, server)| server.alive && server.raft.role() == Role::Leader);
        leading
            .max_by_key(|(_, server)| server.raft.term())
            .map(|(id, _)| *id)
    }

    pub fn elect(&mut self) -> NodeId {
        for _ in 0..100 {
            self.run(Duration::from_millis(100));
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("no leader in ten seconds");
    }

    /// Makes `id` the leader, whoever led before.
    pub fn elect_this(&mut self, id: NodeId) {
        for _ in 0..50 {
            self.elect();
            self.run(Duration::from_millis(300));
            let Some(leader) = self.leader() else { continue };
            if leader == id {
                return;
            }
            let token = self.token();
            let _ = self.input(leader, Input::Transfer { token, to: Some(id) });
            self.settle();
        }
        panic!("{id:?} does not become leader");
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Proposes a command of eight bytes.
    pub fn propose(&mut self, at: NodeId, data: &str) -> Token {
        let token = self.token();
        let data = Bytes::from(format!("{data:<8}"));
        assert_eq!(data.len(), 8);
        self.input(at, Input::Propose { token, data }).unwrap();
        token
    }

    /// Asks for other members.
    pub fn reconfigure(
        &mut self,
        at: NodeId,
        voters: impl IntoIterator<Item = u128>,
        learners: impl IntoIterator<Item = u128>,
    ) -> Result<Token, lictor_raft::Reject> {
        let token = self.token();
        let input = Input::Reconfigure {
            token,
            voters: voters.into_iter().map(n).collect(),
            learners: learners.into_iter().map(n).collect(),
        };
        self.input(at, input).map(|()| token)
    }

    /// Whether the change of members that was asked for at `at` has been made.
    pub fn is_reconfigured(&self, at: NodeId, token: Token) -> bool {
        let outcome = self.servers[&at].resolved.get(&token);
        matches!(outcome, Some(Outcome::Reconfigured { .. }))
    }

    pub fn state(&self, id: NodeId) -> Vec<String> {
        let text = |data: &Bytes| String::from_utf8_lossy(data).trim().to_owned();
        self.servers[&id].disk.state.iter().map(text).collect()
    }

    /// Takes every message on the wire that `wanted` picks.
    pub fn take(&mut self, wanted: impl Fn(NodeId, NodeId, &Body) -> bool) -> Vec<(NodeId, NodeId, Message)> {
        let (taken, left): (Vec<_>, Vec<_>) = self
            .wire
            .drain(..)
            .partition(|(from, to, message)| wanted(*from, *to, &message.body));
        self.wire = left.into();
        taken
    }
}
