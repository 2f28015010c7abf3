//! Where this member is in the network: the algorithm of Vivaldi (Dabek et al., SIGCOMM 2004), with heights (§5.4), and with Serf's
//! refinements: a median of the latest round-trip times of each peer, an adjustment for what a Euclidean space cannot express, and
//! a weak gravity towards the origin, so that the whole does not drift away.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use lictor_machine::{NodeId, Rng};

use crate::coordinate::{Coordinate, DIMENSIONS, MAX_ERROR, MIN_HEIGHT};
use crate::io::Refusal;

/// The longest round-trip time that is believed.
pub const MAX_RTT: Duration = Duration::from_secs(10);

/// How strongly one observation moves the error (c_e of the paper).
const ERROR_TUNING: f64 = 0.25;

/// How strongly one observation moves the coordinate (c_c of the paper).
const MOVE_TUNING: f64 = 0.25;

/// How many observations the adjustment is an average of.
const ADJUSTMENT_WINDOW: usize = 20;

/// How many round-trip times of a peer the median is taken of.
const LATENCY_FILTER: usize = 3;

/// The distance from the origin, in seconds, at which gravity is as strong as it is there; it grows with the square.
const GRAVITY_RHO: f64 = 150.0;

/// Less than this, in seconds, is nothing: to divide by it would make numbers without meaning.
const ZERO: f64 = 1.0e-6;

/// The most peers whose round-trip times are kept. Of more, the one that was heard of least recently is forgotten.
const MAX_PEERS: usize = 4096;

/// Computes this member's coordinate from observations.
#[derive(Debug)]
pub struct CoordinateClient {
    coordinate: Coordinate,
    adjustments: VecDeque<f64>,
    latencies: BTreeMap<NodeId, Latencies>,
    /// Peers by when they were last heard of.
    recent: BTreeMap<u64, NodeId>,
    observations: u64,
    rng: Rng,
    resets: u64,
}

/// The latest round-trip times to a peer, in seconds.
#[derive(Clone, Copy, Debug)]
struct Latencies {
    samples: [f64; LATENCY_FILTER],
    count: usize,
    heard: u64,
}

impl CoordinateClient {
    /// Begins where the member was before, if that is given and sound; else at the origin, with the highest error.
    pub fn new(remembered: Option<Coordinate>, rng: Rng) -> Self {
        let coordinate = remembered.filter(|coordinate| coordinate.check().is_ok());
        Self {
            coordinate: coordinate.unwrap_or_default(),
            adjustments: VecDeque::with_capacity(ADJUSTMENT_WINDOW),
            latencies: BTreeMap::new(),
            recent: BTreeMap::new(),
            observations: 0,
            rng,
            resets: 0,
        }
    }

    /// Where this member is. Always sound ([`Coordinate::check`]).
    pub const fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// How often this member had to begin again at the origin, since what it had computed was not sound.
    pub const fn resets(&self) -> u64 {
        self.resets
    }

    /// The estimated round-trip time to whoever is at `other`.
    pub fn distance_to(&self, other: &Coordinate) -> Duration {
        self.coordinate.distance_to(other)
    }

    /// Takes in that `peer`, which is at `theirs`, answered after `rtt`.
    ///
    /// # Errors
    /// [`Refusal::Coordinate`] if `theirs` is not sound or `rtt` is longer than [`MAX_RTT`]; nothing has changed.
    pub fn update(&mut self, peer: NodeId, theirs: &Coordinate, rtt: Duration) -> Result<(), Refusal> {
        theirs.check()?;
        if rtt > MAX_RTT {
            return Err(Refusal::Coordinate);
        }
        let rtt = self.filter(peer, rtt.as_secs_f64()).max(ZERO);
        self.observe(theirs, rtt);
        self.adjust(theirs, rtt);
        self.gravitate();
        if self.coordinate.check().is_err() {
            self.coordinate = Coordinate::default();
            self.adjustments.clear();
            self.resets += 1;
        }
        Ok(())
    }

    /// Forgets the round-trip times to a peer that is gone.
    pub fn forget(&mut self, peer: NodeId) {
        if let Some(latencies) = self.latencies.remove(&peer) {
            self.recent.remove(&latencies.heard);
        }
    }

    /// The median of the latest round-trip times to `peer`, this one included.
    fn filter(&mut self, peer: NodeId, rtt: f64) -> f64 {
        if self.latencies.len() >= MAX_PEERS
            && !self.latencies.contains_key(&peer)
            && let Some((_, oldest)) = self.recent.pop_first()
        {
            self.latencies.remove(&oldest);
        }
        self.observations += 1;
        let latencies = self.latencies.entry(peer).or_insert(Latencies {
            samples: [0.0; LATENCY_FILTER],
            count: 0,
            heard: self.observations,
        });
        self.recent.remove(&latencies.heard);
        latencies.heard = self.observations;
        self.recent.insert(self.observations, peer);
        latencies.push(rtt)
    }

    /// Moves this member as a spring between the two would (figure 4 of the paper).
    fn observe(&mut self, theirs: &Coordinate, rtt: f64) {
        let ours = &mut self.coordinate;
        let distance = ours.seconds_to(theirs);
        let relative_error = (distance - rtt).abs() / rtt;
        let weight = ours.error / (ours.error + theirs.error).max(ZERO);
        let share = ERROR_TUNING * weight;
        ours.error = (relative_error * share + ours.error * (1.0 - share)).min(MAX_ERROR);
        let force = MOVE_TUNING * weight * (rtt - distance);
        ours.push_from(theirs, force, &mut self.rng);
    }

    /// Lets what the distance is wrong by on average be a part of the coordinate; the other half is the peer's.
    fn adjust(&mut self, theirs: &Coordinate, rtt: f64) {
        if self.adjustments.len() == ADJUSTMENT_WINDOW {
            self.adjustments.pop_front();
        }
        self.adjustments
            .push_back(rtt - self.coordinate.raw_seconds_to(theirs));
        let sum: f64 = self.adjustments.iter().sum();
        self.coordinate.adjustment = sum / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    /// Pulls this member a little towards the origin.
    fn gravitate(&mut self) {
        let origin = Coordinate::default();
        let distance = self.coordinate.seconds_to(&origin);
        let force = -(distance / GRAVITY_RHO).powi(2);
        self.coordinate.push_from(&origin, force, &mut self.rng);
    }
}

impl Latencies {
    /// Adds a round-trip time, and returns the median.
    fn push(&mut self, rtt: f64) -> f64 {
        self.samples.rotate_right(1);
        self.samples[0] = rtt;
        self.count = (self.count + 1).min(LATENCY_FILTER);
        let mut sorted = self.samples;
        let sorted = &mut sorted[..self.count];
        sorted.sort_by(f64::total_cmp);
        sorted[self.count / 2]
    }
}

impl Coordinate {
    /// Moves this coordinate away from `other` by `force`, in seconds; towards it if that is negative.
    fn push_from(&mut self, other: &Self, force: f64, rng: &mut Rng) {
        let (direction, length) = direction(&other.vector, &self.vector, rng);
        for (at, part) in self.vector.iter_mut().zip(direction) {
            *at += part * force;
        }
        if length > ZERO {
            let height = self.height + (self.height + other.height) * force / length;
            self.height = height.max(MIN_HEIGHT);
        }
    }
}

/// The direction from `from` to `to`, of length 1, and how far it is. Two that are at one point are driven apart in a random direction.
fn direction(from: &[f64; DIMENSIONS], to: &[f64; DIMENSIONS], rng: &mut Rng) -> ([f64; DIMENSIONS], f64) {
    let difference: [f64; DIMENSIONS] = core::array::from_fn(|i| to[i] - from[i]);
    let length = norm(&difference);
    if length > ZERO {
        return (difference.map(|part| part / length), length);
    }
    let random: [f64; DIMENSIONS] =
        core::array::from_fn(|_| rng.below(1 << 32) as f64 / f64::from(1_u32 << 31) - 1.0);
    let length = norm(&random);
    let direction = if length > ZERO {
        random.map(|part| part / length)
    } else {
        core::array::from_fn(|i| if i == 0 { 1.0 } else { 0.0 })
    };
    (direction, 0.0)
}

/// The length of a vector.
pub(crate) fn norm(vector: &[f64; DIMENSIONS]) -> f64 {
    vector.iter().map(|part| part * part).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use lictor_machine::Rng;
    use proptest::prelude::*;

    use super::*;

    fn client(seed: u64) -> CoordinateClient {
        CoordinateClient::new(None, Rng::new(seed))
    }

    fn millis(millis: f64) -> Duration {
        Duration::from_secs_f64(millis / 1000.0)
    }

    /// Lets `clients` observe each other in random pairs; `rtt` says how far apart two of them are.
    fn observe(clients: &mut [CoordinateClient], rounds: usize, rtt: impl Fn(usize, usize) -> Duration) {
        let mut rng = Rng::new(1);
        for _ in 0..rounds {
            for at in 0..clients.len() {
                let other = (at + 1 + rng.below(clients.len() as u64 - 1) as usize) % clients.len();
                let theirs = *clients[other].coordinate();
                let peer = NodeId(other as u128);
                clients[at].update(peer, &theirs, rtt(at, other)).unwrap();
            }
        }
    }

    /// The median and the largest of how wrong the estimates of all pairs are, relative to the truth.
    fn relative_errors(clients: &[CoordinateClient], rtt: impl Fn(usize, usize) -> Duration) -> (f64, f64) {
        let mut errors = Vec::new();
        for a in 0..clients.len() {
            for b in 0..a {
                let truth = rtt(a, b).as_secs_f64();
                let estimate = clients[a].distance_to(clients[b].coordinate()).as_secs_f64();
                errors.push((estimate - truth).abs() / truth);
            }
        }
        errors.sort_by(f64::total_cmp);
        (errors[errors.len() / 2], errors[errors.len() - 1])
    }

    #[test]
    fn members_on_a_grid_learn_how_far_apart_they_are() {
        // Five by five, 10 ms from one to the next, and 2 ms to get anywhere.
        let rtt = |a: usize, b: usize| {
            let (dx, dy) = ((a % 5).abs_diff(b % 5) as f64, (a / 5).abs_diff(b / 5) as f64);
            millis(2.0 + 10.0 * dx.hypot(dy))
        };
        let mut clients: Vec<CoordinateClient> = (0..25).map(client).collect();
        observe(&mut clients, 1000, rtt);
        let (median, worst) = relative_errors(&clients, rtt);
        assert!(median < 0.05, "median {median}");
        assert!(worst < 0.6, "worst {worst}");
        assert!(clients.iter().all(|client| client.coordinate().error < 0.3));
        assert!(clients.iter().all(|client| client.resets() == 0));
    }

    #[test]
    fn two_sites_are_told_apart() {
        let rtt = |a: usize, b: usize| millis(if a % 2 == b % 2 { 1.0 } else { 100.0 });
        let mut clients: Vec<CoordinateClient> = (0..20).map(client).collect();
        observe(&mut clients, 500, rtt);
        let here = clients[0].distance_to(clients[2].coordinate());
        let there = clients[0].distance_to(clients[1].coordinate());
        assert!(here < millis(5.0), "{here:?}");
        assert!((millis(90.0)..millis(110.0)).contains(&there), "{there:?}");
    }

    #[test]
    fn the_distance_is_the_same_both_ways_and_never_negative() {
        let near = Coordinate {
            adjustment: -1.0,
            ..Coordinate::default()
        };
        let far = Coordinate {
            vector: [0.03, 0.04, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            height: 0.01,
            adjustment: 0.005,
            ..Coordinate::default()
        };
        assert_eq!(near.distance_to(&far), far.distance_to(&near));
        // The adjustments would make it negative, so they are left out.
        let raw = 0.05 + 0.01 + MIN_HEIGHT;
        assert!((near.seconds_to(&far) - raw).abs() < 1e-12);
        let origin = Coordinate::default();
        assert!((origin.seconds_to(&far) - raw - 0.005).abs() < 1e-12);
        assert_eq!(origin.distance_to(&far), Duration::from_micros(65_010));
    }

    #[test]
    fn one_slow_answer_is_not_believed() {
        let mut client = client(1);
        let theirs = Coordinate::default();
        assert!((client.filter(NodeId(1), 0.001) - 0.001).abs() < 1e-12);
        assert!((client.filter(NodeId(1), 0.002) - 0.002).abs() < 1e-12);
        assert!(
            (client.filter(NodeId(1), 9.0) - 0.002).abs() < 1e-12,
            "the median"
        );
        assert!(
            (client.filter(NodeId(2), 9.0) - 9.0).abs() < 1e-12,
            "each peer has its own"
        );
        client.forget(NodeId(1));
        assert!((client.filter(NodeId(1), 9.0) - 9.0).abs() < 1e-12);
        client.update(NodeId(3), &theirs, Duration::ZERO).unwrap();
        assert_eq!(client.coordinate().check(), Ok(()));
    }

    #[test]
    fn the_memory_of_peers_is_bounded() {
        let mut client = client(1);
        for peer in 0..MAX_PEERS as u128 + 100 {
            client.filter(NodeId(peer), 0.001);
            client.filter(NodeId(0), 0.001);
        }
        assert_eq!(
            (client.latencies.len(), client.recent.len()),
            (MAX_PEERS, MAX_PEERS)
        );
        assert!(
            client.latencies.contains_key(&NodeId(0)),
            "it was heard of lately"
        );
        for peer in 0..MAX_PEERS as u128 + 100 {
            client.forget(NodeId(peer));
        }
        assert_eq!((client.latencies.len(), client.recent.len()), (0, 0));
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let mut client = client(1);
        client
            .update(NodeId(1), &Coordinate::default(), millis(5.0))
            .unwrap();
        let before = *client.coordinate();
        let nan = Coordinate {
            height: f64::NAN,
            ..Coordinate::default()
        };
        assert_eq!(
            client.update(NodeId(1), &nan, millis(5.0)),
            Err(Refusal::Coordinate)
        );
        let slow = MAX_RTT + Duration::from_nanos(1);
        let refused = client.update(NodeId(1), &Coordinate::default(), slow);
        assert_eq!(refused, Err(Refusal::Coordinate));
        assert_eq!(*client.coordinate(), before);
        // What was remembered is no better than what somebody says.
        assert_eq!(
            *CoordinateClient::new(Some(nan), Rng::new(1)).coordinate(),
            Coordinate::default()
        );
        assert_eq!(
            *CoordinateClient::new(Some(before), Rng::new(1)).coordinate(),
            before
        );
    }

    #[test]
    fn members_at_one_point_are_driven_apart_the_same_way_for_the_same_seed() {
        let moved = |seed| {
            let mut client = client(seed);
            client
                .update(NodeId(1), &Coordinate::default(), millis(50.0))
                .unwrap();
            *client.coordinate()
        };
        assert_eq!(moved(1), moved(1));
        assert_ne!(moved(1), moved(2));
        assert!(norm(&moved(1).vector) > 0.0);
    }

    fn part() -> impl Strategy<Value = f64> {
        prop_oneof![
            -60.0..60.0,
            Just(0.0),
            Just(f64::MIN_POSITIVE),
            Just(60.0),
            Just(-60.0),
            any::<f64>(),
        ]
    }

    prop_compose! {
        fn any_coordinate()(
            vector in prop::array::uniform8(part()),
            error in prop_oneof![0.0..MAX_ERROR, Just(0.0), any::<f64>()],
            adjustment in part(),
            height in part(),
        ) -> Coordinate {
            Coordinate { vector, error, adjustment, height }
        }
    }

    proptest! {
        /// Whatever others say, and whatever is measured: the own coordinate is sound.
        #[test]
        fn the_own_coordinate_is_always_sound(
            observations in prop::collection::vec((any_coordinate(), 0_u128..3, 0_u64..12_000_000_000), 1..100)
        ) {
            let mut client = client(7);
            for (theirs, peer, nanos) in observations {
                let sound = theirs.check().is_ok() && Duration::from_nanos(nanos) <= MAX_RTT;
                let taken = client.update(NodeId(peer), &theirs, Duration::from_nanos(nanos));
                prop_assert_eq!(taken.is_ok(), sound);
                prop_assert_eq!(client.coordinate().check(), Ok(()));
                prop_assert!(client.coordinate().height >= MIN_HEIGHT);
            }
        }
    }
}
