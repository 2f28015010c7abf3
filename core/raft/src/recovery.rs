//! Giving a cluster that has lost its quorum other members, by hand and at rest.
//!
//! Without a majority of its voters a cluster can agree on nothing, also not on having fewer voters. When it is certain that the missing
//! ones will not come back, whoever operates it may name those that are left, and each of them, stopped, takes this step on its
//! own disk with the same names. They then elect a leader among themselves as always, and it brings their logs to agree.
//!
//! # How the logs stay comparable
//!
//! The step appends one entry, the new configuration, and moves to a term that nobody has ever been in. The entry's term is that of the entry
//! before it, shifted by a number that is the same for all: so whoever had the more complete log by the rule of elections (§5.4.1) still has it,
//! and two survivors make the same entry only behind the same log, as Log Matching (§5.3) wants. The entry is not committed by being written;
//! it is in force as every configuration is, and it is committed, or replaced by that of a more complete log, by the first leader.

use std::collections::BTreeSet;

use lictor_machine::NodeId;

use crate::election::TERM_MAX;
use crate::io::MembersError;
use crate::membership::check_target;
use crate::types::{Boot, Configuration, Entry, HardState, LogId, Payload, Sync, Term, WriteBatch, WriteId};

/// A cluster holds far fewer elections than this between two recoveries.
const ELECTIONS_BITS: u32 = 32;

/// What a recovery would do; nothing has been done yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The members as this server's log has them, perhaps in the middle of a change.
    pub before: Configuration,
    /// The members afterwards.
    pub after: Configuration,
    /// The end of this server's log. Everything up to it is kept, committed or not.
    pub last: LogId,
    /// What is known to be committed ends here; what lies behind, up to `last`, may come to be.
    pub commit: lictor_machine::Index,
    /// What to write to the log store. The log is to be loaded anew afterwards.
    pub batch: WriteBatch,
}

/// Why a server cannot be recovered. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// It holds no log.
    #[error("this server has never been a member of a cluster: there is nothing to recover; let it join one")]
    Empty,
    /// It must be one of the members, or it would be recovered to be left out.
    #[error("this server, {0}, is not among the members that it is to be recovered with")]
    NotIncluded(NodeId),
    /// The members make no sense.
    #[error("these cannot be the members of a cluster: {0}")]
    Members(#[from] MembersError),
    /// Each recovery at least doubles the term, and it has an end.
    #[error(
        "this cluster has been recovered so often that its term, {0}, cannot grow any further; found a new one and restore its data"
    )]
    TooOften(Term),
}

/// Works out how the stopped server `id` goes on with these members, having lost the quorum of those it had.
///
/// All survivors must be given the same members, and those that are left out must not be started again with what is on their disks: if they are
/// a majority of the old members, they elect a leader of their own and go on without the others. One that is no such majority does no harm: it
/// can be taken in again, what it held and had not committed is replaced, and if it had committed more than the survivors it stops with a
/// fault. Lost is whatever only they held, be it acknowledged or not; and entries that were never acknowledged may come to be committed.
pub fn recover(
    id: NodeId,
    boot: &Boot,
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
) -> Result<Recovery, RecoveryError> {
    check_target(&voters, &learners)?;
    if !voters.contains(&id) && !learners.contains(&id) {
        return Err(RecoveryError::NotIncluded(id));
    }
    let last = LogId {
        term: boot
            .term_starts
            .last()
            .map_or(boot.base.last.term, |start| start.term),
        index: boot.last_index,
    };
    if last == LogId::ZERO {
        return Err(RecoveryError::Empty);
    }
    // No election has reached the next multiple, and all entries that were ever made are of terms below it; the entries of this
    // recovery lie between it and its double, the elections to come beyond.
    let now = boot.hard_state.term.0;
    let shift = ((now >> ELECTIONS_BITS) + 1) << ELECTIONS_BITS;
    let term = Term(2 * shift);
    if term > Term(TERM_MAX.0 >> 1) {
        return Err(RecoveryError::TooOften(boot.hard_state.term));
    }
    let after = Configuration {
        voters,
        outgoing: BTreeSet::new(),
        learners,
    };
    let entry = Entry {
        id: LogId {
            term: Term(last.term.0 + shift),
            index: last.index.next(),
        },
        payload: Payload::Members(after.clone()),
    };
    let hard_state = HardState {
        term,
        vote: None,
        commit: boot.hard_state.commit,
    };
    let id = WriteId {
        boot: boot.boot,
        seq: 1,
    };
    let before = boot
        .members
        .last()
        .map_or(&boot.base.members, |(_, members)| members);
    Ok(Recovery {
        before: before.clone(),
        after,
        last,
        commit: boot.hard_state.commit.max(boot.applied),
        batch: WriteBatch {
            sync: Sync::Required,
            hard_state: Some(hard_state),
            append: vec![entry],
            ..WriteBatch::new(id)
        },
    })
}
