//! What a simulated server runs: the seam between the world and the machines under test.
//!
//! The world knows disks, links, clocks and clients; a [`Host`] knows one kind of machine. Both speak in [`Stimulus`]
//! and [`Act`], so the same faults and the same oracles serve whole nodes ([`crate::node_host`]) and bare Raft machines
//! ([`crate::raft_host`]).

use core::time::Duration;

use bytes::Bytes;
use lictor_catalog::{Export, State, Touched};
use lictor_machine::{Index, Instant, NodeId, Now, Token};
use lictor_node::ClusterId;
use lictor_node::store::{Notes, StateBatch};
use lictor_raft::{Committed, Entry, FetchId, LogId, Message, SnapshotMeta, Status, WriteBatch, WriteId};

use crate::disk::{DecodeRows, Disk};
use crate::workload::{Answer, Op};

/// What may happen to a server.
#[derive(Clone, Debug)]
pub enum Stimulus {
    /// A Raft message arrived.
    Message {
        /// The sender.
        from: NodeId,
        /// What it says, as it came over the wire.
        bytes: Bytes,
    },
    /// Something sent to this server is known lost.
    Unreachable(NodeId),
    /// Log writes up to this one are durable.
    Persisted(WriteId),
    /// A log write failed for good.
    PersistFailed(WriteId),
    /// So many writes of notes are durable.
    NotesSaved(usize),
    /// The rows are durable up to this index.
    StateStored(Index),
    /// Entries that were asked for.
    Fetched(FetchId, Result<Vec<Entry>, String>),
    /// A client asks. Answered exactly once.
    Request(Token, Op),
    /// Another server calls. Answered at most once.
    Call {
        /// Names the call in the reply.
        id: u64,
        /// The caller.
        from: NodeId,
        /// Encoded.
        body: Bytes,
    },
    /// A call of this server's ended.
    CallDone {
        /// Which.
        id: u64,
        /// The encoded reply, or why there is none.
        result: Result<Bytes, CallLoss>,
    },
}

/// Why a call brought no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLoss {
    /// Whether the other side may have seen the request.
    pub maybe_sent: bool,
}

/// What a server wants done, in order.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few of them are alive at a time")]
pub enum Act {
    /// Write to the log store.
    Persist(Box<WriteBatch>),
    /// Keep the notes.
    SaveNotes(Notes),
    /// Send a Raft message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
        /// The same as it goes over the wire.
        bytes: Bytes,
    },
    /// Read entries.
    Fetch {
        /// Names the answer.
        id: FetchId,
        /// The first wanted.
        first: Index,
        /// The last wanted.
        last: Index,
        /// When to stop.
        max_bytes: usize,
    },
    /// Write rows.
    Store(StateBatch),
    /// Replace the rows by the staged snapshot.
    ReplaceState(SnapshotMeta),
    /// Replace the rows by this state, to which everything up to here was applied.
    StoreWhole(LogId, Box<Export>),
    /// Call another server.
    Call {
        /// Names the call.
        id: u64,
        /// Whom.
        to: NodeId,
        /// Encoded.
        body: Bytes,
        /// Give up after this long, by this server's clock.
        timeout: Duration,
    },
    /// Answer a call.
    Reply {
        /// Which.
        id: u64,
        /// Encoded.
        body: Bytes,
    },
    /// Answer a client.
    Answer(Token, Answer),
    /// Entries were applied. Hosts whose machine does not show this leave it to [`Act::Publish`].
    Applied(Vec<Committed>),
    /// Readers see this state from now on.
    Publish {
        /// The state.
        state: State,
        /// What those who watch are told.
        touched: Touched,
    },
    /// Something worth counting happened.
    Mark(Mark),
}

/// What the non-vacuity counters count, as far as only the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A snapshot took the place of the state.
    Restored,
    /// A leader noticed that its disk hangs.
    DiskStalled,
    /// A leader noticed that nobody listens.
    QuorumLost,
    /// The server knows that it is no member any more.
    Removed,
    /// The server speaks as a member of this cluster.
    Member(ClusterId),
}

/// How the machines of a run are set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Everybody, in order.
    pub servers: Vec<NodeId>,
    /// How many of them make a cluster.
    pub expect: usize,
    /// How many of them, the last ones, are not there from the beginning, where that is for clients to decide.
    pub spares: usize,
    /// Raft's settings; `id` and `seed` are replaced for each server.
    pub raft: lictor_raft::Config,
    /// How many applied entries may be missing from the rows before they are written.
    pub store_every: u64,
    /// How many entries the log keeps behind the rows.
    pub trailing: u64,
    /// How large the chunks of a snapshot are.
    pub chunk_bytes: usize,
}

impl Setup {
    /// Those that are there from the beginning.
    pub fn founders(&self) -> &[NodeId] {
        &self.servers[..self.servers.len().saturating_sub(self.spares)]
    }
}

/// One server's machine, as the world drives it.
pub trait Host: Sized {
    /// What a replay command calls this kind.
    const KIND: &'static str;

    /// Whether clients may ask it for other members, and some of its servers may begin as members of nothing.
    const CHANGES_MEMBERS: bool;

    /// Starts from what is on the disk. `seed` differs at every start.
    fn boot(setup: &Setup, id: NodeId, seed: u64, disk: &mut Disk, now: Now) -> Result<Self, String>;

    /// Does what this kind needs to become part of a cluster, after each start.
    fn found(&mut self, setup: &Setup, now: Now) -> Result<(), String>;

    /// Applies one stimulus. An error: the machine refused what an honest world gave it.
    fn handle(&mut self, now: Now, stimulus: Stimulus) -> Result<(), String>;

    /// Services deadlines.
    fn wake(&mut self, now: Now);

    /// The next act. `disk` is for reading what was staged.
    fn poll(&mut self, now: Now, disk: &Disk) -> Result<Option<Act>, String>;

    /// When to wake it.
    fn deadline(&self) -> Option<Instant>;

    /// Why it stopped for good, if it did.
    fn fault(&self) -> Option<String>;

    /// Raft's view.
    fn status(&self) -> Status;

    /// The state that readers see at the start.
    fn state(&self) -> &State;

    /// Reads the chunks of its snapshots.
    fn decoder() -> DecodeRows;
}
