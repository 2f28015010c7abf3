//! The rules that a write must keep, checked the same way by every log store.

use lictor_machine::Index;
use lictor_raft::{LogId, SnapshotMeta, WriteBatch};
use serde::{Deserialize, Serialize};

/// The outline of a log: enough of its content to tell whether a batch may follow.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Outline {
    /// What the log starts after.
    pub base: LogId,
    /// Its last index.
    pub last: Index,
    /// The highest index that the hard state calls committed.
    pub commit: Index,
    /// The snapshot whose chunks are kept aside.
    pub staged: Option<Staged>,
}

/// A snapshot that is kept aside, in part or whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Which one.
    pub snapshot: LogId,
    /// How many chunks of it are there: 0 up to this, without gaps.
    pub chunks: u64,
    /// Set once the log has been replaced by it; then it is whole.
    pub installed: Option<SnapshotMeta>,
}

/// A snapshot that the log was replaced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Which one.
    pub snapshot: SnapshotMeta,
    /// How many chunks it has.
    pub chunks: u64,
}

/// A rule of the contract that a write would have broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Entries must follow the last one without a gap.
    #[error("entry {found} where {expected} must follow")]
    Gap {
        /// The index that must come.
        expected: Index,
        /// The index that came.
        found: Index,
    },
    /// Terms never decrease along the log.
    #[error("the term of entry {0} is lower than that of the entry before it")]
    TermGoesBack(Index),
    /// What is committed, or compacted, is not taken back.
    #[error("truncation from {from}, but everything through {settled} is committed or compacted")]
    TruncatesSettled {
        /// The first index to be removed.
        from: Index,
        /// The highest index that must stay.
        settled: Index,
    },
    /// The hard state must not call committed what is not in the log.
    #[error("commit index {commit} beyond the end of the log, {last}")]
    CommitBeyondLog {
        /// The commit index.
        commit: Index,
        /// The last index of the log.
        last: Index,
    },
    /// Only what is in the log can be compacted.
    #[error("compaction to {to} of a log that holds {base} (excluded) to {last}")]
    CompactsOutside {
        /// Where it was to be compacted to.
        to: LogId,
        /// What the log starts after.
        base: LogId,
        /// The last index of the log.
        last: Index,
    },
    /// Chunks come in order, and one snapshot's do not follow another's.
    #[error("chunk {chunk} of snapshot {snapshot} does not follow what is staged")]
    ChunkOutOfOrder {
        /// The snapshot of the chunk.
        snapshot: LogId,
        /// The number of the chunk.
        chunk: u64,
    },
    /// Only a staged snapshot can be installed.
    #[error("installation of snapshot {0}, which is not staged")]
    NotStaged(LogId),
    /// A snapshot that is installed must reach further than the one before.
    #[error("installation of snapshot {snapshot} over {base}")]
    InstallGoesBack {
        /// The snapshot.
        snapshot: LogId,
        /// What the log starts after.
        base: LogId,
    },
    /// The state store's mark never goes back.
    #[error("rows of {to} over rows of {from}")]
    StateGoesBack {
        /// Where the store stands.
        from: LogId,
        /// Where it was to go.
        to: LogId,
    },
    /// A chunk of rows is larger than any reader would accept.
    #[error("a chunk of {0} bytes of rows; the most is {max}", max = super::MAX_CHUNK_BYTES)]
    ChunkTooLarge(usize),
}

impl Outline {
    /// Moves the outline past the batch. On `Err` it is spoiled: work on a clone.
    pub fn admit(&mut self, batch: &WriteBatch) -> Result<(), Breach> {
        if let Some(chunk) = &batch.stage {
            self.stage(chunk.snapshot, chunk.chunk)?;
        }
        if let Some(meta) = &batch.install {
            self.install(meta)?;
        }
        if let Some(from) = batch.truncate_from {
            let settled = self.base.index.max(self.commit);
            if from <= settled {
                return Err(Breach::TruncatesSettled { from, settled });
            }
            self.last = self.last.min(from.prev());
        }
        self.append(batch)?;
        if let Some(to) = &batch.compact_to {
            if to.last.index < self.base.index || to.last.index > self.last {
                return Err(Breach::CompactsOutside {
                    to: to.last,
                    base: self.base,
                    last: self.last,
                });
            }
            self.base = to.last;
        }
        // Last, though it is written first: a batch may replace a tail and call the new one committed.
        if let Some(state) = &batch.hard_state {
            self.commit = state.commit;
        }
        if self.commit > self.last {
            return Err(Breach::CommitBeyondLog {
                commit: self.commit,
                last: self.last,
            });
        }
        Ok(())
    }

    fn stage(&mut self, snapshot: LogId, chunk: u64) -> Result<(), Breach> {
        let follows = chunk == 0
            || self.staged.as_ref().is_some_and(|staged| {
                staged.snapshot == snapshot && staged.installed.is_none() && chunk <= staged.chunks
            });
        if !follows {
            return Err(Breach::ChunkOutOfOrder { snapshot, chunk });
        }
        // A chunk that comes again discards those behind it: another sender may cut the snapshot at other places.
        self.staged = Some(Staged {
            snapshot,
            chunks: chunk + 1,
            installed: None,
        });
        Ok(())
    }

    fn install(&mut self, meta: &SnapshotMeta) -> Result<(), Breach> {
        if meta.last.index < self.base.index {
            return Err(Breach::InstallGoesBack {
                snapshot: meta.last,
                base: self.base,
            });
        }
        match &mut self.staged {
            Some(staged) if staged.snapshot == meta.last => staged.installed = Some(meta.clone()),
            Some(_) | None => return Err(Breach::NotStaged(meta.last)),
        }
        self.base = meta.last;
        self.last = meta.last.index;
        Ok(())
    }

    fn append(&mut self, batch: &WriteBatch) -> Result<(), Breach> {
        let mut term = self.base.term;
        for entry in &batch.append {
            let expected = self.last.next();
            if entry.id.index != expected {
                return Err(Breach::Gap {
                    expected,
                    found: entry.id.index,
                });
            }
            if entry.id.term < term {
                return Err(Breach::TermGoesBack(entry.id.index));
            }
            term = entry.id.term;
            self.last = expected;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lictor_raft::{Entry, HardState, Payload, StagedChunk, WriteId};

    fn batch() -> WriteBatch {
        WriteBatch::new(WriteId::default())
    }

    fn entries(term: u64, indexes: impl IntoIterator<Item = u64>) -> Vec<Entry> {
        indexes
            .into_iter()
            .map(|index| Entry {
                id: LogId::new(term, index),
                payload: Payload::Noop,
            })
            .collect()
    }

    fn chunk(snapshot: LogId, chunk: u64) -> WriteBatch {
        WriteBatch {
            stage: Some(StagedChunk {
                snapshot,
                chunk,
                data: bytes::Bytes::new(),
            }),
            ..batch()
        }
    }

    /// Base 2.10, entries 11 to 20, commit 15.
    fn outline() -> Outline {
        Outline {
            base: LogId::new(2, 10),
            last: Index(20),
            commit: Index(15),
            staged: None,
        }
    }

    fn refusal(batch: WriteBatch) -> Breach {
        outline().admit(&batch).unwrap_err()
    }

    #[test]
    fn appends_leave_no_gap_and_terms_never_decrease() {
        let mut log = outline();
        log.admit(&WriteBatch {
            append: entries(3, [21, 22]),
            ..batch()
        })
        .unwrap();
        assert_eq!(log.last, Index(22));
        let gap = |found| Breach::Gap {
            expected: Index(21),
            found: Index(found),
        };
        assert_eq!(
            refusal(WriteBatch {
                append: entries(3, [22]),
                ..batch()
            }),
            gap(22)
        );
        assert_eq!(
            refusal(WriteBatch {
                append: entries(3, [20]),
                ..batch()
            }),
            gap(20)
        );
        let mixed = [entries(3, [21]), entries(2, [22])].concat();
        assert_eq!(
            refusal(WriteBatch {
                append: mixed,
                ..batch()
            }),
            Breach::TermGoesBack(Index(22))
        );
        let below_base = WriteBatch {
            append: entries(1, [21]),
            ..batch()
        };
        assert_eq!(refusal(below_base), Breach::TermGoesBack(Index(21)));
    }

    #[test]
    fn what_is_committed_or_compacted_is_not_truncated() {
        let truncate = |from| WriteBatch {
            truncate_from: Some(Index(from)),
            ..batch()
        };
        let settled = |from, settled| Breach::TruncatesSettled {
            from: Index(from),
            settled: Index(settled),
        };
        assert_eq!(refusal(truncate(15)), settled(15, 15));
        assert_eq!(
            Outline {
                commit: Index(0),
                ..outline()
            }
            .admit(&truncate(10)),
            Err(settled(10, 10))
        );
        let mut log = outline();
        log.admit(&WriteBatch {
            append: entries(4, [16]),
            ..truncate(16)
        })
        .unwrap();
        assert_eq!(log.last, Index(16));
        log.admit(&truncate(30)).unwrap();
        assert_eq!(log.last, Index(16), "nothing is there to truncate");
    }

    #[test]
    fn the_commit_index_stays_within_the_log() {
        let commit = |commit| WriteBatch {
            hard_state: Some(HardState {
                commit: Index(commit),
                ..HardState::default()
            }),
            ..batch()
        };
        assert_eq!(
            refusal(commit(21)),
            Breach::CommitBeyondLog {
                commit: Index(21),
                last: Index(20)
            }
        );
        outline().admit(&commit(20)).unwrap();
        outline()
            .admit(&WriteBatch {
                append: entries(2, [21]),
                ..commit(21)
            })
            .unwrap();
        let replaced = WriteBatch {
            truncate_from: Some(Index(16)),
            append: entries(3, [16, 17]),
            ..commit(17)
        };
        outline().admit(&replaced).unwrap();
    }

    #[test]
    fn only_what_is_there_is_compacted() {
        let compact = |index| WriteBatch {
            compact_to: Some(SnapshotMeta {
                last: LogId::new(2, index),
                ..SnapshotMeta::default()
            }),
            ..batch()
        };
        for outside in [9, 21] {
            assert!(matches!(
                refusal(compact(outside)),
                Breach::CompactsOutside { .. }
            ));
        }
        let mut log = outline();
        log.admit(&compact(20)).unwrap();
        assert_eq!((log.base, log.last), (LogId::new(2, 20), Index(20)));
    }

    #[test]
    fn chunks_follow_each_other_and_only_a_staged_snapshot_is_installed() {
        let snapshot = LogId::new(5, 30);
        let install = |last| WriteBatch {
            install: Some(SnapshotMeta {
                last,
                ..SnapshotMeta::default()
            }),
            ..batch()
        };
        assert_eq!(
            refusal(chunk(snapshot, 1)),
            Breach::ChunkOutOfOrder { snapshot, chunk: 1 }
        );
        assert_eq!(refusal(install(snapshot)), Breach::NotStaged(snapshot));

        let mut log = outline();
        for number in [0, 1, 2, 1] {
            log.admit(&chunk(snapshot, number)).unwrap();
        }
        assert_eq!(
            log.staged.as_ref().map(|staged| staged.chunks),
            Some(2),
            "1 came again and discarded 2"
        );
        let other = LogId::new(5, 31);
        let out_of_order = Breach::ChunkOutOfOrder {
            snapshot: other,
            chunk: 2,
        };
        assert_eq!(log.clone().admit(&chunk(other, 2)), Err(out_of_order));
        log.admit(&install(snapshot)).unwrap();
        assert_eq!((log.base, log.last), (snapshot, Index(30)));
        let closed = Breach::ChunkOutOfOrder { snapshot, chunk: 2 };
        assert_eq!(log.clone().admit(&chunk(snapshot, 2)), Err(closed), "it is whole");

        let old = LogId::new(2, 9);
        let mut log = outline();
        log.admit(&chunk(old, 0)).unwrap();
        assert!(matches!(
            log.admit(&install(old)),
            Err(Breach::InstallGoesBack { .. })
        ));
    }
}
