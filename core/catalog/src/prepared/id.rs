//! Names of prepared queries that nobody chooses.

use std::fmt;

use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::command::Key;
use crate::uuid;

/// Names a prepared query: 128 random bits, shown as a UUID in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PreparedId(pub u128);

/// A text that is the id of no prepared query. Says so in the API's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed prepared query lookup: index error: {0}")]
pub struct MalformedPreparedId(String);

impl PreparedId {
    /// The query that `text` names, in any letter case and with the hyphens anywhere; `None` if it is well formed, but too long to
    /// name any.
    pub fn parse(text: &str) -> Result<Option<Self>, MalformedPreparedId> {
        Ok(uuid::parse(text).map_err(MalformedPreparedId)?.map(Self))
    }

    /// The query that a text names which may also be a name that somebody chose: only with the hyphens where they belong.
    pub(super) fn of_name(text: &str) -> Option<Self> {
        let id = Self::parse(text).ok().flatten()?;
        text.eq_ignore_ascii_case(&id.to_string()).then_some(id)
    }

    /// The name of its row.
    pub(super) fn key(self) -> Key {
        Key::copy_from_slice(&self.0.to_be_bytes())
    }

    /// The query whose row is named so.
    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        let bytes = key.try_into().ok()?;
        Some(Self(u128::from_be_bytes(bytes)))
    }
}

impl fmt::Display for PreparedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It looks as all names of this kind do.
        fmt::Display::fmt(&NodeId(self.0), f)
    }
}

impl fmt::Debug for PreparedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
