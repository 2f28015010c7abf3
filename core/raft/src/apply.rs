//! Handing committed entries to the state machine, and compaction behind it.

use std::collections::VecDeque;

use lictor_machine::{Index, Token};

use crate::io::{Committed, Effect, Fault, Fetch, FetchId, Outcome, Reject};
use crate::progress::Mode;
use crate::raft::Raft;
use crate::types::{Entry, LogId, Term};

#[derive(Debug)]
pub(crate) struct Applying {
    /// Reported applied.
    pub(crate) applied: Index,
    /// Handed out.
    pub(crate) handed: Index,
    /// The term of the last entry handed out since the start.
    handed_term: Term,
    /// The end and the size of each batch handed out and not yet reported.
    open: VecDeque<(Index, usize)>,
    open_bytes: usize,
    /// Entries that are being read from storage to be applied.
    pub(crate) fetch: Option<FetchId>,
}

impl Applying {
    pub(crate) const fn new(applied: Index) -> Self {
        Self {
            applied,
            handed: applied,
            handed_term: Term::ZERO,
            open: VecDeque::new(),
            open_bytes: 0,
            fetch: None,
        }
    }
}

impl Raft {
    /// Hands out what is committed and durable here, within the bound of what may be open.
    pub(crate) fn apply_committed(&mut self) {
        while !self.is_installing() && self.applying.fetch.is_none() {
            #[allow(unused_mut, reason = "changed only by sabotage")]
            let mut through = self.hard.commit.min(self.log.durable);
            #[cfg(feature = "sabotage")]
            if self.sabotaged(crate::Sabotage::ApplyUncommitted) {
                through = self.log.durable;
            }
            if through <= self.applying.handed {
                return;
            }
            let budget = self.config.apply_bytes_max.get();
            if self.applying.open_bytes >= budget {
                return;
            }
            let first = self.applying.handed.next();
            if let Some((entries, bytes)) = self.log.slice(first, through, budget) {
                self.hand_out(entries, bytes);
            } else {
                let id = self.new_fetch();
                self.applying.fetch = Some(id);
                self.emit(Effect::Fetch {
                    id,
                    what: Fetch::Entries {
                        first,
                        last: through,
                        max_bytes: budget,
                    },
                });
            }
        }
    }

    pub(crate) fn apply_fetched(&mut self, mut entries: Vec<Entry>) {
        let first = self.applying.handed.next();
        // A snapshot may have overtaken the read.
        entries.retain(|entry| entry.id.index >= first);
        let committed = self.hard.commit.min(self.log.durable);
        let fits = entries.iter().zip(first.0..).all(|(entry, index)| {
            entry.id.index == Index(index) && entry.id.index <= committed && self.log.contains(entry.id)
        });
        if !fits || entries.is_empty() {
            self.fail(Fault::Read(
                "the store did not return the entries that the log holds".into(),
            ));
            return;
        }
        let bytes = entries.iter().map(Entry::size).sum();
        self.hand_out(entries, bytes);
    }

    fn hand_out(&mut self, entries: Vec<Entry>, bytes: usize) {
        let Some(last) = entries.last().map(|entry| entry.id.index) else {
            return;
        };
        let mut committed = Vec::with_capacity(entries.len());
        let mut lost = Vec::new();
        for entry in entries {
            if entry.id.term > self.applying.handed_term {
                self.applying.handed_term = entry.id.term;
                lost.extend(self.proposals_before(entry.id.term));
                lost.extend(self.lost_change(entry.id.term));
            }
            let mut token = None;
            while let Some(open) = self
                .proposals
                .first_entry()
                .filter(|open| open.key().0 <= entry.id.index)
            {
                let at = *open.key();
                let waiting = open.remove();
                if at == (entry.id.index, entry.id.term) {
                    token = Some(waiting);
                } else {
                    lost.push(waiting);
                }
            }
            committed.push(Committed { entry, token });
        }
        for token in lost {
            self.resolve(token, Outcome::Lost);
        }
        self.applying.handed = last;
        self.applying.open.push_back((last, bytes));
        self.applying.open_bytes += bytes;
        self.emit(Effect::Apply(committed));
    }

    pub(crate) fn handle_applied(&mut self, through: Index) -> Result<(), Reject> {
        if through > self.applying.handed {
            return Err(Reject::Invalid("more was applied than was handed out"));
        }
        self.applying.applied = self.applying.applied.max(through);
        while self
            .applying
            .open
            .front()
            .is_some_and(|(last, _)| *last <= through)
        {
            if let Some((_, bytes)) = self.applying.open.pop_front() {
                self.applying.open_bytes -= bytes;
            }
        }
        self.answer_reads();
        Ok(())
    }

    /// The state machine continues from a snapshot: whatever was open is settled by it, in a way that is not known here.
    pub(crate) fn apply_from_snapshot(&mut self, last: LogId) {
        self.applying.handed = last.index;
        self.applying.handed_term = last.term;
        self.applying.open.clear();
        self.applying.open_bytes = 0;
        self.applying.fetch = None;
        while let Some(open) = self
            .proposals
            .first_entry()
            .filter(|open| open.key().0 <= last.index)
        {
            let token = open.remove();
            self.resolve(token, Outcome::Unknown);
        }
        for token in self.proposals_before(last.term) {
            self.resolve(token, Outcome::Lost);
        }
        self.change_behind_snapshot(last);
    }

    /// Takes the open proposals of terms before `term`, of which an entry is committed and handed out: terms only grow along a log, so
    /// whatever stands behind that entry, in any log that may ever win, is of that term or a later one.
    fn proposals_before(&mut self, term: Term) -> Vec<Token> {
        let lost = self.proposals.extract_if(.., |(_, of), _| *of < term);
        lost.map(|(_, token)| token).collect()
    }

    /// Forgets the log up to `through`, except for what a peer that is receiving a snapshot, and is not away, will need next.
    pub(crate) fn compact(&mut self, through: Index) {
        let mut through = through.min(self.applying.applied).min(self.log.durable);
        let now = self.now();
        if let Some(leader) = &self.leader {
            let last = self.log.last().index;
            for peer in leader.peers.values() {
                if let Mode::Snapshot(sending) = peer.mode
                    && let Some(snapshot) = sending.snapshot
                    && !peer.is_away(now, &self.config)
                    && last.0 - snapshot.index.0.min(last.0) <= self.config.pinned_entries_max.get()
                {
                    through = through.min(snapshot.index);
                }
            }
        }
        if let Some(base) = self.log.compact(through) {
            self.writes.compact_to(base);
        }
    }
}
