//! Members that hear from each other directly: what the one has to know of what the other holds of it.

use lictor_machine::NodeId;

use crate::gossip::{Gossip, Report};
use crate::io::{Effect, Event, Sender, Target};
use crate::leave::Phase;
use crate::member::{Incarnation, MemberState};
use crate::members::Slot;
use crate::rumors::profile_of;
use crate::statement::Statement;
use crate::wire::Part;

/// Senders that are not members and that are answered; the oldest of more are forgotten.
const STRANGERS_MAX: usize = 64;

impl Gossip {
    /// Somebody sends something. Whoever is taken for dead and is not must learn of it, or it cannot contradict; and whoever is not
    /// known at all should be asked.
    pub(crate) fn greet(&mut self, from: &Sender) {
        let Some(slot) = self.table.find(from.id) else {
            return self.stranger(from);
        };
        match self.table.member(slot).state {
            MemberState::Alive | MemberState::Leaving => {}
            MemberState::Suspect | MemberState::Left | MemberState::Failed => self.tell_about(slot),
        }
    }

    fn stranger(&mut self, from: &Sender) {
        let now = self.now();
        if !self.strangers.contains_key(&from.id) {
            if self.strangers.len() >= STRANGERS_MAX {
                let oldest = self.strangers.iter().min_by_key(|(_, since)| **since);
                if let Some(oldest) = oldest.map(|(id, _)| *id) {
                    self.strangers.remove(&oldest);
                    self.effects.push_back(Effect::Forget(oldest));
                }
            }
            self.strangers.insert(from.id, now);
            self.effects.push_back(Effect::Address {
                id: from.id,
                address: from.address,
            });
        }
        if !self.keeps_apart {
            self.acquaint(from.id);
        }
    }

    /// Whether it is known where this member, or stranger, is.
    pub(crate) fn is_found(&self, id: NodeId) -> bool {
        self.table.find(id).is_some() || self.strangers.contains_key(&id)
    }

    /// Compares the incarnation that a member says it has with the one that is known.
    pub(crate) fn compare(&mut self, from: &Sender, incarnation: Incarnation) {
        let Some(slot) = self.table.find(from.id) else {
            return;
        };
        let known = self.table.member(slot).incarnation;
        if incarnation > known {
            self.acquaint(from.id);
        } else if incarnation < known {
            // It does not know what is said of it; or it was never true, and then it may say so.
            self.tell_about(slot);
            if known.0 - incarnation.0 > crate::rumors::INCARNATION_JUMP {
                self.acquaint(from.id);
            }
        }
    }

    /// Asks a member for everything, unless it was asked a moment ago.
    pub(crate) fn acquaint(&mut self, id: NodeId) {
        if self.is_found(id) && self.met.allow(id, self.now()) {
            self.sync(Target::Node(id));
        }
    }

    /// Tells a member what is held of it.
    pub(crate) fn tell_about(&mut self, slot: Slot) {
        let id = self.table.member(slot).id;
        let verdict = self.verdict(slot);
        self.tell(id, &verdict);
    }

    /// Tells a member how this one is, unless it is leaving.
    pub(crate) fn tell_of_me(&mut self, id: NodeId) {
        let present = matches!(self.phase, Phase::Present | Phase::Leaving);
        if present && id != self.me().id && self.table.find(id).is_some() {
            self.tell(id, &Statement::Alive(profile_of(self.me())));
        }
    }

    /// Tells a member something, unless it was told something a moment ago.
    pub(crate) fn tell(&mut self, id: NodeId, statement: &Statement) {
        if self.told.allow(id, self.now()) {
            let mut packet = self.new_packet();
            crate::probe::push(&mut packet, &Part::Statement(statement.clone()));
            self.send(id, packet);
        }
    }

    /// Says that there is another agent with this member's id.
    pub(crate) fn report_double(&mut self, other_address: std::net::SocketAddr) {
        let holder = std::sync::Arc::clone(self.me());
        if other_address != holder.address && self.reported.allow((Report::IdConflict, holder.id), self.now())
        {
            let conflict = Event::IdConflict {
                holder,
                other_address,
            };
            self.effects.push_back(Effect::Event(conflict));
        }
    }
}
