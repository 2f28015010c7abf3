//! The disk with what runs on an agent: it keeps what the contract of [`Effect::Save`](lictor_local::Effect::Save) asks for, and
//! not a bit more. Writes are durable whole and in order; a crash keeps some of those that were under way, the earlier ones first.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lictor_local::{Change, Memory, RecordKey, SaveId};
use lictor_machine::{Instant, Rng};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Records {
    durable: BTreeMap<RecordKey, Bytes>,
    saving: VecDeque<(SaveId, Vec<Change>)>,
    /// When the latest write ends.
    busy_until: Instant,
    /// It takes nothing.
    pub(super) full: bool,
}

impl Records {
    /// Begins a write that takes so long by itself; returns when it ends, which is after those before it.
    pub(super) fn begin(&mut self, id: SaveId, changes: Vec<Change>, earliest: Instant) -> Instant {
        self.saving.push_back((id, changes));
        self.busy_until = self.busy_until.max(earliest);
        self.busy_until
    }

    /// The oldest write ends.
    pub(super) fn finish(&mut self) -> Option<(SaveId, Result<(), String>)> {
        let (id, changes) = self.saving.pop_front()?;
        if self.full {
            return Some((id, Err("no space left on the device".to_owned())));
        }
        self.apply(changes);
        Some((id, Ok(())))
    }

    /// The process is no more.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let kept = if self.full {
            0
        } else {
            rng.below(self.saving.len() as u64 + 1) as usize
        };
        let saving = core::mem::take(&mut self.saving);
        for (_, changes) in saving.into_iter().take(kept) {
            self.apply(changes);
        }
    }

    /// Another, empty disk is in its place.
    pub(super) fn replace(&mut self) {
        *self = Self::default();
    }

    /// What an agent that starts finds.
    pub(super) fn read(&self) -> Result<Memory, String> {
        let mut memory = Memory::default();
        for record in self.durable.values() {
            memory.read(record).map_err(|error| error.to_string())?;
        }
        Ok(memory)
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change.content {
                Some(content) => self.durable.insert(change.key, content),
                None => self.durable.remove(&change.key),
            };
        }
    }
}
