//! Monotone commit: within one life of a server its term, its commit index and what it has applied only grow, in that order of
//! their sizes; and the commit index on disk is never beyond the log that is there.

use lictor_machine::Index;
use lictor_raft::{Status, Term, WriteBatch};

use super::{Check, Chronicle, ensure};

const PROPERTY: &str = "monotone commit";

#[derive(Debug)]
pub(super) struct MonotoneCommit {
    seen: Vec<(Term, Index, Index)>,
}

impl MonotoneCommit {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            seen: vec![(Term::ZERO, Index::ZERO, Index::ZERO); servers],
        }
    }

    pub(super) fn booted(&mut self, at: usize) {
        self.seen[at] = (Term::ZERO, Index::ZERO, Index::ZERO);
    }

    pub(super) fn turned(&mut self, at: usize, status: &Status) -> Check {
        let (term, commit, applied) = self.seen[at];
        self.seen[at] = (status.term, status.commit, status.applied);
        let grows = status.term >= term && status.commit >= commit && status.applied >= applied;
        ensure(PROPERTY, grows, || {
            format!(
                "{:?} went back from term {term}, commit {commit}, applied {applied} to {}, {}, {}",
                status.id, status.term, status.commit, status.applied
            )
        })?;
        ensure(
            PROPERTY,
            status.applied <= status.commit && status.commit <= status.last.index,
            || {
                format!(
                    "{:?}: applied {}, commit {}, log {}",
                    status.id, status.applied, status.commit, status.last
                )
            },
        )
    }
}

/// The write of a server, which its log has taken in already, keeps the commit index within the log.
pub(super) fn commit_within_log(chronicle: &Chronicle, at: usize, batch: &WriteBatch) -> Check {
    let Some(hard_state) = batch.hard_state else {
        return Ok(());
    };
    let last = chronicle.issued_log(at).last();
    ensure(PROPERTY, hard_state.commit <= last.index, || {
        format!(
            "{:?} writes commit index {} with a log that ends at {last}",
            chronicle.id(at),
            hard_state.commit
        )
    })
}
