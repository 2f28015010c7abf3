//! What goes between members: from a machine's effect, over the network, to another machine's input.

use core::time::Duration;

use bytes::Bytes;
use lictor_gossip::{CallId, InboundId, Input, Sender, Target};
use lictor_machine::NodeId;

use super::air::Plane;
use super::seat::{Arrival, Place, seat_of};
use super::trace::Record;
use super::truth::Watch;
use super::world::{Call, Event, World};
use crate::oracles::{Check, Violation};

impl<W: Watch> World<'_, W> {
    /// Who is up at a place.
    pub(super) fn holder(&self, place: Place) -> Option<usize> {
        let at = self.holders.get(place.0 as usize).copied().flatten()? as usize;
        self.seats[at].machine.is_some().then_some(at)
    }

    /// A stream needs both directions.
    pub(super) fn is_cut(&self, one: usize, other: usize) -> bool {
        self.air.is_blocked(one, other, Plane::Streams) || self.air.is_blocked(other, one, Plane::Streams)
    }

    /// Something has come to a member, who may be frozen, or slow.
    pub(super) fn reach(&mut self, at: usize, arrival: Arrival) -> Check {
        let (frozen, slow) = (self.seats[at].frozen, self.seats[at].slow);
        if frozen {
            self.wait_for_thaw(at, arrival);
            return Ok(());
        }
        if slow > Duration::ZERO {
            let when = self.now + self.rng.between(Duration::ZERO, slow);
            let event = Event::Late {
                at: at as u32,
                life: self.truth[at].life,
                arrival,
            };
            self.queue.push(when, event);
            return Ok(());
        }
        self.give(at, arrival)
    }

    pub(super) fn wait_for_thaw(&mut self, at: usize, arrival: Arrival) {
        if !self.seats[at].queue(arrival) {
            self.tally.overflows += 1;
        }
    }

    /// Hands something to a member.
    pub(super) fn give(&mut self, at: usize, arrival: Arrival) -> Check {
        match arrival {
            Arrival::Datagram { from, source, bytes } => {
                let input = Input::Packet {
                    from: self.sender(from, source),
                    packet: bytes,
                };
                self.must_take(at, input)
            }
            Arrival::Call {
                from,
                source,
                key,
                request,
            } => {
                let input = Input::Call {
                    id: InboundId(key),
                    from: self.sender(from, source),
                    request,
                };
                self.answering = Some(key);
                self.must_take(at, input)?;
                if self.answering.take().is_some() {
                    // The stream is closed without a reply.
                    self.end_call(key, at, Err("closed by the peer"));
                }
                Ok(())
            }
            Arrival::CallDone { id, result } => {
                let result = match result {
                    Ok((from, reply)) => {
                        let place = self.seats[from as usize].place;
                        Ok((self.sender(from, place), reply))
                    }
                    Err(reason) => Err(reason.into()),
                };
                self.must_take(at, Input::CallDone { id, result })
            }
        }
    }

    pub(super) fn sender(&self, from: u32, source: Place) -> Sender {
        let truth = &self.truth[from as usize];
        Sender {
            id: truth.id,
            name: truth.name.clone(),
            server: self.seats[from as usize].server,
            address: source.address(),
        }
    }

    pub(super) fn send(&mut self, at: usize, to: NodeId, packet: Bytes) -> Check {
        let from = at as u32;
        let bytes = packet.len();
        self.tally.datagrams += 1;
        self.tally.datagram_bytes += bytes as u64;
        self.tally.largest_datagram = self.tally.largest_datagram.max(bytes);
        let seat = &self.seats[at];
        if bytes > seat.packet_bytes {
            return Err(Violation {
                property: "datagrams fit",
                detail: format!("m{at} sends {bytes} bytes, {} are allowed", seat.packet_bytes),
            });
        }
        let place = seat_of(to).and_then(|seat_to| seat.routes.place_of(seat_to));
        let Some(place) = place else {
            return Err(Violation {
                property: "addresses come before packets",
                detail: format!("m{at} sends to {to:?}, of which it never said where it is"),
            });
        };
        let source = seat.place;
        // A place that nobody holds swallows what comes there, as does the network.
        let receiver = self.holder(place);
        let (first, again) =
            receiver.map_or((None, None), |receiver| self.air.datagram(self.now, at, receiver));
        self.record(Record::Sent {
            from: at,
            to: seat_of(to).unwrap_or(usize::MAX),
            bytes,
            lost: first.is_none(),
        });
        self.tally.lost += u64::from(first.is_none());
        self.tally.duplicates += u64::from(again.is_some());
        for when in again.into_iter().chain(first) {
            let event = Event::Datagram {
                from,
                source,
                to: place,
                bytes: packet.clone(),
            };
            self.queue.push(when, event);
        }
        Ok(())
    }

    pub(super) fn call(&mut self, at: usize, id: CallId, to: Target, request: Bytes, timeout: Duration) {
        self.tally.calls += 1;
        self.tally.call_bytes += request.len() as u64;
        self.next_call += 1;
        let key = self.next_call;
        let call = Call {
            from: at as u32,
            life: self.truth[at].life,
            id,
        };
        self.calls.insert(key, call);
        let seat = &self.seats[at];
        let (source, limit) = (seat.place, self.now + timeout);
        let place = match to {
            Target::Node(id) => seat_of(id).and_then(|seat_to| seat.routes.place_of(seat_to)),
            Target::Address(address) => Place::of(address),
        };
        let receiver = place.and_then(|place| Some((place, self.holder(place)?)));
        self.record(Record::Called {
            from: at,
            to: receiver.map_or(usize::MAX, |(_, receiver)| receiver),
            bytes: request.len(),
        });
        let timed_out = Event::CallOver {
            key,
            result: Err("timed out"),
        };
        self.queue.push(limit, timed_out);
        let Some((to, receiver)) = receiver else { return };
        if self.is_cut(at, receiver) {
            return;
        }
        match self.air.stream(self.now, at, receiver) {
            None => {}
            Some(Ok(when)) => {
                let event = Event::Call {
                    key,
                    source,
                    to,
                    request,
                };
                self.queue.push(when, event);
            }
            Some(Err(when)) => {
                let event = Event::CallOver {
                    key,
                    result: Err("the connection broke"),
                };
                self.queue.push(when, event);
            }
        }
    }

    /// A call's end goes back to the caller.
    pub(super) fn end_call(&mut self, key: u64, at: usize, result: Result<(u32, Bytes), &'static str>) {
        let Some(caller) = self.calls.get(&key).map(|call| call.from as usize) else {
            return;
        };
        if self.is_cut(at, caller) {
            return;
        }
        if let Some(Ok(when) | Err(when)) = self.air.stream(self.now, at, caller) {
            self.queue.push(when, Event::CallOver { key, result });
        }
    }
}
