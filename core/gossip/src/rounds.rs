//! Rounds of gossip: what is news here goes to a few others (SWIM §4.1), membership before anything else.

use bytes::Bytes;
use lictor_machine::NodeId;

use crate::gossip::{Gossip, Timer};
use crate::member::MemberState;
use crate::wire::PacketBuilder;

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
        let rest = wanted - targets.len();
        let here = self.table.sample(rest, &mut self.rng, |_| true);
        targets.extend(here.into_iter().map(|slot| self.table.member(slot).id));
        targets
    }
}
