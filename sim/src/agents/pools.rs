//! The gossip within an agent: what its pools want done.

use lictor_gossip::{self as gossip, MemberEvent};
use lictor_node::agent::Pool;

use super::world::{Caller, Cargo, Event, REJOIN, World};
use crate::gossip::seat::Place;
use crate::gossip::trace::{Record, Seen};
use crate::gossip::truth::Scene;
use crate::oracles::Check;

impl World<'_> {
    pub(super) fn perform_gossip(&mut self, at: usize, pool: Pool, effect: gossip::Effect) -> Check {
        match effect {
            gossip::Effect::Packet { to, packet } => {
                self.send_datagram(at, pool, to, packet);
                Ok(())
            }
            gossip::Effect::Call {
                id,
                to,
                request,
                timeout,
            } => {
                let place = match to {
                    gossip::Target::Node(id) => self.route(at, pool, id),
                    gossip::Target::Address(address) => Place::of(address),
                };
                self.send_call(
                    at,
                    Caller::Gossip(pool, id),
                    place,
                    Cargo::Bytes(request),
                    timeout,
                );
                Ok(())
            }
            gossip::Effect::Reply { id, reply } => {
                self.send_reply(id.0, at, Ok(Cargo::Bytes(reply)));
                Ok(())
            }
            gossip::Effect::Address { id, address } => {
                self.seats[at].routes.insert((pool, id), address);
                Ok(())
            }
            gossip::Effect::Forget(id) => {
                self.seats[at].routes.remove(&(pool, id));
                Ok(())
            }
            gossip::Effect::Member(event) if pool == Pool::Lan => self.saw(at, &event),
            gossip::Effect::Remember(memory) => {
                let memories = &mut self.seats[at].memories;
                match pool {
                    Pool::Lan => memories.lan = memory,
                    Pool::Wan => memories.wan = memory,
                }
                Ok(())
            }
            gossip::Effect::Answer { .. } | gossip::Effect::UserEvent(_) if pool == Pool::Lan => {
                let joined = matches!(
                    effect,
                    gossip::Effect::Answer {
                        answer: gossip::Answer::Joined { joined: 1.., .. },
                        ..
                    }
                );
                let scene = Scene {
                    now: self.now,
                    members: &self.truth,
                };
                self.gossip.did(scene, at, &effect)?;
                if !joined {
                    let life = self.truth[at].life;
                    self.queue
                        .push(self.now + REJOIN * self.pace.gossip, Event::Join { at, life });
                }
                Ok(())
            }
            gossip::Effect::Member(_)
            | gossip::Effect::Answer { .. }
            | gossip::Effect::UserEvent(_)
            | gossip::Effect::Query(_)
            | gossip::Effect::QueryResponse { .. }
            | gossip::Effect::QueryAck { .. }
            | gossip::Effect::Event(_)
            | gossip::Effect::Left => Ok(()),
        }
    }

    fn saw(&mut self, at: usize, event: &MemberEvent) -> Check {
        let member = event.member();
        self.trace.record(
            self.now,
            Record::Saw {
                at,
                what: Seen::of(event),
                about: member.id,
                state: member.state,
                incarnation: member.incarnation,
            },
        );
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.gossip.saw(scene, at, event)
    }
}
