//! What goes between servers: messages, calls and replies, on their way and lost on it.

use lictor_machine::Instant;

use super::World;
use super::event::{Body, Event, Packet};
use crate::host::{Host, Stimulus};
use crate::network::{Channel, Fate};
use crate::oracles::Check;
use crate::trace::Record;

impl<H: Host> World<'_, H> {
    pub(super) fn send(&mut self, packet: Packet, channel: Channel) {
        match self.network.send(self.now, packet.from, packet.to, channel) {
            Fate::Arrives { at, again } => {
                // A call is a stream: it does not come twice, and neither does its reply.
                if let Some(again) = again.filter(|_| matches!(packet.body, Body::Message { .. })) {
                    self.counters.duplicates += 1;
                    self.schedule(again, Event::Arrive(packet.clone()));
                }
                self.schedule(at, Event::Arrive(packet));
            }
            Fate::Lost { noticed } => self.lose(&packet, noticed),
        }
    }

    pub(super) fn lose(&mut self, packet: &Packet, noticed: Option<Instant>) {
        let Packet {
            from,
            to,
            life,
            ref body,
        } = *packet;
        self.counters.drops += 1;
        self.record(Record::Dropped { from, to });
        let Some(noticed) = noticed else { return };
        match body {
            Body::Message { .. } => self.schedule(
                noticed,
                Event::Notice {
                    at: from,
                    life,
                    peer: to,
                },
            ),
            Body::Call { id, .. } => self.schedule(
                noticed,
                Event::CallOver {
                    at: from,
                    life,
                    id: *id,
                },
            ),
            // The one who waits for a reply learns of its loss by waiting.
            Body::Reply { .. } => {}
        }
    }

    pub(super) fn arrive(&mut self, packet: Packet) -> Check {
        let Packet { from, to, .. } = packet;
        if self.network.is_blocked(from, to) || self.seats[to].host.is_none() {
            if let Fate::Lost { noticed } = self.network.lost(self.now) {
                self.lose(&packet, noticed);
            }
            return Ok(());
        }
        let sender = self.seats[from].id;
        match packet.body {
            Body::Message { bytes, gist } => {
                self.record(Record::Received { from, to, gist });
                self.stimulate(to, Stimulus::Message { from: sender, bytes })
            }
            Body::Call { id, body } => {
                self.next_call += 1;
                self.calls.insert(self.next_call, (from, packet.life, id));
                self.stimulate(
                    to,
                    Stimulus::Call {
                        id: self.next_call,
                        from: sender,
                        body,
                    },
                )
            }
            Body::Reply { id, body } => {
                if self.lives(to, packet.life) && self.seats[to].calls.remove(&id) {
                    return self.stimulate(to, Stimulus::CallDone { id, result: Ok(body) });
                }
                Ok(())
            }
        }
    }
}
