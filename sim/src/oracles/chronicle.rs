//! What the oracles know together: each server's log as issued and as durable, every entry ever made, and the ledger of
//! what is committed.

use std::collections::{HashMap, VecDeque};

use lictor_machine::{Index, NodeId};
use lictor_raft::{Entry, HardState, LogId, Payload, Status, Term, WriteBatch};

use super::reference::Reference;
use super::{Check, Violation, log_matching, state_machine_safety};
use crate::disk::LogImage;
use crate::workload::Change;

/// A server's log with nothing but terms.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    pub(super) hard_state: HardState,
    pub(super) base: LogId,
    terms: VecDeque<Term>,
}

/// What is known of an entry, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// The term of the entry before it.
    pub(super) previous: Term,
    /// A digest of what it says.
    pub(super) digest: u64,
    /// What it changes.
    pub(super) change: Option<Change>,
}

/// A committed entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) term: Term,
    /// The term in which it was first seen committed.
    pub(super) committed_in: Term,
}

/// See the module.
pub struct Chronicle {
    servers: Vec<NodeId>,
    issued: Vec<Mirror>,
    durable: Vec<Mirror>,
    made: HashMap<LogId, Made>,
    ledger: Vec<Record>,
    reference: Reference,
    /// How far each server's log has been held against the ledger.
    agreed: Vec<Index>,
}

impl Chronicle {
    pub(super) fn new(servers: Vec<NodeId>) -> Self {
        let mirrors = vec![Mirror::default(); servers.len()];
        let agreed = vec![Index::ZERO; servers.len()];
        Self {
            servers,
            issued: mirrors.clone(),
            durable: mirrors,
            made: HashMap::new(),
            ledger: Vec::new(),
            reference: Reference::default(),
            agreed,
        }
    }

    pub(super) fn servers(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn id(&self, at: usize) -> NodeId {
        self.servers[at]
    }

    pub(super) fn ids(&self) -> &[NodeId] {
        &self.servers
    }

    pub(super) fn issued_log(&self, at: usize) -> &Mirror {
        &self.issued[at]
    }

    pub(super) fn durable_log(&self, at: usize) -> &Mirror {
        &self.durable[at]
    }

    pub(super) fn made(&self, id: LogId) -> Option<&Made> {
        self.made.get(&id)
    }

    pub(super) const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The last committed index that is known.
    pub(super) fn ledger_end(&self) -> Index {
        Index(self.ledger.len() as u64)
    }

    /// The committed entry at an index.
    pub(super) fn ledger(&self, index: Index) -> Option<&Record> {
        self.ledger.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    pub(super) fn booted(&mut self, at: usize, image: &LogImage) {
        self.issued[at] = Mirror::of(image);
        self.durable[at] = self.issued[at].clone();
        self.agreed[at] = Index::ZERO;
    }

    pub(super) fn issued(&mut self, at: usize, batch: &WriteBatch) -> Check {
        let Self {
            servers,
            issued,
            made,
            ..
        } = self;
        let mirror = &mut issued[at];
        mirror
            .begin(batch)
            .map_err(|detail| storage(servers[at], &detail))?;
        for entry in &batch.append {
            log_matching::appended(made, servers[at], mirror.last().term, entry)?;
            mirror
                .push(entry.id)
                .map_err(|detail| storage(servers[at], &detail))?;
        }
        mirror.end(batch).map_err(|detail| storage(servers[at], &detail))
    }

    pub(super) fn durable(&mut self, at: usize, batch: &WriteBatch) -> Check {
        let mirror = &mut self.durable[at];
        let applied = mirror
            .begin(batch)
            .and_then(|()| batch.append.iter().try_for_each(|entry| mirror.push(entry.id)))
            .and_then(|()| mirror.end(batch));
        applied.map_err(|detail| storage(self.servers[at], &detail))
    }

    /// A server's commit index may have moved: extends the ledger, or holds the server's log against it. Returns what is new.
    pub(super) fn committed(
        &mut self,
        at: usize,
        status: &Status,
    ) -> Result<core::ops::Range<u64>, Violation> {
        let mirror = &self.issued[at];
        let known = self.ledger.len() as u64;
        let first_unknown = known + 1;
        if status.commit.0 > known {
            for index in first_unknown..=status.commit.0 {
                let Some(term) = mirror.term_at(Index(index)) else {
                    return Err(Violation {
                        property: "state machine safety",
                        detail: format!(
                            "{:?} says that {} is committed, and its log, which begins after {} and ends at {}, does not hold {index}",
                            status.id,
                            status.commit,
                            mirror.base,
                            mirror.last(),
                        ),
                    });
                };
                self.ledger.push(Record {
                    term,
                    committed_in: status.term,
                });
                let change = self
                    .made
                    .get(&LogId {
                        term,
                        index: Index(index),
                    })
                    .and_then(|made| made.change);
                self.reference.extend(change);
            }
        }
        state_machine_safety::commit_agrees(self, at, self.agreed[at], status)?;
        self.agreed[at] = status.commit;
        Ok(first_unknown..self.ledger.len() as u64 + 1)
    }
}

impl Mirror {
    fn of(image: &LogImage) -> Self {
        Self {
            hard_state: image.hard_state,
            base: image.base.last,
            terms: image.entries.iter().map(|entry| entry.id.term).collect(),
        }
    }

    pub(super) fn last(&self) -> LogId {
        let index = Index(self.base.index.0 + self.terms.len() as u64);
        LogId {
            term: self.terms.back().copied().unwrap_or(self.base.term),
            index,
        }
    }

    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let at = index.0.checked_sub(self.base.index.0 + 1)?;
        self.terms.get(usize::try_from(at).ok()?).copied()
    }

    fn begin(&mut self, batch: &WriteBatch) -> Result<(), String> {
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(meta) = &batch.install {
            self.base = meta.last;
            self.terms.clear();
        }
        if let Some(from) = batch.truncate_from {
            let kept = from.0.checked_sub(self.base.index.0 + 1);
            let kept =
                kept.ok_or_else(|| format!("truncates from {from}, at or below its base {}", self.base))?;
            self.terms.truncate(kept as usize);
        }
        Ok(())
    }

    fn push(&mut self, id: LogId) -> Result<(), String> {
        let last = self.last();
        if id.index != last.index.next() || id.term < last.term {
            return Err(format!("appends {id} behind {last}"));
        }
        self.terms.push_back(id.term);
        Ok(())
    }

    fn end(&mut self, batch: &WriteBatch) -> Result<(), String> {
        if let Some(meta) = &batch.compact_to {
            if meta.last.index < self.base.index || self.term_at(meta.last.index) != Some(meta.last.term) {
                return Err(format!(
                    "compacts to {}, which its log from {} to {} does not hold",
                    meta.last,
                    self.base,
                    self.last()
                ));
            }
            self.terms
                .drain(..(meta.last.index.0 - self.base.index.0) as usize);
            self.base = meta.last;
        }
        Ok(())
    }
}

fn storage(server: NodeId, detail: &str) -> Violation {
    Violation {
        property: "storage contract",
        detail: format!("{server:?} {detail}"),
    }
}

/// A digest of what an entry says.
pub(super) fn digest(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Noop => 0,
        Payload::Command(data) => fnv(data.iter().copied()),
        Payload::Members(members) => {
            let groups = [&members.voters, &members.outgoing, &members.learners];
            fnv(groups.into_iter().flat_map(|group| {
                let ids = group.iter().flat_map(|id| id.0.to_le_bytes());
                [group.len() as u8].into_iter().chain(ids)
            }))
        }
    }
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
