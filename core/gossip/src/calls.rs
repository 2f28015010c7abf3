//! Calls on streams: what is made, what it is for, and what comes in.

use core::time::Duration;
use std::net::SocketAddr;

use bytes::Bytes;
use lictor_machine::{NodeId, Token};

use crate::gossip::{Gossip, Timer};
use crate::io::{CallId, Effect, InboundId, Refusal, Sender, Target};
use crate::wire::{PacketBuilder, Part, read_call};

/// Calls that may be open.
const CALLS_MAX: usize = 1024;

/// What a call was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To join whoever is found at an address.
    Join {
        /// On whose behalf.
        token: Token,
        /// Where.
        address: SocketAddr,
    },
    /// To find somebody again, or to learn what a member knows.
    Sync,
    /// To give a member what it lacks.
    Push,
    /// To get the user events that this member lacks.
    Events,
    /// To probe on a stream.
    Probe {
        /// The probe.
        seq: u32,
    },
    /// To see whether a member is still where it was.
    Contest {
        /// Which.
        id: NodeId,
    },
}

impl Gossip {
    /// Makes a call. False if too many are open, or nobody knows where the member is; then nothing happens.
    pub(crate) fn call(&mut self, to: Target, request: Bytes, timeout: Duration, purpose: Purpose) -> bool {
        let found = match to {
            Target::Node(id) => self.is_found(id),
            Target::Address(_) => true,
        };
        if !found || self.calls.len() >= CALLS_MAX {
            return false;
        }
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.calls.insert(id, purpose);
        self.stats.calls_out += 1;
        self.stats.call_bytes += request.len() as u64;
        // The driver reports every call; this is for one that does not.
        let late = timeout.saturating_mul(2) + self.config.stream_timeout;
        self.timers.set(Timer::Call(id), self.now() + late);
        self.effects.push_back(Effect::Call {
            id,
            to,
            request,
            timeout,
        });
        true
    }

    /// A call has an answer, or will have none.
    pub(crate) fn call_done(&mut self, id: CallId, result: Result<(Sender, Bytes), String>) {
        let Some(purpose) = self.calls.remove(&id) else {
            return;
        };
        self.timers.cancel(Timer::Call(id));
        if let Ok((_, reply)) = &result {
            self.stats.call_bytes += reply.len() as u64;
        }
        match purpose {
            Purpose::Join { token, address } => {
                let outcome = result.and_then(|(from, reply)| self.joined_by(&from, &reply));
                self.join_done(token, address, outcome);
            }
            Purpose::Sync => {
                if let Ok((from, reply)) = result
                    && let Err(reason) = self.sync_reply(&from, &reply)
                {
                    self.refuse(from.id, reason);
                }
            }
            Purpose::Push => {
                if let Ok((from, reply)) = result
                    && let Err(reason) = self.push_reply(&from, &reply)
                {
                    self.refuse(from.id, reason);
                }
            }
            Purpose::Events => self.events_done(result),
            Purpose::Probe { seq } => {
                if let Ok((from, reply)) = result
                    && self.is_ack(&from, &reply, seq)
                {
                    self.stream_ack(seq, from.id);
                }
            }
            Purpose::Contest { id } => {
                let there = result.is_ok_and(|(from, reply)| from.id == id && self.is_ack(&from, &reply, 0));
                self.contest_over(id, there);
            }
        }
    }

    /// Somebody calls.
    pub(crate) fn call_received(&mut self, id: InboundId, from: &Sender, request: &Bytes) {
        if !self.is_reachable(from) {
            return;
        }
        self.stats.calls_in += 1;
        self.stats.call_bytes += request.len() as u64;
        match self.answer_call(from, request) {
            Ok(Some(reply)) => {
                let reply = reply.finish();
                self.stats.call_bytes += reply.len() as u64;
                self.effects.push_back(Effect::Reply { id, reply });
            }
            Ok(None) => {}
            Err(reason) => self.refuse(from.id, reason),
        }
    }

    fn answer_call(&mut self, from: &Sender, request: &Bytes) -> Result<Option<PacketBuilder>, Refusal> {
        let mut parts = read_call(request, self.pool)?;
        let first = parts.next().ok_or(Refusal::Malformed)??;
        match first.part {
            Part::Ping {
                seq,
                target,
                incarnation,
            } => {
                if target != self.me().id {
                    return Ok(None);
                }
                self.greet(from);
                self.compare(from, incarnation);
                let mut reply = PacketBuilder::call(self.pool);
                crate::probe::push(&mut reply, &self.own_ack(seq));
                Ok(Some(reply))
            }
            Part::Summary(summary) => self.answer_sync(from, &summary, parts).map(Some),
            Part::EventsWanted(wanted) => self.answer_events(from, wanted, parts).map(Some),
            Part::PingRequest { .. }
            | Part::Ack { .. }
            | Part::Nack { .. }
            | Part::Statement(_)
            | Part::UserEvent(_)
            | Part::Digest(_)
            | Part::EventsHeld(_)
            | Part::EventsFound(_)
            | Part::Query(_)
            | Part::QueryAnswer(_)
            | Part::Relay { .. } => Err(Refusal::Malformed),
        }
    }

    /// The request of a probe on a stream.
    pub(crate) fn stream_ping(&self, seq: u32, target: NodeId) -> Bytes {
        let mut request = PacketBuilder::call(self.pool);
        let incarnation = self.me().incarnation;
        let ping = Part::Ping {
            seq,
            target,
            incarnation,
        };
        crate::probe::push(&mut request, &ping);
        request.finish()
    }

    fn is_ack(&mut self, from: &Sender, reply: &Bytes, seq: u32) -> bool {
        let first =
            read_call(reply, self.pool).and_then(|mut parts| parts.next().ok_or(Refusal::Malformed)?);
        match first {
            Ok(received) => matches!(received.part, Part::Ack { seq: answered, .. } if answered == seq),
            Err(reason) => {
                self.refuse(from.id, reason);
                false
            }
        }
    }
}
