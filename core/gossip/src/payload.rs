//! User events and queries of a member, as one part of [`crate::Gossip`].
//!
//! Requests, parts of packets and calls go in; what comes of them is taken away with [`Payload::poll`]. Membership asks it to
//! [`Payload::fill`] what room its own statements leave in a packet.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use lictor_machine::{Instant, NodeId, Rng, Token};

use crate::MAX_USER_EVENT_BYTES;
use crate::broadcast::{Full, PayloadQueue};
use crate::config::Config;
use crate::event::{
    EventDigest, EventsFound, EventsHeld, EventsWanted, QueryAnswer, QueryId, QueryParams, QueryStatement,
    UserEvent,
};
use crate::events::{EventBuffer, EventCounts, MAX_EVENTS, Question};
use crate::io::{Answer, Effect, Refusal};
use crate::lamport::LamportTime;
use crate::member::Member;
use crate::queries::{Heard, Queries, QueryError, Said};
use crate::wire::{MIN_PACKET_BYTES, PacketBuilder, Part};

/// The bytes of a user event beside its name and content: at most so many.
const EVENT_OVERHEAD: usize = 48;

/// What members tell and ask each other beside membership.
#[derive(Debug)]
pub(crate) struct Payload {
    me: NodeId,
    members: usize,
    members_max: usize,
    events: EventBuffer,
    queries: Queries,
    queue: PayloadQueue,
    rng: Rng,
    out: VecDeque<Outgoing>,
}

/// What the payload wants done.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    /// Something for the application.
    Effect(Effect),
    /// Send this part in a packet of its own.
    Send(NodeId, Part),
    /// Send an answer of this member's to who asked, and to this many others who pass it on.
    Answer(QueryAnswer, u8),
    /// Call somebody for events; [`Payload::called`] must follow.
    Call(Question),
}

/// Answers a call for events.
#[derive(Clone, Debug)]
pub(crate) struct EventsReply {
    /// The first part.
    pub(crate) head: Part,
    /// The others, encoded.
    pub(crate) events: Vec<Bytes>,
}

/// What an answer to a call for events has brought so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pulled {
    /// What it said of itself.
    pub(crate) head: Option<EventsFound>,
    new: usize,
}

impl Payload {
    /// Begins with the Lamport times of member intents, user events and queries that are remembered.
    pub(crate) fn new(config: &Config, clocks: [u64; 3], rng: Rng) -> Self {
        let [_, events, queries] = clocks;
        Self {
            me: config.id,
            members: 1,
            members_max: config.members_max,
            events: EventBuffer::new(config.gossip_interval, LamportTime(events)),
            queries: Queries::new(config.gossip_interval, LamportTime(queries)),
            queue: PayloadQueue::new(config.payload_bytes),
            rng,
            out: VecDeque::new(),
        }
    }

    /// The highest times of user events and of queries that were seen.
    pub(crate) const fn clocks(&self) -> [LamportTime; 2] {
        [self.events.time(), self.queries.time()]
    }

    /// Up to which time user events have been handed out.
    pub(crate) fn handed_out(&self) -> LamportTime {
        self.events.handed_out()
    }

    /// What was counted of events.
    pub(crate) const fn event_counts(&self) -> EventCounts {
        self.events.counts()
    }

    /// What waits to be passed on.
    pub(crate) const fn queue(&self) -> &PayloadQueue {
        &self.queue
    }

    /// Says how many members are well, this one among them.
    pub(crate) fn set_members(&mut self, members: usize) {
        self.members = members;
        self.events.set_members(members);
    }

    /// Tells the pool something; see [`crate::Input::UserEvent`].
    pub(crate) fn user_event(
        &mut self,
        now: Instant,
        token: Token,
        name: String,
        payload: Bytes,
        coalesce: bool,
    ) {
        let bytes = name.len() + payload.len();
        let checked = if name.is_empty() {
            Err("a user event must have a name".to_owned())
        } else if bytes > MAX_USER_EVENT_BYTES {
            Err(format!(
                "a user event may have {MAX_USER_EVENT_BYTES} bytes with its name, this one has {bytes}"
            ))
        } else {
            self.check_room(bytes + EVENT_OVERHEAD)
        };
        let answer = match checked {
            Ok(()) => {
                let part = self.events.fire(now, self.me, name, payload, coalesce);
                self.queue.push(part);
                Answer::Done
            }
            Err(why) => Answer::Failed(why),
        };
        self.effect(Effect::Answer { token, answer });
        self.drain_events();
    }

    /// Asks the pool something; see [`crate::Input::Query`].
    pub(crate) fn query(&mut self, now: Instant, token: Token, params: QueryParams, me: &Member) {
        let asked = self.check_room(MIN_PACKET_BYTES).and_then(|()| {
            self.queries
                .ask(now, self.me, token, params, self.members, &mut self.rng)
                .map_err(|why| why.to_string())
        });
        match asked {
            Ok(query) => {
                self.queue.push(Part::Query(query.clone()).encode());
                if let Ok(Some(heard)) = self.queries.hear(now, me, &query) {
                    self.heard(heard, query);
                }
            }
            Err(why) => self.effect(Effect::Answer {
                token,
                answer: Answer::Failed(why),
            }),
        }
    }

    /// Answers a query; see [`crate::Input::Respond`].
    ///
    /// # Errors
    /// Why it cannot be answered; nothing has changed.
    pub(crate) fn respond(&mut self, query: QueryId, payload: Bytes) -> Result<(), QueryError> {
        let (answer, relay) = self.queries.respond(self.me, query, payload)?;
        self.answer(answer, relay);
        Ok(())
    }

    /// Takes in a user event that came in a packet.
    ///
    /// # Errors
    /// Its time cannot be true.
    pub(crate) fn receive_event(
        &mut self,
        now: Instant,
        from: NodeId,
        event: UserEvent,
        part: &[u8],
    ) -> Result<(), Refusal> {
        if let Some(part) = self.events.accept(now, from, event, part)? {
            self.queue.push(part);
            self.drain_events();
        }
        Ok(())
    }

    /// Takes in a query that came in a packet.
    ///
    /// # Errors
    /// Its time cannot be true, or it would wait for ever.
    pub(crate) fn receive_query(
        &mut self,
        now: Instant,
        me: &Member,
        query: QueryStatement,
        part: &[u8],
    ) -> Result<(), Refusal> {
        if let Some(heard) = self.queries.hear(now, me, &query)? {
            self.queue.push(Bytes::copy_from_slice(part));
            self.heard(heard, query);
        }
        Ok(())
    }

    /// Takes in an answer to a query of this member's.
    ///
    /// # Errors
    /// It is another's than the sender's, and none such is expected.
    pub(crate) fn receive_answer(&mut self, from: NodeId, answer: QueryAnswer) -> Result<(), Refusal> {
        match self.queries.collect(from, answer, self.members_max)? {
            Some(Said::Ack(token, from)) => self.effect(Effect::QueryAck { token, from }),
            Some(Said::Response(token, response)) => {
                self.effect(Effect::QueryResponse { token, response });
            }
            None => {}
        }
        Ok(())
    }

    /// Passes an answer on to who asked.
    ///
    /// # Errors
    /// It is not the sender's own: only the first step of its way leads through others.
    pub(crate) fn receive_relay(&mut self, from: NodeId, answer: QueryAnswer) -> Result<(), Refusal> {
        if answer.from != from {
            return Err(Refusal::Forged);
        }
        if answer.query.origin == self.me {
            return self.receive_answer(from, answer);
        }
        let to = answer.query.origin;
        self.out.push_back(Outgoing::Send(to, Part::QueryAnswer(answer)));
        Ok(())
    }

    /// Takes in which events another has.
    pub(crate) fn receive_digest(&mut self, now: Instant, from: NodeId, digest: EventDigest) {
        self.events.compare(now, from, digest);
        self.ask(now);
    }

    /// Takes in what another says of itself at the beginning of an exchange of everything. The first one tells a new member since when
    /// it is in the pool.
    ///
    /// # Errors
    /// A time cannot be true.
    pub(crate) fn receive_summary(
        &mut self,
        now: Instant,
        from: NodeId,
        clocks: [LamportTime; 2],
        digest: EventDigest,
    ) -> Result<(), Refusal> {
        let [events, queries] = clocks;
        self.events.adopt(events)?;
        self.queries.adopt(queries)?;
        self.receive_digest(now, from, digest);
        Ok(())
    }

    /// Answers a call for events.
    ///
    /// # Errors
    /// It names more events than anybody keeps.
    pub(crate) fn receive_call(
        &mut self,
        now: Instant,
        from: NodeId,
        wanted: EventsWanted,
        held: Vec<EventsHeld>,
    ) -> Result<EventsReply, Refusal> {
        let named: usize = held.iter().map(|held| held.fingerprints.len()).sum();
        if named > MAX_EVENTS {
            return Err(Refusal::TooLarge);
        }
        let held: BTreeSet<u64> = held.into_iter().flat_map(|held| held.fingerprints).collect();
        let found = self.events.answer(now, from, wanted, held);
        self.ask(now);
        Ok(EventsReply {
            head: Part::EventsFound(found.head),
            events: found.events,
        })
    }

    /// Takes in an event of an answer to a call for events. It is not passed on: who has it, has told others.
    ///
    /// # Errors
    /// Its time cannot be true.
    pub(crate) fn pull_event(
        &mut self,
        now: Instant,
        from: NodeId,
        pulled: &mut Pulled,
        event: UserEvent,
        part: &[u8],
    ) -> Result<(), Refusal> {
        if self.events.accept(now, from, event, part)?.is_some() {
            pulled.new += 1;
        }
        Ok(())
    }

    /// The call for events is over, with what was pulled; `Pulled::default()` if nobody answered.
    pub(crate) fn called(&mut self, now: Instant, pulled: Pulled) {
        self.events.answered(now, pulled.head, pulled.new);
        self.ask(now);
        self.drain_events();
    }

    /// Which events this member has, if any were said.
    pub(crate) fn digest(&self) -> EventDigest {
        self.events.digest()
    }

    /// Adds to a packet what is to be passed on, as far as it fits, and the digest of events. What was sent `limit` times is done.
    pub(crate) fn fill(&mut self, packet: &mut PacketBuilder, limit: u32) {
        let digest = self.events.digest();
        if digest.count > 0 {
            // Without room, the next packet says it.
            let _no_room = !packet.push_part(&Part::Digest(digest));
        }
        self.queue.fill(packet, limit);
    }

    /// When there is something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.events.deadline(), self.queries.deadline()) {
            (Some(events), Some(queries)) => Some(events.min(queries)),
            (events, queries) => events.or(queries),
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.events.handle_timeout(now);
        self.drain_events();
        self.ask(now);
        self.end_queries(now);
    }

    /// This member has left: nothing is waited for any more.
    pub(crate) fn close(&mut self) {
        self.queue.clear();
        self.events.close();
        self.drain_events();
        self.end_queries(Instant::MAX);
    }

    /// Nobody is there to pass anything on to.
    pub(crate) fn clear_queue(&mut self) {
        self.queue.clear();
    }

    /// What is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Outgoing> {
        self.out.pop_front()
    }

    fn check_room(&self, bytes: usize) -> Result<(), String> {
        self.queue
            .check_room(bytes)
            .map_err(|full: Full| full.to_string())
    }

    fn heard(&mut self, heard: Heard, query: QueryStatement) {
        if heard.acknowledge {
            let ack = QueryAnswer {
                query: query.id,
                from: self.me,
                payload: None,
            };
            self.answer(ack, query.relay);
        }
        if let Some(incoming) = heard.deliver {
            self.effect(Effect::Query(incoming));
        }
    }

    /// Brings an answer of this member's on its way.
    fn answer(&mut self, answer: QueryAnswer, relay: u8) {
        if answer.query.origin != self.me {
            self.out.push_back(Outgoing::Answer(answer, relay));
            return;
        }
        let collected = self.receive_answer(self.me, answer);
        debug_assert!(collected.is_ok(), "its own answer is nobody else's");
    }

    fn end_queries(&mut self, now: Instant) {
        while let Some(token) = self.queries.poll_over(now) {
            let answer = Answer::QueryDone;
            self.effect(Effect::Answer { token, answer });
        }
    }

    fn ask(&mut self, now: Instant) {
        if let Some(question) = self.events.ask(now) {
            self.out.push_back(Outgoing::Call(question));
        }
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.events.poll() {
            self.effect(Effect::UserEvent(event));
        }
    }

    fn effect(&mut self, effect: Effect) {
        self.out.push_back(Outgoing::Effect(effect));
    }
}
