//! What concerns both stores: the second half of installing a snapshot, and whether they fit together. And a state as a whole, for one.

use lictor_catalog::{Cursor, Export, Row};
use lictor_raft::{Boot, LogId, SnapshotMeta};

use super::{Installed, LogReader, LogStore, StateMark, StateStore, StoreError, decode_rows};

/// Replaces the rows by the snapshot that the log was replaced by, if that has not happened yet, and then drops its chunks.
/// `true`: the rows were replaced.
///
/// To be called after a batch with `install` is durable, and whenever the stores are opened. After an error it may be called again.
pub fn finish_install(log: &mut dyn LogStore, state: &mut dyn StateStore) -> Result<bool, StoreError> {
    let Some(installed) = log.installed()? else {
        return Ok(false);
    };
    let last = installed.snapshot.last;
    let behind = state.mark()?.applied.index < last.index;
    if behind {
        let reader = log.reader();
        state.replace(&installed.snapshot, &mut |part| installed.rows(&*reader, part))?;
    }
    log.forget_staged(last)?;
    Ok(behind)
}

/// How much of a state is encoded at a time, in bytes.
const PART_BYTES: usize = 1 << 20;

/// Replaces the rows by those of a whole state, `applied` being the last entry whose effects it has. After an error it may be called again.
pub fn store_whole(state: &mut dyn StateStore, applied: LogId, export: &Export) -> Result<(), StoreError> {
    // Where each part begins: the store may start over.
    let mut parts = vec![Some(Cursor::start())];
    let snapshot = SnapshotMeta {
        last: applied,
        ..SnapshotMeta::default()
    };
    state.replace(&snapshot, &mut |part| {
        let at = usize::try_from(part).unwrap_or(usize::MAX);
        let Some(from) = parts.get(at).cloned().flatten() else {
            return Ok(None);
        };
        let (rows, next) = export.chunk(&from, PART_BYTES);
        if parts.len() == at + 1 {
            parts.push(next);
        }
        Ok(Some(rows))
    })
}

impl Installed {
    /// The rows in one of the chunks, from 0 on; `None` behind the last. What [`super::StateStore::replace`] asks for.
    pub fn rows(&self, staged: &dyn LogReader, part: u64) -> Result<Option<Vec<Row>>, StoreError> {
        if part >= self.chunks {
            return Ok(None);
        }
        let last = self.snapshot.last;
        let chunk = staged.staged(last, part)?.ok_or_else(|| StoreError::Damaged {
            path: "log store".into(),
            detail: format!("chunk {part} of {} of snapshot {last} is missing", self.chunks),
        })?;
        decode_rows(&chunk).map(Some)
    }
}

/// Whether the log still has everything that the rows lack. If not, one of the two was lost or replaced.
pub fn check_pair(log: &Boot, state: &StateMark) -> Result<(), StoreError> {
    let (base, rows) = (log.base.last, state.applied);
    if rows.index < base.index {
        return Err(StoreError::Damaged {
            path: "state store".into(),
            detail: format!(
                "its rows end at {rows}, and the log begins after {base}: what was between is lost"
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lictor_raft::{LogId, SnapshotMeta};

    #[test]
    fn a_chunk_that_is_not_there_is_damage_and_not_the_end() {
        let (log, _state) = crate::store::MemoryDisk::new().open().unwrap();
        let installed = Installed {
            snapshot: SnapshotMeta::default(),
            chunks: 1,
        };
        assert_eq!(installed.rows(&*log.reader(), 1), Ok(None));
        let missing = installed.rows(&*log.reader(), 0);
        assert!(matches!(missing, Err(StoreError::Damaged { .. })), "{missing:?}");
    }

    #[test]
    fn rows_that_end_before_the_log_begins_are_refused() {
        let log = Boot {
            base: SnapshotMeta {
                last: LogId::new(2, 10),
                ..SnapshotMeta::default()
            },
            ..Boot::default()
        };
        let mark = |index| StateMark {
            applied: LogId::new(2, index),
        };
        assert!(matches!(
            check_pair(&log, &mark(9)),
            Err(StoreError::Damaged { .. })
        ));
        assert_eq!(check_pair(&log, &mark(10)), Ok(()));
        assert_eq!(check_pair(&log, &mark(99)), Ok(()));
    }
}
