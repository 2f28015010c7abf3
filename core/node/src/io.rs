//! What goes into a node and what comes out of it.

use std::net::SocketAddr;
use std::sync::Arc;

use core::time::Duration;

use lictor_catalog::{Action, Export, Outcome, Session, SessionId, State, Touched};
use lictor_gossip::MemberState;
use lictor_machine::{Index, Instant, NodeId, Token};
use lictor_raft::{
    Configuration, Fetch, FetchId, Fetched, LogId, Message, ReadMode, Role, SnapshotMeta, Term, WriteBatch,
    WriteId,
};
use serde::{Deserialize, Serialize};

use crate::agent::ServerFacts;
use crate::store::{Notes, StateBatch};
use crate::{ClusterId, Founding, PeerAddress};

/// What may happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A Raft message from a server of the same data center; the transport vouches for `from`.
    Raft {
        /// The sender.
        from: NodeId,
        /// The cluster that it says it is in; a message from another cluster is dropped.
        cluster: ClusterId,
        /// The message.
        message: Message,
    },
    /// The connection to a peer was lost, or something sent to it was dropped.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// Log writes up to this one are durable.
    Persisted {
        /// The last such write.
        through: WriteId,
    },
    /// A log write failed for good.
    PersistFailed {
        /// Which one.
        id: WriteId,
        /// What the store said.
        detail: String,
    },
    /// The answer to [`Effect::Fetch`].
    Fetched {
        /// Which fetch.
        id: FetchId,
        /// What was found.
        data: Fetched,
    },
    /// The last [`Effect::SaveNotes`] is durable.
    NotesSaved,
    /// A state batch, or a replacement of the state, is durable.
    StateStored {
        /// How far the state store has come.
        applied: Index,
    },
    /// The state store failed for good.
    StateFailed {
        /// What it said.
        detail: String,
    },
    /// A request of this agent's own API.
    Request {
        /// Comes back in [`Effect::Answer`], exactly once.
        token: Token,
        /// What is wanted.
        request: Request,
    },
    /// Another agent calls.
    Call {
        /// Names the call in [`Effect::Reply`], which comes exactly once.
        id: InboundId,
        /// Who calls, as the transport verified it.
        from: NodeId,
        /// What it wants.
        call: Call,
    },
    /// The answer to an [`Effect::Call`].
    CallDone {
        /// Which call.
        id: CallId,
        /// The reply, or why there is none.
        result: Result<Reply, CallFailure>,
    },
    /// Addresses at which other servers may be found: what `-retry-join` resolved to. Replaces the previous list.
    Contacts(Vec<SocketAddr>),
    /// What gossip knows of a server of this data center, this one included. Whoever relies on it: the address, and on a leader who
    /// is to be in the cluster.
    Known(ServerFacts),
    /// Gossip has forgotten a server, or knows that it will not come back.
    Forgotten(NodeId),
    /// Commit this change if this node leads; it is nobody's request, and may get lost.
    Duty(Action),
    /// This node is about to leave the cluster for good: hand leadership over if it leads, and have the others take it out of the
    /// configuration. [`Effect::Removed`] comes when that is done. [`Input::Stop`] is still needed.
    Leave,
    /// Stop in good order: hand leadership over if this node leads.
    Stop,
}

/// What an agent's API may want from its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Change the catalog.
    Write(Action),
    /// Wait until the published state may serve a read that starts now.
    Read(ReadMode),
    /// Hand leadership to another server (`None`: the one that is furthest).
    TransferLeadership(Option<NodeId>),
    /// What operators want to know or to have done.
    Operator(OperatorRequest),
    /// Give this session its time anew.
    RenewSession(SessionId),
}

/// What operators want of a cluster's servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorRequest {
    /// Who is in the configuration.
    Servers {
        /// Any server may answer, from what it knows.
        stale: bool,
    },
    /// How the servers are, as the leader sees them.
    Health,
    /// Take a server out of the configuration, whatever it says of itself.
    Remove(NodeId),
}

/// The answer to an [`OperatorRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorAnswer {
    /// To `Servers`.
    Servers(Vec<RaftServer>),
    /// To `Health`.
    Health(ServersHealth),
    /// To `Remove`: it is done, and agreed on.
    Removed,
}

/// A server in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftServer {
    /// Who.
    pub id: NodeId,
    /// Its name, if anybody has ever said it.
    pub name: Option<String>,
    /// Where it was reached last.
    pub address: Option<SocketAddr>,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it votes.
    pub voter: bool,
}

/// How a cluster's servers are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServersHealth {
    /// All of them, by id.
    pub servers: Vec<ServerHealth>,
    /// How many voters may be lost before there is no majority.
    pub failure_tolerance: usize,
}

/// How one server is, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Who, and what part it has.
    pub server: RaftServer,
    /// What gossip says of it; `None`: nothing.
    pub member: Option<MemberState>,
    /// The version that it says it is.
    pub build: String,
    /// How long ago the leader heard from it; 0 for the leader itself. `None`: not since it leads.
    pub last_contact: Option<Duration>,
    /// The term of its last entry.
    pub last_term: Term,
    /// Its last entry.
    pub last_index: Index,
    /// Whether it is well, in time and not far behind.
    pub healthy: bool,
    /// For how long that has been so.
    pub stable_for: Duration,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The change was applied, at this index.
    Written {
        /// The index.
        index: Index,
        /// What became of it.
        outcome: Outcome,
    },
    /// The state published so far, which includes `index`, may serve the read.
    Readable {
        /// The index.
        index: Index,
    },
    /// Leadership is with another server now.
    Transferred,
    /// To an operator.
    Operator(OperatorAnswer),
    /// The session was renewed, and is this; `None`: there is no such session.
    Renewed(Option<Arc<Session>>),
    /// It did not work.
    Failed(RequestError),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RequestError {
    /// No leader was found within the hold time. Nothing was changed.
    #[error("No cluster leader")]
    NoLeader,
    /// The leader was lost while it was agreeing on the change: it may or may not be applied.
    #[error("leadership lost while committing log")]
    LeadershipLost,
    /// Too much is waiting already. Nothing was changed; try again shortly.
    #[error("too many requests are waiting, try again")]
    Busy,
    /// The command is larger than the log takes. Nothing was changed.
    #[error("the command is too large: {size} bytes, at most {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// This node has stopped.
    #[error("this agent has stopped: {0}")]
    Stopped(String),
    /// Leadership could not be handed over.
    #[error("leadership was not transferred: {0}")]
    NotTransferred(String),
    /// It makes no sense, as the text says. Nothing was changed.
    #[error("{0}")]
    Refused(String),
}

/// Names an inbound call. Chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundId(pub u64);

/// Names an outbound call. Chosen by the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Whom a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A server that is known by its id.
    Node(NodeId),
    /// Whoever is found at an address.
    Address(SocketAddr),
}

/// What one agent may ask of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// "This is me; who are you?" Servers find each other so.
    Hello(Hello),
    /// "Agree to found this cluster with me." Agreed to by at most one.
    Found(Founding),
    /// "Change the catalog for me." Only a leader does.
    Write(Action),
    /// "Be a server of this cluster." Says its leader to a server that is in none.
    Adopt(ClusterId),
    /// "Do this for an operator." Only a leader does.
    Operator(OperatorRequest),
    /// "Give this session its time anew." Only a leader does.
    RenewSession(SessionId),
}

/// The reply to a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`.
    Hello(Hello),
    /// To `Found`: agreed, and durable; or why not.
    Found(Result<(), FoundRefusal>),
    /// To `Write`: applied at this index.
    Written {
        /// The index.
        index: Index,
        /// What became of it.
        outcome: Outcome,
    },
    /// To `Write`, `Operator` and `RenewSession`: not the leader; nothing was changed. Try this one.
    NotLeader(Option<NodeId>),
    /// To `Write`, `Operator` and `RenewSession`: it did not work.
    Failed(RequestError),
    /// To `Adopt`: agreed, and durable; or why not.
    Adopted(Result<(), FoundRefusal>),
    /// To `Operator`.
    Operator(OperatorAnswer),
    /// To `RenewSession`: the session was renewed, and is this; `None`: there is no such session.
    Renewed(Option<Arc<Session>>),
}

/// Why a server does not agree to found a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FoundRefusal {
    /// It is in a cluster already.
    Member(ClusterId),
    /// It has agreed to, or itself proposes, another founding.
    Promised(Founding),
    /// It was not told to expect this number of servers.
    Expects(u32),
}

/// Why a call brought no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// Whether the other side may have seen the request.
    pub maybe_sent: bool,
    /// What the transport said.
    pub detail: String,
}

/// What servers tell each other about themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The speaker and where it wants to be reached.
    pub me: PeerAddress,
    /// How many servers it was told to expect before founding a cluster; 0: it founds none.
    pub expect: u32,
    /// The cluster that it belongs to.
    pub cluster: Option<ClusterId>,
    /// Of the foundings that it has proposed, those up to this attempt have been given up.
    pub given_up: u64,
    /// Other servers that it knows. At most [`HELLO_PEERS_MAX`].
    pub peers: Vec<PeerAddress>,
}

/// The most peers in one [`Hello`].
pub const HELLO_PEERS_MAX: usize = 64;

/// What a node wants done, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write to the log store; report [`Input::Persisted`].
    Persist(Box<WriteBatch>),
    /// Keep the notes; report [`Input::NotesSaved`].
    SaveNotes(Notes),
    /// Send a Raft message. It may get lost; if it is known lost, report [`Input::Unreachable`].
    Send {
        /// To whom.
        to: NodeId,
        /// This node's cluster.
        cluster: ClusterId,
        /// What.
        message: Message,
    },
    /// Read log entries; report [`Input::Fetched`].
    Fetch {
        /// Names it.
        id: FetchId,
        /// What; only `Entries` ever reaches the driver.
        what: Fetch,
    },
    /// Write to the state store; report [`Input::StateStored`]. There is never more than one of these on its way, and none while a
    /// replacement is.
    Store(StateBatch),
    /// Replace the state store's content by the staged chunks of this snapshot; report [`Input::StateStored`]. A [`Effect::Store`] may still be
    /// on its way and goes first. Nothing is staged anew until the report.
    ReplaceState(SnapshotMeta),
    /// Replace the state store's content by this whole state ([`crate::store::store_whole`]); report [`Input::StateStored`]. A
    /// [`Effect::Store`] or [`Effect::ReplaceState`] may still be on its way and goes first.
    StoreWhole {
        /// How far the log was applied then.
        applied: LogId,
        /// The state.
        state: Box<Export>,
    },
    /// Make this state the one that readers see, then wake those who watch what was touched.
    Publish(Box<Published>),
    /// The node's standing in the cluster changed.
    Standing(Standing),
    /// Call another agent; report [`Input::CallDone`].
    Call {
        /// Names it.
        id: CallId,
        /// Whom.
        to: Target,
        /// What.
        call: Call,
        /// Give up after this long.
        timeout: Duration,
    },
    /// Answer an inbound call.
    Reply {
        /// Which.
        id: InboundId,
        /// With what.
        reply: Reply,
    },
    /// Answer a request.
    Answer {
        /// Which.
        token: Token,
        /// With what.
        answer: Answer,
    },
    /// A server is now reached at this address.
    Address(PeerAddress),
    /// A server that failed is no longer needed: let gossip say that it left.
    Expel(NodeId),
    /// This node is in the configuration no more, as it wanted.
    Removed,
    /// Something happened that people may want to know.
    Event(Event),
    /// The node has left in good order, with everything that it had applied in the state store, and may be dropped.
    Stopped,
}

impl Effect {
    /// Whether somebody who asked waits for it.
    pub(crate) const fn answers_somebody(&self) -> bool {
        matches!(self, Self::Answer { .. } | Self::Reply { .. })
    }
}

/// A state for readers.
#[derive(Clone, Debug)]
pub struct Published {
    /// The state; O(1) to clone.
    pub state: State,
    /// What changed since the one published before.
    pub touched: Touched,
}

/// What readers need to know about a node's place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The part it plays.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// On a leader: until when the published state may serve default reads at once. `None`: ask with [`Request::Read`].
    pub lease_until: Option<Instant>,
    /// When the leader was last heard from; on the leader itself the time of this report. `None`: never since the start.
    pub leader_contact: Option<Instant>,
    /// The configuration.
    pub members: Configuration,
}

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// From Raft.
    Raft(lictor_raft::Event),
    /// Another server was found.
    PeerFound(PeerAddress),
    /// A server cannot join, or a cluster cannot be founded, for a reason that somebody must mend.
    Trouble(String),
    /// This server is in no cluster, and this is what it waits for. Said again now and then.
    Waiting(String),
    /// This node founded, or agreed to, a cluster.
    Founded(Founding),
    /// A snapshot was installed.
    Restored(LogId),
    /// An archive has taken the place of the state, with this entry of the log.
    ArchiveRestored(LogId),
    /// The leader changes the configuration: these join without a vote, these get one, these go.
    Changing {
        /// New learners.
        added: Vec<NodeId>,
        /// Learners that become voters.
        promoted: Vec<NodeId>,
        /// Who is taken out.
        removed: Vec<NodeId>,
    },
    /// This server now belongs to a cluster that had been founded without it.
    Adopted(ClusterId),
}

/// Why a node wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// For Raft.
    Raft(lictor_raft::Timer),
    /// A request has waited for as long as it may.
    Deadline,
    /// Requests that wait for a leader are tried again.
    Retry,
    /// Rows are due to go to the state store.
    Store,
    /// It is time to greet other servers.
    Hello,
    /// The leader looks for tombstones to reap.
    Tombstones,
    /// The leader looks whether the right servers are in the configuration.
    Autopilot,
    /// The leader looks for what has run out: sessions, lock delays, answers that were kept for long enough.
    Terms,
}
