//! Exchanges of everything. Two members compare fingerprints of what they know, by groups of members; only the groups that differ are
//! sent, and in calm none does. Who calls is answered with what the other has, and gives back what the other lacks.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lictor_machine::NodeId;

use crate::calls::Purpose;
use crate::gossip::{Gossip, Timer};
use crate::io::{Refusal, Sender, Target};
use crate::lamport::LamportTime;
use crate::leave::Phase;
use crate::member::{MemberEvent, MemberState};
use crate::members::{Slot, bucket_of, is_gone, strength};
use crate::rumors::{Hearing, member_of, profile_of};
use crate::statement::{BUCKETS, Profile, Statement, Step, Summary};
use crate::wire::{PacketBuilder, Part, Parts, read_call};

/// Up to this size of the pool everybody exchanges at the configured interval; beyond, at longer ones.
const SCALE_FROM: usize = 32;

/// What was in a message, as far as it matters for the next step: who, and how strong the statement was.
type Heard = BTreeMap<NodeId, (u64, u8)>;

impl Gossip {
    /// Sets the time of the next exchange.
    pub(crate) fn arm_push_pull(&mut self) {
        let mean = self.config.push_pull_interval.mul_f64(scale(self.table.well()));
        // Spread, so that members that started together drift apart.
        let delay = self.rng.between(mean.mul_f64(0.5), mean.mul_f64(1.5));
        self.timers.set(Timer::PushPull, self.now() + delay);
    }

    /// Exchanges everything with one member.
    pub(crate) fn push_pull(&mut self) {
        self.arm_push_pull();
        let partner = self
            .table
            .sample(1, &mut self.rng, |member| member.state == MemberState::Alive);
        if let Some(slot) = partner.first() {
            let id = self.table.member(*slot).id;
            self.sync(Target::Node(id));
        }
    }

    /// Begins an exchange.
    pub(crate) fn sync(&mut self, target: Target) {
        let request = self.sync_request(Step::Sync);
        self.call(target, request, self.config.stream_timeout, Purpose::Sync);
    }

    /// The first call of an exchange.
    pub(crate) fn sync_request(&self, step: Step) -> Bytes {
        let mut request = PacketBuilder::call(self.pool);
        crate::probe::push(&mut request, &self.summary(step));
        let me = Statement::Alive(profile_of(self.me()));
        crate::probe::push(&mut request, &Part::Statement(me));
        request.finish()
    }

    fn summary(&self, step: Step) -> Part {
        Part::Summary(Summary {
            step,
            clocks: self.clocks(),
            buckets: self.table.buckets().to_vec(),
            events: self.payload.digest(),
        })
    }

    /// Takes note of what somebody gives, and answers with what it lacks.
    pub(crate) fn answer_sync(
        &mut self,
        from: &Sender,
        summary: &Summary,
        parts: Parts,
    ) -> Result<PacketBuilder, Refusal> {
        match summary.step {
            Step::Join | Step::Sync | Step::Push => {}
            Step::Reply => return Err(Refusal::Malformed),
        }
        self.keeps_apart = false;
        self.witness(from, summary, false);
        let heard = self.merge(from, parts, true)?;
        self.greet(from);
        let mut reply = PacketBuilder::call(self.pool);
        crate::probe::push(&mut reply, &self.summary(Step::Reply));
        self.say_to_caller(&mut reply, from);
        match summary.step {
            Step::Join | Step::Sync => {
                let differs = self.differing(&summary.buckets);
                if differs.contains(&true) {
                    self.stats.syncs += 1;
                } else {
                    self.stats.syncs_equal += 1;
                }
                self.add_members(&mut reply, &differs, &Heard::new());
            }
            // It has everything but what has changed since, by what it said.
            Step::Push => {
                let changed = |(id, strength): (&NodeId, &(u64, u8))| {
                    let slot = self.table.find(*id)?;
                    let member = self.table.member(slot);
                    (crate::members::strength(member.incarnation, member.state) > *strength).then_some(slot)
                };
                let slots: Vec<Slot> = heard.iter().filter_map(changed).collect();
                for slot in slots {
                    if !reply.push_part(&Part::Statement(self.state_of(slot))) {
                        break;
                    }
                }
            }
            Step::Reply => {}
        }
        Ok(reply)
    }

    /// What is held of the caller, since it has to contradict what is wrong. Here and not in a packet: if it has moved, packets go to
    /// where it was.
    fn say_to_caller(&self, reply: &mut PacketBuilder, caller: &Sender) {
        let held = match (self.table.find(caller.id), self.tombstones.get(caller.id)) {
            (Some(slot), _) => self.state_of(slot),
            (None, Some(incarnation)) => {
                let (id, from) = (caller.id, self.me().id);
                Statement::Dead {
                    id,
                    incarnation,
                    from,
                }
            }
            (None, None) => return,
        };
        crate::probe::push(reply, &Part::Statement(held));
    }

    /// The answer to the first call of an exchange.
    pub(crate) fn sync_reply(&mut self, from: &Sender, reply: &Bytes) -> Result<(), Refusal> {
        let (summary, parts) = self.open_reply(reply)?;
        if from.id == self.me().id || self.phase == Phase::Left {
            return Ok(());
        }
        self.witness(from, &summary, self.fresh);
        // What a newcomer learns of a pool the pool knows; there is no need to tell it.
        let alone = self.table.here() == 0;
        let heard = self.merge(from, parts, !alone)?;
        self.fresh = false;
        self.attempts = 0;
        let differs = self.differing(&summary.buckets);
        let mut request = PacketBuilder::call(self.pool);
        crate::probe::push(&mut request, &self.summary(Step::Push));
        if self.add_members(&mut request, &differs, &heard) {
            let request = request.finish();
            let known = self.table.find(from.id).is_some();
            let target = if known {
                Target::Node(from.id)
            } else {
                Target::Address(from.address)
            };
            self.call(target, request, self.config.stream_timeout, Purpose::Push);
        }
        Ok(())
    }

    /// The answer to the second call.
    pub(crate) fn push_reply(&mut self, from: &Sender, reply: &Bytes) -> Result<(), Refusal> {
        let (summary, parts) = self.open_reply(reply)?;
        self.witness(from, &summary, false);
        self.merge(from, parts, true).map(drop)
    }

    /// Reads the head of a reply.
    pub(crate) fn open_reply(&self, reply: &Bytes) -> Result<(Summary, Parts), Refusal> {
        let mut parts = read_call(reply, self.pool)?;
        let first = parts.next().ok_or(Refusal::Malformed)??;
        match first.part {
            Part::Summary(summary) if summary.step == Step::Reply => Ok((summary, parts)),
            Part::Summary(_)
            | Part::Ping { .. }
            | Part::PingRequest { .. }
            | Part::Ack { .. }
            | Part::Nack { .. }
            | Part::Statement(_)
            | Part::UserEvent(_)
            | Part::Digest(_)
            | Part::EventsWanted(_)
            | Part::EventsHeld(_)
            | Part::EventsFound(_)
            | Part::Query(_)
            | Part::QueryAnswer(_)
            | Part::Relay { .. } => Err(Refusal::Malformed),
        }
    }

    fn witness(&mut self, from: &Sender, summary: &Summary, joining: bool) {
        let time = summary.clocks[0];
        let seen = if joining {
            self.intents.adopt(time)
        } else {
            self.intents.witness(time)
        };
        if seen.is_err() {
            self.refuse(from.id, Refusal::Jump);
        }
        self.shared_summary(from, summary);
    }

    /// Takes note of all statements of a message.
    fn merge(&mut self, from: &Sender, parts: Parts, spread: bool) -> Result<Heard, Refusal> {
        let mut heard = Heard::new();
        let how = Hearing {
            from,
            encoded: None,
            spread,
        };
        for part in parts {
            match part?.part {
                Part::Statement(Statement::State {
                    profile,
                    state,
                    time,
                    gone_seconds,
                }) => {
                    heard.insert(profile.id, strength(profile.incarnation, state));
                    self.merge_state(profile, state, time, gone_seconds, how);
                }
                Part::Statement(statement) => self.hear(statement, how),
                Part::UserEvent(_)
                | Part::Digest(_)
                | Part::EventsWanted(_)
                | Part::EventsHeld(_)
                | Part::EventsFound(_) => {}
                Part::Ping { .. }
                | Part::PingRequest { .. }
                | Part::Ack { .. }
                | Part::Nack { .. }
                | Part::Summary(_)
                | Part::Query(_)
                | Part::QueryAnswer(_)
                | Part::Relay { .. } => return Err(Refusal::Malformed),
            }
        }
        Ok(heard)
    }

    /// Takes note of how somebody sees a member.
    fn merge_state(
        &mut self,
        profile: Profile,
        state: MemberState,
        time: LamportTime,
        gone_seconds: u32,
        how: Hearing<'_>,
    ) {
        let (id, incarnation) = (profile.id, profile.incarnation);
        if id == self.me().id {
            match state {
                MemberState::Alive | MemberState::Suspect => self.alive(profile, how),
                MemberState::Leaving => {
                    self.alive(profile, how);
                    self.leave_intent((id, incarnation), time, false, how);
                }
                MemberState::Left | MemberState::Failed => self.dead(id, incarnation, how),
            }
            return;
        }
        if is_gone(state) && self.table.find(id).is_none() {
            return self.learn_of_the_gone(profile, state, time, gone_seconds, how);
        }
        match state {
            // Its last intent was to be here, if it had any.
            MemberState::Alive => {
                self.alive(profile, how);
                self.join_intent(id, time, how);
            }
            MemberState::Suspect => {
                self.alive(profile, how);
                self.join_intent(id, time, how);
                self.suspect(id, incarnation, how.from.id, how);
            }
            MemberState::Leaving => {
                self.alive(profile, how);
                self.leave_intent((id, incarnation), time, false, how);
            }
            MemberState::Left => {
                self.left(id, incarnation, how);
                self.note_intent(id, time, how);
            }
            // This news may be old. A suspicion gives the member the time to contradict.
            MemberState::Failed => {
                let well = self.member(id).is_some_and(|known| !is_gone(known.state));
                if well {
                    self.suspect(id, incarnation, how.from.id, how);
                } else {
                    self.dead(id, incarnation, how);
                }
            }
        }
    }

    /// A member that was never known here is gone already. It is known from now on, for as long as others will know it.
    fn learn_of_the_gone(
        &mut self,
        profile: Profile,
        state: MemberState,
        time: LamportTime,
        gone_seconds: u32,
        how: Hearing<'_>,
    ) {
        let gone = Duration::from_secs(gone_seconds.into());
        let old = self
            .tombstones
            .get(profile.id)
            .is_some_and(|dead| profile.incarnation <= dead);
        if old || gone >= self.keeping(state) || self.table.find_name(&profile.name).is_some() {
            return;
        }
        if profile.incarnation.0 > crate::rumors::FIRST_SIGHT_MAX {
            return self.refuse(how.from.id, Refusal::Jump);
        }
        if !self.make_room() {
            return self.refuse(how.from.id, Refusal::TooLarge);
        }
        self.tombstones.remove(profile.id);
        let member = self.intern(member_of(profile, state));
        let slot = self.welcome(Arc::clone(&member));
        self.schedule_reaping(slot, gone);
        if self.intents.witness(time).is_ok() {
            self.table.set_time(slot, time);
        }
        if state == MemberState::Failed {
            self.emit(MemberEvent::Failed(member));
            self.arm_reconnect();
        } else {
            self.emit(MemberEvent::Left(member));
        }
    }

    /// For each group whether this member holds something else than the other.
    fn differing(&self, buckets: &[u64]) -> [bool; BUCKETS] {
        let mut differs = [true; BUCKETS];
        for ((differs, mine), theirs) in differs.iter_mut().zip(self.table.buckets()).zip(buckets) {
            *differs = mine != theirs;
        }
        differs
    }

    /// Adds the members of these groups, but for those of which the other has shown to know as much. True if there are any.
    fn add_members(&self, message: &mut PacketBuilder, buckets: &[bool; BUCKETS], heard: &Heard) -> bool {
        let mut any = false;
        if !buckets.contains(&true) {
            return any;
        }
        for (slot, member) in self.table.iter() {
            let known = strength(member.incarnation, member.state);
            if !buckets[bucket_of(member.id)] || heard.get(&member.id).is_some_and(|theirs| *theirs >= known)
            {
                continue;
            }
            if !message.push_part(&Part::Statement(self.state_of(slot))) {
                break;
            }
            any = true;
        }
        any
    }

    fn state_of(&self, slot: Slot) -> Statement {
        let member = self.table.member(slot);
        let gone = self.table.forgotten_at(slot).map_or(Duration::ZERO, |at| {
            self.keeping(member.state).saturating_sub(at.since(self.now()))
        });
        Statement::State {
            profile: profile_of(member),
            state: member.state,
            time: self.table.time(slot),
            gone_seconds: u32::try_from(gone.as_secs()).unwrap_or(u32::MAX),
        }
    }
}

/// By how much the interval grows with the pool, so that all exchanges together do not cost more and more: one for each doubling.
fn scale(well: usize) -> f64 {
    if well <= SCALE_FROM {
        return 1.0;
    }
    (well as f64 / SCALE_FROM as f64).log2().ceil() + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pools_exchange_less_often() {
        for (well, factor) in [
            (1, 1.0),
            (32, 1.0),
            (33, 2.0),
            (64, 2.0),
            (65, 3.0),
            (10_000, 10.0),
        ] {
            assert!((scale(well) - factor).abs() < 1e-9, "{well}");
        }
    }
}
