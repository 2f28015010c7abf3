//! What goes into the gossip machine and what comes out of it.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use lictor_machine::{NodeId, Token};

use crate::coordinate::Coordinate;
use crate::event::{IncomingQuery, QueryParams, QueryResponse, UserEvent};
use crate::member::{Incarnation, Member, MemberEvent, Tags};

/// Who sent something, as the transport verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its id.
    pub id: NodeId,
    /// Its name, as its certificate has it.
    pub name: String,
    /// Whether its certificate is a server's.
    pub server: bool,
    /// Where its packets come from.
    pub address: SocketAddr,
}

/// What may happen to a member.
#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram.
    Packet {
        /// From whom.
        from: Sender,
        /// Its content; checked here, so it may be anything.
        packet: Bytes,
    },
    /// Another member calls: a push-pull, or a probe on a stream.
    Call {
        /// Names the call in [`Effect::Reply`]. If no reply comes in the same turn, none will.
        id: InboundId,
        /// Who calls.
        from: Sender,
        /// What it says; checked here.
        request: Bytes,
    },
    /// The answer to an [`Effect::Call`]; `Err` says what the transport said.
    CallDone {
        /// Which call.
        id: CallId,
        /// Who answered, and what; or why nobody did.
        result: Result<(Sender, Bytes), String>,
    },
    /// Join the pool of whoever is found at these addresses. Answered by [`Answer::Joined`].
    Join {
        /// Comes back in [`Effect::Answer`].
        token: Token,
        /// At most [`crate::MAX_JOIN_ADDRESSES`].
        addresses: Vec<SocketAddr>,
    },
    /// Say other things of this member from now on.
    SetTags(Tags),
    /// Leave in good order: others are told, [`Effect::Left`] comes when that is done as far as it can be. Twice is once.
    Leave,
    /// Make a member that failed, and will not come back, one that left. Answered by [`Answer::Done`].
    ForceLeave {
        /// Comes back in [`Effect::Answer`].
        token: Token,
        /// Its name.
        name: String,
        /// Forget it altogether, everywhere.
        prune: bool,
    },
    /// Tell everybody something. Answered by [`Answer::Done`].
    UserEvent {
        /// Comes back in [`Effect::Answer`].
        token: Token,
        /// Its name.
        name: String,
        /// Its content; with the name at most [`crate::MAX_USER_EVENT_BYTES`].
        payload: Bytes,
        /// Of several with this name that arrive together, receivers need only the latest.
        coalesce: bool,
    },
    /// Ask everybody, or those that the parameters name, something. Answers come as [`Effect::QueryResponse`], the end as
    /// [`Answer::QueryDone`].
    Query {
        /// Comes back in each answer.
        token: Token,
        /// What, whom, how long.
        params: QueryParams,
    },
    /// Answer an [`Effect::Query`].
    Respond {
        /// Which.
        query: crate::event::QueryId,
        /// With what.
        payload: Bytes,
    },
}

/// What a member wants done, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a datagram of at most [`crate::Config::packet_bytes`]. It may get lost.
    Packet {
        /// To whom; where that is, the last [`Effect::Address`] said.
        to: NodeId,
        /// Its content.
        packet: Bytes,
    },
    /// Call a member on a stream; report [`Input::CallDone`].
    Call {
        /// Names it.
        id: CallId,
        /// Whom.
        to: Target,
        /// With what.
        request: Bytes,
        /// Give up after this long.
        timeout: Duration,
    },
    /// Answer an inbound call.
    Reply {
        /// Which.
        id: InboundId,
        /// With what.
        reply: Bytes,
    },
    /// A member is now reached at this address.
    Address {
        /// Who.
        id: NodeId,
        /// Where.
        address: SocketAddr,
    },
    /// A member is forgotten: connections to it may be closed.
    Forget(NodeId),
    /// The pool changed.
    Member(MemberEvent),
    /// Somebody told everybody something: once each, in order of their Lamport times as far as they arrive in time.
    UserEvent(UserEvent),
    /// Somebody asks this member something; answer with [`Input::Respond`] or not at all.
    Query(IncomingQuery),
    /// One member's answer to a query of this one.
    QueryResponse {
        /// The query's token.
        token: Token,
        /// The answer.
        response: QueryResponse,
    },
    /// A query of this member's has reached another, which was asked to say so.
    QueryAck {
        /// The query's token.
        token: Token,
        /// Whom it has reached.
        from: NodeId,
    },
    /// An answer.
    Answer {
        /// To which request.
        token: Token,
        /// What became of it.
        answer: Answer,
    },
    /// Keep this over a restart; replaces what was kept before. Emitted at the start, at the end of a leave, when the incarnations that
    /// were written down ahead are used up, before user events are handed out, and otherwise at most every
    /// [`crate::Config::remember_interval`].
    ///
    /// A [`Effect::UserEvent`] that follows must not be acted upon before this is durable; otherwise it may be handed out again after a
    /// crash.
    Remember(Memory),
    /// Something happened that people may want to know.
    Event(Event),
    /// This member has left, and those that could be told have been.
    Left,
}

/// Names an inbound call. Chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundId(pub u64);

/// Names an outbound call. Chosen by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Whom a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A member that is known by its id.
    Node(NodeId),
    /// Whoever is found at an address.
    Address(SocketAddr),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Join`: how many of the addresses were joined, and why the others were not.
    Joined {
        /// How many.
        joined: usize,
        /// The others, each with the reason.
        failed: Vec<(SocketAddr, String)>,
    },
    /// It was done.
    Done,
    /// A query's time is over.
    QueryDone,
    /// It was not done, and this is why.
    Failed(String),
}

/// What a member keeps over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    /// Not below any incarnation that this member has used.
    pub incarnation: Incarnation,
    /// Lamport times: not below that of any member intent that this member has seen; up to which user events were handed out; not below
    /// that of any query that it has seen.
    pub clocks: [u64; 3],
    /// Members that were well lately, and where. At most [`crate::MAX_REMEMBERED`].
    pub peers: Vec<RememberedPeer>,
    /// This member left in good order; it does not rejoin by itself.
    pub left: bool,
    /// Where this member was in the network's coordinates.
    pub coordinate: Option<Coordinate>,
}

/// A member that is to be found again after a restart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RememberedPeer {
    /// Who.
    pub id: NodeId,
    /// Where it was last.
    pub address: SocketAddr,
}

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Somebody took this member for dead or suspect, or spoke in its name, and was contradicted.
    Refuted {
        /// With this incarnation.
        incarnation: Incarnation,
    },
    /// Two members go by one name. The one that was there first keeps it.
    NameConflict {
        /// Who has the name.
        holder: Arc<Member>,
        /// Who wants it.
        other: NodeId,
        /// Where that one is.
        other_address: SocketAddr,
    },
    /// Two agents go by one id: a data directory was copied. The one that was there first keeps it.
    IdConflict {
        /// Who was there first.
        holder: Arc<Member>,
        /// Where the other one is.
        other_address: SocketAddr,
    },
    /// A member answers on streams and not by datagrams.
    Degraded {
        /// Who.
        id: NodeId,
        /// Its name.
        name: String,
    },
    /// Something was refused; counted in [`crate::Stats`]. Said at most once a minute for each reason and sender.
    Refused {
        /// Who sent it.
        from: NodeId,
        /// Why.
        reason: Refusal,
    },
}

/// Why something that arrived was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It cannot be read.
    #[error("malformed message")]
    Malformed,
    /// Another version of the protocol.
    #[error("unknown protocol version")]
    Version,
    /// It comes from another data center's pool.
    #[error("another data center's pool")]
    ForeignPool,
    /// It speaks in the name of another, or its certificate says otherwise.
    #[error("the sender is not who the message says")]
    Forged,
    /// An incarnation or a Lamport time jumps further than any member's own could.
    #[error("an incarnation or Lamport time from a third party jumps too far")]
    Jump,
    /// A number that is none, or out of bounds.
    #[error("an invalid coordinate")]
    Coordinate,
    /// More than a bound allows.
    #[error("too long, or too many")]
    TooLarge,
}
