//! The lives of agents: how they are started, frozen and stopped.

use core::time::Duration;

use lictor_catalog::Builder;
use lictor_gossip as gossip;
use lictor_machine::{Instant, Token};
use lictor_node::Node;
use lictor_node::agent::{Agent, Config, Input, Pool};
use lictor_node::store::StateMark;

#[cfg(feature = "sabotage")]
use super::locks::swarm::Mistake;
use super::world::{Event, HERE, REJOIN, World, violation};
use crate::clock::LocalClock;
use crate::gossip::seat::Place;
use crate::gossip::truth::{Fate, Scene};
use crate::oracles::{Check, Violation, ensure};

/// The places below are those that agents begin with.
const FIRST_FRESH_PLACE: u32 = 20_000;

impl World<'_> {
    /// Starts an agent that is not up, from what is on its disk.
    pub fn start(&mut self, at: usize) -> Check {
        if self.truth[at].fate.is_up() || self.seats[at].retired {
            return Ok(());
        }
        if core::mem::take(&mut self.seats[at].moves) {
            self.next_place += 1;
            self.seats[at].place = Place(FIRST_FRESH_PLACE + self.next_place);
        }
        let drift = self.rng.below(6) as u32;
        self.seats[at].clock = LocalClock::start(self.now, drift);
        let seed = self.rng.next_u64();
        let server = if self.seats[at].server {
            Some(self.boot_server(at, seed)?)
        } else {
            None
        };
        let config = self.agent_config(at, seed);
        let local = self.boot_local(at, seed ^ 2)?;
        let seat = &mut self.seats[at];
        let now = seat.clock.now(self.now);
        let memories = seat.memories.clone();
        let agent = Agent::start(config, server, memories, now)
            .map_err(|error| violation("restart", format!("m{at}: {error}")))?
            .with_local(local);
        let truth = &mut self.truth[at];
        truth.life += 1;
        (truth.fate, truth.since) = (Fate::Running, self.now);
        seat.agent = Some(agent);
        self.holders.insert(seat.place, at);
        self.did(at, "starts", u64::from(self.truth[at].life));
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.gossip.started(scene, at)?;
        self.compare_with_roll(at)?;
        let (wait, life) = (self.pace.tell_interval / 2, self.truth[at].life);
        self.queue.push(self.now + wait, Event::Tell { at, life });
        self.turn(at)?;
        self.join(at)
    }

    fn boot_server(&mut self, at: usize, seed: u64) -> Result<Node, Violation> {
        let restart = |detail: String| violation("restart", format!("m{at}: {detail}"));
        let config = self.server_config(at, seed);
        let seat = &mut self.seats[at];
        seat.disk.recover(super::server::decoder()).map_err(restart)?;
        let boot = seat.disk.load(config.raft.tail_bytes);
        let applied = seat.disk.rows().applied;
        let mut builder = Builder::new();
        for row in seat.disk.rows().iter() {
            builder.add(row).map_err(|error| restart(error.to_string()))?;
        }
        #[allow(unused_mut, reason = "changed only by sabotage")]
        let mut state = builder
            .finish(applied.index)
            .map_err(|error| restart(error.to_string()))?;
        #[cfg(feature = "sabotage")]
        Mistake::spoil(self.mistake, &mut state);
        seat.published = state.clone();
        seat.cluster = None;
        self.raft.booted(at, seat.disk.durable(), &state)?;
        self.readers.booted(at, &state);
        let now = seat.clock.now(self.now);
        Node::start(config, boot, (state, StateMark { applied }), now)
            .map_err(|error| restart(error.to_string()))
    }

    fn server_config(&self, at: usize, seed: u64) -> lictor_node::Config {
        let truth = &self.truth[at];
        let address = self.seats[at].place.address();
        let mut config = self.pace.server(truth.id, &truth.name, address, seed);
        // Servers that come later are taken in; they found nothing.
        config.expect = if at < self.expect { self.expect as u32 } else { 0 };
        #[cfg(feature = "sabotage")]
        if let Some(Mistake::Node(mistake)) = self.mistake {
            config.sabotage = Some(mistake);
        }
        config
    }

    fn agent_config(&self, at: usize, seed: u64) -> Config {
        let (seat, truth) = (&self.seats[at], &self.truth[at]);
        let mut lan = self.pace.pool(truth.id, &truth.name, seat.place.address(), seed);
        lan.tags = seat.tags.clone();
        lan.server = seat.server;
        lan.interner.clone_from(&self.interner);
        let wan = seat.server.then(|| {
            let name = format!("{}.{HERE}", truth.name);
            let mut wan = self.pace.wan_pool(truth.id, name, seat.place.address(), seed ^ 1);
            wan.tags = seat.tags.clone();
            wan.server = true;
            wan
        });
        Config {
            lan,
            wan,
            datacenter: HERE.to_owned(),
            duty_interval: Duration::from_secs(5) * self.pace.servers,
            leave_timeout: Duration::from_secs(10) * self.pace.servers,
            coordinates: false,
        }
    }

    /// Joins the agents that everybody is told of, as a driver with `retry_join` does.
    pub(super) fn join(&mut self, at: usize) -> Check {
        let seeds = (0..self.seats.len()).filter(|seed| {
            let seat = &self.seats[*seed];
            *seed != at && seat.server && !seat.retired && self.truth[*seed].life > 0
        });
        let addresses: Vec<_> = seeds.map(|seed| self.seats[seed].place.address()).collect();
        if addresses.is_empty() {
            let life = self.truth[at].life;
            self.queue
                .push(self.now + REJOIN * self.pace.gossip, Event::Join { at, life });
            return Ok(());
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.gossip.asked(scene, at, token);
        let input = gossip::Input::Join { token, addresses };
        self.give(
            at,
            None,
            Input::Gossip {
                pool: Pool::Lan,
                input,
            },
        )
    }

    /// Stops an agent without a word; of what it was writing some may be on its disk.
    pub fn crash(&mut self, at: usize) -> Check {
        if !self.truth[at].fate.is_up() {
            return Ok(());
        }
        self.did(at, "crashes", 0);
        self.end(at, Fate::Crashed)
    }

    pub(super) fn end(&mut self, at: usize, fate: Fate) -> Check {
        self.errands_lost(at);
        let seat = &mut self.seats[at];
        seat.stop();
        seat.post.records.crash(&mut self.rng);
        self.holders.remove(&seat.place);
        if seat.server {
            let durable = seat
                .disk
                .crash(&mut self.rng)
                .map_err(|detail| violation("storage contract", detail))?;
            self.raft.crashed(at, &durable)?;
            self.outside_lost(at);
        }
        let truth = &mut self.truth[at];
        if truth.fate == Fate::Leaving {
            truth.left_at = truth.left_at.max(Some(truth.incarnation));
        }
        (truth.fate, truth.since) = (fate, self.now);
        Ok(())
    }

    /// Has an agent leave in good order.
    pub fn leave(&mut self, at: usize) -> Check {
        if self.truth[at].fate != Fate::Running || self.seats[at].frozen {
            return Ok(());
        }
        self.did(at, "leaves", 0);
        self.truth[at].fate = Fate::Leaving;
        self.give(at, None, Input::Leave)
    }

    /// Has an agent be somewhere else when it is started next.
    pub fn move_away(&mut self, at: usize) {
        self.seats[at].moves = true;
    }

    /// Has an agent that is down come back under another name.
    pub(super) fn rename(&mut self, at: usize) {
        let number = self.seats[at].former_names.len() as u64 + 1;
        self.did(at, "comes back under another name", number);
        let name = format!("c{at}-{number}");
        let former = core::mem::replace(&mut self.truth[at].name, name);
        self.seats[at].former_names.push(former);
    }

    /// From now on an agent does not come back.
    pub fn retire(&mut self, at: usize) {
        self.seats[at].retired = true;
    }

    /// Whether an agent does not come back.
    pub fn is_retired(&self, at: usize) -> bool {
        self.seats[at].retired
    }

    /// Whether an agent is frozen.
    pub fn is_frozen(&self, at: usize) -> bool {
        self.seats[at].frozen
    }

    /// At the end, when nothing happens any more: everything is answered, and what disks hold is right.
    pub fn last_look(&self) -> Check {
        let statuses: Vec<_> = self
            .up()
            .into_iter()
            .filter_map(|at| Some(self.agent(at)?.server()?.raft_status()))
            .collect();
        self.raft.at_rest(&statuses)?;
        for at in self.up() {
            let seat = &self.seats[at];
            ensure(
                "requests are answered once",
                seat.asks.is_empty() && seat.post.wishes.is_empty(),
                || format!("m{at} owes answers: {:?} {:?}", seat.asks, seat.post.wishes),
            )?;
        }
        // Those who went for good, or never came, lack what was written without them.
        for at in self.up().into_iter().filter(|at| self.seats[*at].server) {
            self.raft.final_scan(at, self.seats[at].disk.durable())?;
        }
        Ok(())
    }

    /// Freezes an agent.
    pub fn freeze(&mut self, at: usize, duration: Duration) {
        if self.truth[at].fate.is_up() && !self.seats[at].frozen {
            self.did(at, "is frozen, for ms", duration.as_millis() as u64);
            self.seats[at].frozen = true;
            self.seats[at].wake_at = Instant::MAX;
            let life = self.truth[at].life;
            self.queue.push(self.now + duration, Event::Resume { at, life });
        }
    }

    pub(super) fn resume(&mut self, at: usize) -> Check {
        self.did(at, "goes on", 0);
        self.seats[at].frozen = false;
        self.seats[at].resumed_at = self.now;
        for (call, input) in core::mem::take(&mut self.seats[at].inbox) {
            self.give(at, call, input)?;
        }
        self.arm(at);
        Ok(())
    }
}
