//! A small network of members in virtual time.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "shared by test files, a module of each")]

pub mod lies;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use lictor_gossip::{
    Answer, CallId, Config, Effect, Event, Gossip, InboundId, IncomingQuery, Input, Member, MemberEvent,
    MemberState, Memory, QueryResponse, Sender, Target, UserEvent,
};
use lictor_machine::{Instant, Machine, NodeId, Now, Rng, Token};

/// A member, and the agent around it.
pub struct Host {
    pub config: Config,
    pub machine: Option<Gossip>,
    /// What it asked to have remembered, latest.
    pub memory: Memory,
    pub events: Vec<(Instant, MemberEvent)>,
    pub notes: Vec<Event>,
    pub answers: BTreeMap<Token, Answer>,
    pub left: bool,
    pub forgotten: Vec<NodeId>,
    pub user_events: Vec<UserEvent>,
    pub queries: Vec<IncomingQuery>,
    pub responses: Vec<(Token, QueryResponse)>,
    pub acks: Vec<(Token, NodeId)>,
    /// The largest packet it sent.
    pub largest: usize,
    book: BTreeMap<NodeId, SocketAddr>,
    /// Stopped: nothing is delivered until it goes on.
    frozen: bool,
    inbox: Vec<What>,
}

impl Host {
    pub fn gossip(&self) -> &Gossip {
        self.machine.as_ref().expect("it runs")
    }

    /// How this member sees another; `None` if it does not know it.
    pub fn sees(&self, id: u128) -> Option<MemberState> {
        self.gossip().member(NodeId(id)).map(|member| member.state)
    }

    /// Who is well here, by name.
    pub fn well(&self) -> Vec<String> {
        let well = self.gossip().members().filter(|member| member.state.is_well());
        let mut names: Vec<String> = well.map(|member| member.name.clone()).collect();
        names.sort();
        names
    }

    pub fn saw(&self, wanted: impl Fn(&MemberEvent) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| wanted(event)).count()
    }
}

#[derive(Debug, Clone)]
enum What {
    Packet(Sender, Bytes),
    Call {
        from: usize,
        call: CallId,
        life: u64,
        sender: Sender,
        request: Bytes,
    },
    Done {
        call: CallId,
        life: u64,
        result: Result<(Sender, Bytes), String>,
    },
}

/// The network. Everything that happens follows from its seed.
pub struct Net {
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub rng: Rng,
    /// Packets lost, in percent.
    pub loss: u64,
    /// From, to: nothing passes.
    pub cut: BTreeSet<(usize, usize)>,
    /// From, to: no datagram passes.
    pub no_datagrams: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(Instant, u64), (usize, What)>,
    serial: u64,
    lives: Vec<u64>,
    inbound: BTreeMap<(usize, InboundId), (usize, CallId, u64)>,
    wakes: BTreeSet<(Instant, usize)>,
    wake: Vec<Option<Instant>>,
    /// Addresses where somebody is.
    at: BTreeMap<SocketAddr, usize>,
}

pub fn address(n: usize) -> SocketAddr {
    ([10, 0, (n >> 8) as u8, n as u8], 8301).into()
}

/// The settings of the nth member: id n + 1, named `n<n>`.
pub fn config(n: usize) -> Config {
    Config::lan(
        NodeId(n as u128 + 1),
        format!("n{n}"),
        address(n),
        1000 + n as u64,
    )
}

pub fn id(n: usize) -> NodeId {
    NodeId(n as u128 + 1)
}

impl Net {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_millis(1_000_000),
            hosts: Vec::new(),
            rng: Rng::new(seed),
            loss: 0,
            cut: BTreeSet::new(),
            no_datagrams: BTreeSet::new(),
            queue: BTreeMap::new(),
            serial: 0,
            lives: Vec::new(),
            inbound: BTreeMap::new(),
            wakes: BTreeSet::new(),
            wake: Vec::new(),
            at: BTreeMap::new(),
        }
    }

    /// A pool of `size` members that have joined through the first.
    pub fn pool(size: usize, seed: u64) -> Self {
        Self::pool_with(size, seed, |_| {})
    }

    pub fn pool_with(size: usize, seed: u64, change: impl Fn(&mut Config)) -> Self {
        let mut net = Self::new(seed);
        for n in 0..size {
            let mut config = config(n);
            config.seed = config.seed.wrapping_mul(31).wrapping_add(seed);
            change(&mut config);
            net.add(config);
        }
        for n in 1..size {
            net.join(n, 0);
        }
        net.until(20, "the pool is complete", |net| {
            net.hosts.iter().all(|host| host.gossip().size() == size)
        });
        net
    }

    pub fn add(&mut self, config: Config) -> usize {
        let at = self.hosts.len();
        self.hosts.push(Host {
            config,
            machine: None,
            memory: Memory::default(),
            events: Vec::new(),
            notes: Vec::new(),
            answers: BTreeMap::new(),
            left: false,
            forgotten: Vec::new(),
            user_events: Vec::new(),
            queries: Vec::new(),
            responses: Vec::new(),
            acks: Vec::new(),
            largest: 0,
            book: BTreeMap::new(),
            frozen: false,
            inbox: Vec::new(),
        });
        self.lives.push(0);
        self.wake.push(None);
        self.start(at);
        at
    }

    /// Starts a member with what it remembers.
    pub fn start(&mut self, at: usize) {
        let now = Now::at(self.now);
        self.lives[at] += 1;
        let host = &mut self.hosts[at];
        host.config.seed = host.config.seed.wrapping_add(7919);
        host.book.clear();
        host.left = false;
        let machine = Gossip::start(host.config.clone(), host.memory.clone(), now).expect("good settings");
        host.machine = Some(machine);
        self.at.insert(self.hosts[at].config.address, at);
        self.drain(at);
    }

    /// A crash: nothing is said, and all that was not remembered is lost.
    pub fn kill(&mut self, at: usize) {
        self.hosts[at].machine = None;
        self.hosts[at].frozen = false;
        self.hosts[at].inbox.clear();
        if self.at.get(&self.hosts[at].config.address) == Some(&at) {
            self.at.remove(&self.hosts[at].config.address);
        }
        self.note_wake(at);
    }

    pub fn move_to(&mut self, at: usize, address: SocketAddr) {
        self.hosts[at].config.address = address;
    }

    pub fn freeze(&mut self, at: usize) {
        self.hosts[at].frozen = true;
        self.note_wake(at);
    }

    /// A member goes on: all that it missed arrives at once, or its deadlines fire first; both happen.
    pub fn thaw(&mut self, at: usize, timers_first: bool) {
        self.hosts[at].frozen = false;
        if timers_first {
            let now = Now::at(self.now);
            self.machine(at).handle_timeout(now);
            self.drain(at);
        }
        for what in std::mem::take(&mut self.hosts[at].inbox) {
            self.deliver(at, what);
        }
        self.note_wake(at);
    }

    pub fn split(&mut self, left: &[usize], right: &[usize]) {
        for a in left {
            for b in right {
                self.cut.insert((*a, *b));
                self.cut.insert((*b, *a));
            }
        }
    }

    pub fn join(&mut self, at: usize, to: usize) {
        let addresses = vec![self.hosts[to].config.address];
        self.input(
            at,
            Input::Join {
                token: Token(900),
                addresses,
            },
        );
    }

    pub fn input(&mut self, at: usize, input: Input) {
        let now = Now::at(self.now);
        self.machine(at)
            .handle(now, input)
            .expect("the effects are taken away");
        self.drain(at);
    }

    /// A packet of whatever content, as from a member.
    pub fn forge(&mut self, from: Sender, to: usize, packet: Bytes) {
        self.input(to, Input::Packet { from, packet });
    }

    pub fn sender(&self, at: usize) -> Sender {
        let config = &self.hosts[at].config;
        Sender {
            id: config.id,
            name: config.name.clone(),
            server: config.server,
            address: config.address,
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until something holds; fails if it does not within so many seconds. Returns how long it took.
    pub fn until(&mut self, seconds: u64, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        let end = start + Duration::from_secs(seconds);
        while !holds(self) {
            assert!(self.step(end), "not within {seconds} s: {what}\n{}", self.views());
        }
        self.now.since(start)
    }

    /// For failures: what everybody sees.
    pub fn views(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            let Some(machine) = &host.machine else { continue };
            let seen = machine.members();
            let seen =
                seen.map(|member| format!("{}={:?}@{}", member.name, member.state, member.incarnation));
            let seen: Vec<String> = seen.collect();
            let (name, health) = (&host.config.name, machine.health());
            text.extend([
                name.as_str(),
                " of health ",
                &health.to_string(),
                ": ",
                &seen.join(" "),
                "\n",
            ]);
        }
        text
    }

    fn machine(&mut self, at: usize) -> &mut Gossip {
        self.hosts[at].machine.as_mut().expect("it runs")
    }

    fn next_wake(&self) -> Option<(Instant, Option<usize>)> {
        let timer = self.wakes.first().map(|(at, host)| (*at, Some(*host)));
        let message = self.queue.keys().next().map(|(at, _)| (*at, None));
        timer.into_iter().chain(message).min()
    }

    /// Notes when a member wants to be woken.
    fn note_wake(&mut self, at: usize) {
        if let Some(old) = self.wake[at].take() {
            self.wakes.remove(&(old, at));
        }
        let host = &self.hosts[at];
        let next = host
            .machine
            .as_ref()
            .filter(|_| !host.frozen)
            .and_then(Gossip::poll_timeout);
        if let Some(next) = next {
            self.wakes.insert((next.at, at));
            self.wake[at] = Some(next.at);
        }
    }

    fn step(&mut self, end: Instant) -> bool {
        let Some((at, host)) = self.next_wake().filter(|(at, _)| *at <= end) else {
            return false;
        };
        self.now = self.now.max(at);
        if let Some(host) = host {
            let now = Now::at(self.now);
            self.machine(host).handle_timeout(now);
            self.drain(host);
        } else if let Some((_, (to, what))) = self.queue.pop_first() {
            if self.hosts[to].frozen {
                self.hosts[to].inbox.push(what);
            } else {
                self.deliver(to, what);
            }
        }
        true
    }

    fn deliver(&mut self, to: usize, what: What) {
        if self.hosts[to].machine.is_none() {
            if let What::Call { from, call, life, .. } = what {
                let result = Err("nobody is there".to_owned());
                self.push(from, Duration::from_millis(1), What::Done { call, life, result });
            }
            return;
        }
        match what {
            What::Packet(from, packet) => self.input(to, Input::Packet { from, packet }),
            What::Call {
                from,
                call,
                life,
                sender,
                request,
            } => {
                self.serial += 1;
                let id = InboundId(self.serial);
                self.inbound.insert((to, id), (from, call, life));
                let input = Input::Call {
                    id,
                    from: sender,
                    request,
                };
                self.input(to, input);
                if self.inbound.remove(&(to, id)).is_some() {
                    let result = Err("it was not answered".to_owned());
                    self.push(from, Duration::from_millis(1), What::Done { call, life, result });
                }
            }
            What::Done { call, life, result } => {
                if self.lives[to] == life {
                    self.input(to, Input::CallDone { id: call, result });
                }
            }
        }
    }

    fn push(&mut self, to: usize, delay: Duration, what: What) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), (to, what));
    }

    fn delay(&mut self) -> Duration {
        self.rng
            .between(Duration::from_micros(300), Duration::from_millis(3))
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    fn drain(&mut self, at: usize) {
        while let Some(effect) = self.hosts[at].machine.as_mut().and_then(Gossip::poll_effect) {
            self.effect(at, effect);
        }
        self.note_wake(at);
    }

    fn effect(&mut self, at: usize, effect: Effect) {
        let sender = self.sender(at);
        match effect {
            Effect::Packet { to, packet } => {
                let host = &mut self.hosts[at];
                assert!(packet.len() <= host.config.packet_bytes, "a packet is too long");
                host.largest = host.largest.max(packet.len());
                let address = *host.book.get(&to).expect("an address comes before packets");
                let lost = self.rng.chance(self.loss, 100);
                let delay = self.delay();
                let Some(there) = self.at.get(&address).copied() else {
                    return;
                };
                let blocked = !self.passes(at, there) || self.no_datagrams.contains(&(at, there));
                if lost || blocked || self.hosts[there].config.id != to {
                    return;
                }
                self.push(there, delay, What::Packet(sender, packet));
            }
            Effect::Call {
                id,
                to,
                request,
                timeout,
            } => self.call(at, id, to, request, timeout, sender),
            Effect::Reply { id, reply } => {
                let (from, call, life) = self
                    .inbound
                    .remove(&(at, id))
                    .expect("each call is answered once");
                let delay = self.delay();
                if self.passes(at, from) {
                    let result = Ok((sender, reply));
                    self.push(from, delay, What::Done { call, life, result });
                }
            }
            Effect::Address { id, address } => {
                self.hosts[at].book.insert(id, address);
            }
            Effect::Forget(id) => self.hosts[at].forgotten.push(id),
            Effect::Member(event) => {
                let now = self.now;
                self.hosts[at].events.push((now, event));
            }
            Effect::Answer { token, answer } => {
                self.hosts[at].answers.insert(token, answer);
            }
            Effect::Remember(memory) => self.hosts[at].memory = memory,
            Effect::Event(event) => self.hosts[at].notes.push(event),
            Effect::Left => self.hosts[at].left = true,
            Effect::UserEvent(event) => self.hosts[at].user_events.push(event),
            Effect::Query(query) => self.hosts[at].queries.push(query),
            Effect::QueryResponse { token, response } => self.hosts[at].responses.push((token, response)),
            Effect::QueryAck { token, from } => self.hosts[at].acks.push((token, from)),
        }
    }

    fn call(
        &mut self,
        at: usize,
        call: CallId,
        to: Target,
        request: Bytes,
        timeout: Duration,
        sender: Sender,
    ) {
        let life = self.lives[at];
        let address = match to {
            Target::Node(id) => *self.hosts[at]
                .book
                .get(&id)
                .expect("an address comes before calls"),
            Target::Address(address) => address,
        };
        let delay = self.delay();
        let there = self.at.get(&address).copied();
        let wrong = |there: &usize| matches!(to, Target::Node(id) if self.hosts[*there].config.id != id);
        let reached = there.filter(|there| self.passes(at, *there) && self.passes(*there, at));
        let Some(there) = reached.filter(|there| !wrong(there) && !self.hosts[*there].frozen) else {
            let result = Err("no connection".to_owned());
            return self.push(at, timeout, What::Done { call, life, result });
        };
        let what = What::Call {
            from: at,
            call,
            life,
            sender,
            request,
        };
        self.push(there, delay, what);
    }
}

/// Whether a host has a member in a state.
pub fn all_see(net: &Net, subject: usize, state: MemberState) -> bool {
    let others = net
        .hosts
        .iter()
        .enumerate()
        .filter(|(at, host)| *at != subject && host.machine.is_some());
    others.map(|(_, host)| host.gossip()).all(|gossip| {
        let member = gossip.member(id(subject));
        member.is_some_and(|member| member.state == state)
    })
}

/// Everybody sees all as well.
pub fn whole(net: &Net) -> bool {
    let running = net.hosts.iter().filter(|host| host.machine.is_some()).count();
    net.hosts
        .iter()
        .filter_map(|host| host.machine.as_ref())
        .all(|gossip| gossip.size() == running && gossip.members().all(|member| is_alive_or_gone(member)))
}

fn is_alive_or_gone(member: &Member) -> bool {
    !matches!(member.state, MemberState::Suspect | MemberState::Leaving)
}

pub fn is_failed(event: &MemberEvent) -> bool {
    matches!(event, MemberEvent::Failed(_))
}

pub fn is_left(event: &MemberEvent) -> bool {
    matches!(event, MemberEvent::Left(_))
}

pub fn is_joined(event: &MemberEvent) -> bool {
    matches!(event, MemberEvent::Joined(_))
}
