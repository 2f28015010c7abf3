//! The planes: what a connection is for, and who may have one.

use core::fmt;
use std::time::Duration;

use crate::error::Refusal;
use crate::identity::{Identity, Role};

/// What a connection is for. Each has an ALPN name of its own, so a connection is of one plane from its handshake on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    /// Consensus, among the servers of one data center.
    Raft,
    /// Requests of any agent to the servers of its data center.
    Rpc,
    /// Membership of one data center.
    Gossip,
    /// Membership and requests among the servers of all data centers.
    Wan,
}

impl Plane {
    /// Every plane.
    pub const ALL: [Self; 4] = [Self::Raft, Self::Rpc, Self::Gossip, Self::Wan];

    /// The ALPN name.
    pub const fn alpn(self) -> &'static str {
        match self {
            Self::Raft => "lictor-raft/1",
            Self::Rpc => "lictor-rpc/1",
            Self::Gossip => "lictor-gossip/1",
            Self::Wan => "lictor-wan/1",
        }
    }

    /// The plane with this ALPN name.
    pub(crate) fn from_alpn(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|plane| plane.alpn().as_bytes() == name)
    }

    /// Whether `dialer` may have a connection of this plane to `acceptor`. Both ends ask, each with what it was
    /// itself configured to be and what it could verify of the other.
    pub fn admits(self, dialer: &Identity, acceptor: &Identity) -> Result<(), Refusal> {
        let (of_dialer, of_acceptor, near) = match self {
            Self::Raft => (Some(Role::Server), Some(Role::Server), true),
            Self::Rpc => (None, Some(Role::Server), true),
            Self::Gossip => (None, None, true),
            Self::Wan => (Some(Role::Server), Some(Role::Server), false),
        };
        if near && !dialer.is_near(acceptor) {
            return Err(Refusal::Datacenter {
                plane: self,
                dialer: dialer.to_string(),
                acceptor: acceptor.to_string(),
            });
        }
        for (required, identity) in [(of_dialer, dialer), (of_acceptor, acceptor)] {
            if required.is_some_and(|role| role != identity.role) {
                return Err(Refusal::Role {
                    plane: self,
                    who: identity.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Whether either end sends on a connection, whoever made it, so that two peers need no more than one. Elsewhere
    /// each end sends on those that it made itself.
    pub const fn is_mutual(self) -> bool {
        match self {
            Self::Raft | Self::Rpc => false,
            Self::Gossip | Self::Wan => true,
        }
    }

    /// From where a peer is called on it.
    pub(crate) const fn reach(self) -> Reach {
        match self {
            Self::Raft | Self::Rpc | Self::Gossip => Reach::Near,
            Self::Wan => Reach::Far,
        }
    }

    /// How long a peer may be silent before its connection is lost. On the gossip plane silence means nothing: there
    /// the protocol itself finds out who is dead, and a connection that was not used is no worse for it.
    pub(crate) const fn patience(self) -> Duration {
        match self {
            Self::Raft => Duration::from_secs(4),
            Self::Rpc => Duration::from_secs(10),
            Self::Wan => Duration::from_secs(20),
            Self::Gossip => Duration::from_mins(2),
        }
    }

    /// How often an idle connection is kept alive, where it has to be.
    pub(crate) const fn keep_alive(self) -> Option<Duration> {
        match self {
            Self::Raft => Some(Duration::from_secs(1)),
            Self::Rpc => Some(Duration::from_secs(3)),
            Self::Wan => Some(Duration::from_secs(6)),
            Self::Gossip => None,
        }
    }

    /// How long a datagram is worth sending that waits for a connection: after that its receiver would take it for
    /// news, and its sender has long done without.
    pub(crate) const fn datagram_patience(self) -> Duration {
        match self {
            Self::Raft | Self::Rpc | Self::Gossip => Duration::from_secs(1),
            Self::Wan => Duration::from_secs(3),
        }
    }

    /// Whether so many may call at once that the allowance has to grow with use.
    pub(crate) const fn has_many_calls(self) -> bool {
        match self {
            Self::Rpc | Self::Wan => true,
            Self::Raft | Self::Gossip => false,
        }
    }

    /// Whether a connection stays open that nobody uses.
    pub(crate) const fn stays_open(self) -> bool {
        match self {
            Self::Raft => true,
            Self::Rpc | Self::Gossip | Self::Wan => false,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// A node may have one address for its own data center, and another for the rest of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reach {
    /// Within its data center.
    Near,
    /// From any.
    Far,
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raft => "Raft",
            Self::Rpc => "RPC",
            Self::Gossip => "gossip",
            Self::Wan => "WAN",
        })
    }
}

#[cfg(test)]
mod tests {
    use lictor_machine::NodeId;

    use super::*;
    use Role::{Client, Server};

    #[test]
    fn planes_are_found_by_their_names() {
        for (index, plane) in Plane::ALL.into_iter().enumerate() {
            assert_eq!(plane.index(), index);
            assert_eq!(Plane::from_alpn(plane.alpn().as_bytes()), Some(plane));
        }
        assert_eq!(Plane::from_alpn(b"h3"), None);
    }

    /// Who may dial whom: the whole table of plane, roles and data centers.
    #[test]
    fn nobody_is_admitted_outside_the_table() {
        let identity = |role, datacenter: &str| Identity {
            node: NodeId(1),
            name: "n".into(),
            datacenter: datacenter.into(),
            role,
        };
        let roles = [Server, Client];
        let mut admitted = Vec::new();
        for plane in Plane::ALL {
            for dialer in roles {
                for acceptor in roles {
                    for far in [false, true] {
                        let there = identity(acceptor, if far { "dc2" } else { "dc1" });
                        if plane.admits(&identity(dialer, "dc1"), &there).is_ok() {
                            admitted.push((plane, dialer, acceptor, far));
                        }
                    }
                }
            }
        }
        assert_eq!(
            admitted,
            [
                (Plane::Raft, Server, Server, false),
                (Plane::Rpc, Server, Server, false),
                (Plane::Rpc, Client, Server, false),
                (Plane::Gossip, Server, Server, false),
                (Plane::Gossip, Server, Client, false),
                (Plane::Gossip, Client, Server, false),
                (Plane::Gossip, Client, Client, false),
                (Plane::Wan, Server, Server, false),
                (Plane::Wan, Server, Server, true),
            ]
        );
    }
}
