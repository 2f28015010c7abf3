//! State Machine Safety (§5.4.3): no two servers apply different entries at the same index, and so their states at equal
//! indexes are equal.

use std::collections::BTreeMap;

use lictor_catalog::State;
use lictor_machine::Index;
use lictor_raft::{Committed, Status};

use super::{Check, Chronicle, Violation, ensure};

const PROPERTY: &str = "state machine safety";

#[derive(Debug, Default)]
pub(super) struct StateMachineSafety {
    digests: BTreeMap<Index, u64>,
}

impl StateMachineSafety {
    pub(super) fn published(&mut self, at: usize, state: &State) -> Check {
        let digest = state.digest();
        let first = *self.digests.entry(state.index()).or_insert(digest);
        ensure(PROPERTY, first == digest, || {
            format!(
                "the state of server {} after {} differs from that of others",
                at + 1,
                state.index()
            )
        })
    }
}

/// What a server newly takes for committed, from behind `agreed`, is what others do.
pub(super) fn commit_agrees(chronicle: &Chronicle, at: usize, agreed: Index, status: &Status) -> Check {
    let log = chronicle.issued_log(at);
    for index in agreed.next().max(log.base.index.max(Index(1))).0..=status.commit.0 {
        let (mine, theirs) = (
            log.term_at(Index(index)),
            chronicle.ledger(Index(index)).map(|record| record.term),
        );
        if mine != theirs {
            return Err(Violation {
                property: PROPERTY,
                detail: format!(
                    "at index {index} {:?} takes an entry of term {mine:?} for committed, and others one of term {theirs:?}",
                    status.id
                ),
            });
        }
    }
    Ok(())
}

/// Entries that a server applied are the committed ones.
pub(super) fn applied(chronicle: &Chronicle, at: usize, entries: &[Committed]) -> Check {
    for Committed { entry, .. } in entries {
        let committed = chronicle.ledger(entry.id.index).map(|record| record.term);
        ensure(PROPERTY, committed == Some(entry.id.term), || {
            format!(
                "server {} applies {}, and what is committed at that index has term {committed:?}",
                at + 1,
                entry.id
            )
        })?;
    }
    Ok(())
}
