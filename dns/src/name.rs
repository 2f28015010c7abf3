//! Names as they are written on the wire.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::Domain;

/// The longest name, in bytes with the lengths of its labels and the root.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// The longest label, in bytes.
pub(crate) const MAX_LABEL_BYTES: usize = 63;

/// A name in full: labels, each behind its length, and the root's at the end. A clone shares it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Arc<[u8]>);

impl Name {
    /// The name of `parts`, each of which may have dots of its own, in `domain`. `None` if that is no name: a label is empty or too long, or
    /// all of it is.
    pub(crate) fn within(parts: &[&str], domain: &Domain) -> Option<Self> {
        let mut wire = Vec::with_capacity(64);
        for label in parts.iter().flat_map(|part| part.split('.')) {
            push_label(&mut wire, label.as_bytes())?;
        }
        wire.extend_from_slice(domain.wire());
        Self::new(wire)
    }

    /// A host's name, with or without a dot at its end. `None` if the text cannot be one.
    pub(crate) fn of_host(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            push_label(&mut wire, label.as_bytes())?;
        }
        wire.push(0);
        Self::new(wire)
    }

    /// The name that stands for an address: its bytes as hexadecimal digits.
    pub(crate) fn of_address(address: IpAddr, datacenter: &str, domain: &Domain) -> Option<Self> {
        let digits = match address {
            IpAddr::V4(address) => format!("{:08x}", u32::from(address)),
            IpAddr::V6(address) => format!("{:032x}", u128::from(address)),
        };
        Self::within(&[&digits, "addr", datacenter], domain)
    }

    /// The name of a domain itself.
    pub(crate) fn of_domain(domain: &Domain) -> Self {
        Self(domain.wire().into())
    }

    /// A name that was read from the wire, in full and without pointers.
    pub(crate) fn of_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            push_label(&mut wire, label)?;
        }
        wire.push(0);
        Self::new(wire)
    }

    fn new(wire: Vec<u8>) -> Option<Self> {
        (wire.len() <= MAX_NAME_BYTES).then(|| Self(wire.into()))
    }

    /// As it is written on the wire, in full.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The same in lower case.
    pub(crate) fn lower(&self) -> Vec<u8> {
        // The lengths of labels are below every letter.
        self.0.to_ascii_lowercase()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in labels(&self.0) {
            write!(f, "{}.", label.escape_ascii())?;
        }
        Ok(())
    }
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Option<()> {
    if label.is_empty() || label.len() > MAX_LABEL_BYTES {
        return None;
    }
    wire.push(label.len() as u8);
    wire.extend_from_slice(label);
    Some(())
}

/// The labels of a name in full, without the root's.
pub(crate) fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first()?;
        let (label, next) = after.split_at_checked(usize::from(*length))?;
        rest = next;
        (!label.is_empty()).then_some(label)
    })
}

/// The positions in a name in full at which its labels begin, each the beginning of a suffix, without the root's.
pub(crate) fn suffixes(wire: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = usize::from(*wire.get(at)?);
        let this = at;
        at += 1 + length;
        (length > 0).then_some(this)
    })
}

/// Where in `name`, a name in full and in lower case, `domain` begins, if the name is in it or is it.
pub(crate) fn position_of(domain: &Domain, name: &[u8]) -> Option<usize> {
    let at = name.len().checked_sub(domain.wire().len())?;
    if &name[at..] != domain.wire() {
        return None;
    }
    // The same bytes may also be in the middle of a label.
    suffixes(name).any(|suffix| suffix == at).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_together_from_parts_with_dots() {
        let domain = Domain::default();
        let name = Name::within(&["with.dot", "node", "dc1"], &domain).unwrap();
        assert_eq!(name.wire(), b"\x04with\x03dot\x04node\x03dc1\x06consul\0");
        assert_eq!(format!("{name:?}"), "with.dot.node.dc1.consul.");
        assert_eq!(
            Name::of_host("Example.COM.").unwrap().lower(),
            Name::of_host("example.com").unwrap().wire()
        );
        let v6 = Name::of_address("fd00::1".parse().unwrap(), "dc1", &domain).unwrap();
        assert_eq!(
            format!("{v6:?}"),
            "fd000000000000000000000000000001.addr.dc1.consul."
        );
        let v4 = Name::of_address("10.2.0.2".parse().unwrap(), "dc1", &domain).unwrap();
        assert_eq!(format!("{v4:?}"), "0a020002.addr.dc1.consul.");
    }

    #[test]
    fn what_is_too_long_or_empty_is_no_name() {
        let domain = Domain::default();
        let label = "a".repeat(63);
        assert!(Name::of_host(&label).is_some());
        assert!(Name::of_host(&format!("{label}a")).is_none());
        for text in ["", ".", "a..b", ".a"] {
            assert!(Name::of_host(text).is_none(), "{text:?}");
        }
        let four = [label.as_str(); 4].join(".");
        assert!(Name::of_host(&four).is_none());
        assert!(Name::of_host(&four[..four.len() - 2]).is_some());
        assert!(Name::within(&[&four[..four.len() - 2]], &domain).is_none());
        assert!(Name::within(&["a..b"], &domain).is_none());
    }

    #[test]
    fn a_name_is_in_a_domain_only_at_the_border_of_a_label() {
        let domain = Domain::default();
        let inside = Name::of_host("web.service.consul").unwrap();
        assert_eq!(position_of(&domain, inside.wire()), Some(12));
        assert_eq!(position_of(&domain, domain.wire()), Some(0));
        let beside = Name::of_host("web.xconsul").unwrap();
        assert_eq!(position_of(&domain, beside.wire()), None);
        let hidden = Name::of_host("a\u{6}consul").unwrap();
        assert_eq!(position_of(&domain, hidden.wire()), None);
        assert_eq!(position_of(&domain, b"\0"), None);
    }
}
