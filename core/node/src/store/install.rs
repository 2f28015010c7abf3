//! What concerns both stores: the second half of installing a snapshot, and whether they fit together.

use lictor_raft::Boot;

use super::{LogStore, StateMark, StateStore, StoreError, decode_rows};

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
        state.replace(&installed.snapshot, &mut |part| {
            if part >= installed.chunks {
                return Ok(None);
            }
            let chunk = reader.staged(last, part)?.ok_or_else(|| StoreError::Damaged {
                path: "log store".into(),
                detail: format!(
                    "chunk {part} of {} of snapshot {last} is missing",
                    installed.chunks
                ),
            })?;
            decode_rows(&chunk).map(Some)
        })?;
    }
    log.forget_staged(last)?;
    Ok(behind)
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
