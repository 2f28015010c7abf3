//! One Lictor agent as a pure state machine.
//!
//! [`Node`] composes consensus (`lictor-raft`) and the replicated state (`lictor-catalog`): it takes the requests of its agent's
//! API and answers them, hands writes to the leader wherever that is, applies what is committed, publishes the state for readers,
//! and keeps the log and the state store in step. Like every core it opens nothing, spawns nothing and reads no clock; see
//! [`lictor_machine::Machine`].
//!
//! - `requests`: the way of a write and of a read, also over a change of leader;
//! - `applying`: committed entries into the state, rows into the store, the log trimmed behind it;
//! - `snapshots`: serving and receiving the state as chunks of rows;
//! - `restore`: taking in an archive, a step at a time;
//! - `terms`: the leader's clock, for sessions, lock delays, and answers that are kept for a while;
//! - `founding`: how servers find each other and found one cluster, exactly once;
//! - `joining`: how a server comes to belong to a cluster that was founded without it;
//! - `autopilot`: the leader's care for who is in the configuration;
//! - `reconcile`: the leader turns membership into entries of the catalog;
//! - [`agent`]: the whole of an agent: its gossip pools, and the server within, if it is one;
//! - `wire`: what nodes say to each other, as bytes;
//! - `store`: what a log store and a state store promise.

#![forbid(unsafe_code)]

pub mod agent;
mod applying;
mod autopilot;
mod config;
mod founding;
mod greeting;
mod io;
mod joining;
mod node;
mod reconcile;
mod requests;
mod restore;
#[cfg(feature = "sabotage")]
mod sabotage;
mod snapshots;
pub mod store;
mod terms;
mod waiting;
pub mod wire;

pub use lictor_local as local;
use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

pub use config::Config;
pub use io::{
    Answer, Call, CallFailure, CallId, Effect, Event, FoundRefusal, HELLO_PEERS_MAX, Hello, InboundId, Input,
    OperatorAnswer, OperatorRequest, Published, RaftServer, Reply, Request, RequestError, ServerHealth,
    ServersHealth, Standing, Target, Timer,
};
pub use node::{Node, NodeFault, Reject, StartError};
pub use restore::{Progress, RestoreError, Restoring};
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use store::PeerAddress;

/// Names one cluster for ever: drawn at random by the server that founds it. Servers of different clusters never speak Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        NodeId(self.0).fmt(f)
    }
}

/// The founding of a cluster: its name and its first voters, proposed by one of them and agreed to by all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The name of the cluster to be.
    pub cluster: ClusterId,
    /// The server that proposes it.
    pub founder: NodeId,
    /// Counts the founder's attempts.
    pub attempt: u64,
    /// The first voters, the founder among them, in order.
    pub voters: Vec<NodeId>,
}
