//! Numbered write batches: what is being gathered, what is on its way to the disk, and what waits for it.
//!
//! This module holds the durability rules: a message that depends on a write is released only by the report that
//! the write, and every write before it, is durable.

use core::mem;
use std::collections::VecDeque;

use lictor_machine::{Index, Instant, NodeId};

use crate::message::Message;
use crate::types::{Entry, HardState, SnapshotMeta, StagedChunk, Sync, Term, WriteBatch, WriteId};

/// How many messages may wait for the disk: many more than a cluster has in flight while its disks work.
const GATED_MAX: usize = 4096;

/// A batch on its way to the disk.
#[derive(Debug)]
struct InFlight {
    id: WriteId,
    sync: Sync,
    since: Instant,
    /// The term that is durable with it.
    term: Term,
    /// The last index of the batch that is still in the log. A later truncation lowers it, so that a completion
    /// never vouches for an entry that has been replaced since (the ABA problem).
    valid_to: Index,
}

#[derive(Debug)]
pub(crate) struct Writes {
    next: WriteId,
    pending: WriteBatch,
    /// Whether `pending` has anything in it.
    dirty: bool,
    pending_valid_to: Index,
    in_flight: VecDeque<InFlight>,
    /// Messages, each with the write that it depends on, in order.
    gated: VecDeque<(WriteId, NodeId, Message)>,
    durable: WriteId,
    /// The last closed write that something may depend on.
    required: WriteId,
    durable_term: Term,
    /// The hard state as last put into a batch.
    written: HardState,
}

impl Writes {
    pub(crate) fn new(boot: u64, written: HardState) -> Self {
        let next = WriteId { boot, seq: 1 };
        Self {
            next,
            pending: WriteBatch::new(next),
            dirty: false,
            pending_valid_to: Index::ZERO,
            in_flight: VecDeque::new(),
            gated: VecDeque::new(),
            durable: WriteId { boot, seq: 0 },
            required: WriteId { boot, seq: 0 },
            durable_term: written.term,
            written,
        }
    }

    /// The write that carries everything decided so far that anybody may have to be told of: once it is durable, so is everything
    /// before. A lazy write behind it does not count, since it may be long in coming.
    pub(crate) fn latest(&self) -> WriteId {
        if self.pending.sync == Sync::Required {
            self.pending.id
        } else {
            self.required
        }
    }

    pub(crate) fn is_durable(&self, id: WriteId) -> bool {
        id <= self.durable
    }

    /// Whether a restart would find this term.
    pub(crate) fn is_term_durable(&self, term: Term) -> bool {
        term <= self.durable_term
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len() + usize::from(self.dirty)
    }

    /// Whether a batch with this id was issued in this life.
    pub(crate) fn issued(&self, id: WriteId) -> bool {
        id.boot == self.next.boot && id.seq > 0 && id.seq < self.next.seq
    }

    /// The oldest write that something waits for, and since when.
    pub(crate) fn oldest_required(&self) -> Option<(WriteId, Instant)> {
        self.in_flight
            .iter()
            .find(|write| write.sync == Sync::Required)
            .map(|write| (write.id, write.since))
    }

    fn touch(&mut self, sync: Sync) -> &mut WriteBatch {
        self.dirty = true;
        if sync == Sync::Required {
            self.pending.sync = Sync::Required;
        }
        &mut self.pending
    }

    /// Notes that term or vote changed; the values are taken when the batch is closed.
    pub(crate) fn hard_state(&mut self) {
        self.touch(Sync::Required);
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.pending_valid_to = entry.id.index;
        self.touch(Sync::Required).append.push(entry);
    }

    pub(crate) fn truncate_from(&mut self, index: Index) {
        let last_valid = index.prev();
        for write in &mut self.in_flight {
            write.valid_to = write.valid_to.min(last_valid);
        }
        self.pending_valid_to = self.pending_valid_to.min(last_valid);
        let batch = self.touch(Sync::Required);
        let within_batch = batch.append.first().is_some_and(|entry| entry.id.index < index);
        batch.append.retain(|entry| entry.id.index < index);
        if !within_batch {
            batch.truncate_from = Some(batch.truncate_from.map_or(index, |from| from.min(index)));
        }
    }

    /// Adds a staged chunk. Returns a batch that had to be closed because it already held one.
    #[must_use]
    pub(crate) fn stage(&mut self, chunk: StagedChunk, now: Instant, hard: HardState) -> Option<WriteBatch> {
        let closed = if self.pending.stage.is_some() {
            self.close(now, hard)
        } else {
            None
        };
        self.touch(Sync::Required).stage = Some(chunk);
        closed
    }

    /// Installs a staged snapshot in place of the log. Returns the batch before it, which must stay apart.
    #[must_use]
    pub(crate) fn install(
        &mut self,
        meta: SnapshotMeta,
        now: Instant,
        hard: HardState,
    ) -> Option<WriteBatch> {
        // Entries and truncations gathered before refer to the old log; the order of fields within a batch puts them behind.
        let apart = !self.pending.append.is_empty()
            || self.pending.truncate_from.is_some()
            || self.pending.compact_to.is_some();
        let closed = if apart { self.close(now, hard) } else { None };
        for write in &mut self.in_flight {
            write.valid_to = Index::ZERO;
        }
        self.pending_valid_to = meta.last.index;
        self.touch(Sync::Required).install = Some(meta);
        closed
    }

    pub(crate) fn compact_to(&mut self, meta: SnapshotMeta) {
        self.touch(Sync::Lazy).compact_to = Some(meta);
    }

    /// Closes the batch that is being gathered, if there is anything in it.
    pub(crate) fn close(&mut self, now: Instant, hard: HardState) -> Option<WriteBatch> {
        if !self.dirty {
            return None;
        }
        self.dirty = false;
        let id = self.next;
        self.next.seq += 1;
        let mut batch = mem::replace(&mut self.pending, WriteBatch::new(self.next));
        if hard != self.written {
            batch.hard_state = Some(hard);
            self.written = hard;
        }
        if batch.sync == Sync::Required {
            self.required = id;
        }
        let valid_to = mem::take(&mut self.pending_valid_to);
        self.in_flight.push_back(InFlight {
            id,
            sync: batch.sync,
            since: now,
            term: hard.term,
            valid_to,
        });
        Some(batch)
    }

    /// Every write up to `through` is durable: returns how far that vouches for the log as it is now.
    pub(crate) fn persisted(&mut self, through: WriteId) -> Index {
        let mut valid_to = Index::ZERO;
        while self.in_flight.front().is_some_and(|write| write.id <= through) {
            if let Some(write) = self.in_flight.pop_front() {
                valid_to = valid_to.max(write.valid_to);
                self.durable_term = write.term;
            }
        }
        self.durable = self.durable.max(through);
        valid_to
    }

    /// Holds a message back until everything decided so far is durable. Gives it back if it already is. With too many held back, while a
    /// disk hangs, it is dropped as the network might have done.
    #[must_use]
    pub(crate) fn gate(&mut self, to: NodeId, message: Message) -> Option<Message> {
        let id = self.latest();
        if self.is_durable(id) {
            return Some(message);
        }
        if self.gated.len() == GATED_MAX {
            return None;
        }
        self.gated.push_back((id, to, message));
        None
    }

    /// The next message whose write is durable.
    pub(crate) fn release(&mut self) -> Option<(NodeId, Message)> {
        if self.gated.front().is_some_and(|(id, ..)| *id <= self.durable) {
            return self.gated.pop_front().map(|(_, to, message)| (to, message));
        }
        None
    }
}
