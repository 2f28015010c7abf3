//! What goes into the Raft machine and what comes out of it.

use std::collections::BTreeSet;

use bytes::Bytes;
use lictor_machine::{Index, NodeId, Token};

use crate::message::Message;
use crate::types::{Configuration, Entry, LogId, SnapshotMeta, Term, WriteBatch, WriteId};

/// What may happen to a Raft node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message arrived. The transport vouches for `from`.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says; checked here, so it may be anything.
        message: Message,
    },
    /// The connection to a peer was lost, or what was sent to it could not be queued: messages may be missing.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// Every write up to this one is durable.
    Persisted {
        /// The last such write.
        through: WriteId,
    },
    /// A write failed for good. The node stops.
    PersistFailed {
        /// The first write that failed.
        id: WriteId,
        /// What the store said.
        detail: String,
    },
    /// The answer to an [`Effect::Fetch`].
    Fetched {
        /// Which one.
        id: FetchId,
        /// What was found.
        data: Fetched,
    },
    /// The state machine has applied everything up to here, or has loaded the snapshot that ends here.
    Applied {
        /// The last index.
        through: Index,
    },
    /// Append a command. Only a leader accepts it.
    Propose {
        /// Comes back with the entry in [`Effect::Apply`], or in an [`Effect::Resolve`] if it never will.
        token: Token,
        /// The command.
        data: Bytes,
    },
    /// Ask for an index from which reads are linearizable. Any member accepts it.
    Read {
        /// Comes back in [`Effect::Resolve`].
        token: Token,
        /// How sure the leader must be.
        mode: ReadMode,
    },
    /// Hand leadership to another voter.
    Transfer {
        /// Comes back in [`Effect::Resolve`].
        token: Token,
        /// To whom; `None`: the voter that is furthest.
        to: Option<NodeId>,
    },
    /// Make these the members of the cluster (§6). Only a leader accepts it, one change at a time, and only once an entry of its own term
    /// is committed. If the voters change, the cluster passes through joint consensus; whoever leads then ends it without being asked.
    ///
    /// Any set may be asked for, this node may be missing in it. Whether a new voter has caught up is for the caller to see to: until it
    /// has, it counts and cannot yet help, so it should be a learner first.
    Reconfigure {
        /// Comes back in [`Effect::Resolve`].
        token: Token,
        /// Who is to vote.
        voters: BTreeSet<NodeId>,
        /// Who is to receive the log without voting.
        learners: BTreeSet<NodeId>,
    },
    /// Campaign now, without waiting for the rest of the election timeout. Refused while a leader may still hold a lease. For tests and
    /// for operators.
    Campaign,
    /// Everything up to here is durable in the state machine's own store, so the log may forget it.
    Compact {
        /// The last index that may go.
        through: Index,
    },
    /// Become the first node of a cluster with these voters, this node among them. Only on a node whose log is empty and that has
    /// never voted; whoever calls it makes sure that nobody founds a second one.
    Found {
        /// The first voters.
        members: Configuration,
    },
}

/// How a read is made safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadMode {
    /// By the leader's lease while it lasts, else by a round. Rests on the drift bound of [`crate::Config::max_clock_drift_permille`].
    Lease,
    /// By a round of heartbeats that a quorum answers after the read arrived (thesis §6.4). Rests on no clock.
    Quorum,
}

/// Names a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// Something Raft wants read from storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Log entries that are no longer in memory.
    Entries {
        /// The first wanted.
        first: Index,
        /// The last wanted.
        last: Index,
        /// Stop once this many bytes are reached; at least one entry.
        max_bytes: usize,
    },
    /// A chunk of a snapshot of the state machine.
    Chunk {
        /// Of the snapshot that ends here; `None`: of the newest, whichever that is.
        snapshot: Option<LogId>,
        /// The chunk, from 0.
        chunk: u64,
    },
}

/// The answer to a [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The entries; empty if they have been compacted away meanwhile.
    Entries(Vec<Entry>),
    /// The chunk.
    Chunk {
        /// Which snapshot it is from.
        meta: SnapshotMeta,
        /// The chunk, from 0.
        chunk: u64,
        /// Its content.
        data: Bytes,
        /// Whether it is the last.
        done: bool,
    },
    /// That snapshot is no longer held; begin again with the newest.
    Gone,
    /// The store failed. The node stops: a failed read must never look like an empty log.
    Failed(String),
}

/// What a Raft node wants done. Carry them out in order; `Persist` and `Send` may overlap in time, since what
/// must wait for a write is not visible here before that write is reported durable.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make the batch durable and report it with [`Input::Persisted`]. Neighbours may be merged, never reordered.
    Persist(Box<WriteBatch>),
    /// Send a message on the lane that [`crate::Body::lane`] names. It may get lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Read something and answer with [`Input::Fetched`].
    Fetch {
        /// Names it in the answer.
        id: FetchId,
        /// What to read.
        what: Fetch,
    },
    /// Apply committed entries in order, then report [`Input::Applied`]. They are also durable here.
    Apply(Vec<Committed>),
    /// Load the staged snapshot, whose chunks are all durable, in place of the whole state; then report [`Input::Applied`].
    Restore(SnapshotMeta),
    /// An answer.
    Resolve {
        /// To which request.
        token: Token,
        /// What became of it.
        outcome: Outcome,
    },
    /// Something happened that others may want to know.
    Event(Event),
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// The request that proposed it, if it was proposed at this node since its start.
    pub token: Option<Token>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A read may be served: the state machine has applied `index`.
    Read {
        /// The index that the read is linearizable at.
        index: Index,
    },
    /// A read could not be confirmed; ask again, perhaps elsewhere.
    ReadFailed,
    /// The proposed entry, or the change of members, was overwritten: it never took effect for good and never will.
    Lost,
    /// Whether the proposed entry was applied, or the change of members made, is not known here, because a snapshot took its place.
    Unknown,
    /// The members that were asked for are the members: the last entry of the change is committed.
    Reconfigured {
        /// Where that entry stands.
        index: Index,
    },
    /// Leadership has left this node.
    Transferred,
    /// The transfer did not finish in time; this node leads on, if it still does.
    TransferFailed,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This node's view of who leads changed.
    Leader {
        /// The term.
        term: Term,
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// A configuration took effect. It does so when it is appended, before it is committed, and may be taken back.
    Members(Configuration),
    /// This node is not a member any more, for good: the configuration that leaves it out is committed. It takes part in nothing from now on
    /// unless it is added again.
    Removed,
    /// A peer is being sent a snapshot because its log ends before ours begins.
    SendingSnapshot {
        /// The peer.
        peer: NodeId,
        /// The snapshot.
        last: LogId,
    },
    /// This leader's disk has not finished a write for longer than [`crate::Config::disk_stall`], so it steps down.
    DiskStalled {
        /// The write that waits.
        write: WriteId,
    },
    /// This leader has not heard from a quorum for an election timeout, so it steps down.
    QuorumLost,
}

/// Why an input was refused. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// Only the leader can do this.
    #[error("not the leader")]
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// Too much is waiting to be committed or confirmed. Try again shortly.
    #[error("too many requests are waiting for the cluster to agree")]
    Busy,
    /// Leadership is being handed over. Try again shortly.
    #[error("leadership is being transferred")]
    Transferring,
    /// The members cannot be changed so, or not now.
    #[error("the members of the cluster cannot be changed: {0}")]
    Members(#[from] MembersError),
    /// The message contradicts itself or the protocol; it was ignored.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The request makes no sense here.
    #[error("{0}")]
    Invalid(&'static str),
    /// The node has stopped for good, see [`Fault`].
    #[error("stopped: {0}")]
    Faulted(Fault),
}

/// Why members cannot be what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// An earlier change is not finished. Try again once it is.
    #[error("an earlier change is not finished")]
    InProgress,
    /// This leader is new, and does not know yet which members its predecessors left. Try again shortly.
    #[error("the leader is new and has yet to finish an entry of its own")]
    NotReady,
    /// They are what was asked for already.
    #[error("they are what was asked for already")]
    Unchanged,
    /// Somebody must vote.
    #[error("no voter would be left")]
    NoVoters,
    /// A server votes or it does not.
    #[error("{0} is to be a voter and a learner at once")]
    VoterAndLearner(NodeId),
    /// See [`MEMBERS_MAX`](crate::MEMBERS_MAX).
    #[error("there would be {0} members, more than {max}", max = crate::MEMBERS_MAX)]
    TooMany(usize),
}

/// Why a node stopped for good. It keeps its first reason, emits nothing any more, and is to be restarted from
/// what is durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A write failed. What the disk holds is only known after reading it again.
    #[error("a log write failed: {0}")]
    Write(String),
    /// A read failed.
    #[error("a log read failed: {0}")]
    Read(String),
    /// A message or the store contradicts what has been committed: a disk was exchanged, two servers share an
    /// identity, or there is a bug.
    #[error("the log contradicts what was committed: {0}")]
    Safety(&'static str),
}

/// Why the machine wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// No word from a leader: campaign.
    Election,
    /// A leader's heartbeat is due, and with it the checks that lean on it.
    Heartbeat,
    /// A transfer has taken too long.
    Transfer,
    /// The leader's disk may have stalled.
    DiskStall,
    /// A follower's question for a read index has gone unanswered.
    ReadIndex,
}

/// What part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would win (pre-vote).
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// How far a peer is, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// Whether it votes.
    pub voter: bool,
    /// The last index known to be durable there.
    pub matched: Index,
    /// The next index to send.
    pub next: Index,
    /// When it last answered in the leader's term.
    pub last_heard: lictor_machine::Instant,
    /// Bytes sent and not yet acknowledged.
    pub bytes_in_flight: usize,
    /// Whether it is receiving a snapshot.
    pub snapshot: bool,
}

/// A view of a node for people, metrics and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// Its part.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Who it voted for in that term.
    pub vote: Option<NodeId>,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// The commit index.
    pub commit: Index,
    /// The last index reported applied.
    pub applied: Index,
    /// The end of the log.
    pub last: LogId,
    /// What the log begins after.
    pub base: LogId,
    /// The last index durable here.
    pub durable: Index,
    /// Writes that are not yet durable.
    pub writes_in_flight: usize,
    /// The configuration in force.
    pub members: Configuration,
    /// The entry that holds it; the base of the log, if that entry has been compacted away.
    pub members_id: LogId,
    /// On a leader: every other member, voter or learner.
    pub peers: Vec<PeerStatus>,
}

/// How far a node has come with its log. Costs nothing to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// What the log begins after.
    pub base: LogId,
    /// The end of the log.
    pub last: LogId,
    /// The commit index.
    pub commit: Index,
    /// The last index reported applied.
    pub applied: Index,
}

impl Status {
    /// Whether a change of members is not finished, as far as this node knows.
    pub fn is_changing_members(&self) -> bool {
        self.members.is_joint() || self.members_id.index > self.commit
    }

    /// Whether this node knows that it is not a member of its cluster: it never was, or it has been removed.
    pub fn is_outside(&self) -> bool {
        !self.is_changing_members() && !self.members.contains(self.id)
    }
}
