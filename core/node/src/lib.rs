//! One Lictor agent as a pure state machine.
#![forbid(unsafe_code)]

pub mod store;

use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};
pub use store::PeerAddress;

/// Names one cluster for ever: drawn at random by the server that founds it. Servers of different clusters never speak Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// The founding of a cluster: its name and its first voters, proposed by one of them and agreed to by all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The name of the cluster to be.
    pub cluster: ClusterId,
    /// The server that proposes it.
    pub founder: NodeId,
    /// The first voters, the founder among them, in order.
    pub voters: Vec<NodeId>,
}
