//! What is believed of what is heard about members (SWIM §4.2), and how this one contradicts what is wrong about itself.

use std::sync::Arc;

use bytes::Bytes;
use lictor_machine::NodeId;

use crate::gossip::{Gossip, Timer};
use crate::io::{Effect, Event, Refusal, Sender};
use crate::leave::Phase;
use crate::member::{Incarnation, Member, MemberEvent, MemberState, Tags};
use crate::members::{Slot, is_gone};
use crate::rounds::Topic;
use crate::statement::{Profile, Statement};
use crate::suspicion::Suspicion;
use crate::wire::Part;

/// The furthest that a third party may advance a member's incarnation at once. A member makes one for each contradiction, a few in a
/// bad minute; who missed a million of them was away for so long that it asks the member itself.
pub(crate) const INCARNATION_JUMP: u64 = 1 << 20;

/// The highest incarnation that is believed of a member that is new, or of one that starts without memory of itself.
pub(crate) const FIRST_SIGHT_MAX: u64 = 1 << 40;

/// The highest incarnation that a member may claim for itself. Above it there is room for more contradictions than can be made, so that
/// incarnations never end.
pub(crate) const INCARNATION_MAX: u64 = 1 << 62;

/// How a statement came here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hearing<'a> {
    /// From whom.
    pub(crate) from: &'a Sender,
    /// Its bytes, if they can be passed on as they are.
    pub(crate) encoded: Option<&'a Bytes>,
    /// Whether it is to be passed on if it is news.
    pub(crate) spread: bool,
}

impl Incarnation {
    /// The one after this.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether a third party may claim `other` of a member that is known by this.
    const fn reaches(self, other: Self) -> bool {
        other.0 <= self.0.saturating_add(INCARNATION_JUMP)
    }
}

impl Gossip {
    /// Takes note of a statement.
    pub(crate) fn hear(&mut self, statement: Statement, how: Hearing<'_>) {
        match statement {
            Statement::Alive(profile) => self.alive(profile, how),
            Statement::Suspect {
                id,
                incarnation,
                from,
            } => self.suspect(id, incarnation, from, how),
            Statement::Dead {
                id,
                incarnation,
                from: _,
            } => self.dead(id, incarnation, how),
            Statement::Left { id, incarnation } => self.left(id, incarnation, how),
            Statement::Join { id, time } => self.join_intent(id, time, how),
            Statement::Leave {
                id,
                incarnation,
                time,
                prune,
            } => self.leave_intent((id, incarnation), time, prune, how),
            Statement::State { .. } => self.refuse(how.from.id, Refusal::Malformed),
        }
    }

    /// A member is said to be alive.
    pub(crate) fn alive(&mut self, profile: Profile, how: Hearing<'_>) {
        if profile.id == self.me().id {
            return self.alive_me(&profile, how);
        }
        let first_hand = how.from.id == profile.id;
        if first_hand && (profile.name != how.from.name || !how.from.server && claims_server(&profile.tags)) {
            return self.refuse(how.from.id, Refusal::Forged);
        }
        let ceiling = if first_hand {
            INCARNATION_MAX
        } else {
            INCARNATION_MAX - INCARNATION_JUMP
        };
        if profile.incarnation.0 > ceiling {
            return self.refuse(how.from.id, Refusal::Jump);
        }
        match self.table.find(profile.id) {
            Some(slot) => self.alive_known(slot, profile, first_hand, how),
            None => self.alive_new(profile, first_hand, how),
        }
    }

    fn alive_new(&mut self, profile: Profile, first_hand: bool, how: Hearing<'_>) {
        let id = profile.id;
        let dead = self.tombstones.get(id);
        if !first_hand && profile.incarnation.0 > FIRST_SIGHT_MAX {
            return self.refuse(how.from.id, Refusal::Jump);
        }
        if let Some(incarnation) = dead.filter(|dead| profile.incarnation <= *dead) {
            #[cfg(feature = "sabotage")]
            let blind = self.sabotaged(crate::Sabotage::ResurrectTheDead);
            #[cfg(not(feature = "sabotage"))]
            let blind = false;
            if !blind {
                if first_hand {
                    let from = self.me().id;
                    self.tell(
                        id,
                        &Statement::Dead {
                            id,
                            incarnation,
                            from,
                        },
                    );
                }
                return;
            }
        }
        if !self.claim_name(&profile.name, id, profile.address) {
            return;
        }
        if !self.make_room() {
            return self.refuse(how.from.id, Refusal::TooLarge);
        }
        self.tombstones.remove(id);
        let statement = how.spreadable(|| Statement::Alive(profile.clone()));
        let member = self.intern(member_of(profile, MemberState::Alive));
        let slot = self.welcome(Arc::clone(&member));
        self.emit(MemberEvent::Joined(member));
        if let Some(statement) = statement {
            self.pass_on(Topic::state(id), statement);
        }
        self.apply_early_intent(slot);
    }

    /// Puts a member that is new into the table.
    pub(crate) fn welcome(&mut self, member: Arc<Member>) -> Slot {
        let (id, address) = (member.id, member.address);
        self.strangers.remove(&id);
        let slot = self.table.insert(member, crate::LamportTime(0), &mut self.rng);
        self.effects.push_back(Effect::Address { id, address });
        self.arm_probe();
        self.memory_changed();
        slot
    }

    fn alive_known(&mut self, slot: Slot, profile: Profile, first_hand: bool, how: Hearing<'_>) {
        let known = Arc::clone(self.table.member(slot));
        let (old, new) = (known.incarnation, profile.incarnation);
        if !first_hand && !old.reaches(new) {
            self.refuse(how.from.id, Refusal::Jump);
            // Perhaps it is true. The member itself may say so.
            return self.acquaint(known.id);
        }
        // What is known is further ahead of the member itself than it can ever have been: somebody lied.
        let absurd = first_hand && !new.reaches(old);
        #[cfg(feature = "sabotage")]
        let absurd = absurd
            || (self.sabotaged(crate::Sabotage::ResurrectTheDead) && is_gone(known.state) && new >= old);
        if new <= old && !absurd {
            // It does not know yet what it has to contradict.
            if first_hand && (new < old || known.state != MemberState::Alive || differs(&known, &profile)) {
                self.tell_about(slot);
            }
            return;
        }
        if first_hand && known.address != profile.address && !is_gone(known.state) {
            return self.contest(slot, profile, how.from);
        }
        self.believe(slot, profile, how);
    }

    /// Replaces what is known of a member by what it says of itself.
    pub(crate) fn believe(&mut self, slot: Slot, profile: Profile, how: Hearing<'_>) {
        let known = Arc::clone(self.table.member(slot));
        let id = known.id;
        if known.name != profile.name && !self.claim_name(&profile.name, id, profile.address) {
            return;
        }
        let statement = how.spreadable(|| Statement::Alive(profile.clone()));
        // Also if it was about to leave: that was at another incarnation, and who still is says so again.
        let state = MemberState::Alive;
        let changed = differs(&known, &profile);
        let member = self.change(slot, |member| *member = member_of(profile, state));
        self.clear_suspicion(id);
        if known.address != member.address {
            let address = member.address;
            self.effects.push_back(Effect::Address { id, address });
        }
        if is_gone(known.state) {
            self.emit(MemberEvent::Joined(member));
            self.arm_probe();
            self.memory_changed();
        } else if changed || known.state != state {
            self.emit(MemberEvent::Updated(member));
        }
        if let Some(statement) = statement {
            self.pass_on(Topic::state(id), statement);
        }
    }

    fn alive_me(&mut self, profile: &Profile, how: Hearing<'_>) {
        let me = Arc::clone(self.me());
        let news = profile.incarnation > me.incarnation
            || profile.incarnation == me.incarnation && differs(&me, profile);
        if !news {
            return;
        }
        // Before this member has met anybody it may be what it said itself, in an earlier life.
        if profile.address != me.address && !self.fresh {
            self.report_double(profile.address);
        }
        self.refute(profile.incarnation, how);
    }

    /// A member is said not to answer.
    pub(crate) fn suspect(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        accuser: NodeId,
        how: Hearing<'_>,
    ) {
        if id == self.me().id {
            self.accused(incarnation, how);
            // The one who began it has a suspicion open, and should be among the first to hear.
            return self.tell_of_me(accuser);
        }
        let Some(slot) = self.table.find(id) else { return };
        let known = Arc::clone(self.table.member(slot));
        if !known.incarnation.reaches(incarnation) {
            return self.refuse(how.from.id, Refusal::Jump);
        }
        #[cfg(feature = "sabotage")]
        let incarnation = if self.sabotaged(crate::Sabotage::SuspectOldIncarnation) {
            incarnation.max(known.incarnation)
        } else {
            incarnation
        };
        if incarnation < known.incarnation || is_gone(known.state) {
            return;
        }
        let statement = how.spreadable(|| Statement::Suspect {
            id,
            incarnation,
            from: accuser,
        });
        let open = self.suspicions.get_mut(&id);
        if let Some(suspicion) = open.filter(|suspicion| suspicion.incarnation() == incarnation) {
            if !suspicion.confirm(accuser) {
                return;
            }
            let deadline = suspicion.deadline();
            self.timers.set(Timer::Suspicion(id), deadline);
        } else {
            self.begin_suspicion(slot, incarnation, accuser);
        }
        if let Some(statement) = statement {
            self.pass_on(Topic::suspicion(id, accuser), statement);
        }
    }

    fn begin_suspicion(&mut self, slot: Slot, incarnation: Incarnation, accuser: NodeId) {
        let known = Arc::clone(self.table.member(slot));
        let id = known.id;
        self.clear_suspicion(id);
        let suspicion = Suspicion::new(incarnation, accuser, self.now(), self.table.well(), &self.config);
        self.timers.set(Timer::Suspicion(id), suspicion.deadline());
        self.suspicions.insert(id, suspicion);
        let state = match known.state {
            MemberState::Alive | MemberState::Suspect => MemberState::Suspect,
            // Also one that is leaving may die on the way.
            MemberState::Leaving | MemberState::Left | MemberState::Failed => known.state,
        };
        let member = self.change(slot, |member| {
            member.state = state;
            member.incarnation = incarnation;
        });
        if known.state != state {
            self.emit(MemberEvent::Updated(member));
        }
        if accuser != self.me().id {
            self.perhaps_confirm(slot);
        }
    }

    /// A suspect has not contradicted in time.
    pub(crate) fn suspicion_over(&mut self, id: NodeId) {
        let (Some(suspicion), Some(slot)) = (self.suspicions.get(&id), self.table.find(id)) else {
            return;
        };
        let incarnation = suspicion.incarnation();
        self.stats.failures += 1;
        self.die(slot, incarnation, true);
    }

    /// A member is said to be dead.
    pub(crate) fn dead(&mut self, id: NodeId, incarnation: Incarnation, how: Hearing<'_>) {
        if id == self.me().id {
            return self.accused(incarnation, how);
        }
        let Some(slot) = self.table.find(id) else { return };
        let known = Arc::clone(self.table.member(slot));
        if !known.incarnation.reaches(incarnation) {
            return self.refuse(how.from.id, Refusal::Jump);
        }
        let newer = incarnation > known.incarnation;
        #[cfg(feature = "sabotage")]
        let newer = newer
            || self.sabotaged(crate::Sabotage::FailWhoLeft)
                && known.state == MemberState::Left
                && incarnation == known.incarnation;
        match known.state {
            MemberState::Alive | MemberState::Suspect | MemberState::Leaving
                if incarnation >= known.incarnation =>
            {
                self.die(slot, incarnation, how.spread);
            }
            // It was back meanwhile, and died again. Also of the dead the highest incarnation is kept, or an older life would pass
            // for a newer one.
            MemberState::Left | MemberState::Failed if newer => {
                self.pass_away(slot, incarnation, MemberState::Failed, how.spread);
            }
            MemberState::Alive
            | MemberState::Suspect
            | MemberState::Leaving
            | MemberState::Left
            | MemberState::Failed => {}
        }
    }

    /// A member is said to have left.
    pub(crate) fn left(&mut self, id: NodeId, incarnation: Incarnation, how: Hearing<'_>) {
        if id == self.me().id {
            return self.accused(incarnation, how);
        }
        let Some(slot) = self.table.find(id) else { return };
        let known = Arc::clone(self.table.member(slot));
        if !known.incarnation.reaches(incarnation) {
            return self.refuse(how.from.id, Refusal::Jump);
        }
        let news = match known.state {
            MemberState::Left => incarnation > known.incarnation,
            MemberState::Alive | MemberState::Suspect | MemberState::Leaving | MemberState::Failed => {
                incarnation >= known.incarnation
            }
        };
        if news {
            self.pass_away(slot, incarnation, MemberState::Left, how.spread);
        }
    }

    /// A member died. If it was about to leave, it has left.
    fn die(&mut self, slot: Slot, incarnation: Incarnation, spread: bool) {
        let state = match self.table.member(slot).state {
            MemberState::Leaving => MemberState::Left,
            MemberState::Alive | MemberState::Suspect | MemberState::Left | MemberState::Failed => {
                MemberState::Failed
            }
        };
        self.pass_away(slot, incarnation, state, spread);
    }

    /// A member is gone, in this state.
    pub(crate) fn pass_away(
        &mut self,
        slot: Slot,
        incarnation: Incarnation,
        state: MemberState,
        spread: bool,
    ) {
        let id = self.table.member(slot).id;
        let before = self.table.member(slot).state;
        self.clear_suspicion(id);
        self.contests.remove(&id);
        let member = self.change(slot, |member| {
            member.incarnation = incarnation;
            member.state = state;
        });
        self.schedule_reaping(slot, core::time::Duration::ZERO);
        if before != state {
            self.memory_changed();
            if state == MemberState::Failed {
                let until = self.now() + self.config.gossip_to_the_dead;
                self.recently_dead.push_back((until, id));
                self.emit(MemberEvent::Failed(member));
            } else {
                self.emit(MemberEvent::Left(member));
            }
            self.arm_reconnect();
        }
        if spread {
            let statement = self.verdict(slot);
            self.pass_on(Topic::state(id), Part::Statement(statement).encode());
        }
    }

    /// Somebody says that this member is not well, or gone.
    fn accused(&mut self, incarnation: Incarnation, how: Hearing<'_>) {
        if incarnation >= self.me().incarnation {
            // Slow to answer, perhaps (Lifeguard §IV-A).
            self.awareness.worse(1);
            self.refute(incarnation, how);
        }
        // Also if it was contradicted long ago: this one has not heard of that.
        self.tell_of_me(how.from.id);
    }

    /// Contradicts a claim about this member, by a higher incarnation.
    pub(crate) fn refute(&mut self, claim: Incarnation, how: Hearing<'_>) {
        match self.phase {
            Phase::Present | Phase::Leaving => {}
            Phase::SayingGoodbye | Phase::Left => return,
        }
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::NeverRefute) {
            return;
        }
        let mine = self.me().incarnation;
        let of_an_earlier_life = self.fresh && claim.0 <= FIRST_SIGHT_MAX + INCARNATION_JUMP;
        if !mine.reaches(claim) && !of_an_earlier_life {
            return self.refuse(how.from.id, Refusal::Jump);
        }
        let incarnation = mine.max(claim).next();
        self.stats.refutations += 1;
        self.say_of_me(incarnation, |_| {});
        let refuted = Effect::Event(Event::Refuted { incarnation });
        self.effects.push_back(refuted);
    }

    /// Says something of this member, by a new incarnation.
    pub(crate) fn say_of_me(&mut self, incarnation: Incarnation, change: impl FnOnce(&mut Member)) {
        let me = self.change(Slot::ME, |me| {
            change(me);
            me.incarnation = incarnation;
        });
        if incarnation >= self.reserved {
            self.remember_now();
        }
        let statement = Part::Statement(Statement::Alive(profile_of(&me))).encode();
        self.pass_on(Topic::state(me.id), statement);
        if self.phase == Phase::Leaving {
            self.say_leave();
        }
    }

    /// Forgets that somebody is suspected.
    pub(crate) fn clear_suspicion(&mut self, id: NodeId) {
        if self.suspicions.remove(&id).is_some() {
            self.timers.cancel(Timer::Suspicion(id));
        }
        self.queue.remove_range(Topic::suspicions(id));
    }

    /// What this member holds of another, as a statement.
    pub(crate) fn verdict(&self, slot: Slot) -> Statement {
        let member = self.table.member(slot);
        let (id, incarnation, from) = (member.id, member.incarnation, self.me().id);
        match member.state {
            MemberState::Alive | MemberState::Leaving => Statement::Alive(profile_of(member)),
            MemberState::Suspect => Statement::Suspect {
                id,
                incarnation,
                from,
            },
            MemberState::Failed => Statement::Dead {
                id,
                incarnation,
                from,
            },
            MemberState::Left => Statement::Left { id, incarnation },
        }
    }
}

impl Hearing<'_> {
    /// The bytes of the statement, if it is to be passed on.
    fn spreadable(self, statement: impl FnOnce() -> Statement) -> Option<Bytes> {
        if !self.spread {
            return None;
        }
        Some(match self.encoded {
            // A copy, or these few bytes would keep the whole packet.
            Some(encoded) => Bytes::copy_from_slice(encoded),
            None => Part::Statement(statement()).encode(),
        })
    }
}

/// A member as it describes itself.
pub(crate) fn member_of(profile: Profile, state: MemberState) -> Member {
    Member {
        id: profile.id,
        name: profile.name,
        address: profile.address,
        tags: profile.tags,
        incarnation: profile.incarnation,
        state,
    }
}

/// What a member says of itself.
pub(crate) fn profile_of(member: &Member) -> Profile {
    Profile {
        id: member.id,
        incarnation: member.incarnation,
        name: member.name.clone(),
        address: member.address,
        tags: member.tags.clone(),
    }
}

fn differs(member: &Member, profile: &Profile) -> bool {
    member.address != profile.address || member.name != profile.name || member.tags != profile.tags
}

fn claims_server(tags: &Tags) -> bool {
    tags.get(crate::ROLE_TAG)
        .is_some_and(|role| role == crate::SERVER_ROLE)
}
