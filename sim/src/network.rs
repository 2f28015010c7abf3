//! The network between simulated servers: delay, loss, duplication, reordering and partitions, link by link.

use core::time::Duration;

use lictor_machine::{Instant, Rng};

/// How the network misbehaves. Rates are in thousandths of packets.
#[derive(Clone, Debug)]
pub struct Weather {
    /// The shortest way from one server to another.
    pub delay_min: Duration,
    /// The longest.
    pub delay_max: Duration,
    /// Packets that vanish.
    pub loss_permille: u64,
    /// Packets that arrive twice.
    pub duplicate_permille: u64,
    /// Packets that may overtake, or be overtaken by, others of their lane.
    pub reorder_permille: u64,
    /// Lost packets of which the sender's transport learns.
    pub report_permille: u64,
}

impl Weather {
    /// Nothing is lost; a millisecond or less from door to door.
    pub const fn calm() -> Self {
        Self {
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_millis(1),
            loss_permille: 0,
            duplicate_permille: 0,
            reorder_permille: 0,
            report_permille: 1000,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives {
        /// When.
        at: Instant,
        /// When its duplicate does.
        again: Option<Instant>,
    },
    /// It does not.
    Lost {
        /// When the sender's transport notices, if it does.
        noticed: Option<Instant>,
    },
}

/// The ordered channels of a connection. Packets of one lane keep their order unless the weather reorders them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// One of Raft's lanes.
    Raft(lictor_raft::Lane),
    /// Requests and replies: each is a stream of its own, so no order holds between them.
    Rpc,
}

const ORDERED_LANES: usize = 3;

/// All links between `servers` servers.
#[derive(Clone, Debug)]
pub struct Network {
    servers: usize,
    weather: Weather,
    blocked: Vec<bool>,
    last_arrival: Vec<[Instant; ORDERED_LANES]>,
    rng: Rng,
}

impl Network {
    /// A network in which every link works.
    pub fn new(servers: usize, weather: Weather, rng: Rng) -> Self {
        let links = servers * servers;
        Self {
            servers,
            weather,
            blocked: vec![false; links],
            last_arrival: vec![[Instant::ZERO; ORDERED_LANES]; links],
            rng,
        }
    }

    /// Changes the weather for packets sent from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Blocks or unblocks one direction of a link. Packets on their way are lost if it is blocked when they arrive.
    pub fn set_blocked(&mut self, from: usize, to: usize, blocked: bool) {
        let link = self.link(from, to);
        self.blocked[link] = blocked;
    }

    /// Unblocks everything.
    pub fn heal(&mut self) {
        self.blocked.fill(false);
    }

    /// Whether nothing passes from one server to another.
    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked[self.link(from, to)]
    }

    /// Decides what becomes of a packet that is sent now.
    pub fn send(&mut self, now: Instant, from: usize, to: usize, channel: Channel) -> Fate {
        let delay = self.delay();
        if self.is_blocked(from, to) || self.rng.chance(self.weather.loss_permille, 1000) {
            return self.lost(now + delay);
        }
        let at = match channel {
            Channel::Raft(lane) if !self.rng.chance(self.weather.reorder_permille, 1000) => {
                let link = self.link(from, to);
                let last = &mut self.last_arrival[link][lane_number(lane)];
                *last = (*last).max(now + delay);
                *last
            }
            Channel::Raft(_) | Channel::Rpc => now + delay,
        };
        let again = self
            .rng
            .chance(self.weather.duplicate_permille, 1000)
            .then(|| at + self.delay() * 2);
        Fate::Arrives { at, again }
    }

    /// A packet that was under way when its link was blocked.
    pub fn lost(&mut self, at: Instant) -> Fate {
        let noticed = self
            .rng
            .chance(self.weather.report_permille, 1000)
            .then(|| at + self.delay());
        Fate::Lost { noticed }
    }

    fn delay(&mut self) -> Duration {
        self.rng.between(self.weather.delay_min, self.weather.delay_max)
    }

    const fn link(&self, from: usize, to: usize) -> usize {
        from * self.servers + to
    }
}

const fn lane_number(lane: lictor_raft::Lane) -> usize {
    match lane {
        lictor_raft::Lane::Control => 0,
        lictor_raft::Lane::Append => 1,
        lictor_raft::Lane::Snapshot => 2,
    }
}

#[cfg(test)]
mod tests {
    use lictor_raft::Lane;

    use super::*;

    fn arrival(fate: Fate) -> Instant {
        match fate {
            Fate::Arrives { at, .. } => at,
            Fate::Lost { .. } => panic!("lost in calm weather"),
        }
    }

    #[test]
    fn a_lane_keeps_its_order_unless_the_weather_reorders() {
        let mut weather = Weather {
            delay_max: Duration::from_millis(50),
            ..Weather::calm()
        };
        for reorder in [false, true] {
            weather.reorder_permille = if reorder { 500 } else { 0 };
            let mut network = Network::new(2, weather.clone(), Rng::new(3));
            let mut arrivals = Vec::new();
            for n in 0..200 {
                arrivals.push(arrival(network.send(
                    Instant::from_millis(n),
                    0,
                    1,
                    Channel::Raft(Lane::Append),
                )));
            }
            assert_eq!(arrivals.is_sorted(), !reorder);
        }
    }

    #[test]
    fn a_blocked_direction_loses_everything_and_the_other_nothing() {
        let mut network = Network::new(3, Weather::calm(), Rng::new(1));
        network.set_blocked(0, 1, true);
        for _ in 0..100 {
            let there = network.send(Instant::ZERO, 0, 1, Channel::Rpc);
            assert!(matches!(there, Fate::Lost { noticed: Some(_) }), "{there:?}");
            arrival(network.send(Instant::ZERO, 1, 0, Channel::Rpc));
            arrival(network.send(Instant::ZERO, 0, 2, Channel::Rpc));
        }
        network.heal();
        arrival(network.send(Instant::ZERO, 0, 1, Channel::Rpc));
    }

    #[test]
    fn loss_duplication_and_reports_come_at_their_rates() {
        let weather = Weather {
            loss_permille: 200,
            duplicate_permille: 100,
            report_permille: 500,
            ..Weather::calm()
        };
        let mut network = Network::new(2, weather, Rng::new(9));
        let (mut lost, mut noticed_count, mut twice) = (0, 0, 0);
        for _ in 0..10_000 {
            match network.send(Instant::ZERO, 0, 1, Channel::Rpc) {
                Fate::Arrives { again, .. } => twice += u32::from(again.is_some()),
                Fate::Lost { noticed } => {
                    lost += 1;
                    noticed_count += u32::from(noticed.is_some());
                }
            }
        }
        assert!((1800..2200).contains(&lost), "{lost}");
        assert!((800..1200).contains(&noticed_count), "{noticed_count}");
        assert!((650..950).contains(&twice), "{twice}");
    }
}
