//! Network coordinates: Vivaldi (Dabek et al., SIGCOMM 2004) with the refinements that Serf documents.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::io::Refusal;
use crate::vivaldi::norm;

/// The number of dimensions of a coordinate's vector.
pub const DIMENSIONS: usize = 8;

/// The highest error: nothing is known.
pub const MAX_ERROR: f64 = 1.5;

/// The least height, in seconds.
pub const MIN_HEIGHT: f64 = 10.0e-6;

/// The largest part of a coordinate, in seconds: further away is nobody whose answer would be waited for.
const MAX_SECONDS: f64 = 60.0;

/// Where a member is in the network: the distance of two is an estimate of the round-trip time between them. Every number is in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    /// The Euclidean part.
    pub vector: [f64; DIMENSIONS],
    /// How uncertain it is; 0 to 1.5.
    pub error: f64,
    /// The offset that corrects for what the Euclidean part cannot express.
    pub adjustment: f64,
    /// The access link's part, above zero.
    pub height: f64,
}

/// Every number that is let in is finite, so equality is one.
impl Eq for Coordinate {}

impl Coordinate {
    /// Checks that each number is one, and within bounds: one that is not would spoil the coordinates of all that reckon with it.
    ///
    /// # Errors
    /// [`Refusal::Coordinate`].
    pub fn check(&self) -> Result<(), Refusal> {
        // A comparison with NaN is false, so each of these also says that the number is one.
        let bounded = |seconds: f64| seconds.abs() <= MAX_SECONDS;
        let fits = self.vector.iter().copied().all(bounded)
            && (0.0..=MAX_ERROR).contains(&self.error)
            && bounded(self.adjustment)
            && self.height > 0.0
            && bounded(self.height);
        if fits { Ok(()) } else { Err(Refusal::Coordinate) }
    }

    /// The estimated round-trip time between this and `other`.
    pub fn distance_to(&self, other: &Self) -> Duration {
        // Two sound coordinates are at most a few minutes apart; of what is not sound, the distance is none.
        Duration::try_from_secs_f64(self.seconds_to(other)).unwrap_or_default()
    }

    /// The same in seconds.
    pub(crate) fn seconds_to(&self, other: &Self) -> f64 {
        let raw = self.raw_seconds_to(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { raw }
    }

    /// The distance without what the adjustments say.
    pub(crate) fn raw_seconds_to(&self, other: &Self) -> f64 {
        let difference = core::array::from_fn(|i| self.vector[i] - other.vector[i]);
        norm(&difference) + self.height + other.height
    }
}

impl Default for Coordinate {
    /// The origin, with the highest error: nothing is known.
    fn default() -> Self {
        Self {
            vector: [0.0; DIMENSIONS],
            error: MAX_ERROR,
            adjustment: 0.0,
            height: MIN_HEIGHT,
        }
    }
}
