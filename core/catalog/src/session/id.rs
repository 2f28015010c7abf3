//! Names of sessions, and what makes a reference to one wrong.

use std::fmt;

use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::command::{Key, SessionRef};
use crate::quote::quote;
use crate::row::{Row, Table};
use crate::uuid;

/// Names a session: 128 random bits, shown as a UUID in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct SessionId(pub u128);

/// A text that no session can be named by. Says so in the API's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed session lookup: index error: {0}")]
pub struct MalformedSessionId(String);

/// Why a request that names a session is refused. The texts are the API's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("missing session")]
    Missing,
    #[error(transparent)]
    Malformed(#[from] MalformedSessionId),
    #[error("invalid session {}", quote(.0.as_bytes()))]
    Unknown(String),
}

impl SessionId {
    /// The session that `text` names, in any letter case and with the hyphens anywhere; `None` if it is well formed, but too long to
    /// name any.
    pub fn parse(text: &str) -> Result<Option<Self>, MalformedSessionId> {
        let parsed = uuid::parse(text).map_err(MalformedSessionId)?;
        Ok(parsed.map(Self))
    }

    /// The session that a row of [`crate::Table::Sessions`] is of.
    pub fn of_row(row: &Row) -> Option<Self> {
        Self::of_key(&row.key).filter(|_| row.table == Table::Sessions)
    }

    /// The session that holds a lock, by how the lock spells it.
    pub(crate) fn of_holder(spelled: &str) -> Option<Self> {
        Self::parse(spelled).ok().flatten()
    }

    /// The name of its row.
    pub(crate) fn key(self) -> Key {
        Key::copy_from_slice(&self.0.to_be_bytes())
    }

    /// The session whose row is named so.
    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        let bytes = key.try_into().ok()?;
        Some(Self(u128::from_be_bytes(bytes)))
    }
}

impl SessionRef {
    /// The session that it names, whether that lives or not.
    pub(crate) fn named(&self) -> Result<SessionId, SessionError> {
        if self.0.is_empty() {
            return Err(SessionError::Missing);
        }
        SessionId::parse(&self.0)?.ok_or_else(|| SessionError::Unknown(self.0.clone()))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It looks as all names of this kind do.
        fmt::Display::fmt(&NodeId(self.0), f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVING: SessionId = SessionId(0xc050_d544_3b87_99d8_b28a_e689_4fe9_a246);

    fn check(text: &str) -> Result<(), String> {
        match SessionRef(text.to_owned()).named() {
            Ok(LIVING) => Ok(()),
            Ok(other) => Err(format!("{other} is another")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_living_session_is_found_in_any_spelling() {
        for text in [
            "c050d544-3b87-99d8-b28a-e6894fe9a246",
            "C050D544-3B87-99d8-b28a-e6894fe9a246",
            "c050d5443-b87-99d8-b28a-e6894fe9a246",
        ] {
            assert_eq!(check(text), Ok(()));
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_text() {
        let malformed = |detail: &str| Err(format!("failed session lookup: index error: {detail}"));
        assert_eq!(check(""), Err("missing session".to_owned()));
        for text in [
            "x",
            "a\"b",
            "c050d544-3b87-99d8-b28a-e6894fe9a24",
            "00000000-0000-0000-0000-00000000000\u{e9}",
        ] {
            assert_eq!(check(text), malformed("UUID must be 36 characters"));
        }
        let long = "000000000000000000000000000000000000";
        assert_eq!(check(long), Err(format!("invalid session \"{long}\"")));
        let hyphens = "0-0-0-0-0-00000000000000000000000000";
        assert_eq!(
            check(hyphens),
            malformed("UUID should have maximum of 4 \"-\"; got 5")
        );
        let odd = "00000000-000000000000000000000000000";
        assert_eq!(
            check(odd),
            malformed("Input (without hyphens) must be even length")
        );
        let letter = "zzzzzzzz-0000-0000-0000-000000000000";
        assert_eq!(
            check(letter),
            malformed("Invalid UUID: encoding/hex: invalid byte: U+007A 'z'")
        );
        let foreign = "\u{e9}000000-0000-0000-0000-000000000000";
        assert_eq!(
            check(foreign),
            malformed("Invalid UUID: encoding/hex: invalid byte: U+00C3 '\u{c3}'")
        );
        let control = "\u{1}0000000-0000-0000-0000-000000000000";
        assert_eq!(
            check(control),
            malformed("Invalid UUID: encoding/hex: invalid byte: U+0001")
        );
    }

    #[test]
    fn it_is_shown_as_it_is_named() {
        let shown = LIVING.to_string();
        assert_eq!(shown, "c050d544-3b87-99d8-b28a-e6894fe9a246");
        assert_eq!(SessionId::parse(&shown), Ok(Some(LIVING)));
        assert_eq!(SessionId(7).to_string(), "00000000-0000-0000-0000-000000000007");
        assert_eq!(SessionId::of_key(&LIVING.key()), Some(LIVING));
        assert_eq!(SessionId::of_key(b"short"), None);
    }
}
