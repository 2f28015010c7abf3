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
