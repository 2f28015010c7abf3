//! Apply exactly once and in order: what a server applies follows without gap or repetition on what its state had already.

use lictor_machine::Index;
use lictor_raft::Committed;

use super::{Check, ensure};

const PROPERTY: &str = "apply exactly once, in order";

#[derive(Debug)]
pub(super) struct ApplyOrder {
    applied: Vec<Index>,
}

impl ApplyOrder {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            applied: vec![Index::ZERO; servers],
        }
    }

    pub(super) fn booted(&mut self, at: usize, index: Index) {
        self.applied[at] = index;
    }

    pub(super) fn applied(&mut self, at: usize, entries: &[Committed]) -> Check {
        for Committed { entry, .. } in entries {
            let last = self.applied[at];
            ensure(PROPERTY, entry.id.index == last.next(), || {
                format!("server {} applies {} after {last}", at + 1, entry.id)
            })?;
            self.applied[at] = entry.id.index;
        }
        Ok(())
    }

    /// A state may leap ahead, when a snapshot replaces it, but never back.
    pub(super) fn published(&mut self, at: usize, index: Index) -> Check {
        let last = core::mem::replace(&mut self.applied[at], index);
        ensure(PROPERTY, index >= last, || {
            format!("server {} shows its readers {index} after {last}", at + 1)
        })
    }
}
