//! Leader Completeness (§5.4): an entry that is committed in some term is in the log of the leader of every later term.

use lictor_machine::Index;
use lictor_raft::{Role, Status, Term};

use super::{Check, Chronicle, Violation};

#[derive(Debug)]
pub(super) struct LeaderCompleteness {
    /// The term in which each server was last found to lead, if it still does.
    leads: Vec<Option<Term>>,
}

impl LeaderCompleteness {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            leads: vec![None; servers],
        }
    }

    pub(super) fn booted(&mut self, at: usize) {
        self.leads[at] = None;
    }

    pub(super) fn turned(&mut self, chronicle: &Chronicle, at: usize, status: &Status) -> Check {
        let term = (status.role == Role::Leader).then_some(status.term);
        if core::mem::replace(&mut self.leads[at], term) == term {
            return Ok(());
        }
        let Some(term) = term else { return Ok(()) };
        let log = chronicle.issued_log(at);
        for index in log.base.index.0.max(1)..=chronicle.ledger_end().0 {
            let Some(record) = chronicle
                .ledger(Index(index))
                .filter(|record| record.committed_in < term)
            else {
                continue;
            };
            if log.term_at(Index(index)) != Some(record.term) {
                return Err(Violation {
                    property: "leader completeness",
                    detail: format!(
                        "{:?} leads in term {term} without {}.{index}, which was committed in term {}; its log ends at {}",
                        status.id,
                        record.term,
                        record.committed_in,
                        log.last(),
                    ),
                });
            }
        }
        Ok(())
    }
}
