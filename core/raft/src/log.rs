//! The log as Raft sees it: where it begins, which term each index has, and as much of its tail as is in memory.

use std::collections::VecDeque;

use lictor_machine::Index;

use crate::types::{Boot, Configuration, Entry, LogId, Payload, SnapshotMeta, Term};

#[derive(Debug)]
pub(crate) struct Log {
    /// The log begins right after this.
    base: SnapshotMeta,
    last: LogId,
    /// The first entry and every entry whose term differs from its predecessor's.
    term_starts: VecDeque<LogId>,
    /// The newest entries, without gaps, up to `last`.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// Configurations that stand in the log, in order.
    members: VecDeque<(LogId, Configuration)>,
    /// The log is durable up to here.
    pub(crate) durable: Index,
}

impl Log {
    /// Rebuilds the view from what the store held. `Err` says what contradicts itself.
    pub(crate) fn from_boot(boot: &Boot) -> Result<Self, &'static str> {
        if boot.last_index < boot.base.last.index {
            return Err("the log ends before it begins");
        }
        let mut previous = boot.base.last;
        for (at, start) in boot.term_starts.iter().enumerate() {
            let grows = if at == 0 {
                start.term >= previous.term
            } else {
                start.term > previous.term
            };
            if !grows || start.index <= previous.index || start.index > boot.last_index {
                return Err("the terms in the log are out of order");
            }
            previous = *start;
        }
        if boot.last_index > boot.base.last.index
            && boot.term_starts.first().map(|first| first.index) != Some(boot.base.last.index.next())
        {
            return Err("the first entry of the log is missing");
        }
        let mut log = Self {
            base: boot.base.clone(),
            last: LogId {
                term: previous.term,
                index: boot.last_index,
            },
            term_starts: boot.term_starts.iter().copied().collect(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            members: boot.members.iter().cloned().collect(),
            durable: boot.last_index,
        };
        let in_order = boot.members.is_sorted_by(|(a, _), (b, _)| a.index < b.index);
        let in_log = |id: LogId| id.index > log.base.last.index && log.contains(id);
        if !in_order || !boot.members.iter().all(|(id, _)| in_log(*id)) {
            return Err("the configurations in the log are not where they should be");
        }
        if let Some(first) = boot.tail.first() {
            let contiguous = boot.tail.iter().zip(first.id.index.0..).all(|(entry, index)| {
                entry.id.index.0 == index && log.term_at(entry.id.index) == Some(entry.id.term)
            });
            if !contiguous
                || boot.tail.last().map(|entry| entry.id) != Some(log.last)
                || first.id.index <= log.base.last.index
            {
                return Err("the tail of the log does not fit the rest");
            }
            log.tail_bytes = boot.tail.iter().map(Entry::size).sum();
            log.tail = boot.tail.iter().cloned().collect();
        }
        Ok(log)
    }

    pub(crate) const fn base(&self) -> LogId {
        self.base.last
    }

    pub(crate) const fn last(&self) -> LogId {
        self.last
    }

    /// The configuration in force: the latest in the log, committed or not (§6).
    pub(crate) fn members(&self) -> &Configuration {
        self.members
            .back()
            .map_or(&self.base.members, |(_, members)| members)
    }

    /// The entry that holds the configuration in force; the base, if it is from there.
    pub(crate) fn members_id(&self) -> LogId {
        self.members.back().map_or(self.base.last, |(id, _)| *id)
    }

    /// The configuration that would be in force if the entry that holds the present one were taken back.
    pub(crate) fn members_before(&self) -> &Configuration {
        self.members_at(self.members_id().index.prev())
    }

    /// The first entry at or behind `index` that holds a configuration which is not joint.
    pub(crate) fn plain_members_from(&self, index: Index) -> Option<LogId> {
        let mut plain = self.members.iter().filter(|(_, members)| !members.is_joint());
        plain.find(|(id, _)| id.index >= index).map(|(id, _)| *id)
    }

    /// The configuration in force at `index`.
    pub(crate) fn members_at(&self, index: Index) -> &Configuration {
        let after = self.members.partition_point(|(id, _)| id.index <= index);
        after
            .checked_sub(1)
            .map_or(&self.base.members, |at| &self.members[at].1)
    }

    /// The term of the entry at `index`; known from the base to the end of the log.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.last.index {
            return Some(self.base.last.term);
        }
        if index < self.base.last.index || index > self.last.index {
            return None;
        }
        let after = self.term_starts.partition_point(|start| start.index <= index);
        after.checked_sub(1).map(|at| self.term_starts[at].term)
    }

    /// The id of the entry at `index`, where [`Log::term_at`] knows it.
    pub(crate) fn id_at(&self, index: Index) -> Option<LogId> {
        self.term_at(index).map(|term| LogId { term, index })
    }

    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The highest id at or before `index` whose term is at most `term`; the base if there is none behind it.
    ///
    /// Both sides use it to skip over a conflicting tail in one step per term (§5.3).
    pub(crate) fn last_at_or_below(&self, index: Index, term: Term) -> LogId {
        let index = index.min(self.last.index);
        if index <= self.base.last.index {
            return self.base.last;
        }
        // The first run of a later term; everything before it has a term that is low enough.
        let after = self.term_starts.partition_point(|start| start.term <= term);
        let end = self
            .term_starts
            .get(after)
            .map_or(self.last.index, |start| start.index.prev());
        self.id_at(end.min(index)).unwrap_or(self.base.last)
    }

    /// Appends right behind the last entry.
    pub(crate) fn append(&mut self, entry: Entry) {
        debug_assert_eq!(entry.id.index, self.last.index.next());
        debug_assert!(entry.id.term >= self.last.term);
        if self
            .term_starts
            .back()
            .is_none_or(|start| start.term != entry.id.term)
        {
            self.term_starts.push_back(entry.id);
        }
        if let Payload::Members(members) = &entry.payload {
            self.members.push_back((entry.id, members.clone()));
        }
        self.last = entry.id;
        self.tail_bytes += entry.size();
        self.tail.push_back(entry);
    }

    /// Removes every entry from `index` on. True if the configuration in force changed by it.
    pub(crate) fn truncate_from(&mut self, index: Index) -> bool {
        debug_assert!(index > self.base.last.index);
        while self.tail.back().is_some_and(|entry| entry.id.index >= index) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= entry.size();
            }
        }
        self.last = self.id_at(index.prev()).unwrap_or(self.base.last);
        while self.term_starts.back().is_some_and(|start| start.index >= index) {
            self.term_starts.pop_back();
        }
        let before = self.members.len();
        while self.members.back().is_some_and(|(id, _)| id.index >= index) {
            self.members.pop_back();
        }
        self.durable = self.durable.min(index.prev());
        self.members.len() != before
    }

    /// Replaces the whole log by a snapshot.
    pub(crate) fn reset(&mut self, base: SnapshotMeta) {
        self.last = base.last;
        self.base = base;
        self.term_starts.clear();
        self.tail.clear();
        self.tail_bytes = 0;
        self.members.clear();
        self.durable = Index::ZERO;
    }

    /// Forgets every entry up to `index` and returns what the log begins after then.
    pub(crate) fn compact(&mut self, index: Index) -> Option<SnapshotMeta> {
        if index <= self.base.last.index || index > self.last.index {
            return None;
        }
        let base = SnapshotMeta {
            last: self.id_at(index)?,
            members: self.members_at(index).clone(),
        };
        while self.members.front().is_some_and(|(id, _)| id.index <= index) {
            self.members.pop_front();
        }
        // The run that `index` stands in goes on behind it, unless the next run begins there.
        let mut run = None;
        while let Some(start) = self
            .term_starts
            .front()
            .copied()
            .filter(|start| start.index <= index)
        {
            run = Some(start.term);
            self.term_starts.pop_front();
        }
        let begins_here = self
            .term_starts
            .front()
            .is_some_and(|start| start.index == index.next());
        if let Some(term) = run.filter(|_| index < self.last.index && !begins_here) {
            self.term_starts.push_front(LogId {
                term,
                index: index.next(),
            });
        }
        self.drop_from_memory(index);
        self.base = base.clone();
        Some(base)
    }

    /// Drops the oldest entries from memory while it holds more than `budget` bytes, but none behind `through`.
    pub(crate) fn evict(&mut self, budget: usize, through: Index) {
        while self.tail_bytes > budget && self.tail.front().is_some_and(|entry| entry.id.index <= through) {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry.size();
            }
        }
    }

    fn drop_from_memory(&mut self, through: Index) {
        while self.tail.front().is_some_and(|entry| entry.id.index <= through) {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry.size();
            }
        }
    }

    /// Entries from `first` to `last`, until `max_bytes` is reached but at least one. `None` if `first` is not in memory.
    pub(crate) fn slice(&self, first: Index, last: Index, max_bytes: usize) -> Option<(Vec<Entry>, usize)> {
        let front = self.tail.front()?.id.index;
        let from = first.0.checked_sub(front.0)? as usize;
        if first > self.last.index {
            return None;
        }
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.tail.range(from..) {
            let size = entry.size();
            if entry.id.index > last || (!entries.is_empty() && bytes + size > max_bytes) {
                break;
            }
            bytes += size;
            entries.push(entry.clone());
        }
        Some((entries, bytes))
    }

    /// The size of the entries in `(after, through]` that are in memory.
    pub(crate) fn bytes_between(&self, after: Index, through: Index) -> usize {
        let Some(front) = self.tail.front().map(|entry| entry.id.index) else {
            return 0;
        };
        let from = after.next().max(front);
        if through < from {
            return 0;
        }
        let range = (from.0 - front.0) as usize..=((through.min(self.last.index)).0 - front.0) as usize;
        self.tail.range(range).map(Entry::size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entry(term: u64, index: u64) -> Entry {
        Entry {
            id: LogId::new(term, index),
            payload: Payload::Command(Bytes::from_static(b"0123456789")),
        }
    }

    fn log_of(terms: &[u64]) -> Log {
        let mut log = Log::from_boot(&Boot::default()).unwrap();
        for (term, index) in terms.iter().zip(1..) {
            log.append(entry(*term, index));
        }
        log
    }

    #[test]
    fn terms_are_known_from_the_base_to_the_end() {
        let mut log = log_of(&[1, 1, 3, 3, 4]);
        let terms = |log: &Log| {
            (0..7)
                .map(|i| log.term_at(Index(i)).map(|t| t.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            terms(&log),
            [Some(0), Some(1), Some(1), Some(3), Some(3), Some(4), None]
        );
        assert_eq!(log.compact(Index(3)).unwrap().last, LogId::new(3, 3));
        assert_eq!(terms(&log), [None, None, None, Some(3), Some(3), Some(4), None]);
        log.truncate_from(Index(5));
        assert_eq!(log.last(), LogId::new(3, 4));
        assert_eq!(log.compact(Index(4)).unwrap().last, LogId::new(3, 4));
        assert_eq!(log.last(), LogId::new(3, 4));
        log.append(entry(3, 5));
        assert_eq!(log.term_at(Index(5)), Some(Term(3)));
        assert_eq!(log.compact(Index(9)), None);
    }

    #[test]
    fn conflicts_are_skipped_a_term_at_a_time() {
        let log = log_of(&[1, 1, 1, 4, 4, 5]);
        assert_eq!(log.last_at_or_below(Index(6), Term(5)), LogId::new(5, 6));
        assert_eq!(log.last_at_or_below(Index(6), Term(4)), LogId::new(4, 5));
        assert_eq!(log.last_at_or_below(Index(6), Term(3)), LogId::new(1, 3));
        assert_eq!(log.last_at_or_below(Index(2), Term(9)), LogId::new(1, 2));
        assert_eq!(log.last_at_or_below(Index(99), Term(9)), LogId::new(5, 6));
        assert_eq!(log.last_at_or_below(Index(6), Term(0)), LogId::ZERO);
    }

    #[test]
    fn what_left_memory_is_not_sliced() {
        let mut log = log_of(&[1, 1, 1, 1]);
        log.evict(2 * entry(1, 1).size(), Index(4));
        assert!(log.slice(Index(2), Index(4), 1000).is_none());
        assert_eq!(
            log.slice(Index(3), Index(4), 1000).unwrap().0,
            [entry(1, 3), entry(1, 4)]
        );
        assert_eq!(log.slice(Index(3), Index(4), 1).unwrap().0, [entry(1, 3)]);
        assert!(log.slice(Index(5), Index(9), 1000).is_none());
        assert_eq!(log.bytes_between(Index(1), Index(4)), 2 * entry(1, 1).size());
        assert_eq!(log.bytes_between(Index(3), Index(9)), entry(1, 1).size());
    }

    #[test]
    fn the_configuration_follows_the_log() {
        let mut log = log_of(&[1]);
        let first = Configuration::of([lictor_machine::NodeId(1)]);
        let second = Configuration::of([lictor_machine::NodeId(2)]);
        log.append(Entry {
            id: LogId::new(1, 2),
            payload: Payload::Members(first.clone()),
        });
        log.append(Entry {
            id: LogId::new(1, 3),
            payload: Payload::Members(second.clone()),
        });
        assert_eq!(log.members(), &second);
        assert!(log.truncate_from(Index(3)));
        assert_eq!(log.members(), &first);
        assert_eq!(log.compact(Index(2)).unwrap().members, first);
        assert_eq!(log.members(), &first);
        assert!(!log.truncate_from(Index(3)));
    }

    #[test]
    fn a_boot_that_contradicts_itself_is_refused() {
        let good = Boot {
            last_index: Index(2),
            term_starts: vec![LogId::new(1, 1)],
            tail: vec![entry(1, 2)],
            ..Boot::default()
        };
        assert!(Log::from_boot(&good).is_ok());
        for bad in [
            Boot {
                term_starts: vec![],
                ..good.clone()
            },
            Boot {
                term_starts: vec![LogId::new(1, 2)],
                ..good.clone()
            },
            Boot {
                tail: vec![entry(1, 1)],
                ..good.clone()
            },
            Boot {
                tail: vec![entry(2, 2)],
                ..good.clone()
            },
            Boot {
                members: vec![(LogId::new(1, 3), Configuration::default())],
                ..good.clone()
            },
            Boot {
                members: vec![(LogId::new(1, 2), Configuration::default()); 2],
                ..good.clone()
            },
            Boot {
                base: SnapshotMeta {
                    last: LogId::new(1, 5),
                    ..SnapshotMeta::default()
                },
                ..good.clone()
            },
        ] {
            assert!(Log::from_boot(&bad).is_err(), "{bad:?}");
        }
    }
}
