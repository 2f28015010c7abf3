//! Recent user events: each is handed out once, in order of their Lamport times, and none is missed for good.
//!
//! Events spread by gossip, which reaches everybody only with a high probability, and in any order. Two things make up for that.
//!
//! *Digests.* Every member keeps the latest [`MAX_EVENTS`] events, and its pings, acknowledgements and packets of events carry a digest
//! of them. Which events are the latest is a function of the set of all, so members that have told each other everything have the same
//! buffers and the same digests. Who finds itself short asks, by a call, for what it lacks (`pull`).
//!
//! *Waiting.* An event that comes alone is handed out at once. One that comes in a crowd, or behind a gap, is held until all that
//! precedes it must have arrived: whatever was said with a lower time was said, at the latest, when its speaker heard of this one, so it
//! is here after twice the time in which gossip reaches everybody.

mod order;
mod pull;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_machine::{Instant, NodeId};

use self::order::Order;
use self::pull::{Outcome, Pull};
use crate::event::{EventDigest, EventKey, EventsFound, EventsHeld, EventsWanted, UserEvent};
use crate::io::Refusal;
use crate::lamport::{LamportClock, LamportTime};
use crate::wire::Part;

/// How many events are kept for those who missed them, and to know them again. Each has at most about 600 bytes.
pub(crate) const MAX_EVENTS: usize = 2048;

/// How many of the latest events a question names at least, so that it seldom has to be asked again about everything.
const MIN_NAMED: usize = 64;

/// The most bytes of events in one answer. Who needs more asks again.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// What a member that asks for events wants said to it.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Whom to ask.
    pub(crate) peer: NodeId,
    /// The parts of the call.
    pub(crate) parts: Vec<Part>,
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Comes first.
    pub(crate) head: EventsFound,
    /// The parts that carry the events, the earliest first.
    pub(crate) events: Vec<Bytes>,
}

/// The recent events of the pool, as far as this member knows them.
///
/// Inputs take the time; what comes of them is taken away with [`EventBuffer::poll`] and [`EventBuffer::ask`], also after
/// [`EventBuffer::handle_timeout`], which is due at [`EventBuffer::deadline`].
#[derive(Debug)]
pub(crate) struct EventBuffer {
    clock: LamportClock,
    /// The latest events, each as the part that carries it.
    known: BTreeMap<EventKey, Bytes>,
    /// The fingerprints of `known`, by exclusive or.
    fingerprint: u64,
    /// The latest event that had to make room; what is not later is not taken in again.
    floor: Option<EventKey>,
    /// What was said up to then is not handed out: that was done in an earlier life, or it was said before this member was in the pool.
    silent_to: LamportTime,
    /// Whether this member knows since when it is in the pool.
    settled: bool,
    order: Order,
    pull: Pull,
    counts: EventCounts,
}

/// What the buffer counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventCounts {
    /// Events that were handed out.
    pub(crate) delivered: u64,
    /// Of these, those that came so late that a later one had been handed out before.
    pub(crate) late: u64,
    /// Events that had come before.
    pub(crate) duplicates: u64,
    /// Events that were refused since more than [`MAX_EVENTS`] later ones are known.
    pub(crate) too_old: u64,
    /// Calls for events.
    pub(crate) pulls: u64,
}

impl EventBuffer {
    /// A buffer of a member to which the events up to `remembered` were handed out; it gets the later ones, also those that were said while
    /// it was away. A member that has seen none gets those that are said after it joined.
    pub(crate) fn new(gossip_interval: Duration, remembered: LamportTime) -> Self {
        let clock = LamportClock::new(remembered);
        Self {
            clock,
            known: BTreeMap::new(),
            fingerprint: 0,
            floor: None,
            silent_to: clock.now(),
            settled: clock.now() > LamportTime(0),
            order: Order::new(gossip_interval, clock.now()),
            pull: Pull::new(gossip_interval),
            counts: EventCounts::default(),
        }
    }

    /// The highest time that was seen.
    pub(crate) const fn time(&self) -> LamportTime {
        self.clock.now()
    }

    /// No event up to here is going to be handed out, but for those that come late: the others have been, or are not wanted.
    pub(crate) fn handed_out(&self) -> LamportTime {
        self.silent_to.max(self.order.delivered())
    }

    /// What was counted.
    pub(crate) const fn counts(&self) -> EventCounts {
        EventCounts {
            late: self.order.late(),
            ..self.counts
        }
    }

    /// Says how many members are well: the larger the pool, the longer gossip takes.
    pub(crate) fn set_members(&mut self, members: usize) {
        self.order.set_members(members);
    }

    /// Tells the pool something. Returns the part to be passed on.
    pub(crate) fn fire(
        &mut self,
        now: Instant,
        origin: NodeId,
        name: String,
        payload: Bytes,
        coalesce: bool,
    ) -> Bytes {
        let event = UserEvent {
            time: self.clock.increment(),
            origin,
            name,
            payload,
            coalesce,
        };
        let part = Part::UserEvent(event.clone()).encode();
        self.keep(now, event, part.clone());
        part
    }

    /// Takes in an event that arrived from `from` as `part`. Returns what is to be passed on if it is new.
    ///
    /// # Errors
    /// Its time cannot be true; nothing has changed.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        from: NodeId,
        event: UserEvent,
        part: &[u8],
    ) -> Result<Option<Bytes>, Refusal> {
        let key = event.key();
        if self.known.contains_key(&key) {
            self.counts.duplicates += 1;
            return Ok(None);
        }
        if self.floor.is_some_and(|floor| key <= floor) {
            self.counts.too_old += 1;
            return Ok(None);
        }
        self.clock.witness(event.time).map_err(|_| Refusal::Jump)?;
        // A copy, for the part shares its memory with all that came in the same message.
        let part = Bytes::copy_from_slice(part);
        self.keep(now, event, part.clone());
        if self.order.has_gap() {
            let patience = self.patience();
            self.pull.differs(now, from, None, patience);
        }
        Ok(Some(part))
    }

    /// Learns where the pool is from a member that this one joins, or that joins this one: a member that has seen no event does not
    /// want those of before.
    ///
    /// # Errors
    /// The time cannot be true; nothing has changed.
    pub(crate) fn adopt(&mut self, time: LamportTime) -> Result<(), Refusal> {
        if self.settled {
            return self.clock.witness(time).map_err(|_| Refusal::Jump);
        }
        self.clock.adopt(time).map_err(|_| Refusal::Jump)?;
        self.settled = true;
        self.silent_to = time;
        self.order.skip_to(time, &self.known);
        Ok(())
    }

    /// Which events this member has.
    pub(crate) fn digest(&self) -> EventDigest {
        EventDigest {
            newest: self
                .known
                .last_key_value()
                .map_or(LamportTime(0), |(key, _)| key.time),
            count: self.known.len() as u32,
            fingerprint: self.fingerprint,
        }
    }

    /// Compares with what `peer` has.
    pub(crate) fn compare(&mut self, now: Instant, peer: NodeId, theirs: EventDigest) {
        let ours = self.digest();
        if theirs == ours {
            self.pull.agrees(peer);
        } else if theirs.newest > ours.newest || theirs.count >= ours.count {
            let patience = self.patience();
            self.pull.differs(now, peer, Some(theirs), patience);
        }
        // Else it is most likely `peer` that lacks something. It asks, and so this member hears of what it lacks itself.
    }

    /// What to ask, if it is time for that. [`EventBuffer::answered`] must follow, whatever becomes of it; until then nothing else is
    /// asked.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<Question> {
        let asked = self.pull.ask(now, self.digest())?;
        self.counts.pulls += 1;
        let above = if asked.whole {
            LamportTime(0)
        } else {
            let named = self.known.keys().rev().nth(MIN_NAMED).map(|key| key.time);
            let held = self.order.first_held();
            let first = named.map(|named| held.map_or(named, |held| held.min(named)));
            first.map_or(LamportTime(0), |first| LamportTime(first.0.saturating_sub(1)))
        };
        let wanted = EventsWanted {
            above,
            below: self.fingerprint_to(above),
        };
        let named: Vec<u64> = self.later(above).map(|(key, _)| key.fingerprint).collect();
        let held = named.chunks(EventsHeld::MAX).map(|chunk| {
            Part::EventsHeld(EventsHeld {
                fingerprints: chunk.to_vec(),
            })
        });
        Some(Question {
            peer: asked.peer,
            parts: core::iter::once(Part::EventsWanted(wanted)).chain(held).collect(),
        })
    }

    /// Answers the question of `peer`, which has events with the fingerprints `held`. If there are some among them that this member
    /// lacks, it is going to ask in its turn.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        peer: NodeId,
        wanted: EventsWanted,
        mut held: BTreeSet<u64>,
    ) -> Found {
        let mut bytes = 0;
        let mut events = Vec::new();
        let mut more = false;
        for (key, part) in self.known.range(first_after(wanted.above)..) {
            if held.remove(&key.fingerprint) {
                continue;
            }
            bytes += part.len();
            if bytes > MAX_ANSWER_BYTES {
                more = true;
            } else {
                events.push(part.clone());
            }
        }
        let same_below = self.fingerprint_to(wanted.above) == wanted.below;
        if !held.is_empty() {
            let patience = self.patience();
            self.pull.differs(now, peer, None, patience);
        }
        Found {
            head: EventsFound { same_below, more },
            events,
        }
    }

    /// The question has been answered by `new` events that were accepted, and `head`; or, if that is `None`, it will never be.
    pub(crate) fn answered(&mut self, now: Instant, head: Option<EventsFound>, new: usize) {
        let outcome = match head {
            None => Outcome::Failed,
            Some(head) if head.more && new > 0 => Outcome::More,
            Some(head) if !head.same_below => Outcome::DiffersBelow,
            Some(_) if new > 0 => Outcome::All,
            Some(_) => Outcome::Nothing,
        };
        self.pull.answered(now, outcome);
    }

    /// The next event for the application.
    pub(crate) fn poll(&mut self) -> Option<UserEvent> {
        let event = self.order.poll()?;
        self.counts.delivered += 1;
        Some(event)
    }

    /// When [`EventBuffer::handle_timeout`] or [`EventBuffer::ask`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.order.deadline(), self.pull.deadline()) {
            (Some(order), Some(pull)) => Some(order.min(pull)),
            (order, pull) => order.or(pull),
        }
    }

    /// Hands out what has waited for long enough.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.order.due(now) {
            self.order.release(due, &self.known);
        }
    }

    /// Hands out what still waits, and asks for nothing any more: this member has left.
    pub(crate) fn close(&mut self) {
        self.handle_timeout(Instant::MAX);
        self.pull = Pull::new(Duration::ZERO);
    }

    /// Puts an event in its place.
    fn keep(&mut self, now: Instant, event: UserEvent, part: Bytes) {
        let key = event.key();
        self.fingerprint ^= key.fingerprint;
        self.known.insert(key, part);
        if key.time > self.silent_to {
            self.order.insert(now, key, event, &self.known);
        }
        if self.known.len() > MAX_EVENTS
            && let Some((oldest, _)) = self.known.pop_first()
        {
            self.fingerprint ^= oldest.fingerprint;
            self.floor = Some(oldest);
            self.order.release(oldest, &self.known);
        }
    }

    /// How long to wait for what gossip may still bring. In a storm gossip has more than enough to carry.
    fn patience(&self) -> Duration {
        if self.order.is_storm() {
            Duration::ZERO
        } else {
            self.order.spread_time()
        }
    }

    fn later(&self, than: LamportTime) -> impl Iterator<Item = (&EventKey, &Bytes)> {
        self.known.range(first_after(than)..)
    }

    fn fingerprint_to(&self, time: LamportTime) -> u64 {
        let keys = self
            .known
            .range(..first_after(time))
            .map(|(key, _)| key.fingerprint);
        keys.fold(0, |all, one| all ^ one)
    }
}

/// The least key of the times after `time`.
const fn first_after(time: LamportTime) -> EventKey {
    EventKey {
        time: LamportTime(time.0.saturating_add(1)),
        origin: NodeId(0),
        fingerprint: 0,
    }
}

#[cfg(test)]
mod tests;
