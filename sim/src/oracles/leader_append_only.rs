//! Leader Append-Only (§5.3): a leader never overwrites or deletes entries in its log; it only appends new ones.

use lictor_raft::{Role, Status, WriteBatch};

use super::{Check, ensure};

#[derive(Debug)]
pub(super) struct LeaderAppendOnly {
    /// The status of each server after its last turn says whether it led.
    leads: Vec<bool>,
}

impl LeaderAppendOnly {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            leads: vec![false; servers],
        }
    }

    pub(super) fn booted(&mut self, at: usize) {
        self.leads[at] = false;
    }

    /// A write of a leader that steps down and follows another within one turn carries the later term; such a write is not a leader's.
    pub(super) fn issued(&mut self, at: usize, batch: &WriteBatch) -> Check {
        let steps_down = batch.hard_state.is_some();
        let rewrites = batch.truncate_from.is_some() || batch.install.is_some();
        ensure(
            "leader append-only",
            !self.leads[at] || steps_down || !rewrites,
            || {
                format!(
                    "server {} removes entries from its log while it leads: {batch:?}",
                    at + 1
                )
            },
        )
    }

    pub(super) fn turned(&mut self, at: usize, status: &Status) {
        self.leads[at] = status.role == Role::Leader;
    }
}
