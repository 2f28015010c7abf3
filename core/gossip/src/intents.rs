//! Intents: what members want, or somebody wants for them, ordered by a logical clock of their own. A leave that is older than a join
//! changes nothing, in whatever order they arrive; and one that was heard before is not passed on again, so that none goes round
//! for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use lictor_machine::{NodeId, Token};

use crate::gossip::Gossip;
use crate::io::{Answer, Effect, Refusal};
use crate::lamport::LamportTime;
use crate::leave::Phase;
use crate::member::{Incarnation, MemberEvent, MemberState};
use crate::members::{Slot, is_gone};
use crate::rounds::Topic;
use crate::rumors::Hearing;
use crate::statement::Statement;
use crate::wire::Part;

/// Intents of members that are not known yet, at most.
const EARLY_MAX: usize = 256;

/// Intents that came before the members that they are about.
#[derive(Debug)]
pub(crate) struct EarlyIntents(BTreeMap<NodeId, (LamportTime, Option<Incarnation>)>);

impl EarlyIntents {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Keeps the latest of each member: a leave of an incarnation, or a join. True if it is news.
    pub(crate) fn note(&mut self, id: NodeId, time: LamportTime, leaves: Option<Incarnation>) -> bool {
        let news = time > LamportTime(0) && self.0.get(&id).is_none_or(|(known, _)| *known < time);
        if news {
            self.0.insert(id, (time, leaves));
        }
        if self.0.len() > EARLY_MAX {
            let oldest = self.0.iter().min_by_key(|(_, (time, _))| *time);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.0.remove(&oldest);
                return news && oldest != id;
            }
        }
        news
    }
}

impl Gossip {
    /// A member wants to be in the pool.
    pub(crate) fn join_intent(&mut self, id: NodeId, time: LamportTime, how: Hearing<'_>) {
        if !self.witness_intent(time, how) {
            return;
        }
        let Some(slot) = self.table.find(id) else {
            self.early_intents.note(id, time, None);
            return;
        };
        if slot == Slot::ME || !self.is_later(slot, time) {
            return;
        }
        if self.table.member(slot).state == MemberState::Leaving {
            let suspected = self.suspicions.contains_key(&id);
            let state = if suspected {
                MemberState::Suspect
            } else {
                MemberState::Alive
            };
            let member = self.change(slot, |member| member.state = state);
            self.emit(MemberEvent::Updated(member));
        }
        self.pass_on_intent(Statement::Join { id, time }, how);
    }

    /// A member is about to leave, or was made to.
    pub(crate) fn leave_intent(
        &mut self,
        (id, incarnation): (NodeId, Incarnation),
        time: LamportTime,
        prune: bool,
        how: Hearing<'_>,
    ) {
        if !self.witness_intent(time, how) {
            return;
        }
        let leave = Statement::Leave {
            id,
            incarnation,
            time,
            prune,
        };
        let Some(slot) = self.table.find(id) else {
            // Others may know it, so they should hear of it, once.
            if self.early_intents.note(id, time, Some(incarnation)) {
                self.pass_on_intent(leave, how);
            }
            return;
        };
        if !self.is_later(slot, time) {
            return;
        }
        if slot != Slot::ME {
            self.pass_on_intent(leave, how);
            self.apply_leave(slot, incarnation, prune);
        } else if self.phase == Phase::Present {
            // By mistake, or of an earlier life.
            self.say_join();
        }
    }

    fn apply_leave(&mut self, slot: Slot, incarnation: Incarnation, prune: bool) {
        let member = Arc::clone(self.table.member(slot));
        if member.incarnation > incarnation {
            return;
        }
        match member.state {
            MemberState::Alive | MemberState::Suspect => {
                let member = self.change(slot, |member| member.state = MemberState::Leaving);
                self.emit(MemberEvent::Updated(member));
            }
            MemberState::Failed => {
                // Everybody hears of the intent, and does the same.
                self.pass_away(slot, member.incarnation, MemberState::Left, false);
            }
            MemberState::Leaving | MemberState::Left => {}
        }
        if prune && is_gone(self.table.member(slot).state) {
            self.reap(slot);
        }
    }

    /// Notes the time of an intent of a member that is gone.
    pub(crate) fn note_intent(&mut self, id: NodeId, time: LamportTime, how: Hearing<'_>) {
        if self.witness_intent(time, how)
            && let Some(slot) = self.table.find(id)
        {
            self.is_later(slot, time);
        }
    }

    fn witness_intent(&mut self, time: LamportTime, how: Hearing<'_>) -> bool {
        let seen = self.intents.witness(time).is_ok();
        if !seen {
            self.refuse(how.from.id, Refusal::Jump);
        }
        seen
    }

    /// Whether an intent is later than what is known of the member's; if so, it is known from now on.
    fn is_later(&mut self, slot: Slot, time: LamportTime) -> bool {
        let later = time > self.table.time(slot);
        if later {
            self.table.set_time(slot, time);
        }
        later
    }

    /// A member is new, and may have said something before.
    pub(crate) fn apply_early_intent(&mut self, slot: Slot) {
        let id = self.table.member(slot).id;
        if let Some((time, leaves)) = self.early_intents.0.remove(&id) {
            self.table.set_time(slot, time);
            if let Some(incarnation) = leaves {
                self.apply_leave(slot, incarnation, false);
            }
        }
    }

    /// Makes a member that failed one that left.
    pub(crate) fn force_leave(&mut self, token: Token, name: &str, prune: bool) {
        let answer = match self.table.find_name(name) {
            _ if self.phase == Phase::Left => Answer::Failed("this member has left".to_owned()),
            None => Answer::Failed(format!("there is no member named {name:?}")),
            Some(Slot::ME) => Answer::Failed("this is the member itself: let it leave instead".to_owned()),
            Some(slot) => {
                let member = self.table.member(slot);
                let (id, incarnation) = (member.id, member.incarnation);
                let time = self.intents.increment();
                self.table.set_time(slot, time);
                let leave = Part::Statement(Statement::Leave {
                    id,
                    incarnation,
                    time,
                    prune,
                });
                self.pass_on(Topic::intent(id), leave.encode());
                self.apply_leave(slot, incarnation, prune);
                self.memory_changed();
                Answer::Done
            }
        };
        self.effects.push_back(Effect::Answer { token, answer });
    }

    /// Says that this member wants to be in the pool.
    pub(crate) fn say_join(&mut self) {
        let (id, time) = (self.me().id, self.intents.increment());
        self.table.set_time(Slot::ME, time);
        let join = Part::Statement(Statement::Join { id, time });
        self.pass_on(Topic::intent(id), join.encode());
        self.memory_changed();
    }

    fn pass_on_intent(&mut self, statement: Statement, how: Hearing<'_>) {
        if how.spread {
            let topic = Topic::intent(statement.subject());
            self.pass_on(topic, Part::Statement(statement).encode());
        }
    }
}
