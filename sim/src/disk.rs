//! The disks of simulated servers: what has been issued, what is durable, and what a crash leaves.
//!
//! The model gives exactly what the storage contract (`lictor_node::store`) promises and not a bit more: batches
//! become durable whole and in order; a crash keeps any prefix of those that were not reported durable, whether or
//! not their write had begun; trailing lazy batches of a call are reported at once and become durable with a
//! later one.

mod image;
mod rows;

use std::borrow::Cow;
use std::collections::VecDeque;

use lictor_catalog::Export;
use lictor_machine::{Index, Rng};
use lictor_node::store::{LogBoot, Notes, StateBatch};
use lictor_raft::{Boot, Configuration, Entry, LogId, SnapshotMeta, Sync, WriteBatch, WriteId};

pub use image::LogImage;
pub use rows::{DecodeRows, RowImage};

/// Something a log store is asked to write.
#[derive(Clone, Debug)]
pub enum LogWrite {
    /// A batch of Raft's.
    Batch(Box<WriteBatch>),
    /// The node's notes.
    Notes(Notes),
}

/// Something a state store is asked to write.
#[derive(Clone, Debug)]
pub enum StateWrite {
    /// Changed rows.
    Batch(StateBatch),
    /// Everything anew, from the staged chunks of this snapshot.
    Replace(SnapshotMeta),
    /// Everything anew, from a state that was applied up to here.
    Whole(LogId, Box<Export>),
}

/// What a finished call of the log store has to report.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// The last batch of the call.
    pub through: Option<WriteId>,
    /// Whether notes were among it, and how many times.
    pub notes: usize,
    /// The batches that are durable now and were not before, in order.
    pub durable: Vec<WriteBatch>,
}

/// One server's two stores.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    boots: u64,
    durable: LogImage,
    notes: Notes,
    /// Not durable yet, in order: first `reported` lazy ones, then `busy` in the running call, then the waiting.
    log: VecDeque<LogWrite>,
    reported: usize,
    busy: usize,
    rows: RowImage,
    state: VecDeque<StateWrite>,
    state_busy: usize,
}

impl Disk {
    /// Queues a write for the log store.
    pub fn issue(&mut self, write: LogWrite) {
        self.log.push_back(write);
    }

    /// Begins a call with everything that waits. `None` if nothing does or a call is running; else the number of writes in it.
    pub fn begin(&mut self) -> Option<usize> {
        let waiting = self.log.len() - self.reported - self.busy;
        if self.busy > 0 || waiting == 0 || self.is_replacing() {
            return None;
        }
        self.busy = waiting;
        Some(waiting)
    }

    /// Whether the rows are to be replaced: until they are, nothing may be staged in the place of the chunks that they come from, so the
    /// log store waits.
    fn is_replacing(&self) -> bool {
        self.state
            .iter()
            .any(|write| matches!(write, StateWrite::Replace(_)))
    }

    /// The running call returns: its writes, up to the last that must be synced, are durable.
    pub fn finish(&mut self) -> Result<Finished, String> {
        let done = self.reported + self.busy;
        self.busy = 0;
        let is_required = |write: &LogWrite| match write {
            LogWrite::Batch(batch) => batch.sync == Sync::Required,
            LogWrite::Notes(_) => true,
        };
        let durable = self
            .log
            .iter()
            .take(done)
            .rposition(is_required)
            .map_or(0, |last| last + 1);
        let mut finished = Finished::default();
        for (at, write) in self.log.iter().take(done).enumerate() {
            match write {
                LogWrite::Batch(batch) => finished.through = Some(batch.id),
                LogWrite::Notes(_) => finished.notes += usize::from(at >= self.reported),
            }
        }
        finished.durable = self.settle(durable)?;
        self.reported = done - durable;
        Ok(finished)
    }

    /// The first batch of the running call: the one a failure is reported for.
    pub fn failing(&self) -> Option<WriteId> {
        self.log.iter().skip(self.reported).find_map(|write| match write {
            LogWrite::Batch(batch) => Some(batch.id),
            LogWrite::Notes(_) => None,
        })
    }

    /// Power is cut: of what was not durable some prefix stays, the rest is gone. Returns what became durable by it.
    pub fn crash(&mut self, rng: &mut Rng) -> Result<Vec<WriteBatch>, String> {
        // What waits until the rows are replaced has not been begun.
        let begun = if self.is_replacing() {
            self.reported + self.busy
        } else {
            self.log.len()
        };
        let kept = rng.below(self.log.len() as u64 + 1) as usize;
        self.crash_keeping(kept.min(begun))
    }

    /// As [`Disk::crash`], with the number of writes that stay chosen by the caller.
    pub fn crash_keeping(&mut self, kept: usize) -> Result<Vec<WriteBatch>, String> {
        let durable = self.settle(kept.min(self.log.len()))?;
        self.log.clear();
        (self.reported, self.busy) = (0, 0);
        self.state.clear();
        self.state_busy = 0;
        Ok(durable)
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.log.len() == self.reported && self.state.is_empty()
    }

    /// How many writes to the log store are not durable.
    pub fn unsettled(&self) -> usize {
        self.log.len()
    }

    /// The log as a reader sees it: what finished calls have written.
    pub fn written(&self) -> Result<Cow<'_, LogImage>, String> {
        let mut image = Cow::Borrowed(&self.durable);
        for write in self.log.iter().take(self.reported) {
            match write {
                LogWrite::Batch(batch) => image.to_mut().apply(batch)?,
                LogWrite::Notes(_) => {}
            }
        }
        Ok(image)
    }

    /// Entries as [`lictor_node::store::LogReader::entries`] gives them.
    pub fn entries(&self, first: Index, last: Index, max_bytes: usize) -> Result<Vec<Entry>, String> {
        Ok(self.written()?.entries(first, last, max_bytes))
    }

    /// The log that a crash could not take.
    pub const fn durable(&self) -> &LogImage {
        &self.durable
    }

    /// The rows of the state store.
    pub const fn rows(&self) -> &RowImage {
        &self.rows
    }

    /// Finishes the installation of a snapshot that a crash interrupted: the log begins behind it already, and the rows do not have it.
    pub fn recover(&mut self, decode: DecodeRows) -> Result<(), String> {
        let base = self.durable.base.last;
        if self.rows.applied.index < base.index {
            self.rows = RowImage::of_chunks(base, self.durable.staged_chunks(base)?, decode)?;
        }
        Ok(())
    }

    /// Counts a start and reads what is there. `tail_bytes` of the newest entries come along.
    pub fn load(&mut self, tail_bytes: usize) -> LogBoot {
        self.boots += 1;
        let image = &self.durable;
        LogBoot {
            raft: Boot {
                boot: self.boots,
                hard_state: image.hard_state,
                base: image.base.clone(),
                term_starts: image.term_starts(),
                last_index: image.last().index,
                members: image.members(),
                applied: Index::ZERO,
                tail: image.tail(tail_bytes),
            },
            notes: self.notes.clone(),
        }
    }

    /// The configuration in force at an index that is not below the log's base.
    pub fn members_at(&self, index: Index) -> Configuration {
        let newest = self
            .durable
            .members()
            .into_iter()
            .rev()
            .find(|(id, _)| id.index <= index);
        newest.map_or_else(|| self.durable.base.members.clone(), |(_, members)| members)
    }

    /// Queues a write for the state store.
    pub fn issue_state(&mut self, write: StateWrite) {
        self.state.push_back(write);
    }

    /// Begins to write the first that waits for the state store; whether there is one and none is running.
    pub fn begin_state(&mut self) -> bool {
        let begins = self.state_busy == 0 && !self.state.is_empty();
        if begins {
            self.state_busy = 1;
        }
        begins
    }

    /// The running write to the state store is durable. Returns how far the rows go now.
    pub fn finish_state(&mut self, decode: DecodeRows) -> Result<LogId, String> {
        self.state_busy = 0;
        match self
            .state
            .pop_front()
            .ok_or("no write to the state store was running")?
        {
            StateWrite::Batch(batch) => self.rows.apply(&batch),
            StateWrite::Replace(meta) => {
                let chunks = self.written()?.staged_chunks(meta.last)?.to_vec();
                self.rows = RowImage::of_chunks(meta.last, &chunks, decode)?;
            }
            StateWrite::Whole(applied, state) => self.rows = RowImage::of_state(applied, &state),
        }
        Ok(self.rows.applied)
    }

    fn settle(&mut self, count: usize) -> Result<Vec<WriteBatch>, String> {
        let mut settled = Vec::new();
        for write in self.log.drain(..count) {
            match write {
                LogWrite::Batch(batch) => {
                    self.durable.apply(&batch)?;
                    settled.push(*batch);
                }
                LogWrite::Notes(notes) => self.notes = notes,
            }
        }
        Ok(settled)
    }
}

#[cfg(test)]
mod tests {
    use lictor_raft::{HardState, Payload, Term};

    use super::*;

    fn batch(seq: u64, sync: Sync) -> WriteBatch {
        let mut batch = WriteBatch::new(WriteId { boot: 1, seq });
        batch.sync = sync;
        batch.hard_state = Some(HardState {
            term: Term(seq),
            vote: None,
            commit: Index::ZERO,
        });
        batch.append.push(Entry {
            id: LogId::new(1, seq),
            payload: Payload::Noop,
        });
        batch
    }

    fn disk_with(writes: &[Sync]) -> Disk {
        let mut disk = Disk::default();
        for (seq, sync) in (1..).zip(writes) {
            disk.issue(LogWrite::Batch(Box::new(batch(seq, *sync))));
        }
        disk
    }

    #[test]
    fn a_crash_keeps_some_prefix_of_whole_batches() {
        let mut lasts = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut disk = disk_with(&[Sync::Required; 4]);
            disk.begin();
            disk.crash(&mut Rng::new(seed)).unwrap();
            let last = disk.durable().last().index.0;
            assert_eq!(disk.durable().hard_state.term, Term(last), "a batch was torn");
            lasts.insert(last);
        }
        assert_eq!(lasts.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_was_reported_survives_except_trailing_lazy_writes() {
        let mut disk = disk_with(&[Sync::Required, Sync::Lazy, Sync::Required, Sync::Lazy]);
        assert_eq!(disk.begin(), Some(4));
        assert_eq!(disk.begin(), None, "one call at a time");
        disk.issue(LogWrite::Batch(Box::new(batch(5, Sync::Required))));
        let finished = disk.finish().unwrap();
        assert_eq!(finished.through, Some(WriteId { boot: 1, seq: 4 }));
        assert_eq!(finished.durable.len(), 3);
        assert_eq!(
            disk.entries(Index(1), Index(9), usize::MAX).unwrap().len(),
            4,
            "readers see the lazy one"
        );
        let mut crashed = disk.clone();
        crashed.crash_keeping(0).unwrap();
        assert_eq!(crashed.durable().last().index, Index(3));
        assert_eq!(disk.begin(), Some(1));
        disk.finish().unwrap();
        disk.crash_keeping(0).unwrap();
        assert_eq!(disk.durable().last().index, Index(5), "the lazy one rode along");
    }

    #[test]
    fn each_load_counts_a_start_and_notes_survive() {
        let mut disk = Disk::default();
        assert_eq!(disk.load(0).raft.boot, 1);
        let notes = Notes {
            cluster: Some(lictor_node::ClusterId(7)),
            ..Notes::default()
        };
        disk.issue(LogWrite::Notes(notes.clone()));
        disk.begin();
        assert_eq!(disk.finish().unwrap().notes, 1);
        disk.crash_keeping(0).unwrap();
        let boot = disk.load(0);
        assert_eq!((boot.raft.boot, boot.notes), (2, notes));
    }
}
