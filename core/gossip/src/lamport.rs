//! Logical time (Lamport 1978): what was said later has a higher time, if its speaker had heard the earlier.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A moment of a logical clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LamportTime(pub u64);

impl fmt::Display for LamportTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
