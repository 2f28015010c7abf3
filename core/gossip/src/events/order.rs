//! In which order, and when, events are handed out.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use lictor_machine::Instant;

use crate::event::{EventKey, UserEvent};
use crate::lamport::LamportTime;

/// How much longer than the window an event waits behind a gap: the gap is asked about, and the answer may get lost more than once.
const GAP_WINDOWS: u32 = 4;

/// How many events at once are a storm.
const STORM: usize = 8;

/// Holds events until those that precede them are here.
#[derive(Debug)]
pub(super) struct Order {
    gossip_interval: Duration,
    /// How long an event in a crowd waits for those that precede it.
    window: Duration,
    held: BTreeMap<EventKey, Held>,
    /// Those of `held` with nothing missing below, by arrival.
    waiting: BTreeSet<(Instant, EventKey)>,
    /// Those of `held` with something missing below, by arrival.
    gapped: BTreeSet<(Instant, EventKey)>,
    /// The event of `held` that stands for all of its name.
    coalescing: BTreeMap<String, EventKey>,
    /// Nothing is missing up to here.
    frontier: LamportTime,
    /// The highest time that was handed out.
    delivered: LamportTime,
    last_arrival: Option<Instant>,
    ready: VecDeque<UserEvent>,
    late: u64,
}

#[derive(Debug)]
struct Held {
    arrived: Instant,
    event: UserEvent,
}

impl Order {
    /// An order in which everything up to `frontier` is history.
    pub(super) fn new(gossip_interval: Duration, frontier: LamportTime) -> Self {
        Self {
            gossip_interval,
            window: 2 * spread_time(gossip_interval, 1),
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            gapped: BTreeSet::new(),
            coalescing: BTreeMap::new(),
            frontier,
            delivered: frontier,
            last_arrival: None,
            ready: VecDeque::new(),
            late: 0,
        }
    }

    pub(super) fn set_members(&mut self, members: usize) {
        self.window = 2 * spread_time(self.gossip_interval, members);
    }

    /// The time in which gossip reaches everybody.
    pub(super) fn spread_time(&self) -> Duration {
        self.window / 2
    }

    /// How many events were handed out after a later one.
    pub(super) const fn late(&self) -> u64 {
        self.late
    }

    /// The highest time that was handed out, or was history from the start.
    pub(super) const fn delivered(&self) -> LamportTime {
        self.delivered
    }

    /// The time of the first event that waits.
    pub(super) fn first_held(&self) -> Option<LamportTime> {
        self.held.first_key_value().map(|(key, _)| key.time)
    }

    /// Whether an event is known to be missing.
    pub(super) fn has_gap(&self) -> bool {
        !self.gapped.is_empty()
    }

    /// Whether so many events arrive together that it is better to ask for them than to wait for each.
    pub(super) fn is_storm(&self) -> bool {
        self.held.len() >= STORM
    }

    /// Everything up to `time` is history from now on, but for what is held already.
    pub(super) fn skip_to(&mut self, time: LamportTime, known: &BTreeMap<EventKey, Bytes>) {
        self.frontier = self.frontier.max(time);
        self.advance(known);
    }

    /// Puts a new event in its place; `known` has it already.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        key: EventKey,
        event: UserEvent,
        known: &BTreeMap<EventKey, Bytes>,
    ) {
        let alone = self.held.is_empty()
            && self
                .last_arrival
                .is_none_or(|last| now.since(last) >= self.window);
        self.last_arrival = Some(now);
        self.advance(known);
        if key.time <= self.delivered || (alone && key.time <= self.frontier) {
            self.hand_out(event);
        } else {
            self.hold(now, key, event);
        }
    }

    /// Hands out everything up to `key`.
    pub(super) fn release(&mut self, key: EventKey, known: &BTreeMap<EventKey, Bytes>) {
        while let Some(entry) = self.held.first_entry()
            && *entry.key() <= key
        {
            let (key, held) = entry.remove_entry();
            self.unlist(key, &held);
            self.hand_out(held.event);
        }
        self.frontier = self.frontier.max(key.time);
        self.advance(known);
    }

    /// An event that has waited for long enough; with it go all that precede it.
    pub(super) fn due(&self, now: Instant) -> Option<EventKey> {
        let (at, key) = self.first()?;
        (at <= now).then_some(key)
    }

    /// When the next event is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    /// The next event that was handed out.
    pub(super) fn poll(&mut self) -> Option<UserEvent> {
        self.ready.pop_front()
    }

    fn first(&self) -> Option<(Instant, EventKey)> {
        let after = |listed: &BTreeSet<(Instant, EventKey)>, delay| {
            listed.first().map(|(arrived, key)| (*arrived + delay, *key))
        };
        let waiting = after(&self.waiting, self.window);
        let gapped = after(&self.gapped, GAP_WINDOWS * self.window);
        match (waiting, gapped) {
            (Some(waiting), Some(gapped)) => Some(waiting.min(gapped)),
            (waiting, gapped) => waiting.or(gapped),
        }
    }

    fn hold(&mut self, now: Instant, key: EventKey, event: UserEvent) {
        let mut arrived = now;
        if event.coalesce {
            if let Some(other) = self.coalescing.get(&event.name).copied() {
                if other > key {
                    return;
                }
                // It takes the place of the other in the queue, too, or a steady stream would never be handed out.
                if let Some(superseded) = self.held.remove(&other) {
                    self.unlist(other, &superseded);
                    arrived = superseded.arrived;
                }
            }
            self.coalescing.insert(event.name.clone(), key);
        }
        if key.time <= self.frontier {
            self.waiting.insert((arrived, key));
        } else {
            self.gapped.insert((arrived, key));
        }
        self.held.insert(key, Held { arrived, event });
    }

    /// Takes an event that is no longer held off the lists.
    fn unlist(&mut self, key: EventKey, held: &Held) {
        self.waiting.remove(&(held.arrived, key));
        self.gapped.remove(&(held.arrived, key));
        if held.event.coalesce && self.coalescing.get(&held.event.name) == Some(&key) {
            self.coalescing.remove(&held.event.name);
        }
    }

    fn hand_out(&mut self, event: UserEvent) {
        if event.time < self.delivered {
            self.late += 1;
        }
        self.delivered = self.delivered.max(event.time);
        self.ready.push_back(event);
    }

    /// Moves the frontier to where something is missing.
    fn advance(&mut self, known: &BTreeMap<EventKey, Bytes>) {
        let before = self.frontier;
        while let Some(next) = self.frontier.0.checked_add(1).map(LamportTime)
            && known
                .range(super::first_after(self.frontier)..)
                .next()
                .is_some_and(|(key, _)| key.time == next)
        {
            self.frontier = next;
        }
        if self.frontier > before {
            let frontier = self.frontier;
            let closed = self.gapped.extract_if(.., |(_, key)| key.time <= frontier);
            self.waiting.extend(closed);
        }
    }
}

/// In how much time gossip reaches everybody with a very high probability: each round each member tells three others, so the number
/// of those who know grows fourfold, but for the last ones; and three rounds more for packets that get lost.
fn spread_time(gossip_interval: Duration, members: usize) -> Duration {
    let doublings = usize::BITS - members.leading_zeros();
    gossip_interval * (doublings.div_ceil(2) + 3)
}
