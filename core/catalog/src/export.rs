//! A whole state as rows, in chunks that can be asked for again.

use std::ops::Bound;

use bytes::Bytes;
use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use crate::row::{Row, Table};
use crate::state::State;

/// A snapshot to be read as rows. It holds one state and never changes; clones are O(1).
#[derive(Clone, Debug)]
pub struct Export {
    state: State,
}

/// A place in an [`Export`], between two rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    table: Table,
    /// The last key of the table that lies before this place.
    after: Option<Bytes>,
}

impl Cursor {
    /// Before the first row.
    pub const fn start() -> Self {
        Self {
            table: Table::Kv,
            after: None,
        }
    }

    fn behind(row: &Row) -> Self {
        Self {
            table: row.table,
            after: Some(row.key.clone()),
        }
    }

    /// Where reading starts in `table`; `None` if the place is behind all of it.
    fn bound(&self, table: Table) -> Option<Bound<&[u8]>> {
        match (&self.after, table) {
            (_, table) if table < self.table => None,
            (Some(key), table) if table == self.table => Some(Bound::Excluded(key)),
            _ => Some(Bound::Unbounded),
        }
    }
}

impl Export {
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }

    /// The index that the snapshot is of.
    pub const fn index(&self) -> Index {
        self.state.applied
    }

    /// The rows behind `from` as long as their [sizes](Row::size) stay within `max_bytes` together, but at least one; and where the
    /// next chunk starts, or `None` if there is nothing more. The same arguments always give the same chunk, so a reader can go back to
    /// any cursor that it got.
    pub fn chunk(&self, from: &Cursor, max_bytes: usize) -> (Vec<Row>, Option<Cursor>) {
        let (mut rows, mut bytes) = (Vec::<Row>::new(), 0_usize);
        for row in self.state.rows_from(from) {
            bytes = bytes.saturating_add(row.size());
            if let Some(last) = rows.last()
                && bytes > max_bytes
            {
                let next = Cursor::behind(last);
                return (rows, Some(next));
            }
            rows.push(row);
        }
        (rows, None)
    }
}

impl State {
    /// Every row behind `from`, in order of table and key.
    pub(crate) fn rows_from<'a>(&'a self, from: &'a Cursor) -> impl Iterator<Item = Row> + 'a {
        let entries = from.bound(Table::Kv).map(|from| {
            let range = self.kv.entries.range::<_, [u8]>((from, Bound::Unbounded));
            range.map(|(_, entry)| Row::of_entry(entry))
        });
        let tombstones = from.bound(Table::KvTombstones).map(|from| {
            self.kv
                .graveyard
                .iter_from(from)
                .map(|(key, index)| Row::of_tombstone(key.clone(), index))
        });
        let few = |table, rows: Vec<Row>| {
            let from = from.bound(table);
            let behind = move |row: &Row| match from {
                None => false,
                Some(Bound::Unbounded) => true,
                Some(Bound::Included(key)) => row.key >= *key,
                Some(Bound::Excluded(key)) => row.key > *key,
            };
            rows.into_iter().filter(behind)
        };
        let counters = few(Table::Meta, self.counters().collect());
        let settings = few(Table::Settings, self.settings().collect());
        let coordinates = from.bound(Table::Coordinates).map(|from| {
            let range = self
                .coordinates
                .entries
                .range::<_, [u8]>((from, Bound::Unbounded));
            range.map(|(key, entry)| Row::of_coordinate(key.clone(), entry))
        });
        let nodes = from
            .bound(Table::Nodes)
            .map(|from| self.discovery.node_rows(from));
        let services = from
            .bound(Table::Services)
            .map(|from| self.discovery.service_rows(from));
        let checks = from
            .bound(Table::Checks)
            .map(|from| self.discovery.check_rows(from));
        let marks = from
            .bound(Table::Marks)
            .map(|from| self.discovery.mark_rows(from));
        let sessions = from
            .bound(Table::Sessions)
            .map(|from| self.sessions.session_rows(from));
        let session_marks = from
            .bound(Table::SessionMarks)
            .map(|from| self.sessions.mark_rows(from));
        let delays = from.bound(Table::LockDelays).map(|from| {
            let delays = self.kv.locks.delays.range::<_, [u8]>((from, Bound::Unbounded));
            delays.map(|(key, delay)| Row::of_lock_delay(key.clone(), *delay))
        });
        let receipts = from.bound(Table::Receipts).map(|from| {
            let after = match from {
                Bound::Included(key) | Bound::Excluded(key) => Some(key),
                Bound::Unbounded => None,
            };
            let keys = self.receipts.keys_behind(after);
            keys.filter_map(|key| self.row(Table::Receipts, &key))
        });
        let prepared = from
            .bound(Table::PreparedQueries)
            .map(|from| self.prepared.rows(from));
        let staged = from
            .bound(Table::Staged)
            .zip(self.staging.as_ref())
            .map(|(from, staging)| {
                staging.rows_behind(match from {
                    Bound::Included(key) | Bound::Excluded(key) => Some(key),
                    Bound::Unbounded => None,
                })
            });
        entries
            .into_iter()
            .flatten()
            .chain(tombstones.into_iter().flatten())
            .chain(counters)
            .chain(settings)
            .chain(coordinates.into_iter().flatten())
            .chain(nodes.into_iter().flatten())
            .chain(services.into_iter().flatten())
            .chain(checks.into_iter().flatten())
            .chain(marks.into_iter().flatten())
            .chain(sessions.into_iter().flatten())
            .chain(session_marks.into_iter().flatten())
            .chain(delays.into_iter().flatten())
            .chain(receipts.into_iter().flatten())
            .chain(prepared.into_iter().flatten())
            .chain(staged.into_iter().flatten())
    }
}
