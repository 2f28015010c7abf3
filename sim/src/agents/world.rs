//! The world of agents: one virtual time, their machines, their disks, and what looks on.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use lictor_catalog::Text;
use lictor_gossip::{self as gossip, Incarnation, Interner, Tags};
use lictor_local::{AskId, Input as LocalInput, Question, Reply, RunId};
use lictor_machine::{Index, Instant, Machine, NodeId, Rng};
use lictor_node::CallId as ServerCallId;
use lictor_node::agent::{Agent, CLIENT, DATACENTER, Effect, Input, Pool, ROLE, SERVER};
use lictor_raft::{FetchId, Role};

use crate::gossip::air::{Air, Weather};
use crate::gossip::oracles::{Bounds as GossipBounds, Oracles as GossipOracles};
use crate::gossip::seat::Place;
use crate::gossip::trace::{Record, Trace};
use crate::gossip::truth::{Fate, Scene, Truth, Watch};
use crate::oracles::{Bounds, Check, Oracles, Violation};
use crate::queue::Queue;

use super::asks::Asker;
use super::locks::{Actor, Answer, Errand, ErrandId, Play, Via};
use super::outside::Outside;
use super::pace::{Pace, Plan};
use super::post::Tally;
use super::processes::Processes;
use super::readers::Readers;
use super::seat::Seat;

/// The data center that all are in.
pub(super) const HERE: &str = "dc1";

/// How long an agent waits before it tries again to join, where gossip is as fast as usual.
pub(super) const REJOIN: Duration = Duration::from_secs(3);

/// How many keys clients use.
pub(super) const KEYS: u8 = 4;

/// Something that will happen. What belongs to a `life` that is over does not.
#[derive(Debug)]
pub(super) enum Event {
    Packet(super::network::Packet),
    CallOver {
        key: u64,
        result: Result<(usize, Cargo), &'static str>,
    },
    Wake {
        at: usize,
        life: u32,
    },
    Join {
        at: usize,
        life: u32,
    },
    Resume {
        at: usize,
        life: u32,
    },
    LogWritten {
        at: usize,
        life: u32,
    },
    StateWritten {
        at: usize,
        life: u32,
    },
    Read {
        at: usize,
        life: u32,
        id: FetchId,
        range: (Index, Index, usize),
    },
    /// A server is asked something about the catalog.
    Serve {
        at: usize,
        life: u32,
        asker: Asker,
        question: Question,
    },
    /// What runs on a server has its answer.
    Answered {
        at: usize,
        life: u32,
        id: AskId,
        result: Result<Reply, String>,
    },
    /// What runs on an agent has been looked at.
    Probed {
        at: usize,
        life: u32,
        run: RunId,
        address: Text,
    },
    /// A write of what runs on an agent is over.
    Saved {
        at: usize,
        life: u32,
    },
    /// What runs on an agent tells how it is.
    Tell {
        at: usize,
        life: u32,
    },
    /// Somebody outside may go on.
    Outside,
    /// A process acts, unless its alarm was set anew.
    Act {
        actor: Actor,
        alarm: u64,
    },
    /// A request of a process comes to an agent.
    Errand {
        via: Via,
        id: ErrandId,
        errand: Errand,
    },
    /// The answer to one comes to the agent by way of which it was asked, or to the process itself.
    Heard {
        via: Option<Via>,
        id: ErrandId,
        answer: Answer,
    },
    /// A message to this one is known to be lost.
    Notice {
        at: usize,
        life: u32,
        peer: NodeId,
    },
}

/// Who waits for the end of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    Gossip(Pool, gossip::CallId),
    Server(ServerCallId),
    Local(AskId),
    /// A process, through a client agent.
    Errand(ErrandId),
}

/// What a call brings, or its reply.
#[derive(Clone, Debug)]
pub(super) enum Cargo {
    /// Of gossip, or of servers.
    Bytes(Bytes),
    /// Of what runs on an agent. How that is encoded is not for the cores to say.
    Question(Question),
    /// The answer; or why a server has none.
    Reply(Box<Result<Reply, String>>),
    /// Of a process.
    Errand(Errand),
    /// What came of that.
    Told(Box<Answer>),
}

/// Agents, and everything between them.
pub struct World<'w> {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) air: Air,
    pub(super) seats: Vec<Seat>,
    pub(super) truth: Vec<Truth>,
    pub(super) holders: BTreeMap<Place, usize>,
    pub(super) queue: Queue<Event>,
    pub(super) calls: BTreeMap<u64, (usize, u32, Caller)>,
    pub(super) next_call: u64,
    pub(super) next_token: u64,
    pub(super) raft: Oracles,
    pub(super) gossip: Box<dyn Watch>,
    pub(super) trace: Trace<'w>,
    pub(super) next_place: u32,
    /// The call that is being handed over, until there is a reply.
    pub(super) answering: Option<u64>,
    /// How many servers found the cluster.
    pub(super) expect: usize,
    /// Writes that were acknowledged, and when.
    pub(super) acknowledged: u64,
    pub(super) last_acknowledged: Instant,
    /// The longest time between two acknowledged writes.
    pub(super) longest_silence: Duration,
    pub(super) elections: u64,
    pub(super) pace: Pace,
    pub(super) interner: Option<Interner>,
    #[cfg(feature = "sabotage")]
    pub(super) sabotage: Option<lictor_local::Sabotage>,
    #[cfg(feature = "sabotage")]
    pub(super) mistake: Option<super::locks::swarm::Mistake>,
    /// What runs on machines, and how well that is.
    pub(super) processes: Processes,
    pub(super) outside: Outside,
    pub(super) readers: Readers,
    /// Processes that contend for locks, and those who judge them, if there are any.
    pub(super) play: Option<Box<Play>>,
    pub(super) tally: Tally,
}

impl<'w> World<'w> {
    /// A world in which nobody has been started.
    pub fn new(plan: Plan, out: Option<&'w mut dyn Write>) -> Self {
        let Plan {
            seed,
            servers,
            expect,
            pace,
            watch_gossip,
            interner,
            #[cfg(feature = "sabotage")]
            sabotage,
            #[cfg(feature = "sabotage")]
            mistake,
        } = plan;
        let mut rng = Rng::new(seed);
        let ids = (1..=servers as u128).map(NodeId).collect();
        let bounds = Bounds {
            bytes_in_flight: 1 << 30,
            writes_in_flight: 10_000,
        };
        let gossip_bounds = GossipBounds {
            transmissions: 64,
            broadcasts: 2000,
            tombstones: 200,
        };
        let mut world = Self {
            now: Instant::from_millis(1),
            air: Air::new(Weather::calm(), rng.fork()),
            rng,
            seats: Vec::new(),
            truth: Vec::new(),
            holders: BTreeMap::new(),
            queue: Queue::default(),
            calls: BTreeMap::new(),
            next_call: 0,
            next_token: 0,
            raft: Oracles::new(ids, bounds, KEYS),
            gossip: if watch_gossip {
                Box::new(GossipOracles::new(gossip_bounds))
            } else {
                Box::new(())
            },
            trace: Trace::new(out),
            next_place: 0,
            answering: None,
            expect,
            acknowledged: 0,
            last_acknowledged: Instant::ZERO,
            longest_silence: Duration::ZERO,
            elections: 0,
            pace,
            interner,
            #[cfg(feature = "sabotage")]
            sabotage,
            #[cfg(feature = "sabotage")]
            mistake,
            processes: Processes::default(),
            outside: Outside::default(),
            readers: Readers::new(servers),
            play: None,
            tally: Tally::default(),
        };
        for at in 0..servers {
            world.add(format!("s{at}"), true);
        }
        world
    }

    /// An agent more, that is not started.
    pub fn add(&mut self, name: String, server: bool) -> usize {
        let at = self.seats.len();
        let mut tags = Tags::new();
        tags.insert(ROLE.to_owned(), (if server { SERVER } else { CLIENT }).to_owned());
        tags.insert(DATACENTER.to_owned(), HERE.to_owned());
        self.seats.push(Seat::new(Place(at as u32), server, tags));
        self.truth.push(Truth {
            id: NodeId(at as u128 + 1),
            name,
            fate: Fate::Unborn,
            since: self.now,
            life: 0,
            incarnation: Incarnation::default(),
            left_at: None,
            // A leader that cares for the configuration gives up servers that failed.
            forced: server,
            sound_since: None,
        });
        self.air.add();
        at
    }

    /// The truth about everybody.
    pub fn scene(&self) -> Scene<'_> {
        Scene {
            now: self.now,
            members: &self.truth,
        }
    }

    /// The moment, in true time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// An agent that is up.
    pub fn agent(&self, at: usize) -> Option<&Agent> {
        self.seats[at].agent.as_ref()
    }

    /// All agents that are up.
    pub fn up(&self) -> Vec<usize> {
        (0..self.truth.len())
            .filter(|at| self.truth[*at].fate.is_up())
            .collect()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) -> Check {
        let until = self.now + duration;
        while let Some((at, event)) = self.queue.pop(until) {
            self.now = self.now.max(at);
            self.happen(event)?;
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Packet(packet) => self.arrive(packet),
            Event::CallOver { key, result } => self.call_over(key, result),
            Event::Wake { at, life } if self.lives(at, life) => self.wake(at),
            Event::Join { at, life } if self.lives(at, life) => self.join(at),
            Event::Resume { at, life } if self.lives(at, life) => self.resume(at),
            Event::LogWritten { at, life } if self.lives(at, life) => self.log_written(at),
            Event::StateWritten { at, life } if self.lives(at, life) => self.state_written(at),
            Event::Read { at, life, id, range } if self.lives(at, life) => self.read(at, id, range),
            Event::Notice { at, life, peer } if self.lives(at, life) => {
                let input = lictor_node::Input::Unreachable { peer };
                self.give(at, None, Input::Server(input))
            }
            Event::Serve {
                at,
                life,
                asker,
                question,
            } if self.lives(at, life) => self.serve(at, asker, question),
            Event::Answered { at, life, id, result } if self.lives(at, life) => {
                self.answer_local(at, id, result)
            }
            Event::Probed {
                at,
                life,
                run,
                address,
            } if self.lives(at, life) => self.probed(at, run, &address),
            Event::Saved { at, life } if self.lives(at, life) => self.saved(at),
            Event::Tell { at, life } if self.lives(at, life) => self.tell(at),
            Event::Outside => self.go_on_outside(),
            Event::Act { actor, alarm } => {
                self.process_acts(actor, alarm);
                Ok(())
            }
            Event::Errand { via, id, errand } => self.take_errand(via, id, errand),
            Event::Heard { via, id, answer } => self.pass_on(via, id, answer),
            Event::Wake { .. }
            | Event::Join { .. }
            | Event::Resume { .. }
            | Event::LogWritten { .. }
            | Event::StateWritten { .. }
            | Event::Read { .. }
            | Event::Notice { .. }
            | Event::Serve { .. }
            | Event::Answered { .. }
            | Event::Probed { .. }
            | Event::Saved { .. }
            | Event::Tell { .. } => Ok(()),
        }
    }

    pub(super) fn lives(&self, at: usize, life: u32) -> bool {
        self.truth[at].life == life && self.seats[at].agent.is_some()
    }

    /// Hands an input to an agent, or puts it before a frozen one. `call` is the call that it is, if it is one.
    pub(super) fn give(&mut self, at: usize, call: Option<u64>, input: Input) -> Check {
        let seat = &mut self.seats[at];
        if seat.frozen {
            seat.inbox.push_back((call, input));
            return Ok(());
        }
        if let Input::Local(LocalInput::Probed { run, .. }) = &input
            && !seat.post.runs.remove(run)
        {
            // Nobody waits for it any more.
            return Ok(());
        }
        let now = seat.clock.now(self.now);
        let Some(agent) = &mut seat.agent else {
            return Ok(());
        };
        self.answering = call;
        agent
            .handle(now, input)
            .map_err(|reject| violation("takes what the world brings", format!("m{at}: {reject}")))?;
        self.turn(at)?;
        self.answering = None;
        Ok(())
    }

    fn wake(&mut self, at: usize) -> Check {
        let seat = &mut self.seats[at];
        if seat.wake_at != self.now || seat.frozen {
            return Ok(());
        }
        seat.wake_at = Instant::MAX;
        let now = seat.clock.now(self.now);
        if let Some(agent) = &mut seat.agent {
            agent.handle_timeout(now);
        }
        self.turn(at)
    }

    pub(super) fn turn(&mut self, at: usize) -> Check {
        let Some(agent) = &mut self.seats[at].agent else {
            return Ok(());
        };
        let mut effects = Vec::new();
        while let Some(effect) = agent.poll_effect() {
            effects.push(effect);
        }
        if let Some(fault) = agent.fault() {
            return Err(violation("servers run", format!("m{at} stops for good: {fault}")));
        }
        if let Some(lan) = agent.pool(Pool::Lan) {
            let truth = &mut self.truth[at];
            truth.incarnation = truth.incarnation.max(lan.me().incarnation);
            let scene = Scene {
                now: self.now,
                members: &self.truth,
            };
            self.gossip.turned(scene, at, lan)?;
        }
        for effect in &effects {
            if let Effect::Server(lictor_node::Effect::Persist(batch)) = effect {
                self.raft.issued(at, batch)?;
                if let Some(play) = &mut self.play {
                    play.witness.issued(batch);
                }
            }
        }
        if let Some(server) = agent.server() {
            let status = server.raft_status();
            self.raft.turned(at, &status)?;
            self.bear_witness()?;
        }
        let life = self.truth[at].life;
        for effect in effects {
            self.perform(at, effect)?;
            if !self.lives(at, life) {
                // That was its end: what comes behind is for nobody to carry out.
                return Ok(());
            }
        }
        self.begin_writes(at);
        self.arm(at);
        Ok(())
    }

    fn perform(&mut self, at: usize, effect: Effect) -> Check {
        match effect {
            Effect::Server(effect) => self.perform_server(at, effect),
            Effect::Gossip { pool, effect } => self.perform_gossip(at, pool, effect),
            Effect::Local(effect) => self.perform_local(at, effect),
            Effect::Distances(_) => Ok(()),
            Effect::Left => {
                self.did(at, "has left", 0);
                self.end(at, Fate::Left)
            }
            Effect::Stopped => {
                self.did(at, "has stopped", 0);
                self.end(at, Fate::Crashed)
            }
        }
    }

    pub(super) fn arm(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        let Some(deadline) = seat.agent.as_ref().and_then(Machine::poll_timeout) else {
            return;
        };
        let when = seat
            .clock
            .true_time(deadline.at)
            .max(self.now + Duration::from_nanos(1));
        if !seat.frozen && when < seat.wake_at {
            seat.wake_at = when;
            let life = self.truth[at].life;
            self.queue.push(when, Event::Wake { at, life });
        }
    }

    /// The network, to be broken.
    pub const fn air(&mut self) -> &mut Air {
        &mut self.air
    }

    /// The record.
    pub const fn trace(&self) -> &Trace<'w> {
        &self.trace
    }

    /// A phase of the run begins.
    pub fn phase(&mut self, name: &'static str) {
        self.trace.record(self.now, Record::Phase(name));
    }

    pub(super) fn did(&mut self, at: usize, what: &'static str, number: u64) {
        self.trace.record(self.now, Record::Did { at, what, number });
    }

    /// The leader with the highest term among servers that are up.
    pub fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| {
            let status = self.agent(*at)?.server()?.raft_status();
            (status.role == Role::Leader).then_some((status.term, *at))
        };
        let leader = (0..self.seats.len()).filter_map(|at| leads(&at)).max()?;
        Some(leader.1)
    }
}

pub(super) fn violation(property: &'static str, detail: String) -> Violation {
    Violation { property, detail }
}
