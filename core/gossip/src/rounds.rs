//! Rounds of gossip: what is news here goes to a few others (SWIM §4.1), membership before anything else.

use std::collections::VecDeque;

use bytes::Bytes;
use lictor_machine::NodeId;

use crate::gossip::{Gossip, Timer};
use crate::leave::Phase;
use crate::member::MemberState;
use crate::members::is_gone;
use crate::wire::PacketBuilder;

/// Up to so many others each is a target of gossip at any time; there are connections to all of them anyway.
const WINDOW_FROM: usize = 32;

/// How many of each kind are in the window.
const WINDOW: usize = 16;

/// Whom to gossip to in a large pool: those with whom a probe was exchanged lately. To them there is a connection; a random member would
/// cost a handshake. It is as good as random, since probes are (docs/gossip.md).
#[derive(Debug, Default)]
pub(crate) struct Window {
    probed: VecDeque<NodeId>,
    probed_by: VecDeque<NodeId>,
}

impl Window {
    /// A member has answered a probe of this one.
    pub(crate) fn has_answered(&mut self, id: NodeId) {
        push_latest(&mut self.probed, id);
    }

    /// A member has probed this one.
    pub(crate) fn has_asked(&mut self, id: NodeId) {
        push_latest(&mut self.probed_by, id);
    }

    /// All in the window, once each.
    fn members(&self) -> Vec<NodeId> {
        let mut members: Vec<NodeId> = Vec::with_capacity(2 * WINDOW);
        for id in self.probed.iter().chain(&self.probed_by) {
            if !members.contains(id) {
                members.push(*id);
            }
        }
        members
    }
}

fn push_latest(ids: &mut VecDeque<NodeId>, id: NodeId) {
    if ids.contains(&id) {
        return;
    }
    if ids.len() == WINDOW {
        ids.pop_front();
    }
    ids.push_back(id);
}

/// What a queued statement is about. A newer one on the same topic replaces the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Topic {
    /// Of whom it speaks.
    id: NodeId,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// How the member is.
    State,
    /// What the member, or somebody for it, wants.
    Intent,
    /// Who suspects it. Each accuser has a topic, since all of them count.
    Suspicion(NodeId),
}

impl Topic {
    pub(crate) const fn state(id: NodeId) -> Self {
        Self {
            id,
            kind: Kind::State,
        }
    }

    pub(crate) const fn intent(id: NodeId) -> Self {
        Self {
            id,
            kind: Kind::Intent,
        }
    }

    pub(crate) const fn suspicion(id: NodeId, accuser: NodeId) -> Self {
        Self {
            id,
            kind: Kind::Suspicion(accuser),
        }
    }

    /// All topics of suspicions of one member.
    pub(crate) const fn suspicions(id: NodeId) -> core::ops::RangeInclusive<Self> {
        Self::suspicion(id, NodeId(0))..=Self::suspicion(id, NodeId(u128::MAX))
    }
}

impl Gossip {
    /// Has a statement passed on.
    pub(crate) fn pass_on(&mut self, topic: Topic, statement: Bytes) {
        if self.phase == Phase::Left {
            return;
        }
        self.queue.push(topic, statement);
        self.arm_round();
    }

    /// Has a round of gossip happen: at once, if the last one is long enough ago, so that the first news travels as fast as the
    /// network.
    pub(crate) fn arm_round(&mut self) {
        let next = self
            .last_round
            .map_or(self.now(), |last| last + self.config.gossip_interval);
        let at = next.max(self.now());
        self.timers.set_if_none(Timer::Gossip, at);
    }

    /// One round.
    pub(crate) fn round(&mut self) {
        self.last_round = Some(self.now());
        let targets = self.gossip_targets();
        if targets.is_empty() {
            // Nobody is there. Who comes exchanges everything.
            self.queue.clear();
            self.payload.clear_queue();
            return self.flushed();
        }
        for target in targets {
            let mut packet = self.new_packet();
            self.piggyback(&mut packet);
            if packet.is_empty() {
                break;
            }
            self.send(target, packet);
        }
        self.flushed();
        if self.has_news() {
            self.arm_round();
        }
    }

    /// Puts what is to be passed on into a packet, as far as there is room.
    pub(crate) fn piggyback(&mut self, packet: &mut PacketBuilder) {
        let limit = self.retransmissions();
        self.queue.fill(packet, 1, limit);
        self.payload.fill(packet, limit);
    }

    fn has_news(&self) -> bool {
        !self.queue.is_empty() || !self.payload.queue().is_empty()
    }

    /// Members that are here, and with the share that they have those that died lately, so that they may contradict.
    fn gossip_targets(&mut self) -> Vec<NodeId> {
        while let Some((until, _)) = self.recently_dead.front()
            && *until <= self.now()
        {
            self.recently_dead.pop_front();
        }
        let (here, dead) = (self.table.here(), self.recently_dead.len());
        let wanted = self.config.gossip_nodes;
        let mut targets = Vec::with_capacity(wanted);
        for _ in 0..wanted.min(here + dead) {
            let at = self.rng.below((here + dead) as u64) as usize;
            let Some((_, id)) = self.recently_dead.get(at).copied() else {
                continue;
            };
            let failed = self
                .member(id)
                .is_some_and(|member| member.state == MemberState::Failed);
            if failed && !targets.contains(&id) {
                targets.push(id);
            }
        }
        if here > WINDOW_FROM {
            self.add_from_window(&mut targets);
        }
        let sampled = self.table.sample(wanted, &mut self.rng, |_| true);
        for slot in sampled {
            let id = self.table.member(slot).id;
            if targets.len() < wanted && !targets.contains(&id) {
                targets.push(id);
            }
        }
        targets
    }

    fn add_from_window(&mut self, targets: &mut Vec<NodeId>) {
        let mut window = self.window.members();
        while targets.len() < self.config.gossip_nodes && !window.is_empty() {
            let id = window.swap_remove(self.rng.below(window.len() as u64) as usize);
            let here = self.member(id).is_some_and(|member| !is_gone(member.state));
            if here && !targets.contains(&id) {
                targets.push(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_holds_the_latest_of_each_kind() {
        let mut window = Window::default();
        for n in 0..40 {
            window.has_answered(NodeId(n));
            window.has_answered(NodeId(n));
            window.has_asked(NodeId(n % 20));
        }
        let members = window.members();
        assert!((24..40).all(|n| members.contains(&NodeId(n))));
        assert!(members.len() <= 2 * WINDOW);
        assert!(!members.contains(&NodeId(0)));
    }
}
