//! What goes between agents: datagrams of gossip, messages of Raft, and calls of both.

use core::time::Duration;

use bytes::Bytes;
use lictor_gossip::{self as gossip, Sender};
use lictor_machine::NodeId;
use lictor_node::agent::{Input, Pool};
use lictor_node::wire::{decode_call, decode_raft, decode_reply};
use lictor_node::{CallFailure, InboundId};
use lictor_raft::Lane;

use super::asks::Asker;
use super::locks::{Bearer, Failure, Via};
use super::world::{Caller, Cargo, Event, World, violation};
use crate::gossip::air::Plane;
use crate::gossip::seat::Place;
use crate::oracles::{Check, Violation};

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    from: usize,
    life: u32,
    source: Place,
    to: Place,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Datagram { pool: Pool, bytes: Bytes },
    Raft { to: NodeId, bytes: Bytes },
    Call { key: u64, caller: Caller, cargo: Cargo },
}

impl World<'_> {
    /// Where an agent sends what is for another, as the members of a pool; Raft goes where the LAN pool goes.
    pub(super) fn route(&self, at: usize, pool: Pool, to: NodeId) -> Option<Place> {
        Place::of(*self.seats[at].routes.get(&(pool, to))?)
    }

    pub(super) fn send_datagram(&mut self, at: usize, pool: Pool, to: NodeId, bytes: Bytes) {
        let Some(to) = self.route(at, pool, to) else {
            return;
        };
        let Some(receiver) = self.holders.get(&to).copied() else {
            return;
        };
        let (first, again) = self.air.datagram(self.now, at, receiver);
        for when in again.into_iter().chain(first) {
            let body = Body::Datagram {
                pool,
                bytes: bytes.clone(),
            };
            let packet = self.packet(at, to, body);
            self.queue.push(when, Event::Packet(packet));
        }
    }

    /// Sends a message of Raft. It keeps its place in its lane; if it is lost, the sender may come to know it.
    pub(super) fn send_raft(&mut self, at: usize, to: NodeId, lane: Lane, bytes: Bytes) {
        let place = self.route(at, Pool::Lan, to);
        let receiver = place.and_then(|place| self.holders.get(&place).copied());
        if let (Some(place), Some(receiver)) = (place, receiver)
            && !self.is_cut(at, receiver)
            && let Some(Ok(when)) = self.air.stream(self.now, at, receiver)
        {
            let last = self.seats[at].lanes.entry((receiver, lane)).or_default();
            *last = when.max(*last);
            let when = *last;
            let packet = self.packet(at, place, Body::Raft { to, bytes });
            self.queue.push(when, Event::Packet(packet));
        } else {
            let life = self.truth[at].life;
            let notice = Event::Notice { at, life, peer: to };
            self.queue.push(self.now + Duration::from_millis(200), notice);
        }
    }

    pub(super) fn send_call(
        &mut self,
        at: usize,
        caller: Caller,
        to: Option<Place>,
        cargo: Cargo,
        timeout: Duration,
    ) {
        self.next_call += 1;
        let key = self.next_call;
        self.calls.insert(key, (at, self.truth[at].life, caller));
        let over = Event::CallOver {
            key,
            result: Err("timed out"),
        };
        self.queue.push(self.now + timeout, over);
        let Some(to) = to else { return };
        let Some(receiver) = self.holders.get(&to).copied() else {
            return;
        };
        if self.is_cut(at, receiver) {
            return;
        }
        match self.air.stream(self.now, at, receiver) {
            Some(Ok(when)) => {
                let packet = self.packet(at, to, Body::Call { key, caller, cargo });
                self.queue.push(when, Event::Packet(packet));
            }
            Some(Err(when)) => {
                let result = Err("the connection broke");
                self.queue.push(when, Event::CallOver { key, result });
            }
            None => {}
        }
    }

    pub(super) fn send_reply(&mut self, key: u64, at: usize, result: Result<Cargo, &'static str>) {
        if self.answering == Some(key) {
            self.answering = None;
        }
        let Some((caller, ..)) = self.calls.get(&key).copied() else {
            return;
        };
        if self.is_cut(at, caller) {
            return;
        }
        let (when, result) = match self.air.stream(self.now, at, caller) {
            Some(Ok(when)) => (when, result.map(|cargo| (at, cargo))),
            // It was carried out, and the caller does not know.
            Some(Err(when)) => (when, Err("the connection broke")),
            None => return,
        };
        self.queue.push(when, Event::CallOver { key, result });
    }

    pub(super) fn arrive(&mut self, packet: Packet) -> Check {
        let Packet {
            from,
            life,
            source,
            to,
            body,
        } = packet;
        let Some(at) = self.holders.get(&to).copied() else {
            return Ok(());
        };
        let sender = self.sender(from, source);
        match body {
            Body::Datagram { pool, bytes } => {
                // Only servers are in the WAN pool; the transport of others refuses its connections.
                if self.air.is_blocked(from, at, Plane::Datagrams)
                    || pool == Pool::Wan && !self.seats[at].server
                {
                    return Ok(());
                }
                let input = gossip::Input::Packet {
                    from: pool_sender(sender, pool),
                    packet: bytes,
                };
                self.give(at, None, Input::Gossip { pool, input })
            }
            Body::Raft { to: meant, bytes } => {
                // The transport knows whom it is connected to.
                let reaches = self.truth[at].id == meant && self.lives(from, life);
                if !reaches || self.is_cut(from, at) || !self.seats[at].server {
                    return Ok(());
                }
                let (cluster, message) = decode_raft(&bytes)
                    .map_err(|error| violation("messages can be read", error.to_string()))?;
                let input = lictor_node::Input::Raft {
                    from: sender.id,
                    cluster,
                    message,
                };
                self.give(at, None, Input::Server(input))
            }
            Body::Call { key, caller, cargo } => {
                if self.is_cut(from, at) {
                    return Ok(());
                }
                match (caller, cargo) {
                    (Caller::Gossip(pool, _), Cargo::Bytes(bytes))
                        if pool == Pool::Lan || self.seats[at].server =>
                    {
                        let input = gossip::Input::Call {
                            id: gossip::InboundId(key),
                            from: pool_sender(sender, pool),
                            request: bytes,
                        };
                        self.give(at, Some(key), Input::Gossip { pool, input })?;
                        if self.answering.take() == Some(key) && !self.seats[at].frozen {
                            self.send_reply(key, at, Err("closed by the peer"));
                        }
                        Ok(())
                    }
                    (Caller::Server(_), Cargo::Bytes(bytes)) if self.seats[at].server => {
                        let call = decode_call(&bytes)
                            .map_err(|error| violation("messages can be read", error.to_string()))?;
                        let input = lictor_node::Input::Call {
                            id: InboundId(key),
                            from: sender.id,
                            call,
                        };
                        self.give(at, None, Input::Server(input))
                    }
                    (Caller::Local(_), Cargo::Question(question)) if self.seats[at].server => {
                        self.serve(at, Asker::Call(key), question)
                    }
                    (Caller::Errand(_), Cargo::Errand(errand)) if self.seats[at].server => {
                        self.do_errand(at, Bearer::Call(key), errand)
                    }
                    (Caller::Gossip(..) | Caller::Server(_) | Caller::Local(_) | Caller::Errand(_), _) => {
                        self.send_reply(key, at, Err("not a server"));
                        Ok(())
                    }
                }
            }
        }
    }

    pub(super) fn call_over(&mut self, key: u64, result: Result<(usize, Cargo), &'static str>) -> Check {
        let Some((at, life, caller)) = self.calls.remove(&key) else {
            return Ok(());
        };
        if !self.lives(at, life) {
            return Ok(());
        }
        let input = match caller {
            Caller::Gossip(pool, id) => {
                let result = match result {
                    Ok((from, cargo)) => {
                        let reply = bytes_of(cargo)?;
                        let sender = self.sender(from, self.seats[from].place);
                        Ok((pool_sender(sender, pool), reply))
                    }
                    Err(reason) => Err(reason.to_owned()),
                };
                let input = gossip::Input::CallDone { id, result };
                Input::Gossip { pool, input }
            }
            Caller::Server(id) => {
                let result = match result {
                    Ok((_, cargo)) => Ok(decode_reply(&bytes_of(cargo)?)
                        .map_err(|error| violation("messages can be read", error.to_string()))?),
                    Err(reason) => Err(CallFailure {
                        maybe_sent: true,
                        detail: reason.to_owned(),
                    }),
                };
                Input::Server(lictor_node::Input::CallDone { id, result })
            }
            Caller::Local(id) => {
                let result = match result {
                    Ok((_, Cargo::Reply(reply))) => *reply,
                    Ok((_, Cargo::Bytes(_) | Cargo::Question(_) | Cargo::Errand(_) | Cargo::Told(_))) => {
                        return Err(violation(
                            "messages can be read",
                            "no answer to a question".to_owned(),
                        ));
                    }
                    Err(reason) => Err(reason.to_owned()),
                };
                return self.answer_local(at, id, result);
            }
            Caller::Errand(id) => {
                let answer = match result {
                    Ok((_, Cargo::Told(answer))) => *answer,
                    Ok((_, Cargo::Bytes(_) | Cargo::Question(_) | Cargo::Errand(_) | Cargo::Reply(_))) => {
                        return Err(violation(
                            "messages can be read",
                            "no answer to an errand".to_owned(),
                        ));
                    }
                    Err(_) => Err(Failure::Unknown),
                };
                self.answer_errand(Some(Via { at, life }), id, answer);
                return Ok(());
            }
        };
        self.give(at, None, input)
    }

    fn packet(&self, from: usize, to: Place, body: Body) -> Packet {
        Packet {
            from,
            life: self.truth[from].life,
            source: self.seats[from].place,
            to,
            body,
        }
    }

    fn sender(&self, from: usize, source: Place) -> Sender {
        Sender {
            id: self.truth[from].id,
            name: self.truth[from].name.clone(),
            server: self.seats[from].server,
            address: source.address(),
        }
    }

    /// A stream needs both directions.
    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.air.is_blocked(one, other, Plane::Streams) || self.air.is_blocked(other, one, Plane::Streams)
    }
}

fn bytes_of(cargo: Cargo) -> Result<Bytes, Violation> {
    match cargo {
        Cargo::Bytes(bytes) => Ok(bytes),
        Cargo::Question(_) | Cargo::Reply(_) | Cargo::Errand(_) | Cargo::Told(_) => Err(violation(
            "messages can be read",
            "a reply of another kind".to_owned(),
        )),
    }
}

/// A sender by the name that it has in a pool.
fn pool_sender(sender: Sender, pool: Pool) -> Sender {
    match pool {
        Pool::Lan => sender,
        Pool::Wan => Sender {
            name: format!("{}.{}", sender.name, super::world::HERE),
            ..sender
        },
    }
}
