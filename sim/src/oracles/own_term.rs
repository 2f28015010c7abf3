//! A leader counts replicas only for entries of its own term (§5.4.2, Figure 8); older ones become committed with them.

use lictor_machine::Index;
use lictor_raft::{Role, Status, Term};

use super::{Check, Chronicle, ensure};

#[derive(Debug)]
pub(super) struct OwnTerm {
    /// The term that each server led at the end of its last turn, and its commit index then.
    led: Vec<Option<(Term, Index)>>,
}

impl OwnTerm {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            led: vec![None; servers],
        }
    }

    pub(super) fn booted(&mut self, at: usize) {
        self.led[at] = None;
    }

    /// What a server learned to be committed before, or as, it became leader, others had counted.
    pub(super) fn turned(&mut self, chronicle: &Chronicle, at: usize, status: &Status) -> Check {
        let leads = (status.role == Role::Leader).then_some((status.term, status.commit));
        let before = core::mem::replace(&mut self.led[at], leads);
        let (Some((term, commit)), Some((term_before, commit_before))) = (leads, before) else {
            return Ok(());
        };
        if term != term_before || commit == commit_before {
            return Ok(());
        }
        let counted = chronicle.issued_log(at).term_at(commit);
        ensure("commits its own term only", counted == Some(term), || {
            format!(
                "{:?}, the leader of term {term}, commits {commit}, an entry of term {counted:?}",
                status.id
            )
        })
    }
}
