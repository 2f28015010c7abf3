//! One member with what surrounds its machine: a clock, what it remembers over a restart, and what its driver knows.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use lictor_gossip::{CallId, Gossip, Memory, Tags};
use lictor_machine::{Instant, NodeId};

use crate::clock::LocalClock;

/// The port of every member.
const PORT: u16 = 8301;

/// How many arrivals wait for a frozen member; the buffer of its socket has no room for more.
const INBOX_MAX: usize = 2000;

/// Names an address: each seat begins with the one of its own number, and may move to fresh ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) u32);

impl Place {
    /// As a member sees it.
    pub(crate) fn address(self) -> SocketAddr {
        let [_, high, middle, low] = (self.0 + 1).to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, high, middle, low)), PORT)
    }

    /// Which place an address is, if it is one of the simulation's.
    pub(crate) fn of(address: SocketAddr) -> Option<Self> {
        match address.ip() {
            IpAddr::V4(ip) if ip.octets()[0] == 10 && address.port() == PORT => {
                let [_, high, middle, low] = ip.octets();
                u32::from_be_bytes([0, high, middle, low])
                    .checked_sub(1)
                    .map(Self)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

/// Something that reaches a member from outside.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Datagram {
        from: u32,
        source: Place,
        bytes: Bytes,
    },
    Call {
        from: u32,
        source: Place,
        key: u64,
        request: Bytes,
    },
    CallDone {
        id: CallId,
        /// Who answered, and what; or why nobody did.
        result: Result<(u32, Bytes), &'static str>,
    },
}

/// See the module.
pub(crate) struct Seat {
    pub(crate) machine: Option<Gossip>,
    pub(crate) clock: LocalClock,
    pub(crate) place: Place,
    /// It will be elsewhere when it is started next.
    pub(crate) moves: bool,
    pub(crate) server: bool,
    pub(crate) tags: Tags,
    /// What the latest `Remember` said, and what the one before it did: a crash may lose the latest.
    pub(crate) memory: [Option<Memory>; 2],
    /// Whom it is to join when it is started, and again until that works.
    pub(crate) seeds: Vec<usize>,
    pub(crate) routes: Routes,
    /// When it will be woken, in true time.
    pub(crate) wake_at: Instant,
    pub(crate) frozen: bool,
    /// Not to be counted among the well.
    pub(crate) unsound: bool,
    /// How much longer everything takes here, at most.
    pub(crate) slow: Duration,
    /// The longest datagram that it may send.
    pub(crate) packet_bytes: usize,
    inbox: VecDeque<Arrival>,
}

impl Seat {
    /// A member that was never started.
    pub(crate) fn new(place: Place, server: bool, tags: Tags, seeds: Vec<usize>) -> Self {
        Self {
            machine: None,
            clock: LocalClock::start(Instant::ZERO, 0),
            place,
            moves: false,
            server,
            tags,
            memory: [None, None],
            seeds,
            routes: Routes::default(),
            wake_at: Instant::MAX,
            frozen: false,
            unsound: false,
            slow: Duration::ZERO,
            packet_bytes: 0,
            inbox: VecDeque::new(),
        }
    }

    /// The process ends; what is on its disk stays.
    pub(crate) fn stop(&mut self) -> Option<Gossip> {
        self.routes = Routes::default();
        self.inbox.clear();
        self.wake_at = Instant::MAX;
        (self.frozen, self.slow) = (false, Duration::ZERO);
        self.machine.take()
    }

    /// Puts something before a frozen member. Whether there was room.
    pub(crate) fn queue(&mut self, arrival: Arrival) -> bool {
        let room = self.inbox.len() < INBOX_MAX || matches!(arrival, Arrival::CallDone { .. });
        if room {
            self.inbox.push_back(arrival);
        }
        room
    }

    /// What waited while the member was frozen.
    pub(crate) fn take_inbox(&mut self) -> VecDeque<Arrival> {
        core::mem::take(&mut self.inbox)
    }
}

/// Where the driver sends what is for an id: what the last `Effect::Address` said.
///
/// Ten thousand members know ten thousand addresses each. Nearly all of those are where everybody has always been, so only the others are
/// kept, and one bit for each that is known at all.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: Vec<u64>,
    moved: BTreeMap<u32, Place>,
}

impl Routes {
    /// The member of a seat is reached at a place.
    pub(crate) fn learn(&mut self, seat: usize, place: Place) {
        let (word, bit) = (seat / 64, seat % 64);
        if self.known.len() <= word {
            self.known.resize(word + 1, 0);
        }
        self.known[word] |= 1 << bit;
        if place == Place(seat as u32) {
            self.moved.remove(&(seat as u32));
        } else {
            self.moved.insert(seat as u32, place);
        }
    }

    /// The member of a seat is forgotten.
    pub(crate) fn forget(&mut self, seat: usize) {
        if let Some(word) = self.known.get_mut(seat / 64) {
            *word &= !(1 << (seat % 64));
        }
        self.moved.remove(&(seat as u32));
    }

    /// Where the member of a seat is reached; `None` if nobody ever said.
    pub(crate) fn place_of(&self, seat: usize) -> Option<Place> {
        let known = self.known.get(seat / 64)? >> (seat % 64) & 1 == 1;
        known.then(|| {
            let moved = self.moved.get(&(seat as u32));
            moved.copied().unwrap_or(Place(seat as u32))
        })
    }
}

/// The seat of an id: ids are the numbers of seats, plus one.
pub(crate) fn seat_of(id: NodeId) -> Option<usize> {
    usize::try_from(id.0.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_addresses_and_back() {
        for number in [0, 1, 254, 255, 256, 70_000] {
            assert_eq!(Place::of(Place(number).address()), Some(Place(number)));
        }
        for other in ["10.0.0.1:80", "127.0.0.1:8301", "[::1]:8301", "10.0.0.0:8301"] {
            assert_eq!(Place::of(other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn routes_hold_what_was_said_last_until_it_is_forgotten() {
        let mut routes = Routes::default();
        assert_eq!(routes.place_of(200), None);
        routes.learn(200, Place(200));
        assert_eq!(routes.place_of(200), Some(Place(200)));
        assert_eq!(routes.place_of(201), None);
        routes.learn(200, Place(7));
        assert_eq!(routes.place_of(200), Some(Place(7)));
        routes.learn(200, Place(200));
        assert_eq!(routes.place_of(200), Some(Place(200)));
        routes.forget(200);
        assert_eq!(routes.place_of(200), None);
    }
}
