//! What the API needs from the cluster, by way of the agent that it speaks for. What it needs from that agent itself: [`crate::this_agent`].

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lictor_catalog::{
    Action, Execute, Found, NodeCoordinate, Outcome, Query, Session, SessionId, TxnError, TxnOp, TxnResult,
};
use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use crate::coordinate::DatacenterCoordinates;
use crate::event_log::UserEvent;
use crate::prepared::Executed;
use crate::servers::{RaftServer, ServerRef, ServersHealth};
use crate::snapshot::Archive;
use crate::text::errors;

/// The cluster, as the API sees it through its agent. Every method may be called from many tasks at once, and may be cancelled by
/// dropping its future: a cancelled read leaves nothing behind, a cancelled write may or may not happen.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Answers a query. With a [`ReadOptions::min_index`] other than 0 it waits until the answer's index exceeds
    /// that, [`ReadOptions::wait`] has passed, or the agent stops, and in the latter two cases gives the last answer.
    async fn read(&self, query: Query, options: ReadOptions) -> Result<Reading<Found>, Failure>;

    /// Answers a transaction that only reads; its operations see one state. Never waits for a change.
    async fn read_txn(
        &self,
        ops: Vec<TxnOp>,
        options: ReadOptions,
    ) -> Result<Reading<Result<Vec<TxnResult>, Vec<TxnError>>>, Failure>;

    /// Commits a change and says what became of it. After [`Failure::LeadershipLost`] it may have happened, and after
    /// [`Failure::Unreachable`], if another agent was asked; after every other failure it has not.
    async fn write(&self, action: Action, options: WriteOptions) -> Result<Outcome, Failure>;

    /// Gives a session its time anew, and says what it is; `None` if there is none of this name.
    async fn renew_session(
        &self,
        session: SessionId,
        options: WriteOptions,
    ) -> Result<Option<Arc<Session>>, Failure>;

    /// Carries a prepared query out, if need be in other data centers too; `None` if there is none of this name. Never waits for a
    /// change.
    async fn execute_query(
        &self,
        execute: Execute,
        options: ReadOptions,
    ) -> Result<Reading<Option<Executed>>, Failure>;

    /// The address of the leader's servers' plane; `None` while there is no known leader. `datacenter`: another one
    /// than the agent's own.
    async fn leader(&self, datacenter: Option<&str>) -> Result<Option<SocketAddr>, Failure>;

    /// The addresses of the voting servers, empty before the cluster was founded.
    async fn peers(&self, datacenter: Option<&str>) -> Result<Vec<SocketAddr>, Failure>;

    /// Tells an event to all agents of a data center, by way of [`UserEvent::to_gossip`].
    async fn fire_event(&self, event: UserEvent, options: WriteOptions) -> Result<(), Failure>;

    /// Makes an archive of all there is, as of one moment. It is made while it is read.
    async fn snapshot(&self, options: ReadOptions) -> Result<Reading<Archive<'static>>, Failure>;

    /// Puts an archive in the place of all there is, everywhere at once. It is read to its end and checked before anything happens, and
    /// nothing was changed after a failure, unless its text says otherwise.
    async fn restore(&self, archive: Archive<'_>, options: WriteOptions) -> Result<(), Failure>;

    /// All data centers that are known, the nearest first, and so the agent's own before all others.
    async fn datacenters(&self) -> Result<Vec<String>, Failure>;

    /// Where the servers of all data centers are in the WAN's coordinates.
    async fn wan_coordinates(&self) -> Result<Vec<DatacenterCoordinates>, Failure>;

    /// Takes over where a node is, soon: updates are gathered. That of a node which is not known is dropped in silence.
    async fn update_coordinate(&self, update: NodeCoordinate, options: WriteOptions) -> Result<(), Failure>;

    /// The servers in the Raft configuration. Of the read modes only whether it is [`ReadMode::Stale`] counts.
    async fn raft_servers(&self, options: ReadOptions) -> Result<Vec<RaftServer>, Failure>;

    /// Takes a server out of the Raft configuration. Fails with [`Failure::NoSuchServer`] if it is not in there.
    async fn remove_raft_server(&self, server: ServerRef, options: WriteOptions) -> Result<(), Failure>;

    /// How the servers are, as the leader sees them.
    async fn servers_health(&self, options: ReadOptions) -> Result<ServersHealth, Failure>;
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ReadMode {
    /// By the leader while its lease holds.
    #[default]
    Default,
    /// By the leader, after it has made sure that it still is one.
    Consistent,
    /// By any server, even one that knows no leader.
    Stale {
        /// If the server heard from a leader longer ago than this, the read is made in default mode instead.
        max: Option<Duration>,
    },
}

/// How to read.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReadOptions {
    /// How fresh the answer must be.
    pub mode: ReadMode,
    /// Wait for an answer whose index is larger; 0: do not wait.
    pub min_index: Index,
    /// How long to wait at most. Already bounded, with its jitter added.
    pub wait: Duration,
    /// The data center to ask; `None` is the agent's own.
    pub datacenter: Option<String>,
    /// Who asks; `None` leaves it to the agent's own default.
    pub token: Option<Secret>,
}

/// How to write.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WriteOptions {
    /// The data center to change; `None` is the agent's own.
    pub datacenter: Option<String>,
    /// Who asks; `None` leaves it to the agent's own default.
    pub token: Option<Secret>,
}

/// An answer, and how good it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading<T> {
    /// The version of the answer: the index to wait on for a newer one.
    pub index: Index,
    /// Whether the server that answered knows a leader.
    pub known_leader: bool,
    /// How long ago the server that answered heard from the leader; 0 on the leader itself.
    pub last_contact: Duration,
    /// The answer.
    pub value: T,
}

/// A secret that a client proves itself with. Debug output hides it; encoded it is in the clear, for the encrypted way between agents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Wraps the secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: keep it out of logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

/// What is said of a change of which nobody knows whether it was made.
pub const UNKNOWN_OUTCOME: &str =
    "it may have happened, or not; with a Lictor-Idempotency-Key it can be asked for again without harm";

/// Why the agent could not do what was asked. Its text is what clients see, in the words that they match on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Failure {
    /// No server leads, and none came to lead within the agent's patience.
    #[error("No cluster leader")]
    NoLeader,
    /// The data center is not known, or none of its servers can be reached.
    #[error("No path to datacenter")]
    NoPathToDatacenter,
    /// A client agent that can reach no server.
    #[error("No known Consul servers")]
    NoServers,
    /// What runs on the agent does not take it.
    #[error(transparent)]
    Local(#[from] lictor_local::Error),
    /// A limit is reached; nothing was done.
    #[error("Too busy: the limit {limit} is reached; try again later")]
    Busy {
        /// The limit's name.
        limit: Cow<'static, str>,
        /// When to try again; sent in whole seconds, at least one.
        retry_after: Duration,
    },
    /// The leader lost its office while it committed the change, which may or may not happen.
    #[error("leadership lost while committing log; {}", UNKNOWN_OUTCOME)]
    LeadershipLost,
    /// The request makes no sense to the catalog. Nothing was done.
    #[error("{0}")]
    Refused(String),
    /// The token does not allow it, or is not known. Nothing was done.
    #[error("{0}")]
    Denied(String),
    /// The servers cannot store anything, for example because a disk is full. Nothing was done, unless the text begins as that of
    /// [`Failure::LeadershipLost`] does.
    #[error("{0}")]
    Storage(String),
    /// A server could not be talked to; the text says which one, and how it failed.
    #[error("{0}")]
    Unreachable(String),
    /// Attempts failed, each with its text.
    #[error("{}", errors(.0))]
    Several(Vec<String>),
    /// No server of the Raft configuration is the one that was named. Nothing was done.
    #[error("{0} was not found in the Raft configuration")]
    NoSuchServer(ServerRef),
    /// The agent is shutting down.
    #[error("The agent is shutting down; ask another one")]
    Stopping,
}
