//! Network coordinates: Vivaldi (Dabek et al., SIGCOMM 2004) with the refinements that Serf documents.

use serde::{Deserialize, Serialize};

/// The number of dimensions of a coordinate's vector.
pub const DIMENSIONS: usize = 8;

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
