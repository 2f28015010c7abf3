//! The world: one virtual time, members, and the network between them. Everything comes from the seed.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use lictor_gossip::{Answer, CallId, Config, Effect, Event as Log, Gossip, InboundId, Input, MemberEvent};
use lictor_machine::{Instant, Machine, NodeId, Rng, Token};

use super::air::{Air, Plane, Weather};
use super::joining::{LOOK_AGAIN, REJOIN};
use super::seat::{Arrival, Place, Seat, seat_of};
use super::tally::Tally;
use super::trace::{Record, Seen, Trace};
use super::truth::{Fate, Scene, Truth, Watch};
use crate::oracles::{Check, Violation};
use crate::queue::Queue;

/// Wakes that may happen at one instant, however few members there are.
const WAKES_MIN: u32 = 1000;

/// What a member's settings are made of.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: std::net::SocketAddr,
    /// What its randomness comes from.
    pub seed: u64,
}

/// Makes a member's settings. What it says of itself, and whether it is a server, is filled in afterwards.
pub type Settings = Box<dyn Fn(Identity) -> Config>;

/// Something that will happen. What belongs to a `life` that is over does not.
#[derive(Debug)]
pub(super) enum Event {
    Datagram {
        from: u32,
        source: Place,
        to: Place,
        bytes: Bytes,
    },
    Call {
        key: u64,
        source: Place,
        to: Place,
        request: Bytes,
    },
    CallOver {
        key: u64,
        result: Result<(u32, Bytes), &'static str>,
    },
    /// It has reached a slow member, who gets to it now.
    Late {
        at: u32,
        life: u32,
        arrival: Arrival,
    },
    Wake {
        at: u32,
        life: u32,
    },
    Join {
        at: u32,
        life: u32,
    },
    Resume {
        at: u32,
        life: u32,
    },
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) from: u32,
    pub(super) life: u32,
    pub(super) id: CallId,
}

/// A pool of members.
pub struct World<'w, W> {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) air: Air,
    pub(super) seats: Vec<Seat>,
    pub(super) truth: Vec<Truth>,
    pub(super) settings: Settings,
    /// Who is found at each place.
    pub(super) holders: Vec<Option<u32>>,
    pub(super) tally: Tally,
    pub(super) next_token: u64,
    pub(super) next_place: u32,
    pub(super) watch: W,
    pub(super) queue: Queue<Event>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) next_call: u64,
    /// The call that is being handed to a machine, until it replies.
    pub(super) answering: Option<u64>,
    /// Joins that are not answered.
    pub(super) joins: BTreeMap<Token, u32>,
    /// How often somebody was woken at this instant.
    wakes: u32,
    /// More are a deadline that does not go away.
    pub(super) wakes_max: u32,
    spare: Vec<Effect>,
    /// Calls are not made, but the latest is kept.
    pub(super) holding: bool,
    pub(super) held: Option<CallId>,
    trace: Option<Trace<'w>>,
}

impl<'w, W: Watch> World<'w, W> {
    /// An empty world.
    pub fn new(seed: u64, weather: Weather, settings: Settings, watch: W) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            now: Instant::from_millis(1),
            air: Air::new(weather, rng.fork()),
            rng,
            seats: Vec::new(),
            truth: Vec::new(),
            settings,
            holders: Vec::new(),
            tally: Tally::default(),
            next_token: 0,
            next_place: 0,
            watch,
            queue: Queue::default(),
            calls: BTreeMap::new(),
            next_call: 0,
            answering: None,
            joins: BTreeMap::new(),
            wakes: 0,
            wakes_max: WAKES_MIN,
            spare: Vec::new(),
            holding: false,
            held: None,
            trace: None,
        }
    }

    /// Keeps a record from now on; it goes to `out` as it grows.
    pub fn record_to(&mut self, out: Option<&'w mut dyn Write>) {
        self.trace = Some(Trace::new(out));
    }

    /// The record, if one is kept.
    pub const fn trace(&self) -> Option<&Trace<'w>> {
        self.trace.as_ref()
    }

    /// The moment, in true time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The truth about everybody.
    pub fn scene(&self) -> Scene<'_> {
        Scene {
            now: self.now,
            members: &self.truth,
        }
    }

    /// A member that is up.
    pub fn machine(&self, at: usize) -> Option<&Gossip> {
        self.seats[at].machine.as_ref()
    }

    /// What was sent, and what happened.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Who looks on.
    pub const fn watch(&self) -> &W {
        &self.watch
    }

    /// Who looks on, to be told something.
    pub const fn watch_mut(&mut self) -> &mut W {
        &mut self.watch
    }

    /// How many events wait.
    pub fn backlog(&self) -> usize {
        self.queue.len()
    }

    /// Notes something in the record.
    pub fn record(&mut self, record: Record) {
        if let Some(trace) = &mut self.trace {
            trace.record(self.now, record);
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) -> Check {
        self.run_until(self.now + duration)
    }

    /// Lets time pass until an instant.
    pub fn run_until(&mut self, until: Instant) -> Check {
        while let Some((at, event)) = self.queue.pop(until) {
            if at > self.now {
                self.now = at;
                self.wakes = 0;
            }
            self.tally.events += 1;
            self.happen(event)?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Datagram {
                from,
                source,
                to,
                bytes,
            } => {
                let Some(at) = self.holder(to) else { return Ok(()) };
                if self.air.is_blocked(from as usize, at, Plane::Datagrams) {
                    return Ok(());
                }
                self.record(Record::Received {
                    from: from as usize,
                    at,
                    bytes: bytes.len(),
                });
                let arrival = Arrival::Datagram { from, source, bytes };
                self.reach(at, arrival)
            }
            Event::Call {
                key,
                source,
                to,
                request,
            } => {
                let Some(from) = self.calls.get(&key).map(|call| call.from) else {
                    return Ok(());
                };
                let Some(at) = self.holder(to) else { return Ok(()) };
                if self.is_cut(from as usize, at) {
                    return Ok(());
                }
                let arrival = Arrival::Call {
                    from,
                    source,
                    key,
                    request,
                };
                self.reach(at, arrival)
            }
            Event::CallOver { key, result } => {
                let Some(Call { from, life, id }) = self.calls.remove(&key) else {
                    return Ok(());
                };
                if !self.lives(from, life) {
                    return Ok(());
                }
                self.record(Record::CallOver {
                    from: from as usize,
                    answered: result.is_ok(),
                });
                self.reach(from as usize, Arrival::CallDone { id, result })
            }
            Event::Late { at, life, arrival } if self.lives(at, life) => {
                if self.seats[at as usize].frozen {
                    self.wait_for_thaw(at as usize, arrival);
                    return Ok(());
                }
                self.give(at as usize, arrival)
            }
            Event::Wake { at, life } if self.lives(at, life) => self.wake(at as usize),
            Event::Join { at, life } if self.lives(at, life) => self.join_seeds(at as usize),
            Event::Resume { at, life } if self.lives(at, life) => self.resume(at as usize),
            Event::Late { .. } | Event::Wake { .. } | Event::Join { .. } | Event::Resume { .. } => Ok(()),
        }
    }

    fn lives(&self, at: u32, life: u32) -> bool {
        self.truth[at as usize].life == life && self.seats[at as usize].machine.is_some()
    }

    /// Gives a member something that it has no right to refuse.
    pub(super) fn must_take(&mut self, at: usize, input: Input) -> Check {
        match self.ask(at, input)? {
            Ok(()) => Ok(()),
            Err(reject) => Err(Violation {
                property: "takes what the network brings",
                detail: format!("m{at}: {reject}"),
            }),
        }
    }

    /// Gives a member an input that it may refuse, with the reason.
    pub(super) fn ask(&mut self, at: usize, input: Input) -> Result<Result<(), String>, Violation> {
        let seat = &mut self.seats[at];
        let now = seat.clock.now(self.now);
        let Some(machine) = &mut seat.machine else {
            return Ok(Err("it is not up".into()));
        };
        if let Err(reject) = machine.handle(now, input) {
            return Ok(Err(reject.to_string()));
        }
        self.turn(at)?;
        Ok(Ok(()))
    }

    pub(super) fn wake(&mut self, at: usize) -> Check {
        let seat = &mut self.seats[at];
        if seat.wake_at != self.now || seat.frozen {
            // Another wake has taken its place, or will when the member is thawed.
            return Ok(());
        }
        seat.wake_at = Instant::MAX;
        let now = seat.clock.now(self.now);
        let Some(machine) = &mut seat.machine else {
            return Ok(());
        };
        if machine
            .poll_timeout()
            .is_none_or(|deadline| deadline.at > now.mono)
        {
            self.arm(at);
            return Ok(());
        }
        self.wakes += 1;
        if self.wakes > self.wakes_max {
            return Err(Violation {
                property: "deadlines are serviced",
                detail: format!("m{at} is woken again and again for {:?}", machine.poll_timeout()),
            });
        }
        machine.handle_timeout(now);
        self.turn(at)
    }

    /// Carries out everything that a member wants done, and sees to its next deadline.
    pub(super) fn turn(&mut self, at: usize) -> Check {
        let Some(machine) = &mut self.seats[at].machine else {
            return Ok(());
        };
        let mut effects = core::mem::take(&mut self.spare);
        while let Some(effect) = machine.poll_effect() {
            effects.push(effect);
        }
        let truth = &mut self.truth[at];
        truth.incarnation = truth.incarnation.max(machine.me().incarnation);
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.watch.turned(scene, at, machine)?;
        for effect in effects.drain(..) {
            self.perform(at, effect)?;
        }
        self.spare = effects;
        self.arm(at);
        Ok(())
    }

    /// Sees to it that a member is woken at its deadline. A wake that comes too early looks again.
    fn arm(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        let Some(deadline) = seat.machine.as_ref().and_then(Machine::poll_timeout) else {
            return;
        };
        if seat.frozen {
            return;
        }
        let mut when = seat.clock.true_time(deadline.at).max(self.now);
        if seat.wake_at <= when {
            return;
        }
        if seat.slow > Duration::ZERO {
            when = when + self.rng.between(Duration::ZERO, seat.slow);
            if seat.wake_at <= when {
                return;
            }
        }
        seat.wake_at = when;
        let event = Event::Wake {
            at: at as u32,
            life: self.truth[at].life,
        };
        self.queue.push(when, event);
    }

    fn perform(&mut self, at: usize, effect: Effect) -> Check {
        match effect {
            Effect::Packet { to, packet } => self.send(at, to, packet),
            Effect::Call { id, .. } if self.holding => {
                self.held = Some(id);
                Ok(())
            }
            Effect::Call {
                id,
                to,
                request,
                timeout,
            } => {
                self.call(at, id, to, request, timeout);
                Ok(())
            }
            Effect::Reply {
                id: InboundId(key),
                reply,
            } => {
                self.answering = None;
                self.tally.call_bytes += reply.len() as u64;
                self.end_call(key, at, Ok((at as u32, reply)));
                Ok(())
            }
            Effect::Address { id, address } => {
                if let (Some(seat), Some(place)) = (seat_of(id), Place::of(address)) {
                    self.seats[at].routes.learn(seat, place);
                }
                Ok(())
            }
            Effect::Forget(id) => {
                if let Some(seat) = seat_of(id) {
                    self.seats[at].routes.forget(seat);
                }
                Ok(())
            }
            Effect::Member(event) => self.saw(at, &event),
            Effect::Remember(memory) => {
                let seat = &mut self.seats[at];
                seat.memory.swap(0, 1);
                seat.memory[0] = Some(memory);
                Ok(())
            }
            Effect::Left => {
                self.did(at, "has left", 0);
                self.tally.leaves += 1;
                self.look(at, &effect)?;
                self.end(at, Fate::Left);
                Ok(())
            }
            Effect::Answer {
                token,
                answer: ref outcome @ (Answer::Joined { .. } | Answer::Failed(_)),
            } if self.joins.contains_key(&token) => {
                self.joins.remove(&token);
                if let Answer::Joined { joined: 1.., .. } = outcome {
                    self.tally.joins += 1;
                    self.did(at, "joined", token.0);
                    self.join_later(at, LOOK_AGAIN);
                } else {
                    self.join_later(at, REJOIN);
                }
                self.look(at, &effect)
            }
            Effect::Query(ref query) => {
                let answer = Input::Respond {
                    query: query.id,
                    payload: Bytes::from_static(b"here"),
                };
                self.look(at, &effect)?;
                // A query whose time is over need not be answered any more.
                self.ask(at, answer).map(drop)
            }
            Effect::Event(ref event) => {
                self.note(at, event);
                self.look(at, &effect)
            }
            Effect::Answer { .. }
            | Effect::UserEvent(_)
            | Effect::QueryResponse { .. }
            | Effect::QueryAck { .. } => self.look(at, &effect),
        }
    }

    fn look(&mut self, at: usize, effect: &Effect) -> Check {
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.watch.did(scene, at, effect)
    }

    fn saw(&mut self, at: usize, event: &MemberEvent) -> Check {
        let member = event.member();
        self.record(Record::Saw {
            at,
            what: Seen::of(event),
            about: member.id,
            state: member.state,
            incarnation: member.incarnation,
        });
        self.tally.transitions += 1;
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.watch.saw(scene, at, event)
    }

    fn note(&mut self, at: usize, event: &Log) {
        match event {
            Log::Refuted { incarnation } => {
                self.tally.refutations += 1;
                self.did(at, "refutes", incarnation.0);
            }
            Log::Degraded { id, .. } => {
                self.tally.degraded += 1;
                self.did(at, "reaches by streams only", id.0 as u64 - 1);
            }
            Log::Refused { from, .. } => {
                self.tally.refused += 1;
                self.did(at, "refuses what came from", from.0 as u64 - 1);
            }
            Log::NameConflict { other, .. } => {
                self.tally.conflicts += 1;
                self.did(at, "sees a name taken by", other.0 as u64 - 1);
            }
            Log::IdConflict { .. } | _ => {}
        }
    }

    fn resume(&mut self, at: usize) -> Check {
        if !self.seats[at].frozen {
            return Ok(());
        }
        self.did(at, "goes on", 0);
        self.seats[at].frozen = false;
        self.refresh_soundness(at);
        // What comes first when everything is overdue is chance.
        if self.rng.chance(1, 2) {
            self.seats[at].wake_at = self.now;
            self.wake(at)?;
        }
        for arrival in self.seats[at].take_inbox() {
            self.give(at, arrival)?;
        }
        self.arm(at);
        Ok(())
    }

    pub(super) fn did(&mut self, at: usize, what: &'static str, number: u64) {
        self.record(Record::Did { at, what, number });
    }

    /// The process ends.
    pub(super) fn end(&mut self, at: usize, fate: Fate) {
        let seat = &mut self.seats[at];
        seat.stop();
        self.holders[seat.place.0 as usize] = None;
        self.joins.retain(|_, who| *who as usize != at);
        let truth = &mut self.truth[at];
        if truth.fate == Fate::Leaving {
            truth.left_at = truth.left_at.max(Some(truth.incarnation));
        }
        (truth.fate, truth.since, truth.sound_since) = (fate, self.now, None);
    }

    pub(super) fn resume_later(&mut self, at: usize, after: Duration) {
        let event = Event::Resume {
            at: at as u32,
            life: self.truth[at].life,
        };
        self.queue.push(self.now + after, event);
    }
}
