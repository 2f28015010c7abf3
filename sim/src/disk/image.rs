//! The content of a log store at one moment.

use std::collections::VecDeque;

use bytes::Bytes;
use lictor_machine::Index;
use lictor_raft::{Configuration, Entry, HardState, LogId, Payload, SnapshotMeta, Term, WriteBatch};

/// A log store's content. Applying a batch that no store could carry out is an error of whoever issued it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogImage {
    /// Term, vote and commit hint.
    pub hard_state: HardState,
    /// What the log begins after.
    pub base: SnapshotMeta,
    /// The entries behind the base, without gaps.
    pub entries: VecDeque<Entry>,
    staged_snapshot: LogId,
    staged: Vec<Bytes>,
}

impl LogImage {
    /// Applies a batch, in the order that [`WriteBatch`] states.
    pub fn apply(&mut self, batch: &WriteBatch) -> Result<(), String> {
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(chunk) = &batch.stage {
            if chunk.chunk == 0 {
                self.staged.clear();
                self.staged_snapshot = chunk.snapshot;
            }
            if chunk.snapshot != self.staged_snapshot || chunk.chunk != self.staged.len() as u64 {
                return Err(format!(
                    "chunk {} of {} staged out of order",
                    chunk.chunk, chunk.snapshot
                ));
            }
            self.staged.push(chunk.data.clone());
        }
        if let Some(meta) = &batch.install {
            if self.staged.is_empty() || meta.last != self.staged_snapshot {
                return Err(format!("snapshot {} installed without its chunks", meta.last));
            }
            self.entries.clear();
            self.base = meta.clone();
        }
        if let Some(from) = batch.truncate_from {
            if from <= self.base.last.index {
                return Err(format!(
                    "truncated from {from}, at or below the base {}",
                    self.base.last
                ));
            }
            self.entries
                .truncate((from.0 - self.base.last.index.0 - 1) as usize);
        }
        for entry in &batch.append {
            let last = self.last();
            if entry.id.index != last.index.next() || entry.id.term < last.term {
                return Err(format!("entry {} appended behind {last}", entry.id));
            }
            self.entries.push_back(entry.clone());
        }
        if let Some(meta) = &batch.compact_to {
            if meta.last.index < self.base.last.index || self.term_at(meta.last.index) != Some(meta.last.term)
            {
                return Err(format!("compacted to {}, which is not in the log", meta.last));
            }
            self.entries
                .drain(..(meta.last.index.0 - self.base.last.index.0) as usize);
            self.base = meta.clone();
        }
        Ok(())
    }

    /// The id of the last entry, or of the base.
    pub fn last(&self) -> LogId {
        self.entries.back().map_or(self.base.last, |entry| entry.id)
    }

    /// The term at an index, if the log says.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.last.index {
            Some(self.base.last.term)
        } else {
            self.entry(index).map(|entry| entry.id.term)
        }
    }

    /// The entry at an index.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.last.index.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Entries from `first` to `last` until `max_bytes` is reached, at least one; empty if `first` is not there.
    pub fn entries(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        let mut index = first;
        while index <= last
            && let Some(entry) = self.entry(index)
        {
            bytes = bytes.saturating_add(entry.size());
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
            index = index.next();
        }
        found
    }

    /// The chunks of a snapshot that is staged whole or in part.
    pub fn staged_chunks(&self, snapshot: LogId) -> Result<&[Bytes], String> {
        if self.staged_snapshot == snapshot && !self.staged.is_empty() {
            Ok(&self.staged)
        } else {
            Err(format!("snapshot {snapshot} is not staged"))
        }
    }

    /// The first entry, and each whose term differs from the one before.
    pub(super) fn term_starts(&self) -> Vec<LogId> {
        let mut starts: Vec<LogId> = Vec::new();
        for entry in &self.entries {
            if starts.last().is_none_or(|last| last.term != entry.id.term) {
                starts.push(entry.id);
            }
        }
        starts
    }

    /// The configurations in the log, in order.
    pub fn members(&self) -> Vec<(LogId, Configuration)> {
        let members = |entry: &Entry| match &entry.payload {
            Payload::Members(members) => Some((entry.id, members.clone())),
            Payload::Noop | Payload::Command(_) => None,
        };
        self.entries.iter().filter_map(members).collect()
    }

    pub(super) fn tail(&self, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0_usize;
        let fits = |entry: &&Entry| {
            bytes = bytes.saturating_add(entry.size());
            bytes <= max_bytes
        };
        let count = self.entries.iter().rev().take_while(fits).count();
        self.entries
            .range(self.entries.len() - count..)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use lictor_raft::{StagedChunk, WriteId};

    use super::*;

    fn entries(ids: &[(u64, u64)]) -> WriteBatch {
        let mut batch = WriteBatch::new(WriteId::default());
        batch.append = ids
            .iter()
            .map(|(term, index)| Entry {
                id: LogId::new(*term, *index),
                payload: Payload::Noop,
            })
            .collect();
        batch
    }

    #[test]
    fn batches_that_contradict_the_log_are_refused() {
        let mut image = LogImage::default();
        image.apply(&entries(&[(1, 1), (1, 2), (2, 3)])).unwrap();
        assert!(image.clone().apply(&entries(&[(2, 5)])).is_err(), "a gap");
        assert!(
            image.clone().apply(&entries(&[(1, 4)])).is_err(),
            "a term that goes back"
        );
        let mut compact = WriteBatch::new(WriteId::default());
        compact.compact_to = Some(SnapshotMeta {
            last: LogId::new(1, 3),
            members: Configuration::default(),
        });
        assert!(image.clone().apply(&compact).is_err(), "another entry is there");
        compact.compact_to = Some(SnapshotMeta {
            last: LogId::new(1, 2),
            members: Configuration::default(),
        });
        image.apply(&compact).unwrap();
        assert_eq!(
            (image.base.last, image.last(), image.entries.len()),
            (LogId::new(1, 2), LogId::new(2, 3), 1)
        );
        let mut truncate = WriteBatch::new(WriteId::default());
        truncate.truncate_from = Some(Index(2));
        assert!(image.clone().apply(&truncate).is_err(), "below the base");
        truncate.truncate_from = Some(Index(3));
        image.apply(&truncate).unwrap();
        assert_eq!(image.last(), LogId::new(1, 2));
    }

    #[test]
    fn a_snapshot_needs_its_chunks_in_order() {
        let id = LogId::new(3, 9);
        let mut image = LogImage::default();
        let mut install = WriteBatch::new(WriteId::default());
        install.install = Some(SnapshotMeta {
            last: id,
            members: Configuration::default(),
        });
        assert!(image.apply(&install).is_err());
        let stage = |chunk| {
            let mut batch = WriteBatch::new(WriteId::default());
            batch.stage = Some(StagedChunk {
                snapshot: id,
                chunk,
                data: Bytes::new(),
            });
            batch
        };
        image.apply(&stage(0)).unwrap();
        assert!(image.clone().apply(&stage(2)).is_err());
        image.apply(&stage(1)).unwrap();
        image.apply(&install).unwrap();
        assert_eq!(image.last(), id);
        assert_eq!(image.staged_chunks(id).unwrap().len(), 2);
    }

    #[test]
    fn reads_and_boot_facts_match_the_entries() {
        let mut image = LogImage::default();
        image.apply(&entries(&[(1, 1), (1, 2), (2, 3), (4, 4)])).unwrap();
        assert_eq!(
            image.term_starts(),
            [LogId::new(1, 1), LogId::new(2, 3), LogId::new(4, 4)]
        );
        assert_eq!(image.entries(Index(2), Index(3), usize::MAX).len(), 2);
        assert_eq!(image.entries(Index(2), Index(9), 0).len(), 1);
        assert!(image.entries(Index(5), Index(9), 10).is_empty());
        assert!(image.entries(Index(0), Index(9), 10).is_empty());
        assert_eq!(image.tail(64).len(), 2);
        assert_eq!(image.tail(0).len(), 0);
    }
}
