//! What operators see of a data center's servers.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use lictor_catalog::quote;
use lictor_gossip::MemberState;
use lictor_machine::{Index, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

/// A server in the Raft configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftServer {
    /// Who.
    pub id: NodeId,
    /// Its node name, if that is known.
    pub name: Option<String>,
    /// Where it is reached, if that is known.
    pub address: Option<SocketAddr>,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it votes.
    pub voter: bool,
}

/// A server as an operator names it: the text as it stands in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerRef {
    /// By its id.
    Id(String),
    /// By its address and port.
    Address(String),
}

impl fmt::Display for ServerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = match self {
            Self::Id(text) => ("id", text),
            Self::Address(text) => ("address", text),
        };
        write!(f, "{kind} {}", quote(text.as_bytes()))
    }
}

/// How a data center's servers are, as their leader sees them.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServersHealth {
    /// Whether all are well.
    pub healthy: bool,
    /// How many voters may be lost before there is no majority.
    pub failure_tolerance: u64,
    /// Each of them.
    pub servers: Vec<ServerHealth>,
}

/// How one server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Who, and what part it has.
    pub server: RaftServer,
    /// What gossip says of it; `None`: nothing.
    pub member: Option<MemberState>,
    /// The version of the API that it serves.
    pub version: String,
    /// How long ago the leader heard from it; 0 for the leader itself. `None`: not since it leads.
    pub last_contact: Option<Duration>,
    /// The term of its last log entry.
    pub last_term: u64,
    /// Its last log entry.
    pub last_index: Index,
    /// Whether it is well, in time, and not far behind.
    pub healthy: bool,
    /// Since when that has been so.
    pub stable_since: UnixMillis,
}
