//! Network coordinates: Vivaldi (Dabek et al., SIGCOMM 2004) with the refinements that Serf documents.

use serde::{Deserialize, Serialize};

use crate::io::Refusal;

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
}
