//! The member as a machine: what comes in is handed to the part of the protocol that it belongs to.

use core::convert::Infallible;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use lictor_machine::{Deadline, Instant, Machine, NodeId, Now, Rng, Token};

use crate::awareness::Awareness;
use crate::bounded::{Throttle, Tombstones};
use crate::calls::Purpose;
use crate::config::{Config, ConfigError, check_tags};
use crate::conflict::Contest;
use crate::coordinate::Coordinate;
use crate::dissemination::{Queue, retransmit_limit};
use crate::intents::EarlyIntents;
use crate::io::{CallId, Effect, Event, Input, Memory, Refusal, RememberedPeer, Sender};
use crate::join::Joining;
use crate::lamport::{LamportClock, LamportTime};
use crate::leave::Phase;
use crate::member::{Incarnation, Member, MemberEvent, MemberState, Tags};
use crate::members::{Slot, Table};
use crate::payload::Payload;
use crate::probe::Probes;
use crate::queries::QueryError;
use crate::rounds::{Topic, Window};
use crate::rumors::Hearing;
use crate::stats::Stats;
use crate::suspicion::Suspicion;
use crate::timers::{OwnClock, Timers};
use crate::vivaldi::CoordinateClient;
use crate::wire::{PacketBuilder, Part, PoolTag, Received, read_packet};

/// Effects that wait to be taken; more inputs are refused. A driver that takes them after each input never gets near.
const EFFECTS_MAX: usize = 1 << 20;

/// Room for effects that is kept when there are none.
const EFFECTS_KEPT: usize = 1 << 10;

/// Tombstones that are kept.
const TOMBSTONES_MAX: usize = 4096;

/// One member of one pool.
#[derive(Debug)]
pub struct Gossip {
    pub(crate) config: Config,
    pub(crate) pool: PoolTag,
    pub(crate) clock: OwnClock,
    pub(crate) rng: Rng,
    pub(crate) timers: Timers<Timer>,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) stats: Stats,

    pub(crate) table: Table,
    pub(crate) tombstones: Tombstones,
    pub(crate) suspicions: BTreeMap<NodeId, Suspicion>,
    pub(crate) awareness: Awareness,
    pub(crate) probes: Probes,
    pub(crate) queue: Queue<Topic>,
    pub(crate) last_round: Option<Instant>,
    pub(crate) window: Window,
    /// Those that failed lately, and until when they are gossiped to.
    pub(crate) recently_dead: VecDeque<(Instant, NodeId)>,

    pub(crate) phase: Phase,
    pub(crate) intents: LamportClock,
    pub(crate) early_intents: EarlyIntents,
    pub(crate) calls: BTreeMap<CallId, Purpose>,
    pub(crate) next_call: u64,
    pub(crate) joins: BTreeMap<Token, Joining>,
    pub(crate) contests: BTreeMap<NodeId, Contest>,

    pub(crate) remembered: Vec<RememberedPeer>,
    /// The incarnation that is written down; always above those in use.
    pub(crate) reserved: Incarnation,
    /// What is written down of the user events that were handed out: all up to this time.
    pub(crate) handed_out: LamportTime,
    /// Attempts to find anybody, without success.
    pub(crate) attempts: u32,
    /// Whether others may know more of this member than it does: it started without memory and has not met anybody yet.
    pub(crate) fresh: bool,
    /// It left in good order in its earlier life, and nobody has asked for it since: it does not ask others to be taken in.
    pub(crate) keeps_apart: bool,

    pub(crate) payload: Payload,
    /// What [`Timer::Payload`] is set to.
    pub(crate) payload_due: Option<Instant>,
    pub(crate) vivaldi: CoordinateClient,
    pub(crate) coordinates: BTreeMap<NodeId, Coordinate>,

    /// Senders that are not members, and since when they are known.
    pub(crate) strangers: BTreeMap<NodeId, Instant>,
    pub(crate) met: Throttle<NodeId>,
    pub(crate) told: Throttle<NodeId>,
    pub(crate) barred: Throttle<(NodeId, SocketAddr)>,
    pub(crate) reported: Throttle<(Report, NodeId)>,
}

/// What is said at most once a minute for each member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Report {
    Refused(Refusal),
    NameConflict,
    IdConflict,
    Degraded,
}

/// Why an input was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The effects are not being taken away.
    #[error("too many effects wait to be taken")]
    Busy,
    /// A member cannot say this of itself.
    #[error(transparent)]
    Tags(#[from] ConfigError),
    /// A query cannot be answered like this.
    #[error(transparent)]
    Respond(#[from] QueryError),
}

/// Why a member wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A suspect's time is over.
    Suspicion(NodeId),
    /// A probe was not answered directly: ask others.
    ProbeTimeout(u32),
    /// A probe's time is over.
    ProbeEnd(u32),
    /// A member that was probed for another has not answered.
    Helper(u32),
    /// A call should have been reported.
    Call(CallId),
    /// The next probe is due.
    Probe,
    /// A round of gossip is due.
    Gossip,
    /// A user event has waited for long enough, events are to be asked for, or a query is over.
    Payload,
    /// An exchange of everything is due.
    PushPull,
    /// Leaving has taken long enough.
    Leave,
    /// A member that is gone is to be forgotten.
    Reap,
    /// Somebody who is lost is to be tried again.
    Reconnect,
    /// What changed is to be remembered.
    Remember,
}

impl Gossip {
    /// A member that knows nobody yet but those it remembers. Its first effect is what it wants to have remembered.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn start(config: Config, memory: Memory, now: Now) -> Result<Self, ConfigError> {
        config.check()?;
        let mut rng = Rng::new(config.seed);
        let incarnation = memory.incarnation.next();
        let me = Arc::new(Member {
            id: config.id,
            name: config.name.clone(),
            address: config.address,
            tags: config.tags.clone(),
            incarnation,
            state: MemberState::Alive,
        });
        let minute = core::time::Duration::from_mins(1);
        let rejoins = !memory.left || config.rejoin_after_leave;
        let mut remembered = memory.peers;
        remembered.truncate(crate::MAX_REMEMBERED);
        remembered.retain(|peer| peer.id != config.id);
        let mut gossip = Self {
            pool: PoolTag::new(&config.pool),
            clock: OwnClock::new(now.mono),
            timers: Timers::new(),
            effects: VecDeque::new(),
            stats: Stats::default(),
            table: Table::new(me, rng.next_u64(), &mut rng),
            tombstones: Tombstones::new(TOMBSTONES_MAX.min(config.members_max)),
            suspicions: BTreeMap::new(),
            awareness: Awareness::new(config.awareness_max),
            probes: Probes::new(rng.next_u64() as u32),
            queue: Queue::new(),
            last_round: None,
            window: Window::default(),
            recently_dead: VecDeque::new(),
            phase: Phase::Present,
            intents: LamportClock::new(LamportTime(memory.clocks[0])),
            early_intents: EarlyIntents::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            joins: BTreeMap::new(),
            contests: BTreeMap::new(),
            remembered,
            reserved: incarnation,
            handed_out: LamportTime(memory.clocks[1]),
            attempts: 0,
            keeps_apart: !rejoins,
            fresh: memory.incarnation == Incarnation(0),
            payload: Payload::new(&config, memory.clocks, rng.fork()),
            payload_due: None,
            vivaldi: CoordinateClient::new(memory.coordinate, rng.fork()),
            coordinates: BTreeMap::new(),
            strangers: BTreeMap::new(),
            met: Throttle::new(config.probe_interval.saturating_mul(4), 256),
            told: Throttle::new(config.probe_timeout, 1024),
            barred: Throttle::new(minute, 256),
            reported: Throttle::new(minute, 1024),
            rng,
            config,
        };
        gossip.remember_now();
        gossip.arm_push_pull();
        gossip.seek();
        Ok(gossip)
    }

    /// All members that are known, in any state, this one among them; in no particular but a reproducible order.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.table.iter().map(|(_, member)| member)
    }

    /// The member with this id.
    pub fn member(&self, id: NodeId) -> Option<&Arc<Member>> {
        self.table.find(id).map(|slot| self.table.member(slot))
    }

    /// The member with this name.
    pub fn member_by_name(&self, name: &str) -> Option<&Arc<Member>> {
        self.table.find_name(name).map(|slot| self.table.member(slot))
    }

    /// This member.
    pub fn me(&self) -> &Arc<Member> {
        self.table.member(Slot::ME)
    }

    /// How many members are well, this one among them.
    pub fn size(&self) -> usize {
        self.table.well()
    }

    /// Local health (Lifeguard §IV-A): 0 is best, [`Config::awareness_max`] worst.
    pub fn health(&self) -> u32 {
        self.awareness.score()
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        let (events, payload) = (self.payload.event_counts(), self.payload.queue());
        Stats {
            broadcasts_queued: self.queue.len(),
            transmissions_max: self.queue.most_sent(),
            members: self.table.len(),
            tombstones: self.tombstones.len(),
            user_events: events.delivered,
            user_events_late: events.late,
            user_events_known: events.duplicates,
            user_events_too_old: events.too_old,
            event_pulls: events.pulls,
            payload_queued: payload.len(),
            payload_dropped: payload.dropped(),
            payload_transmissions_max: payload.transmissions_max(),
            ..self.stats.clone()
        }
    }

    pub(crate) const fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Brings the own clock forward, and notices if this member did not run for a while.
    fn awake(&mut self, now: Now) {
        let due = self.timers.first().map(|first| first.at);
        let (tolerance, grace) = (self.config.pause_tolerance, self.config.probe_timeout);
        if self.clock.advance(now.mono, due, tolerance, grace) {
            self.stats.pauses += 1;
            self.awareness.worse(1);
        }
    }

    fn packet(&mut self, from: Sender, packet: &Bytes) {
        self.stats.packets_in += 1;
        self.stats.bytes_in += packet.len() as u64;
        if !self.is_reachable(&from) {
            return;
        }
        let parts = match read_packet(packet, self.pool) {
            Ok(parts) => parts,
            Err(reason) => return self.refuse(from.id, reason),
        };
        self.greet(&from);
        let mut pings = Vec::new();
        for part in parts {
            match part {
                Ok(Received { part, encoded }) => self.part(&from, part, &encoded, &mut pings),
                Err(reason) => {
                    self.refuse(from.id, reason);
                    break;
                }
            }
        }
        // Only now, so that the answer brings along what the packet gave reason to say: a suspect contradicts in its very answer.
        for seq in pings {
            self.answer_ping(&from, seq);
        }
    }

    fn part(&mut self, from: &Sender, part: Part, encoded: &Bytes, pings: &mut Vec<u32>) {
        match part {
            Part::Ping {
                seq,
                target,
                incarnation,
            } => {
                // An address may have changed hands; who is not meant keeps silent.
                if target == self.me().id {
                    pings.push(seq);
                    self.compare(from, incarnation);
                }
            }
            Part::PingRequest { seq, target } => self.help(from, seq, target),
            Part::Ack {
                seq,
                incarnation,
                coordinate,
            } => self.ack(from, seq, incarnation, coordinate),
            Part::Nack { seq } => self.nack(from, seq),
            Part::Statement(statement) => {
                let hearing = Hearing {
                    from,
                    encoded: Some(encoded),
                    spread: true,
                };
                self.hear(statement, hearing);
            }
            Part::UserEvent(_) | Part::Digest(_) | Part::Query(_) | Part::QueryAnswer(_) | Part::Relay(_) => {
                self.shared(from, part, encoded);
            }
            Part::Summary(_) | Part::EventsWanted(_) | Part::EventsHeld(_) | Part::EventsFound(_) => {
                self.refuse(from.id, Refusal::Malformed);
            }
        }
    }

    /// Whether packets and calls of this sender are for anybody: not those of this member's double, nor any after it left.
    pub(crate) fn is_reachable(&mut self, from: &Sender) -> bool {
        if from.id == self.me().id {
            self.report_double(from.address);
            return false;
        }
        self.phase != Phase::Left
    }

    fn set_tags(&mut self, tags: Tags) -> Result<(), Reject> {
        check_tags(&tags, self.config.server)?;
        // Who has said goodbye says nothing more of itself.
        let present = matches!(self.phase, Phase::Present | Phase::Leaving);
        if present && self.me().tags != tags {
            self.config.tags.clone_from(&tags);
            let incarnation = self.me().incarnation.next();
            self.say_of_me(incarnation, |me| me.tags = tags);
            let me = Arc::clone(self.me());
            self.effects.push_back(Effect::Member(MemberEvent::Updated(me)));
        }
        Ok(())
    }

    fn timeout(&mut self, timer: Timer) {
        match timer {
            Timer::Suspicion(id) => self.suspicion_over(id),
            Timer::ProbeTimeout(seq) => self.probe_timeout(seq),
            Timer::ProbeEnd(seq) => self.probe_end(seq),
            Timer::Helper(seq) => self.helper_timeout(seq),
            Timer::Call(id) => self.call_done(id, Err("no answer in time".to_owned())),
            Timer::Probe => self.probe_next(),
            Timer::Gossip => self.round(),
            Timer::Payload => {
                let now = self.now();
                self.payload.handle_timeout(now);
            }
            Timer::PushPull => self.push_pull(),
            Timer::Leave => self.leave_timeout(),
            Timer::Reap => self.reap_due(),
            Timer::Reconnect => self.reconnect(),
            Timer::Remember => self.remember_now(),
        }
    }

    /// Counts something that was refused, and says so once a minute for each reason and sender.
    pub(crate) fn refuse(&mut self, from: NodeId, reason: Refusal) {
        *self.stats.refused.entry(reason).or_default() += 1;
        if self.reported.allow((Report::Refused(reason), from), self.now()) {
            self.effects
                .push_back(Effect::Event(Event::Refused { from, reason }));
        }
    }

    /// A packet to be filled.
    pub(crate) fn new_packet(&self) -> PacketBuilder {
        PacketBuilder::packet(self.pool, self.config.packet_bytes)
    }

    /// Sends a packet, unless its receiver was forgotten a moment ago: then nobody knows where it is.
    pub(crate) fn send(&mut self, to: NodeId, packet: PacketBuilder) {
        if !self.is_found(to) {
            return;
        }
        let packet = packet.finish();
        self.stats.packets_out += 1;
        self.stats.bytes_out += packet.len() as u64;
        self.effects.push_back(Effect::Packet { to, packet });
    }

    /// How often a statement is sent.
    pub(crate) fn retransmissions(&self) -> u32 {
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::RetransmitForEver) {
            return u32::MAX;
        }
        retransmit_limit(self.config.retransmit_mult, self.table.well())
    }

    pub(crate) fn intern(&self, member: Member) -> Arc<Member> {
        match &self.config.interner {
            Some(interner) => (interner.0)(member),
            None => Arc::new(member),
        }
    }

    /// Changes what is known of a member.
    pub(crate) fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Member)) -> Arc<Member> {
        let mut member = Member::clone(self.table.member(slot));
        change(&mut member);
        let member = self.intern(member);
        self.table.replace(slot, Arc::clone(&member), &mut self.rng);
        member
    }

    pub(crate) fn emit(&mut self, event: MemberEvent) {
        self.effects.push_back(Effect::Member(event));
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn sabotaged(&self, kind: crate::Sabotage) -> bool {
        self.config.sabotage == Some(kind)
    }
}

impl Machine for Gossip {
    type Input = Input;
    type Effect = Effect;
    type Reject = Reject;
    type Timer = Timer;
    type Fault = Infallible;

    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reject> {
        if self.effects.len() >= EFFECTS_MAX {
            return Err(Reject::Busy);
        }
        self.awake(now);
        match input {
            Input::Packet { from, packet } => self.packet(from, &packet),
            Input::Call { id, from, request } => self.call_received(id, &from, &request),
            Input::CallDone { id, result } => self.call_done(id, result),
            Input::Join { token, addresses } => self.join(token, addresses),
            Input::SetTags(tags) => return self.set_tags(tags),
            Input::Leave => self.leave(),
            Input::ForceLeave { token, name, prune } => self.force_leave(token, &name, prune),
            Input::UserEvent {
                token,
                name,
                payload,
                coalesce,
            } => {
                if !self.refuse_after_leave(token) {
                    let now = self.now();
                    self.payload.user_event(now, token, name, payload, coalesce);
                }
            }
            Input::Query { token, params } => {
                if !self.refuse_after_leave(token) {
                    let now = self.now();
                    let me = self.table.member(Slot::ME);
                    self.payload.query(now, token, params, me);
                }
            }
            Input::Respond { query, payload } => self.payload.respond(query, payload)?,
        }
        self.settle_payload();
        Ok(())
    }

    fn handle_timeout(&mut self, now: Now) {
        self.awake(now);
        while let Some(timer) = self.timers.pop_due(self.clock.now()) {
            self.clock.serviced();
            self.timeout(timer);
        }
        self.settle_payload();
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() && self.effects.capacity() > EFFECTS_KEPT {
            // Who learns of a whole pool at once has much to say, and never again.
            self.effects = VecDeque::new();
        }
        effect
    }

    fn poll_timeout(&self) -> Option<Deadline<Timer>> {
        let first = self.timers.first()?;
        Some(Deadline {
            at: self.clock.outside(first.at),
            reason: first.reason,
        })
    }

    fn fault(&self) -> Option<&Infallible> {
        None
    }
}
