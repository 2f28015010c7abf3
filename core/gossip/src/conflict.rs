//! Two agents that want to be one member: by name, or by id. Who was there first and is still there keeps it; nobody is ever shut down
//! by somebody else's mistake.

use std::net::SocketAddr;
use std::sync::Arc;

use lictor_machine::NodeId;

use crate::calls::Purpose;
use crate::gossip::{Gossip, Report};
use crate::io::{Effect, Event, Sender, Target};
use crate::member::MemberState;
use crate::members::{Slot, is_gone};
use crate::rumors::Hearing;
use crate::statement::Profile;

/// Questions of this kind that may be open.
const CONTESTS_MAX: usize = 64;

/// A member says that it is somewhere else than before. Before that is believed it is asked for where it was.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    profile: Profile,
    from: Sender,
}

impl Gossip {
    /// Whether a member may have a name. Who had it and has left gives way, and is forgotten at once. So does who has failed, but not before
    /// it had the time to contradict: it may be out of reach for a moment, and being forgotten costs a server its place. Only who comes from
    /// the same machine need not wait, since nobody else can be there.
    pub(crate) fn claim_name(&mut self, name: &str, id: NodeId, address: SocketAddr) -> bool {
        let Some(slot) = self.table.find_name(name) else {
            return true;
        };
        let holder = Arc::clone(self.table.member(slot));
        if holder.id == id {
            return true;
        }
        if slot != Slot::ME && is_gone(holder.state) {
            let gives_way = holder.state == MemberState::Left
                || holder.address.ip() == address.ip()
                || self.failed_for(slot) >= self.config.gossip_to_the_dead;
            if gives_way {
                self.reap(slot);
            }
            return gives_way;
        }
        if self.reported.allow((Report::NameConflict, id), self.now()) {
            self.effects.push_back(Effect::Event(Event::NameConflict {
                holder,
                other: id,
                other_address: address,
            }));
        }
        false
    }

    /// A member itself says that it has moved, while it is known to be well where it was. Either it has, or it is a second one.
    pub(crate) fn contest(&mut self, slot: Slot, profile: Profile, from: &Sender) {
        let id = profile.id;
        let was_at = self.table.member(slot).address;
        if self.barred.is_recent((id, profile.address), self.now()) {
            return;
        }
        if self.contests.contains_key(&id) || self.contests.len() >= CONTESTS_MAX {
            return;
        }
        let request = self.stream_ping(0, id);
        let timeout = self.config.probe_interval.saturating_mul(2);
        if self.call(Target::Address(was_at), request, timeout, Purpose::Contest { id }) {
            let from = from.clone();
            self.contests.insert(id, Contest { profile, from });
        }
    }

    /// Whether there still was anybody of that id where it was.
    pub(crate) fn contest_over(&mut self, id: NodeId, there: bool) {
        let Some(Contest { profile, from }) = self.contests.remove(&id) else {
            return;
        };
        let Some(slot) = self.table.find(id) else { return };
        if !there {
            let how = Hearing {
                from: &from,
                encoded: None,
                spread: true,
            };
            if profile.incarnation > self.table.member(slot).incarnation {
                self.believe(slot, profile, how);
            }
            return;
        }
        self.barred.allow((id, profile.address), self.now());
        if self.reported.allow((Report::IdConflict, id), self.now()) {
            let holder = Arc::clone(self.table.member(slot));
            let other_address = profile.address;
            let conflict = Event::IdConflict {
                holder,
                other_address,
            };
            self.effects.push_back(Effect::Event(conflict));
        }
    }
}
