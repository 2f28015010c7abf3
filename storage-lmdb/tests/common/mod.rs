//! What the tests share.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "helpers of tests, of which no test file uses all"
)]

use std::path::Path;

use lictor_catalog::{Row, Table};
use lictor_machine::Index;
use lictor_node::store::{LogStore, StateBatch, StateStore};
use lictor_raft::{Entry, LogId, Payload, SnapshotMeta, Sync, WriteBatch, WriteId};
use lictor_storage_lmdb::{LmdbState, Options, Stores, open};

/// A map of the smallest size that may double a few times.
pub(crate) const SMALL: Options = Options {
    log_map_bytes: 0,
    state_map_bytes: 0,
    max_map_bytes: 512 << 10,
    trim_slice: 100,
};

pub(crate) fn open_default(dir: &Path) -> Stores {
    open(dir, &Options::default()).unwrap()
}

/// An entry that can be found in the file: its payload repeats its index.
pub(crate) fn entry(index: u64, bytes: usize) -> Entry {
    let text = format!("<entry {index:08}>");
    let payload = text.bytes().cycle().take(bytes).collect::<Vec<_>>();
    Entry {
        id: LogId::new(1, index),
        payload: Payload::Command(payload.into()),
    }
}

pub(crate) fn entries(indexes: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Entry> {
    indexes.map(|index| entry(index, bytes)).collect()
}

pub(crate) fn append(indexes: std::ops::RangeInclusive<u64>, bytes: usize) -> WriteBatch {
    WriteBatch {
        append: entries(indexes, bytes),
        ..required()
    }
}

pub(crate) fn required() -> WriteBatch {
    WriteBatch {
        sync: Sync::Required,
        ..WriteBatch::new(WriteId::default())
    }
}

pub(crate) fn compact(index: u64) -> WriteBatch {
    let last = LogId::new(1, index);
    WriteBatch {
        compact_to: Some(SnapshotMeta {
            last,
            ..SnapshotMeta::default()
        }),
        ..required()
    }
}

pub(crate) fn row(key: &str, value: impl Into<bytes::Bytes>) -> Row {
    Row {
        table: Table::Kv,
        key: key.to_owned().into(),
        value: Some(value.into()),
    }
}

pub(crate) fn state_batch(index: u64, rows: Vec<Row>) -> StateBatch {
    StateBatch {
        applied: LogId::new(1, index),
        rows,
    }
}

pub(crate) fn all_entries(log: &impl LogStore, first: u64) -> Vec<Entry> {
    log.reader()
        .entries(Index(first), Index(u64::MAX), usize::MAX)
        .unwrap()
}

pub(crate) fn all_rows(state: &mut LmdbState) -> Vec<Row> {
    let mut rows = Vec::new();
    state
        .load(&mut |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    rows
}

/// Changes one bit of every copy of `pattern` in a file, in its last byte.
pub(crate) fn damage(file: &Path, pattern: &[u8]) {
    let mut content = std::fs::read(file).unwrap();
    let mut found = 0;
    for start in 0..=content.len() - pattern.len() {
        if content[start..].starts_with(pattern) {
            content[start + pattern.len() - 1] ^= 1;
            found += 1;
        }
    }
    assert!(found > 0, "the pattern is not in the file");
    std::fs::write(file, content).unwrap();
}
