//! What members share beside membership: brings to [`Payload`](crate::payload::Payload) what is for it, and does what it wants done.

use bytes::Bytes;
use lictor_machine::{NodeId, Token};

use crate::calls::Purpose;
use crate::event::{EventsHeld, EventsWanted, QueryAnswer};
use crate::events::Question;
use crate::gossip::{Gossip, Timer};
use crate::io::{Answer, Effect, Refusal, Sender, Target};
use crate::lamport::LamportTime;
use crate::leave::Phase;
use crate::member::MemberState;
use crate::members::Slot;
use crate::payload::{Outgoing, Pulled};
use crate::statement::Summary;
use crate::wire::{PacketBuilder, Part, Parts, read_call};

impl Gossip {
    /// The highest Lamport times that were seen: of member intents, of user events, and of queries.
    pub fn clock_times(&self) -> [u64; 3] {
        self.clocks().map(|time| time.0)
    }

    /// The same, as members tell each other.
    pub(crate) fn clocks(&self) -> [LamportTime; 3] {
        let [events, queries] = self.payload.clocks();
        [self.intents.now(), events, queries]
    }

    /// Refuses a request of a member that has left.
    pub(crate) fn refuse_after_leave(&mut self, token: Token) -> bool {
        let left = self.phase == Phase::Left;
        if left {
            let answer = Answer::Failed("this member has left the pool".to_owned());
            self.effects.push_back(Effect::Answer { token, answer });
        }
        left
    }

    /// Takes note of a part that is not about members.
    pub(crate) fn shared(&mut self, from: &Sender, part: Part, encoded: &Bytes) {
        let now = self.now();
        let taken = match part {
            Part::UserEvent(event) => self.payload.receive_event(now, from.id, event, encoded),
            Part::Query(query) => {
                let me = self.table.member(Slot::ME);
                self.payload.receive_query(now, me, query, encoded)
            }
            Part::QueryAnswer(answer) => self.payload.receive_answer(from.id, answer),
            Part::Relay(answer) => self.payload.receive_relay(from.id, answer),
            Part::Digest(digest) => {
                self.payload.receive_digest(now, from.id, digest);
                Ok(())
            }
            Part::Ping { .. }
            | Part::PingRequest { .. }
            | Part::Ack { .. }
            | Part::Nack { .. }
            | Part::Statement(_)
            | Part::Summary(_)
            | Part::EventsWanted(_)
            | Part::EventsHeld(_)
            | Part::EventsFound(_) => Err(Refusal::Malformed),
        };
        if let Err(reason) = taken {
            self.refuse(from.id, reason);
        }
    }

    /// Takes note of the clocks and of the events of a member that begins an exchange of everything, or goes on with one.
    pub(crate) fn shared_summary(&mut self, from: &Sender, summary: &Summary) {
        let [_, events, queries] = summary.clocks;
        let now = self.now();
        let taken = self
            .payload
            .receive_summary(now, from.id, [events, queries], summary.events);
        if let Err(reason) = taken {
            self.refuse(from.id, reason);
        }
    }

    /// Answers a call for events.
    pub(crate) fn answer_events(
        &mut self,
        from: &Sender,
        wanted: EventsWanted,
        parts: Parts,
    ) -> Result<PacketBuilder, Refusal> {
        let mut named: Vec<EventsHeld> = Vec::new();
        for part in parts {
            match part?.part {
                Part::EventsHeld(held) => named.push(held),
                Part::Ping { .. }
                | Part::PingRequest { .. }
                | Part::Ack { .. }
                | Part::Nack { .. }
                | Part::Statement(_)
                | Part::Summary(_)
                | Part::UserEvent(_)
                | Part::Digest(_)
                | Part::EventsWanted(_)
                | Part::EventsFound(_)
                | Part::Query(_)
                | Part::QueryAnswer(_)
                | Part::Relay(_) => return Err(Refusal::Malformed),
            }
        }
        let now = self.now();
        let answer = self.payload.receive_call(now, from.id, wanted, named)?;
        let mut reply = PacketBuilder::call(self.pool);
        crate::probe::push(&mut reply, &answer.head);
        for event in &answer.events {
            if !reply.push(event) {
                break;
            }
        }
        Ok(reply)
    }

    /// A call for events is over.
    pub(crate) fn events_done(&mut self, result: Result<(Sender, Bytes), String>) {
        let mut pulled = Pulled::default();
        if let Ok((from, reply)) = result
            && let Err(reason) = self.pull_events(&from, &reply, &mut pulled)
        {
            self.refuse(from.id, reason);
        }
        let now = self.now();
        self.payload.called(now, pulled);
    }

    /// Does what the payload wants done, and sees to it that it is asked again in time.
    pub(crate) fn settle_payload(&mut self) {
        self.payload.set_members(self.table.well());
        if self.phase == Phase::Left {
            self.payload.close();
        }
        while let Some(outgoing) = self.payload.poll() {
            match outgoing {
                Outgoing::Effect(effect) => {
                    if let Effect::UserEvent(event) = &effect {
                        self.remember_handed_out(event.time);
                    }
                    self.effects.push_back(effect);
                }
                Outgoing::Send(to, part) => self.send_part(to, &part),
                Outgoing::Answer(answer, relay) => self.send_answer(answer, relay),
                Outgoing::Call(question) => self.call_for_events(&question),
            }
        }
        if !self.payload.queue().is_empty() {
            self.arm_round();
        }
        if self.payload_due != self.payload.deadline() {
            self.payload_due = self.payload.deadline();
            match self.payload_due {
                Some(at) => self.timers.set(Timer::Payload, at),
                None => self.timers.cancel(Timer::Payload),
            }
        }
    }

    fn pull_events(&mut self, from: &Sender, reply: &Bytes, pulled: &mut Pulled) -> Result<(), Refusal> {
        let now = self.now();
        for received in read_call(reply, self.pool)? {
            let received = received?;
            match received.part {
                Part::EventsFound(head) => pulled.head = Some(head),
                Part::UserEvent(event) => {
                    self.payload
                        .pull_event(now, from.id, pulled, event, &received.encoded)?;
                }
                Part::Ping { .. }
                | Part::PingRequest { .. }
                | Part::Ack { .. }
                | Part::Nack { .. }
                | Part::Statement(_)
                | Part::Summary(_)
                | Part::Digest(_)
                | Part::EventsWanted(_)
                | Part::EventsHeld(_)
                | Part::Query(_)
                | Part::QueryAnswer(_)
                | Part::Relay(_) => return Err(Refusal::Malformed),
            }
        }
        Ok(())
    }

    fn call_for_events(&mut self, question: &Question) {
        let mut request = PacketBuilder::call(self.pool);
        for part in &question.parts {
            crate::probe::push(&mut request, part);
        }
        if self.table.find(question.peer).is_none() {
            return self.events_done(Err("it is not a member".to_owned()));
        }
        let (to, timeout) = (Target::Node(question.peer), self.config.stream_timeout);
        if !self.call(to, request.finish(), timeout, Purpose::Events) {
            self.events_done(Err("too many calls are open".to_owned()));
        }
    }

    /// Sends an answer to who asked, and through others. Who is not known any more gets none.
    fn send_answer(&mut self, answer: QueryAnswer, relay: u8) {
        let (me, origin) = (answer.from, answer.query.origin);
        let helpers = self.table.sample(usize::from(relay), &mut self.rng, |member| {
            member.state == MemberState::Alive && member.id != origin && member.id != me
        });
        for slot in helpers {
            let helper = self.table.member(slot).id;
            self.send_part(helper, &Part::Relay(answer.clone()));
        }
        self.send_part(origin, &Part::QueryAnswer(answer));
    }

    /// Sends a part in a packet of its own, if whom it is for is known.
    fn send_part(&mut self, to: NodeId, part: &Part) {
        if self.table.find(to).is_none() {
            return;
        }
        let mut packet = self.new_packet();
        crate::probe::push(&mut packet, part);
        self.send(to, packet);
    }
}
