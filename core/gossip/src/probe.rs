//! Probing (SWIM §3.1, §4.3): is it there? First directly; then through others, and on a stream at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;

use lictor_machine::{Instant, NodeId};

use crate::calls::Purpose;
use crate::coordinate::Coordinate;
use crate::gossip::{Gossip, Report, Timer};
use crate::io::{Effect, Event, Sender, Target};
use crate::member::{Incarnation, MemberState};
use crate::members::Slot;
use crate::statement::Statement;
use crate::wire::{PacketBuilder, Part};

/// Probes out of turn that may be open.
const OUT_OF_TURN_MAX: usize = 16;

/// Probes for others that may be open.
const HELPING_MAX: usize = 1024;

/// The probes that are open.
#[derive(Debug)]
pub(crate) struct Probes {
    open: BTreeMap<u32, Probe>,
    helping: BTreeMap<u32, Helping>,
    next: u32,
}

#[derive(Debug)]
struct Probe {
    target: NodeId,
    sent: Instant,
    /// Pauses of this member when it was sent: an answer after another one says nothing of the network.
    pauses: u64,
    /// Who was asked to probe it as well.
    helpers: Vec<NodeId>,
    /// Those of them that have not even said that they got no answer.
    silent: Vec<NodeId>,
    answered_on_stream: bool,
}

/// A probe for somebody else.
#[derive(Debug)]
struct Helping {
    asker: NodeId,
    seq: u32,
    target: NodeId,
    nacked: bool,
}

impl Probes {
    pub(crate) const fn new(first: u32) -> Self {
        Self {
            open: BTreeMap::new(),
            helping: BTreeMap::new(),
            next: first,
        }
    }

    fn next_seq(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

impl Gossip {
    /// Begins to probe, if there is anybody and it has not begun.
    pub(crate) fn arm_probe(&mut self) {
        if self.table.here() > 0 && !self.timers.is_set(Timer::Probe) {
            // Members that start together do not probe together.
            let interval = self.config.probe_interval;
            let delay = self.rng.between(core::time::Duration::ZERO, interval);
            self.timers.set(Timer::Probe, self.now() + delay);
        }
    }

    /// Probes the next of the round.
    pub(crate) fn probe_next(&mut self) {
        let Some(slot) = self.table.next_to_probe(&mut self.rng) else {
            return;
        };
        let interval = self.awareness.scale(self.config.probe_interval);
        self.timers.set(Timer::Probe, self.now() + interval);
        self.probe(slot);
    }

    /// Somebody else suspects a member. A few of all who hear of it probe the suspect at once: it learns of the suspicion, and who
    /// does not get an answer either confirms.
    pub(crate) fn perhaps_confirm(&mut self, slot: Slot) {
        let chance = (self.config.confirmers as u64, self.table.well() as u64);
        if self.rng.chance(chance.0, chance.1) && self.probes.open.len() < OUT_OF_TURN_MAX {
            self.probe(slot);
        }
    }

    fn probe(&mut self, slot: Slot) {
        let target = self.table.member(slot).id;
        if self.probes.open.values().any(|probe| probe.target == target) {
            return;
        }
        self.stats.probes += 1;
        let seq = self.probes.next_seq();
        let probe = Probe {
            target,
            sent: self.now(),
            pauses: self.stats.pauses,
            helpers: Vec::new(),
            silent: Vec::new(),
            answered_on_stream: false,
        };
        self.probes.open.insert(seq, probe);
        let timeout = self.awareness.scale(self.config.probe_timeout);
        let end = self.awareness.scale(self.config.probe_interval);
        self.timers.set(Timer::ProbeTimeout(seq), self.now() + timeout);
        self.timers.set(Timer::ProbeEnd(seq), self.now() + end);
        self.ping(slot, seq);
    }

    fn ping(&mut self, slot: Slot, seq: u32) {
        let target = self.table.member(slot).id;
        let mut packet = self.new_packet();
        let incarnation = self.me().incarnation;
        let ping = Part::Ping {
            seq,
            target,
            incarnation,
        };
        push(&mut packet, &ping);
        // A suspect learns at once that it is one (Lifeguard §IV-C).
        if self.suspicions.contains_key(&target) {
            push(&mut packet, &Part::Statement(self.accusation(slot)));
        }
        self.piggyback(&mut packet);
        self.send(target, packet);
    }

    /// Answers a probe.
    pub(crate) fn answer_ping(&mut self, to: &Sender, seq: u32) {
        // The packet itself may have had it forgotten.
        self.greet(to);
        let mut packet = self.new_packet();
        push(&mut packet, &self.own_ack(seq));
        self.piggyback(&mut packet);
        self.window.has_asked(to.id);
        self.send(to.id, packet);
    }

    /// This member's answer to a probe.
    pub(crate) fn own_ack(&self, seq: u32) -> Part {
        Part::Ack {
            seq,
            incarnation: Some(self.me().incarnation),
            coordinate: Some(*self.coordinate()),
        }
    }

    /// A probe was not answered directly: others try, and a stream does.
    pub(crate) fn probe_timeout(&mut self, seq: u32) {
        let Some(probe) = self.probes.open.get(&seq) else {
            return;
        };
        let target = probe.target;
        let wanted = self.config.indirect_checks;
        let helpers = self.table.sample(wanted, &mut self.rng, |member| {
            member.id != target && member.state == MemberState::Alive
        });
        let helpers: Vec<NodeId> = helpers
            .into_iter()
            .map(|slot| self.table.member(slot).id)
            .collect();
        self.stats.indirect_probes += helpers.len() as u64;
        for helper in &helpers {
            let mut packet = self.new_packet();
            push(&mut packet, &Part::PingRequest { seq, target });
            self.send(*helper, packet);
        }
        if let Some(probe) = self.probes.open.get_mut(&seq) {
            probe.silent.clone_from(&helpers);
            probe.helpers = helpers;
        }
        let rest = self
            .config
            .probe_interval
            .saturating_sub(self.config.probe_timeout);
        let request = self.stream_ping(seq, target);
        self.call(
            Target::Node(target),
            request,
            self.awareness.scale(rest),
            Purpose::Probe { seq },
        );
    }

    /// Somebody asks this member to probe another.
    pub(crate) fn help(&mut self, from: &Sender, seq: u32, target: NodeId) {
        let slot = self.table.find(target).filter(|_| target != self.me().id);
        let Some(slot) = slot.filter(|_| self.probes.helping.len() < HELPING_MAX) else {
            return self.send_nack(from.id, seq);
        };
        let own = self.probes.next_seq();
        let helping = Helping {
            asker: from.id,
            seq,
            target,
            nacked: false,
        };
        self.probes.helping.insert(own, helping);
        // Early enough to be there before the other's probe ends.
        let rest = self
            .config
            .probe_interval
            .saturating_sub(self.config.probe_timeout);
        self.timers
            .set(Timer::Helper(own), self.now() + rest.mul_f64(0.8));
        self.ping(slot, own);
    }

    /// Who was probed for another has not answered: the other should know that it is not this member that is out of reach.
    pub(crate) fn helper_timeout(&mut self, seq: u32) {
        let Some(helping) = self.probes.helping.get_mut(&seq) else {
            return;
        };
        if helping.nacked {
            self.probes.helping.remove(&seq);
            return;
        }
        helping.nacked = true;
        let (asker, theirs) = (helping.asker, helping.seq);
        let stretch = self.config.awareness_max + 1;
        let late = self.config.probe_interval.saturating_mul(stretch);
        self.timers.set(Timer::Helper(seq), self.now() + late);
        self.send_nack(asker, theirs);
    }

    fn send_nack(&mut self, to: NodeId, seq: u32) {
        let mut packet = self.new_packet();
        push(&mut packet, &Part::Nack { seq });
        self.send(to, packet);
    }

    /// An answer to a probe.
    pub(crate) fn ack(
        &mut self,
        from: &Sender,
        seq: u32,
        incarnation: Option<Incarnation>,
        coordinate: Option<Coordinate>,
    ) {
        if let Some(helping) = self.probes.helping.get(&seq) {
            if helping.target == from.id {
                let (asker, theirs) = (helping.asker, helping.seq);
                self.probes.helping.remove(&seq);
                self.timers.cancel(Timer::Helper(seq));
                let mut packet = self.new_packet();
                let ack = Part::Ack {
                    seq: theirs,
                    incarnation: None,
                    coordinate: None,
                };
                push(&mut packet, &ack);
                self.send(asker, packet);
            }
            return;
        }
        let Some(probe) = self.probes.open.get(&seq) else {
            return;
        };
        let direct = probe.target == from.id;
        if !direct && !probe.helpers.contains(&from.id) {
            return;
        }
        let timely = probe.pauses == self.stats.pauses;
        let rtt = self.now().since(probe.sent);
        self.probe_closed(seq);
        self.awareness.better();
        if direct {
            self.window.has_answered(from.id);
            if let Some(coordinate) = coordinate.filter(|_| timely) {
                self.measured(from.id, &coordinate, rtt);
            }
            if let Some(incarnation) = incarnation {
                self.compare(from, incarnation);
            }
        }
    }

    /// A helper is there, but who was probed has not answered it.
    pub(crate) fn nack(&mut self, from: &Sender, seq: u32) {
        if let Some(probe) = self.probes.open.get_mut(&seq) {
            probe.silent.retain(|helper| *helper != from.id);
        }
    }

    /// The target of a probe answered on a stream.
    pub(crate) fn stream_ack(&mut self, seq: u32, from: NodeId) {
        if let Some(probe) = self.probes.open.get_mut(&seq) {
            probe.answered_on_stream |= probe.target == from;
        }
    }

    /// The time of a probe is over.
    pub(crate) fn probe_end(&mut self, seq: u32) {
        let Some(probe) = self.probe_closed(seq) else {
            return;
        };
        let Some(slot) = self.table.find(probe.target) else {
            return;
        };
        // Helpers that did not even say that they got no answer: the fault may be here (Lifeguard §IV-A).
        let silent = probe.silent.len() as u32;
        if probe.answered_on_stream {
            self.awareness.worse(silent);
            return self.degraded(slot);
        }
        self.stats.probes_failed += 1;
        self.awareness
            .worse(if probe.helpers.is_empty() { 1 } else { silent });
        self.accuse(slot);
    }

    /// Datagrams do not get through to a member and back, streams do.
    fn degraded(&mut self, slot: Slot) {
        self.stats.degraded += 1;
        let member = Arc::clone(self.table.member(slot));
        if self.reported.allow((Report::Degraded, member.id), self.now()) {
            let degraded = Event::Degraded {
                id: member.id,
                name: member.name.clone(),
            };
            self.effects.push_back(Effect::Event(degraded));
        }
    }

    /// Suspects a member, on this one's own account.
    fn accuse(&mut self, slot: Slot) {
        let member = Arc::clone(self.table.member(slot));
        let news = !self.suspicions.contains_key(&member.id);
        self.stats.suspicions += u64::from(news);
        let me = Sender {
            id: self.me().id,
            name: self.me().name.clone(),
            server: self.config.server,
            address: self.me().address,
        };
        let how = crate::rumors::Hearing {
            from: &me,
            encoded: None,
            spread: true,
        };
        self.suspect(member.id, member.incarnation, me.id, how);
        if self.suspicions.contains_key(&member.id) {
            let mut packet = self.new_packet();
            push(&mut packet, &Part::Statement(self.accusation(slot)));
            self.send(member.id, packet);
        }
    }

    fn accusation(&self, slot: Slot) -> Statement {
        let member = self.table.member(slot);
        Statement::Suspect {
            id: member.id,
            incarnation: member.incarnation,
            from: self.me().id,
        }
    }

    fn probe_closed(&mut self, seq: u32) -> Option<Probe> {
        self.timers.cancel(Timer::ProbeTimeout(seq));
        self.timers.cancel(Timer::ProbeEnd(seq));
        self.probes.open.remove(&seq)
    }
}

/// Adds a part to a packet that has room for it.
pub(crate) fn push(packet: &mut PacketBuilder, part: &Part) {
    let fits = packet.push_part(part);
    debug_assert!(
        fits,
        "the first parts of a packet are small, and packets have 512 bytes at least"
    );
}
