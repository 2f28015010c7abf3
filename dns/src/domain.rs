//! Domains that are answered for.

use std::fmt;
use std::str::FromStr;

/// The longest domain, in bytes as it is written on the wire: what is left of a name's 255 must hold at least a node's name.
const MAX_WIRE_BYTES: usize = 128;

/// The longest label of a name, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// A domain: at least one label, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain {
    /// Labels as they are written on the wire, with the root's at the end.
    wire: Vec<u8>,
    /// How many labels there are without the root's.
    labels: usize,
}

/// A text that is no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a domain: it must have labels of 1 to 63 letters, digits, '-' or '_' with dots between them, and at most 126 bytes"
)]
pub struct NotADomain;

impl Domain {
    /// As it is written on the wire, in lower case.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// How many labels it has.
    pub(crate) const fn labels(&self) -> usize {
        self.labels
    }
}

impl Default for Domain {
    /// `consul`, which clients of the API expect.
    fn default() -> Self {
        Self {
            wire: b"\x06consul\0".to_vec(),
            labels: 1,
        }
    }
}

impl FromStr for Domain {
    type Err = NotADomain;

    /// In any letter case, with or without a dot at the end.
    fn from_str(text: &str) -> Result<Self, NotADomain> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut domain = Self {
            wire: Vec::with_capacity(text.len() + 2),
            labels: 0,
        };
        for label in text.split('.') {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if label.is_empty() || label.len() > MAX_LABEL_BYTES || !label.bytes().all(known) {
                return Err(NotADomain);
            }
            domain.wire.push(label.len() as u8);
            domain
                .wire
                .extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
            domain.labels += 1;
        }
        domain.wire.push(0);
        if domain.wire.len() > MAX_WIRE_BYTES {
            return Err(NotADomain);
        }
        Ok(domain)
    }
}

impl fmt::Display for Domain {
    /// With a dot at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &self.wire[..];
        while let Some((length, after)) = rest.split_first()
            && let Some((label, next)) = after.split_at_checked(usize::from(*length))
            && !label.is_empty()
        {
            write!(f, "{}.", String::from_utf8_lossy(label))?;
            rest = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_read_in_any_case_with_or_without_the_last_dot() {
        let domain: Domain = "My.Corp.".parse().unwrap();
        assert_eq!(domain, "my.corp".parse().unwrap());
        assert_eq!((domain.wire(), domain.labels()), (&b"\x02my\x04corp\0"[..], 2));
        assert_eq!(domain.to_string(), "my.corp.");
        assert_eq!("consul".parse(), Ok(Domain::default()));
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let long = "a".repeat(64);
        let deep = ["a"; 64].join(".");
        for text in ["", ".", "..", "a..b", ".a", "a b", "ä", &long, &deep] {
            assert_eq!(text.parse::<Domain>(), Err(NotADomain), "{text}");
        }
        assert!(["a"; 63].join(".").parse::<Domain>().is_ok());
    }
}
