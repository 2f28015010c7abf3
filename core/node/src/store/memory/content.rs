//! What the disk holds, and how changes change it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lictor_catalog::{Row, Table};
use lictor_machine::Index;
use lictor_raft::{Entry, HardState, LogId, SnapshotMeta, WriteBatch};

use crate::store::{Installed, Notes, Outline, Staged, StateBatch};

/// What a log store holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogContent {
    /// How often the store was loaded.
    pub boot: u64,
    /// The hard state.
    pub hard_state: HardState,
    /// What the log starts after.
    pub base: SnapshotMeta,
    /// The entries from right behind the base, without gaps.
    pub entries: VecDeque<Entry>,
    /// The snapshot that is kept aside.
    pub staged: Option<Staged>,
    /// Its chunks, by number.
    pub chunks: Vec<Bytes>,
    /// The notes.
    pub notes: Notes,
}

/// What a state store holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StateContent {
    /// The last entry whose effects are in the rows.
    pub applied: LogId,
    /// The rows.
    pub rows: BTreeMap<(Table, Bytes), Bytes>,
}

/// Content that changes by discrete changes.
pub(super) trait Medium: Clone + Default {
    type Change;

    fn apply(&mut self, change: &Self::Change);
}

#[derive(Clone, Debug)]
pub(super) enum LogChange {
    Boot(u64),
    Batch(Box<WriteBatch>),
    Notes(Notes),
    ForgetStaged(LogId),
}

#[derive(Clone, Debug)]
pub(super) enum StateChange {
    Batch(StateBatch),
    Replace(Box<StateContent>),
}

impl LogContent {
    /// The last index; the base's if there are no entries.
    pub fn last(&self) -> Index {
        self.entries
            .back()
            .map_or(self.base.last.index, |entry| entry.id.index)
    }

    pub(super) fn outline(&self) -> Outline {
        Outline {
            base: self.base.last,
            last: self.last(),
            commit: self.hard_state.commit,
            staged: self.staged.clone(),
        }
    }

    pub(super) fn installed(&self) -> Option<Installed> {
        let staged = self.staged.as_ref()?;
        Some(Installed {
            snapshot: staged.installed.clone()?,
            chunks: staged.chunks,
        })
    }

    pub(super) fn chunk(&self, snapshot: LogId, number: u64) -> Option<Bytes> {
        self.staged
            .as_ref()
            .filter(|staged| staged.snapshot == snapshot)?;
        self.chunks.get(usize::try_from(number).ok()?).cloned()
    }

    /// Applies a batch that [`Outline::admit`] has admitted.
    fn write(&mut self, batch: &WriteBatch) {
        let mut outline = self.outline();
        outline
            .admit(batch)
            .expect("admitted before it was written, and nothing came between");
        self.staged = outline.staged;
        if let Some(state) = batch.hard_state {
            self.hard_state = state;
        }
        if let Some(chunk) = &batch.stage {
            let kept = usize::try_from(chunk.chunk).expect("not more than there are chunks in memory");
            self.chunks.truncate(kept);
            self.chunks.push(chunk.data.clone());
        }
        if let Some(snapshot) = &batch.install {
            self.entries.clear();
            self.base = snapshot.clone();
        }
        if let Some(from) = batch.truncate_from {
            while self.entries.back().is_some_and(|entry| entry.id.index >= from) {
                self.entries.pop_back();
            }
        }
        self.entries.extend(batch.append.iter().cloned());
        if let Some(base) = &batch.compact_to {
            while self
                .entries
                .front()
                .is_some_and(|entry| entry.id.index <= base.last.index)
            {
                self.entries.pop_front();
            }
            self.base = base.clone();
        }
    }
}

impl Medium for LogContent {
    type Change = LogChange;

    fn apply(&mut self, change: &LogChange) {
        match change {
            LogChange::Boot(boot) => self.boot = *boot,
            LogChange::Batch(batch) => self.write(batch),
            LogChange::Notes(notes) => self.notes = notes.clone(),
            LogChange::ForgetStaged(snapshot) => {
                if self
                    .staged
                    .as_ref()
                    .is_some_and(|staged| staged.snapshot == *snapshot)
                {
                    self.staged = None;
                    self.chunks.clear();
                }
            }
        }
    }
}

impl StateContent {
    pub(super) fn put(&mut self, rows: &[Row]) {
        for row in rows {
            let name = (row.table, row.key.clone());
            match &row.value {
                Some(value) => self.rows.insert(name, value.clone()),
                None => self.rows.remove(&name),
            };
        }
    }
}

impl Medium for StateContent {
    type Change = StateChange;

    fn apply(&mut self, change: &StateChange) {
        match change {
            StateChange::Batch(batch) => {
                self.put(&batch.rows);
                self.applied = batch.applied;
            }
            StateChange::Replace(content) => self.clone_from(content),
        }
    }
}
