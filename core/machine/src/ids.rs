//! Names for things that more than one core speaks of.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who a node is: a UUID kept in its data directory. Never an address, never a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u128);

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID (expected 36 characters like 8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a11)")
    }
}

impl std::error::Error for ParseIdError {}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for NodeId {
    /// Small ids, as tests use, are printed as numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1 << 16 {
            write!(f, "n{}", self.0)
        } else {
            fmt::Display::fmt(self, f)
        }
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    /// Accepts the hyphenated form only, in either letter case.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != 36 {
            return Err(ParseIdError);
        }
        uuid::Uuid::try_parse(text)
            .map(|id| Self(id.as_u128()))
            .map_err(|_| ParseIdError)
    }
}

/// A position in the replicated log, and the version number of everything that was changed there.
/// The first entry has index 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Index(pub u64);

impl Index {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The index after this one; the largest stays as it is.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before this one; zero stays zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one request of a driver to a machine; the machine's answer carries it back. Chosen by the driver,
/// unique among its open requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_round_trip_as_text() {
        let text = "8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a11";
        let id: NodeId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        for bad in [
            "",
            "8c2a9c446c2b4b0e9d536c1f0f6f2a11",
            "8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a1g",
            "{8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a1}",
        ] {
            assert_eq!(bad.parse::<NodeId>(), Err(ParseIdError));
        }
    }
}
