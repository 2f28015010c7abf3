//! What a pool of agents costs that probe and gossip over real connections, all in this process: handshakes,
//! connections, packets, memory and processor time.
//!
//! `cargo run --release -p lictor-transport-quic --example gossip_pool -- AGENTS SECONDS WHOM [IDLE_TIMEOUT]`
//!
//! Every agent probes another one every 400 ms, in rounds over all, and gossips to three others every 200 ms. `WHOM`
//! says to which: `none` (nothing is gossiped, as when nothing happens), `anybody`, or `recent`: those with whom a
//! probe was exchanged lately.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for measurements")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::zip;
use lictor_machine::{NodeId, Rng};
use lictor_runtime::Runtime;
use lictor_transport_quic::{
    Event, Identity, Incoming, Limits, Options, Plane, Role, Stats, Transport, Trust,
};

const PROBE_INTERVAL: Duration = Duration::from_millis(400);
const GOSSIP_INTERVAL: Duration = Duration::from_millis(200);
const GOSSIP_NODES: usize = 3;
const GOSSIP_BYTES: usize = 400;
/// How many members with whom a probe was exchanged are remembered.
const RECENT: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    Nobody,
    Anybody,
    Recent,
}

#[derive(Default)]
struct Probes {
    sent: AtomicU64,
    answered: AtomicU64,
    late: AtomicU64,
}

struct Agent {
    node: NodeId,
    transport: Transport,
    /// With whom a probe was exchanged, the latest last.
    recent: Mutex<VecDeque<NodeId>>,
    probed_at: Mutex<Option<(NodeId, Instant)>>,
    probes: Arc<Probes>,
}

impl Agent {
    fn met(&self, node: NodeId) {
        let mut recent = self.recent.lock().unwrap();
        recent.retain(|known| *known != node);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(node);
    }

    fn send(&self, to: NodeId, kind: u8, length: usize) {
        // One that is not sent shows in the numbers.
        let _ = self
            .transport
            .datagram(to, Plane::Gossip, Bytes::from(vec![kind; length]));
    }

    async fn receive(&self, mut incoming: Incoming) {
        while let Some(event) = incoming.next().await {
            let Event::Datagram { peer, datagram, .. } = event else {
                continue;
            };
            match datagram.first() {
                Some(b'p') => {
                    self.met(peer.node());
                    self.send(peer.node(), b'a', 60);
                }
                Some(b'a') => {
                    self.met(peer.node());
                    let Some((node, at)) = self.probed_at.lock().unwrap().take() else {
                        continue;
                    };
                    if node == peer.node() {
                        self.probes.answered.fetch_add(1, Ordering::Relaxed);
                        if at.elapsed() > PROBE_INTERVAL / 2 {
                            self.probes.late.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    async fn probe(&self, runtime: &Runtime, members: &[NodeId], mut rng: Rng) {
        let mut ring = members.to_vec();
        runtime.sleep(rng.between(Duration::ZERO, PROBE_INTERVAL)).await;
        loop {
            rng.shuffle(&mut ring);
            for node in &ring {
                if *node == self.node {
                    continue;
                }
                *self.probed_at.lock().unwrap() = Some((*node, Instant::now()));
                self.probes.sent.fetch_add(1, Ordering::Relaxed);
                self.send(*node, b'p', 80);
                runtime.sleep(PROBE_INTERVAL).await;
            }
        }
    }

    async fn gossip(&self, runtime: &Runtime, members: &[NodeId], whom: Whom, mut rng: Rng) {
        runtime.sleep(rng.between(Duration::ZERO, GOSSIP_INTERVAL)).await;
        loop {
            runtime.sleep(GOSSIP_INTERVAL).await;
            for _ in 0..GOSSIP_NODES {
                let to = match whom {
                    Whom::Nobody => None,
                    Whom::Anybody => rng.pick(members).copied(),
                    Whom::Recent => {
                        let recent = self.recent.lock().unwrap();
                        (!recent.is_empty()).then(|| recent[pick(&mut rng, recent.len())])
                    }
                };
                if let Some(to) = to.filter(|to| *to != self.node) {
                    self.send(to, b'g', GOSSIP_BYTES);
                }
            }
        }
    }
}

fn pick(rng: &mut Rng, count: usize) -> usize {
    rng.below(count as u64) as usize
}

/// Resident bytes of this process, and the processor time that it has used.
fn usage() -> (usize, Duration) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    (pages * 4096, Duration::from_millis(ticks * 10))
}

fn total(agents: &[Arc<Agent>], of: impl Fn(&Stats) -> u64) -> f64 {
    agents
        .iter()
        .map(|agent| of(&agent.transport.stats()))
        .sum::<u64>() as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| {
        arguments
            .get(index)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (count, seconds) = (number(0, 100), number(1, 60));
    let whom = match arguments.get(2).map(String::as_str) {
        None | Some("none") => Whom::Nobody,
        Some("anybody") => Whom::Anybody,
        Some("recent") => Whom::Recent,
        Some(other) => panic!("{other}: none, anybody or recent"),
    };
    let idle_timeout = Duration::from_secs(number(3, 45));
    let runtime = lictor_runtime_smol::runtime();
    runtime
        .clone()
        .block_on(measure(&runtime, count, seconds, whom, idle_timeout));
}

async fn measure(runtime: &Runtime, count: u64, seconds: u64, whom: Whom, idle_timeout: Duration) {
    let (before, _) = usage();
    let probes = Arc::new(Probes::default());
    let mut agents = Vec::new();
    let mut incomings = Vec::new();
    for node in 1..=u128::from(count) {
        let (transport, incoming) = Transport::bind(Options {
            address: "127.0.0.1:0".parse().unwrap(),
            identity: Identity {
                node: NodeId(node),
                name: format!("node-{node}"),
                datacenter: "dc1".into(),
                role: Role::Client,
            },
            trust: Trust::shared_key(&[7; 32]).unwrap(),
            runtime: runtime.clone(),
            limits: Limits {
                idle_timeout,
                ..Limits::default()
            },
        })
        .unwrap();
        agents.push(Arc::new(Agent {
            node: NodeId(node),
            transport,
            recent: Mutex::default(),
            probed_at: Mutex::default(),
            probes: probes.clone(),
        }));
        incomings.push(incoming);
    }
    for agent in &agents {
        for other in &agents {
            let address = other.transport.local_address().unwrap();
            agent.transport.set_address(other.node, address);
        }
    }
    let members: Arc<Vec<NodeId>> = Arc::new(agents.iter().map(|agent| agent.node).collect());
    let (bound, _) = usage();
    println!(
        "{count} agents bound: {:.0} kB each",
        (bound - before) as f64 / count as f64 / 1e3
    );
    for (agent, incoming) in agents.iter().zip(incomings) {
        let (agent, members, runtime) = (agent.clone(), members.clone(), runtime.clone());
        let task = runtime.clone().spawn(async move {
            let rng = |salt| Rng::new(agent.node.0 as u64 * 2 + salt);
            zip(
                agent.receive(incoming),
                zip(
                    agent.probe(&runtime, &members, rng(0)),
                    agent.gossip(&runtime, &members, whom, rng(1)),
                ),
            )
            .await;
        });
        task.detach();
    }
    println!(
        "  s | handshakes/s | connections | kB | % of a core | sent/s, bytes/s | probes lost, late % (each agent)"
    );
    let step = 10;
    let (mut last, mut last_cpu) = (Instant::now(), usage().1);
    let handshakes = |stats: &Stats| stats.handshakes;
    let (mut shaken, mut sent, mut bytes) = (0.0, 0.0, 0.0);
    for second in (step..=seconds).step_by(step as usize) {
        runtime.sleep(Duration::from_secs(step)).await;
        let (resident, cpu) = usage();
        let elapsed = last.elapsed().as_secs_f64();
        let each = |now: f64, before: f64| (now - before) / elapsed / count as f64;
        // Each is counted at both ends.
        let (now_shaken, now_sent, now_bytes) = (
            total(&agents, handshakes) / 2.0,
            total(&agents, |stats| stats.frames_sent),
            total(&agents, |stats| stats.bytes_sent),
        );
        let connections = total(&agents, |stats| (stats.outgoing + stats.incoming) as u64);
        let (probed, answered, late) = (
            probes.sent.swap(0, Ordering::Relaxed) as f64,
            probes.answered.swap(0, Ordering::Relaxed) as f64,
            probes.late.swap(0, Ordering::Relaxed) as f64,
        );
        println!(
            "{second:3} | {:5.2} | {:5.1} | {:6.0} | {:5.2} | {:5.1} {:6.0} | {:4.1} {:4.1}",
            each(now_shaken, shaken),
            connections / count as f64,
            (resident - before) as f64 / count as f64 / 1e3,
            cpu.saturating_sub(last_cpu).as_secs_f64() / elapsed / count as f64 * 100.0,
            each(now_sent, sent),
            each(now_bytes, bytes),
            (1.0 - answered / probed) * 100.0,
            late / probed * 100.0,
        );
        (shaken, sent, bytes) = (now_shaken, now_sent, now_bytes);
        (last, last_cpu) = (Instant::now(), cpu);
    }
}
