//! Whole agents: what their pools and the server within make of each other.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use lictor_catalog::State;
use lictor_gossip::{self as gossip, InboundId, Sender, Tags, Target};
use lictor_machine::{Instant, Machine, NodeId, Now, Token};
use lictor_node::Node;
use lictor_node::agent::{
    Agent, Config, DATACENTER, Effect, Input, Memories, Pool, ROLE, SERVER, WAN_ADDRESS,
};
use lictor_node::store::{LogStore, MemoryDisk, StateMark};

/// Where a server is reached at home.
fn near(id: u128) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, id as u8], 8300))
}

/// Where servers of other data centers reach it.
fn far(id: u128) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, id as u8], 8300))
}

fn server(id: u128) -> Agent {
    let node_id = NodeId(id);
    let tags = Tags::from(
        [
            (ROLE, SERVER),
            (DATACENTER, "dc1"),
            (WAN_ADDRESS, &far(id).to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let mut lan = gossip::Config::local(node_id, format!("s{id}"), near(id), id as u64);
    let mut wan = gossip::Config::local(node_id, format!("s{id}.dc1"), far(id), id as u64);
    "wan".clone_into(&mut wan.pool);
    for pool in [&mut lan, &mut wan] {
        pool.tags.clone_from(&tags);
        pool.server = true;
    }
    let config = Config {
        lan,
        wan: Some(wan),
        datacenter: "dc1".into(),
        duty_interval: Duration::from_secs(1),
        leave_timeout: Duration::from_secs(5),
        coordinates: true,
    };
    let (mut log, _) = MemoryDisk::new().open().unwrap();
    let boot = log.load(1 << 20).unwrap();
    let node = lictor_node::Config::new(node_id, format!("s{id}"), near(id), id);
    let node = Node::start(node, boot, (State::new(), StateMark::default()), time(0)).unwrap();
    Agent::start(config, Some(node), Memories::default(), time(0)).unwrap()
}

fn time(millis: u64) -> Now {
    Now::at(Instant::from_millis(1 + millis))
}

/// Servers whose gossip goes over a network that loses nothing. What is said between their servers within gets lost.
struct Pair {
    agents: BTreeMap<u128, Agent>,
    /// Where each has been told that the others are, by pool.
    told: BTreeMap<(u128, Pool, NodeId), SocketAddr>,
    millis: u64,
}

impl Pair {
    fn sender(of: u128, pool: Pool) -> Sender {
        let (name, address) = match pool {
            Pool::Lan => (format!("s{of}"), near(of)),
            Pool::Wan => (format!("s{of}.dc1"), far(of)),
        };
        Sender {
            id: NodeId(of),
            name,
            server: true,
            address,
        }
    }

    fn input(&mut self, to: u128, pool: Pool, input: gossip::Input) {
        let now = time(self.millis);
        let agent = self.agents.get_mut(&to).unwrap();
        agent.handle(now, Input::Gossip { pool, input }).unwrap();
    }

    /// Who is reached there, by an agent that was told so.
    fn found(&self, from: u128, pool: Pool, to: Target) -> Option<u128> {
        let address = match to {
            Target::Node(id) => *self.told.get(&(from, pool, id))?,
            Target::Address(address) => address,
        };
        self.agents
            .keys()
            .copied()
            .find(|id| address == near(*id) || address == far(*id))
    }

    fn settle(&mut self) {
        let mut calls = VecDeque::new();
        let mut packets = VecDeque::new();
        loop {
            for (id, agent) in &mut self.agents {
                while let Some(effect) = agent.poll_effect() {
                    let Effect::Gossip { pool, effect } = effect else {
                        continue;
                    };
                    match effect {
                        gossip::Effect::Address { id: about, address } => {
                            self.told.insert((*id, pool, about), address);
                        }
                        gossip::Effect::Forget(about) => {
                            self.told.remove(&(*id, pool, about));
                        }
                        gossip::Effect::Call {
                            id: call,
                            to,
                            request,
                            ..
                        } => {
                            calls.push_back((*id, pool, call, to, request));
                        }
                        gossip::Effect::Packet { to, packet } => packets.push_back((*id, pool, to, packet)),
                        _ => {}
                    }
                }
            }
            if let Some((from, pool, call, to, request)) = calls.pop_front() {
                let result = self.call(from, pool, to, request);
                self.input(from, pool, gossip::Input::CallDone { id: call, result });
            } else if let Some((from, pool, to, packet)) = packets.pop_front() {
                if let Some(to) = self.found(from, pool, Target::Node(to)) {
                    let from = Self::sender(from, pool);
                    self.input(to, pool, gossip::Input::Packet { from, packet });
                }
            } else {
                return;
            }
        }
    }

    fn call(
        &mut self,
        from: u128,
        pool: Pool,
        to: Target,
        request: Bytes,
    ) -> Result<(Sender, Bytes), String> {
        let to = self.found(from, pool, to).ok_or("nobody is there")?;
        let caller = Self::sender(from, pool);
        let id = InboundId(self.millis);
        self.input(
            to,
            pool,
            gossip::Input::Call {
                id,
                from: caller,
                request,
            },
        );
        let agent = self.agents.get_mut(&to).unwrap();
        let mut kept = Vec::new();
        let mut answer = None;
        while let Some(effect) = agent.poll_effect() {
            match effect {
                Effect::Gossip {
                    pool: at,
                    effect: gossip::Effect::Reply { reply, .. },
                } if at == pool => {
                    answer = Some(reply);
                }
                Effect::Gossip {
                    pool,
                    effect: gossip::Effect::Address { id, address },
                } => {
                    kept.push(((to, pool, id), address));
                }
                _ => {}
            }
        }
        self.told.extend(kept);
        answer
            .map(|reply| (Self::sender(to, pool), reply))
            .ok_or_else(|| "no answer".into())
    }

    fn run(&mut self, time_to_pass: Duration) {
        for _ in 0..time_to_pass.as_millis() / 20 {
            self.millis += 20;
            let now = time(self.millis);
            for agent in self.agents.values_mut() {
                agent.handle_timeout(now);
            }
            self.settle();
        }
    }
}

#[test]
fn servers_of_one_data_center_reach_each_other_in_both_pools_each_by_its_own_address() {
    let mut pair = Pair {
        agents: (1..=2).map(|id| (id, server(id))).collect(),
        told: BTreeMap::new(),
        millis: 0,
    };
    pair.settle();
    // Only the LAN pool is joined; the servers bring each other into the other one.
    let join = gossip::Input::Join {
        token: Token(1),
        addresses: vec![near(2)],
    };
    pair.input(1, Pool::Lan, join);
    pair.run(Duration::from_secs(20));
    for (at, about) in [(1, 2), (2, 1)] {
        let told = |pool| pair.told.get(&(at, pool, NodeId(about))).copied();
        assert_eq!(told(Pool::Lan), Some(near(about)));
        assert_eq!(told(Pool::Wan), Some(far(about)));
        for pool in [Pool::Lan, Pool::Wan] {
            let member = pair.agents[&at]
                .pool(pool)
                .unwrap()
                .member(NodeId(about))
                .unwrap();
            assert_eq!(member.state, gossip::MemberState::Alive, "{pool:?}");
        }
    }
}
