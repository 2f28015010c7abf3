//! The network between members: how long things take, what gets lost, and who cannot reach whom.

use core::time::Duration;
use std::collections::BTreeSet;

use lictor_machine::{Instant, Rng};

/// How the network behaves for everybody. Rates are in thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// The shortest way from one member to another.
    pub delay_min: Duration,
    /// The longest of the usual ways.
    pub delay_max: Duration,
    /// Datagrams that take up to [`Weather::LATE`] times as long, and so arrive after others that were sent later.
    pub late_permille: u64,
    /// Datagrams that vanish. Streams lose nothing, they only take longer.
    pub loss_permille: u64,
    /// Datagrams that arrive twice.
    pub duplicate_permille: u64,
    /// Calls that end in an error before they arrive.
    pub broken_calls_permille: u64,
}

impl Weather {
    /// How much longer what is late may take.
    pub const LATE: u32 = 20;

    /// One data center on a good day: nothing is lost.
    pub const fn calm() -> Self {
        Self {
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_micros(900),
            late_permille: 0,
            loss_permille: 0,
            duplicate_permille: 0,
            broken_calls_permille: 0,
        }
    }
}

/// What something is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    /// Datagrams.
    Datagrams,
    /// Streams: calls and their replies.
    Streams,
}

/// What is wrong with the network at one member. The default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Datagrams from or to it that vanish, in thousandths, beside those that the weather takes.
    pub loss_permille: u64,
    /// No datagram passes, in either direction.
    pub no_datagrams: bool,
    /// No stream passes, in either direction.
    pub no_streams: bool,
}

/// Everything between members, who are known here by their numbers.
#[derive(Debug)]
pub struct Air {
    weather: Weather,
    rng: Rng,
    group: Vec<u32>,
    trouble: Vec<Trouble>,
    cut: BTreeSet<(u32, u32)>,
    troubled: bool,
    /// Nobody has any.
    no_streams: bool,
}

impl Air {
    /// A network in which everything passes.
    pub const fn new(weather: Weather, rng: Rng) -> Self {
        Self {
            weather,
            rng,
            group: Vec::new(),
            trouble: Vec::new(),
            cut: BTreeSet::new(),
            troubled: false,
            no_streams: false,
        }
    }

    /// A member more.
    pub fn add(&mut self) {
        self.group.push(0);
        self.trouble.push(Trouble::default());
    }

    /// The weather now.
    pub const fn weather(&self) -> &Weather {
        &self.weather
    }

    /// Changes the weather for what is sent from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Puts a member into a group: members of different groups cannot reach each other. All begin in group 0.
    pub fn set_group(&mut self, member: usize, group: u32) {
        self.group[member] = group;
        self.troubled = true;
    }

    /// Cuts one direction between two members.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from as u32, to as u32));
        self.troubled = true;
    }

    /// Sets what is wrong at a member.
    pub fn set_trouble(&mut self, member: usize, trouble: Trouble) {
        self.trouble[member] = trouble;
        self.troubled = true;
    }

    /// What is wrong at a member.
    pub fn trouble(&self, member: usize) -> Trouble {
        self.trouble[member]
    }

    /// Mends partitions and cuts; troubles stay.
    pub fn heal_partitions(&mut self) {
        self.group.fill(0);
        self.cut.clear();
    }

    /// Mends everything.
    pub fn heal(&mut self) {
        self.heal_partitions();
        self.trouble.fill(Trouble::default());
        self.troubled = false;
    }

    /// Takes the streams from everybody, for protocols that have none.
    pub const fn without_streams(&mut self) {
        self.no_streams = true;
    }

    /// Whether anything is cut between members that have no trouble of their own.
    pub fn is_parted(&self) -> bool {
        !self.cut.is_empty() || self.group.iter().any(|group| *group != 0)
    }

    /// Whether nothing passes from one member to another on a plane.
    pub fn is_blocked(&self, from: usize, to: usize, plane: Plane) -> bool {
        if !self.troubled {
            return false;
        }
        let closed = |member: usize| match plane {
            Plane::Datagrams => self.trouble[member].no_datagrams,
            Plane::Streams => self.trouble[member].no_streams,
        };
        self.group[from] != self.group[to]
            || closed(from)
            || closed(to)
            || self.cut.contains(&(from as u32, to as u32))
    }

    /// When a datagram that is sent now arrives, and when its duplicate does; nothing if it is lost.
    pub fn datagram(&mut self, now: Instant, from: usize, to: usize) -> (Option<Instant>, Option<Instant>) {
        if self.is_blocked(from, to, Plane::Datagrams) || self.is_lost(from, to) {
            return (None, None);
        }
        let mut delay = self.delay();
        if self.happens(self.weather.late_permille) {
            delay += self
                .rng
                .between(Duration::ZERO, self.weather.delay_max * Weather::LATE);
        }
        let again = self
            .happens(self.weather.duplicate_permille)
            .then(|| now + delay + self.delay() * 3);
        (Some(now + delay), again)
    }

    /// When something that is sent now on a stream arrives, or the word that it never will; `None`: there will be no word either.
    /// The ways of a stream are those of its lost packets too: it takes longer, the more is lost.
    pub fn stream(&mut self, now: Instant, from: usize, to: usize) -> Option<Result<Instant, Instant>> {
        if self.no_streams || self.is_blocked(from, to, Plane::Streams) {
            return None;
        }
        let mut delay = self.delay() * 3;
        // Each loss costs a retransmission; nobody is so unlucky as to lose eight in a row.
        for _ in 0..8 {
            if !self.is_lost(from, to) {
                break;
            }
            delay += self.weather.delay_max * 4;
        }
        if self.happens(self.weather.broken_calls_permille) {
            return Some(Err(now + delay));
        }
        Some(Ok(now + delay))
    }

    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let mut lost = self.happens(self.weather.loss_permille);
        if self.troubled {
            for member in [from, to] {
                lost |= self.happens(self.trouble[member].loss_permille);
            }
        }
        lost
    }

    /// Draws only where there is something to draw: most runs have no such weather.
    fn happens(&mut self, permille: u64) -> bool {
        permille > 0 && self.rng.chance(permille, 1000)
    }

    fn delay(&mut self) -> Duration {
        self.rng.between(self.weather.delay_min, self.weather.delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn air(members: usize, weather: Weather) -> Air {
        let mut air = Air::new(weather, Rng::new(5));
        for _ in 0..members {
            air.add();
        }
        air
    }

    fn passes(air: &mut Air, from: usize, to: usize) -> [bool; 2] {
        [
            air.datagram(Instant::ZERO, from, to).0.is_some(),
            air.stream(Instant::ZERO, from, to).is_some(),
        ]
    }

    #[test]
    fn groups_cuts_and_closed_planes_block_what_they_should_until_they_are_healed() {
        let mut air = air(4, Weather::calm());
        air.set_group(3, 1);
        air.cut(0, 1);
        air.set_trouble(
            2,
            Trouble {
                no_datagrams: true,
                ..Trouble::default()
            },
        );
        assert_eq!(passes(&mut air, 0, 3), [false, false]);
        assert_eq!(passes(&mut air, 0, 1), [false, false]);
        assert_eq!(passes(&mut air, 1, 0), [true, true]);
        assert_eq!(passes(&mut air, 0, 2), [false, true]);
        assert_eq!(passes(&mut air, 2, 0), [false, true]);
        air.set_trouble(
            2,
            Trouble {
                no_streams: true,
                ..Trouble::default()
            },
        );
        assert_eq!(passes(&mut air, 0, 2), [true, false]);
        air.heal();
        for (from, to) in [(0, 3), (0, 1), (0, 2), (2, 0)] {
            assert_eq!(passes(&mut air, from, to), [true, true]);
        }
    }

    #[test]
    fn loss_and_duplicates_come_at_their_rates_and_half_the_packets_are_lost_where_half_are_to_be() {
        let weather = Weather {
            loss_permille: 100,
            duplicate_permille: 100,
            ..Weather::calm()
        };
        let mut air = air(3, weather);
        air.set_trouble(
            2,
            Trouble {
                loss_permille: 500,
                ..Trouble::default()
            },
        );
        let count = |air: &mut Air, to| {
            let mut counts = [0; 2];
            for _ in 0..10_000 {
                let (at, again) = air.datagram(Instant::ZERO, 0, to);
                counts[0] += u32::from(at.is_none());
                counts[1] += u32::from(again.is_some());
            }
            counts
        };
        let [lost, twice] = count(&mut air, 1);
        assert!((850..1150).contains(&lost), "{lost}");
        assert!((750..1050).contains(&twice), "{twice}");
        let [lost, _] = count(&mut air, 2);
        assert!((5250..5750).contains(&lost), "{lost}");
    }
}
