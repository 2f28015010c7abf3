//! What Raft nodes say to each other.

use bytes::Bytes;
use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use crate::election::TERM_MAX;
use crate::types::{Configuration, Entry, LogId, MEMBERS_MAX, Payload, SnapshotMeta, Term};

/// A message from one node to another. The transport names the sender and vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender's term; in a pre-vote, the term that it would campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// The kinds of message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// "Would you vote for me?" (thesis §9.6). Changes no state at the receiver.
    PreVote {
        /// The end of the candidate's log.
        last: LogId,
        /// The candidate's poll number, echoed in the reply, so that a late grant cannot count in a later poll.
        poll: Poll,
    },
    /// The answer; a refusal carries the voter's term, so that a candidate that is behind catches up.
    PreVoteReply {
        /// The poll that is answered.
        poll: Poll,
        /// Whether the voter would vote for the candidate.
        granted: bool,
    },
    /// RequestVote (§5.2).
    Vote {
        /// The end of the candidate's log.
        last: LogId,
        /// The candidate's poll number, echoed in the reply.
        poll: Poll,
        /// The leader asked for this election (thesis §3.10): voters do not wait for its lease to end.
        transfer: bool,
    },
    /// The answer to `Vote`.
    VoteReply {
        /// The poll that is answered.
        poll: Poll,
        /// Whether the vote was given.
        granted: bool,
        /// The voter's commit index: what it knows committed, the candidate may take as committed.
        commit: LogId,
    },
    /// AppendEntries (§5.3).
    Append {
        /// The entry that must stand right before `entries` in the receiver's log.
        prev: LogId,
        /// The entries, without gaps.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The answer to `Append`.
    AppendReply(AppendReply),
    /// Keeps the leader's authority alive and confirms it for reads. On the control lane, so that bulk never
    /// delays it; it says nothing about the log and is never a conflict.
    Heartbeat {
        /// The highest index that the leader knows both committed and in the receiver's log.
        commit: Index,
        /// Counts the leader's rounds of heartbeats; echoed.
        round: u64,
    },
    /// The answer to `Heartbeat`.
    HeartbeatReply {
        /// The round that is answered.
        round: u64,
    },
    /// InstallSnapshot (§7), one chunk of it.
    Snapshot {
        /// Which snapshot.
        meta: Box<SnapshotMeta>,
        /// The chunk's place, from 0.
        chunk: u64,
        /// Its content.
        data: Bytes,
        /// Whether this is the last one.
        done: bool,
    },
    /// The answer to `Snapshot`.
    SnapshotReply {
        /// Which snapshot.
        snapshot: LogId,
        /// The chunk that the receiver wants next. A lost connection resumes here.
        next_chunk: u64,
        /// The snapshot is installed, or was not needed: go on with appends behind it.
        done: bool,
    },
    /// A follower asks for an index at which it may serve reads (thesis §6.4).
    ReadIndex {
        /// The follower's number for the request, echoed.
        request: u64,
        /// Whether the leader's lease suffices, or a round of heartbeats is wanted.
        lease: bool,
    },
    /// The answer to `ReadIndex`.
    ReadIndexReply {
        /// The request that is answered.
        request: u64,
        /// Serve once this much is applied; `None`: not now, ask again.
        index: Option<Index>,
    },
    /// "Campaign now": leadership is being transferred to the receiver (thesis §3.10).
    TimeoutNow,
}

/// Numbers a poll of one candidate: its start and a counter. A grant counts only in the poll it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Poll {
    /// The start of the candidate, see [`crate::WriteId::boot`].
    pub boot: u64,
    /// Counts polls within it.
    pub count: u64,
}

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendReply {
    /// The receiver's log equals the leader's up to `through`, durably.
    Accepted {
        /// The last index that is equal and durable.
        through: Index,
    },
    /// The receiver does not hold `prev`.
    Rejected {
        /// The index of the `prev` that was refused; a reply to an old append is told by it.
        prev: Index,
        /// The last id of the receiver's log, at or before `prev`, whose term is not later than that of `prev`: the leader
        /// need not try anything between (§5.3, the paragraph on fewer rejected appends).
        hint: LogId,
        /// The end of the receiver's log.
        last: Index,
    },
}

/// Which ordered lane of a connection carries a message, so that bulk never delays what is urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, replies, read indexes.
    Control,
    /// Appends.
    Append,
    /// Snapshot chunks.
    Snapshot,
}

impl Body {
    /// The lane that carries it.
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Append { .. } => Lane::Append,
            Self::Snapshot { .. } => Lane::Snapshot,
            Self::PreVote { .. }
            | Self::PreVoteReply { .. }
            | Self::Vote { .. }
            | Self::VoteReply { .. }
            | Self::AppendReply(_)
            | Self::Heartbeat { .. }
            | Self::HeartbeatReply { .. }
            | Self::SnapshotReply { .. }
            | Self::ReadIndex { .. }
            | Self::ReadIndexReply { .. }
            | Self::TimeoutNow => Lane::Control,
        }
    }
}

/// No honest log is this long.
const INDEX_MAX: Index = Index(u64::MAX >> 8);

impl Message {
    /// Whether the message is possible at all. Whatever passes is safe to handle, from whomever it comes.
    pub fn check(&self) -> Result<(), &'static str> {
        // A server that has yet to hear of any term may only say so, when it is asked for a pre-vote.
        let may_be_new = matches!(self.body, Body::PreVoteReply { .. });
        if self.term > TERM_MAX || (self.term == Term::ZERO && !may_be_new) {
            return Err("its term is impossible");
        }
        match &self.body {
            Body::Append {
                prev,
                entries,
                commit,
            } => {
                check_id(*prev)?;
                check_index(*commit)?;
                let mut previous = *prev;
                for entry in entries {
                    check_id(entry.id)?;
                    if entry.id.index != previous.index.next() || entry.id.term < previous.term {
                        return Err("its entries are out of order");
                    }
                    if entry.id.term > self.term {
                        return Err("it carries an entry of a later term");
                    }
                    if let Payload::Members(members) = &entry.payload {
                        check_members(members)?;
                    }
                    previous = entry.id;
                }
                if prev.term > self.term {
                    Err("its entries follow one of a later term")
                } else {
                    Ok(())
                }
            }
            Body::Snapshot { meta, chunk, .. } => {
                check_id(meta.last)?;
                check_members(&meta.members)?;
                if meta.last.index == Index::ZERO || meta.last.term > self.term {
                    return Err("its snapshot is impossible");
                }
                check_index(Index(*chunk))
            }
            Body::PreVote { last, .. } | Body::Vote { last, .. } => {
                check_id(*last)?;
                if last.term >= self.term {
                    Err("the candidate's log is ahead of its term")
                } else {
                    Ok(())
                }
            }
            Body::VoteReply { commit, .. } => check_id(*commit),
            Body::AppendReply(AppendReply::Accepted { through }) => check_index(*through),
            Body::AppendReply(AppendReply::Rejected { prev, hint, last }) => {
                check_index(*prev)?;
                check_id(*hint)?;
                check_index(*last)
            }
            Body::Heartbeat { commit, .. } => check_index(*commit),
            Body::SnapshotReply {
                snapshot, next_chunk, ..
            } => {
                check_id(*snapshot)?;
                check_index(Index(*next_chunk))
            }
            Body::ReadIndexReply { index, .. } => index.map_or(Ok(()), check_index),
            Body::PreVoteReply { .. }
            | Body::HeartbeatReply { .. }
            | Body::ReadIndex { .. }
            | Body::TimeoutNow => Ok(()),
        }
    }
}

fn check_index(index: Index) -> Result<(), &'static str> {
    if index > INDEX_MAX {
        Err("an index is impossible")
    } else {
        Ok(())
    }
}

fn check_id(id: LogId) -> Result<(), &'static str> {
    if (id.index == Index::ZERO) != (id.term == Term::ZERO) {
        return Err("an entry without a term or an index");
    }
    if id.term > TERM_MAX {
        Err("a term is impossible")
    } else {
        check_index(id.index)
    }
}

fn check_members(members: &Configuration) -> Result<(), &'static str> {
    let overlap = !members.learners.is_disjoint(&members.voters);
    let most = MEMBERS_MAX + members.outgoing.len().min(MEMBERS_MAX);
    if members.voters.is_empty() || overlap || members.len() > most {
        return Err("a configuration is impossible");
    }
    Ok(())
}
