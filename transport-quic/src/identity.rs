//! Who speaks, and why it is believed.
//!
//! An [`Identity`] is what an agent says of itself; a [`Trust`] is what makes it true: the authority whose signature
//! every certificate must bear, and the means to get a certificate of one's own.

mod authority;
mod certificate;
mod create;
mod trust;

use core::fmt;
use std::net::SocketAddr;

use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

pub use create::{CaRequest, CertRequest, CreateError, PemPair, ca_create, cert_create};
pub use trust::{Trust, TrustError, TrustFiles};

pub(crate) use certificate::Certified;
pub(crate) use trust::Credentials;

/// The domain in the names of certificates that Lictor mints for itself: `server.dc1.lictor`.
pub const MINTED_DOMAIN: &str = "lictor";

/// The domain in the names of certificates that an operator makes, unless told otherwise: `server.dc1.consul`, so
/// that certificates made for Consul serve unchanged.
pub const DEFAULT_DOMAIN: &str = "consul";

/// Longest node name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Longest name of a data center, in bytes: it is one label of a DNS name.
pub const MAX_DATACENTER_BYTES: usize = 63;

/// What an agent may do in its cluster. A certificate carries it; nothing a peer says can widen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Takes part in consensus and holds the catalog.
    Server,
    /// Everybody else.
    Client,
}

impl Role {
    /// As in names of certificates: `server` or `client`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The id kept in its data directory.
    pub node: NodeId,
    /// What people call it: 1 to [`MAX_NAME_BYTES`] bytes.
    pub name: String,
    /// Where it is: 1 to [`MAX_DATACENTER_BYTES`] ASCII letters, digits, `-` and `_`, without regard to case.
    pub datacenter: String,
    /// What it may do.
    pub role: Role,
}

impl Identity {
    /// Whether names and lengths are within bounds.
    pub fn check(&self) -> Result<(), InvalidIdentity> {
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            return Err(InvalidIdentity::Name {
                length: self.name.len(),
            });
        }
        if !is_datacenter(&self.datacenter) {
            return Err(InvalidIdentity::Datacenter {
                name: self.datacenter.chars().take(80).collect(),
            });
        }
        Ok(())
    }

    /// Whether `other` is in the same data center.
    pub fn is_near(&self, other: &Self) -> bool {
        self.datacenter.eq_ignore_ascii_case(&other.datacenter)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?} ({}) of data center {:?}",
            self.role, self.name, self.node, self.datacenter
        )
    }
}

/// Why an identity cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// The node's name is empty or too long.
    #[error("a node name has 1 to {MAX_NAME_BYTES} bytes, not {length}")]
    Name {
        /// Its length in bytes.
        length: usize,
    },
    /// The data center's name is not one label of a DNS name.
    #[error(
        "{name:?} is no name for a data center: use 1 to {MAX_DATACENTER_BYTES} letters, digits, - and _"
    )]
    Datacenter {
        /// The name, cut at 80 characters.
        name: String,
    },
}

/// A peer whose certificate was checked, as it was seen on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Who it is.
    pub identity: Identity,
    /// The address that its packets came from when the connection was made.
    pub address: SocketAddr,
}

impl PeerIdentity {
    /// The peer's id.
    pub const fn node(&self) -> NodeId {
        self.identity.node
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.identity, self.address)
    }
}

fn is_datacenter(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_DATACENTER_BYTES
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        let good = Identity {
            node: NodeId(1),
            name: "a".into(),
            datacenter: "dc1".into(),
            role: Role::Server,
        };
        assert_eq!(good.check(), Ok(()));
        for name in [String::new(), "x".repeat(MAX_NAME_BYTES + 1)] {
            let length = name.len();
            assert_eq!(
                Identity { name, ..good.clone() }.check(),
                Err(InvalidIdentity::Name { length })
            );
        }
        for datacenter in ["", "a.b", "dc 1", "dc/1", &"x".repeat(MAX_DATACENTER_BYTES + 1)] {
            let bad = Identity {
                datacenter: datacenter.into(),
                ..good.clone()
            };
            assert!(
                matches!(bad.check(), Err(InvalidIdentity::Datacenter { .. })),
                "{datacenter:?}"
            );
        }
    }

    #[test]
    fn data_centers_are_compared_without_case() {
        let a = Identity {
            node: NodeId(1),
            name: "a".into(),
            datacenter: "DC1".into(),
            role: Role::Server,
        };
        assert!(a.is_near(&Identity {
            datacenter: "dc1".into(),
            ..a.clone()
        }));
        assert!(!a.is_near(&Identity {
            datacenter: "dc2".into(),
            ..a.clone()
        }));
    }
}
