//! Reading the log while it is being written.

use std::sync::Arc;

use bytes::Bytes;
use lictor_machine::Index;
use lictor_node::store::{LogReader, Staged, StoreError};
use lictor_raft::{Entry, LogId};

use super::{STAGED, Tables};
use crate::frame::unseal;

/// Reads what is committed. Transactions last for one call only: a long one would keep LMDB from reusing pages, and the file would grow.
pub(super) struct LmdbReader {
    tables: Arc<Tables>,
}

impl LmdbReader {
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        Self { tables }
    }
}

impl LogReader for LmdbReader {
    fn entries(&self, first: Index, last: Index, max_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        if first > last {
            return Ok(Vec::new());
        }
        let Tables { env, log, .. } = &*self.tables;
        env.read(|txn| {
            let mut entries = Vec::new();
            if first <= self.tables.base(txn)?.index {
                return Ok(entries);
            }
            let (start, end) = (first.0.to_be_bytes(), last.0.to_be_bytes());
            let range = (
                std::ops::Bound::Included(&start[..]),
                std::ops::Bound::Included(&end[..]),
            );
            let mut expected = first;
            let mut bytes = 0_usize;
            for item in log.raw().range(txn, &range)? {
                let (key, stored) = item?;
                let place = log.place(key);
                if key != expected.0.to_be_bytes() {
                    if entries.is_empty() {
                        break;
                    }
                    return Err(place
                        .damaged(format!("the entries from {expected} to it are missing"))
                        .into());
                }
                let entry: Entry = log.decode(key, unseal(place, stored)?)?;
                if entry.id.index != expected {
                    return Err(place.damaged(format!("it holds entry {}", entry.id)).into());
                }
                bytes = bytes.saturating_add(entry.size());
                if bytes > max_bytes && !entries.is_empty() {
                    break;
                }
                entries.push(entry);
                expected = expected.next();
            }
            Ok(entries)
        })
    }

    fn staged(&self, snapshot: LogId, chunk: u64) -> Result<Option<Bytes>, StoreError> {
        let Tables {
            env, meta, staged, ..
        } = &*self.tables;
        env.read(|txn| {
            let record: Option<Staged> = meta.get_as(txn, STAGED)?;
            if record.is_none_or(|record| record.snapshot != snapshot || chunk >= record.chunks) {
                return Ok(None);
            }
            let key = chunk.to_be_bytes();
            let data = staged
                .get(txn, &key)?
                .ok_or_else(|| staged.place(&key).damaged("the chunk is missing"))?;
            Ok(Some(Bytes::copy_from_slice(data)))
        })
    }
}
