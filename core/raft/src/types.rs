//! The nouns of the Raft paper: terms, log ids, entries, the persistent state and the configuration.

use core::fmt;
use std::collections::BTreeSet;

use bytes::Bytes;
use lictor_machine::{Index, NodeId};
use serde::{Deserialize, Serialize};

/// A term (Raft §5.1): time is divided into terms, each with at most one leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Term(pub u64);

impl Term {
    /// Before the first term.
    pub const ZERO: Self = Self(0);

    /// The term after this one; the largest stays as it is, and a node in it never campaigns.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an entry stands and in which term it was made. Two logs that hold the same id hold the same entry
/// there and agree on everything before it (Log Matching, §5.3). Ordered as §5.4.1 compares logs: by term,
/// then by index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LogId {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// The position in the log.
    pub index: Index,
}

impl LogId {
    /// Before the first entry.
    pub const ZERO: Self = Self {
        term: Term::ZERO,
        index: Index::ZERO,
    };

    /// An id from plain numbers.
    pub const fn new(term: u64, index: u64) -> Self {
        Self {
            term: Term(term),
            index: Index(index),
        }
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term.0, self.index.0)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its position and term.
    pub id: LogId,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a new leader's first entry (§8), which lets it commit what earlier terms left.
    Noop,
    /// An opaque command for the state machine.
    Command(Bytes),
    /// The members of the cluster from here on (§6).
    Members(Configuration),
}

impl Entry {
    /// About how many bytes the entry takes in memory and on the wire; for windows and budgets.
    pub fn size(&self) -> usize {
        const FIXED: usize = 32;
        match &self.payload {
            Payload::Noop => FIXED,
            Payload::Command(bytes) => FIXED + bytes.len(),
            Payload::Members(members) => FIXED + 16 * members.len(),
        }
    }
}

/// Who takes part (§6). While `outgoing` is empty this is a plain configuration; otherwise the cluster is in
/// joint consensus, and every decision needs a majority of `voters` and one of `outgoing`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// Members that vote.
    pub voters: BTreeSet<NodeId>,
    /// The voters of the configuration that is being left; empty outside joint consensus.
    pub outgoing: BTreeSet<NodeId>,
    /// Members that receive the log and do not vote. One that is `outgoing` as well votes until joint consensus ends.
    pub learners: BTreeSet<NodeId>,
}

/// The most members, voting or not, that a cluster may be given.
pub const MEMBERS_MAX: usize = 256;

impl Configuration {
    /// A plain configuration of voters.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether nobody is in it: a node that has not been made a member of any cluster.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    /// How many ids it holds in all.
    pub fn len(&self) -> usize {
        self.voters.len() + self.outgoing.len() + self.learners.len()
    }

    /// Whether this is joint consensus (§6).
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` is a member, voting or not.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Whether `id` votes, in either half of a joint configuration.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Everybody, each once, in order.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters
            .iter()
            .chain(&self.outgoing)
            .chain(&self.learners)
            .copied()
            .collect()
    }
}

/// What must survive a crash besides the log (§5, Figure 2), plus the commit index as a hint for restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this node's vote in `term`.
    pub vote: Option<NodeId>,
    /// The highest index known committed; never beyond the log that is durable with it.
    pub commit: Index,
}

/// Describes a snapshot: the state after `last`, and the configuration in force there (§7).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry that the snapshot includes.
    pub last: LogId,
    /// The latest configuration at or before `last`.
    pub members: Configuration,
}

/// Orders the writes of one node. `boot` grows with every start of the node, so that a completion from before a
/// restart can never be taken for one of this life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WriteId {
    /// The start that issued it.
    pub boot: u64,
    /// Its place among the writes of that start; the first is 1.
    pub seq: u64,
}

/// Whether a write must be durable before it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Something depends on it: report it only when it would survive a power cut.
    Required,
    /// Nothing depends on it (the commit index moved, the log was trimmed): it may ride with the next one.
    Lazy,
}

/// A chunk of a snapshot that is being received, to be kept aside until the last one is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedChunk {
    /// Of which snapshot. A chunk 0 discards whatever was staged before.
    pub snapshot: LogId,
    /// Its place, counted from 0 without gaps.
    pub chunk: u64,
    /// Its content, opaque to Raft.
    pub data: Bytes,
}

/// One atomic unit for the log store: either all of it is durable or none.
///
/// Applied in the order of the fields: `hard_state`, `stage`, `install`, `truncate_from`, `append`, `compact_to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBatch {
    /// Its place in the order of writes.
    pub id: WriteId,
    /// Whether anything waits for it.
    pub sync: Sync,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// A chunk to keep aside.
    pub stage: Option<StagedChunk>,
    /// Replace the whole log by this snapshot, whose chunks have all been staged: no entry remains, the next
    /// one to be appended is `last.index + 1`.
    pub install: Option<SnapshotMeta>,
    /// Remove every entry from this index on.
    pub truncate_from: Option<Index>,
    /// Entries to append, without gaps, right behind the last one.
    pub append: Vec<Entry>,
    /// Remove every entry up to and including this one, and remember it as the log's base.
    pub compact_to: Option<SnapshotMeta>,
}

impl WriteBatch {
    /// A batch that does nothing yet.
    pub const fn new(id: WriteId) -> Self {
        Self {
            id,
            sync: Sync::Lazy,
            hard_state: None,
            stage: None,
            install: None,
            truncate_from: None,
            append: Vec::new(),
            compact_to: None,
        }
    }
}

/// What the store held at start: everything Raft needs to know about its own past.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Boot {
    /// How often this node has been started, this start included. Kept durable by the driver *before* Raft runs.
    pub boot: u64,
    /// The hard state.
    pub hard_state: HardState,
    /// What the log starts after: the last entry that was compacted or installed, and the configuration there.
    pub base: SnapshotMeta,
    /// The ids at which the term changes, in order: the first entry of the log and each entry whose term
    /// differs from the one before it.
    pub term_starts: Vec<LogId>,
    /// The last index of the log; `base.last.index` if the log is empty.
    pub last_index: Index,
    /// The configurations in the log, in order.
    pub members: Vec<(LogId, Configuration)>,
    /// How far the state machine has durably applied; entries up to here are not applied again.
    pub applied: Index,
    /// The tail of the log, ending at `last_index`, as much of it as is to be kept in memory at once. May be empty.
    pub tail: Vec<Entry>,
}
