//! Reading the whole log at start: everything is verified, and what Raft must know is collected.

use std::collections::VecDeque;

use heed::RoTxn;
use lictor_machine::Index;
use lictor_node::store::LogBoot;
use lictor_raft::{Boot, Entry, HardState, LogId, Payload, SnapshotMeta, Term};

use super::{BASE, BOOT, HARD_STATE, NOTES, STAGED, Tables};
use crate::error::Failure;
use crate::frame::unseal;

/// Reads what the tables hold, as it was before this start was counted. Damage anywhere is an error: in the middle of the log even
/// more than at its end, since an LMDB commit is never torn, so there is no such thing as a tail that may be dropped.
pub(super) fn read(tables: &Tables, txn: &RoTxn<'_>, tail_bytes: usize) -> Result<LogBoot, Failure> {
    let meta = &tables.meta;
    let hard_state: HardState = meta.get_as(txn, HARD_STATE)?.unwrap_or_default();
    let base: SnapshotMeta = meta.get_as(txn, BASE)?.unwrap_or_default();
    let mut scan = Scan::new(base.last, tail_bytes);
    for item in tables.log.raw().iter(txn)? {
        let (key, stored) = item?;
        let place = tables.log.place(key);
        let index = Index(u64::from_be_bytes(
            key.try_into()
                .map_err(|_| place.damaged("a key that is no index"))?,
        ));
        if index > base.last.index {
            let entry: Entry = tables.log.decode(key, unseal(place, stored)?)?;
            scan.add(index, entry).map_err(|what| place.damaged(what))?;
        }
    }
    if hard_state.commit > scan.last.index {
        let what = format!(
            "commit index {} beyond the end of the log, {}",
            hard_state.commit, scan.last.index
        );
        return Err(meta.place(HARD_STATE).damaged(what).into());
    }
    verify_staged(tables, txn)?;
    Ok(LogBoot {
        raft: Boot {
            boot: meta.get_as(txn, BOOT)?.unwrap_or_default(),
            hard_state,
            base,
            term_starts: scan.term_starts,
            last_index: scan.last.index,
            members: scan.members,
            applied: Index::ZERO,
            tail: scan.tail.into(),
        },
        notes: meta.get_as(txn, NOTES)?.unwrap_or_default(),
    })
}

fn verify_staged(tables: &Tables, txn: &RoTxn<'_>) -> Result<(), Failure> {
    let staged: Option<lictor_node::store::Staged> = tables.meta.get_as(txn, STAGED)?;
    for chunk in 0..staged.map_or(0, |staged| staged.chunks) {
        let key = chunk.to_be_bytes();
        if tables.staged.get(txn, &key)?.is_none() {
            return Err(tables.staged.place(&key).damaged("the chunk is missing").into());
        }
    }
    Ok(())
}

/// What a walk along the log has found.
struct Scan {
    last: LogId,
    /// The term of the entry before, if there was one.
    term: Option<Term>,
    term_starts: Vec<LogId>,
    members: Vec<(LogId, lictor_raft::Configuration)>,
    tail: VecDeque<Entry>,
    tail_size: usize,
    tail_bytes: usize,
}

impl Scan {
    fn new(base: LogId, tail_bytes: usize) -> Self {
        Self {
            last: base,
            term: None,
            term_starts: Vec::new(),
            members: Vec::new(),
            tail: VecDeque::new(),
            tail_size: 0,
            tail_bytes,
        }
    }

    fn add(&mut self, index: Index, entry: Entry) -> Result<(), String> {
        let id = entry.id;
        if index != self.last.index.next() {
            return Err(format!(
                "the entries between {} and this one are missing",
                self.last.index
            ));
        }
        if id.index != index {
            return Err(format!("it holds entry {id}"));
        }
        if id.term < self.last.term {
            return Err(format!(
                "its term {} is lower than that of the entry before it, {}",
                id.term, self.last.term
            ));
        }
        if self.term.replace(id.term) != Some(id.term) {
            self.term_starts.push(id);
        }
        if let Payload::Members(members) = &entry.payload {
            self.members.push((id, members.clone()));
        }
        self.last = id;
        self.tail_size += entry.size();
        self.tail.push_back(entry);
        while self.tail_size > self.tail_bytes {
            let dropped = self.tail.pop_front().expect("an empty tail has no size");
            self.tail_size -= dropped.size();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry {
            id: LogId::new(term, index),
            payload: Payload::Noop,
        }
    }

    #[test]
    fn a_log_that_cannot_be_is_refused() {
        let scan = || {
            let mut scan = Scan::new(LogId::new(2, 10), usize::MAX);
            scan.add(Index(11), entry(3, 11)).unwrap();
            scan
        };
        scan().add(Index(12), entry(3, 12)).unwrap();
        assert!(
            scan()
                .add(Index(13), entry(3, 13))
                .unwrap_err()
                .contains("between 11 and")
        );
        assert!(
            scan()
                .add(Index(12), entry(3, 13))
                .unwrap_err()
                .contains("holds entry 3.13")
        );
        assert!(
            scan()
                .add(Index(12), entry(2, 12))
                .unwrap_err()
                .contains("term 2 is lower")
        );
        let mut first = Scan::new(LogId::new(2, 10), usize::MAX);
        assert!(
            first
                .add(Index(11), entry(1, 11))
                .unwrap_err()
                .contains("term 1 is lower")
        );
    }
}
