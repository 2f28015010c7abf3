//! Sessions, as far as locks need them: which ones live, and what makes a reference to one wrong.

use imbl::OrdSet;

use crate::command::SessionRef;
use crate::quote::{is_printable, quote};

/// Why a request that names a session is refused. The texts are the API's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("missing session")]
    Missing,
    #[error("failed session lookup: index error: {0}")]
    Malformed(String),
    #[error("invalid session {}", quote(.0.as_bytes()))]
    Unknown(String),
}

/// The sessions that live, by id. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    live: OrdSet<u128>,
}

impl Sessions {
    /// Checks that `session` names a living session. Its spelling does not matter here: letter case and the places of the
    /// hyphens are free.
    pub(crate) fn check(&self, session: &SessionRef) -> Result<(), SessionError> {
        let text = &session.0;
        if text.is_empty() {
            return Err(SessionError::Missing);
        }
        match parse(text)? {
            Some(id) if self.live.contains(&id) => Ok(()),
            _ => Err(SessionError::Unknown(text.clone())),
        }
    }

    /// Makes the session with this id live.
    #[cfg(test)]
    pub(crate) fn insert(&mut self, id: u128) {
        self.live.insert(id);
    }
}

/// The id in `text`; `None` if it is well formed but too long to be the id of any session.
fn parse(text: &str) -> Result<Option<u128>, SessionError> {
    if text.len() != 36 {
        return Err(SessionError::Malformed("UUID must be 36 characters".to_owned()));
    }
    let hyphens = text.bytes().filter(|byte| *byte == b'-').count();
    if hyphens > 4 {
        return Err(SessionError::Malformed(format!(
            "UUID should have maximum of 4 \"-\"; got {hyphens}"
        )));
    }
    if hyphens % 2 != 0 {
        return Err(SessionError::Malformed(
            "Input (without hyphens) must be even length".to_owned(),
        ));
    }
    let digits = || text.bytes().filter(|byte| *byte != b'-');
    if let Some(bad) = digits().find(|byte| !byte.is_ascii_hexdigit()) {
        let shown = Some(char::from(bad)).filter(|c| is_printable(*c));
        let shown = shown.map(|c| format!(" '{c}'")).unwrap_or_default();
        let detail = format!("Invalid UUID: encoding/hex: invalid byte: U+{bad:04X}{shown}");
        return Err(SessionError::Malformed(detail));
    }
    if hyphens != 4 {
        return Ok(None);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default();
    Ok(Some(
        digits().fold(0, |id, byte| (id << 4) | u128::from(digit(byte))),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let mut sessions = Sessions::default();
        sessions.insert(0xc050_d544_3b87_99d8_b28a_e689_4fe9_a246);
        sessions
            .check(&SessionRef(text.to_owned()))
            .map_err(|error| error.to_string())
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
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "000000000000000000000000000000000000",
        ] {
            assert_eq!(check(text), Err(format!("invalid session \"{text}\"")));
        }
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
}
