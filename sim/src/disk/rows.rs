//! The content of a state store at one moment.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_catalog::{Cursor, Export, Row, Table};
use lictor_node::store::StateBatch;
use lictor_raft::LogId;

/// How much of a state is taken at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How a server writes rows into the chunks of a snapshot.
pub type DecodeRows = fn(&Bytes) -> Result<Vec<Row>, String>;

/// A state store's content.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RowImage {
    /// The last entry whose effects are in the rows.
    pub applied: LogId,
    rows: BTreeMap<(Table, Bytes), Bytes>,
}

impl RowImage {
    /// The content after a snapshot that ends at `applied` was loaded from its chunks.
    pub fn of_chunks(applied: LogId, chunks: &[Bytes], decode: DecodeRows) -> Result<Self, String> {
        let mut image = Self {
            applied,
            rows: BTreeMap::new(),
        };
        for chunk in chunks {
            image.extend(&decode(chunk)?);
        }
        Ok(image)
    }

    /// The content after a whole state, to which everything up to `applied` was applied, was written.
    pub fn of_state(applied: LogId, state: &Export) -> Self {
        let mut image = Self {
            applied,
            rows: BTreeMap::new(),
        };
        let mut from = Some(Cursor::start());
        while let Some(cursor) = from {
            let (rows, next) = state.chunk(&cursor, CHUNK_BYTES);
            image.extend(&rows);
            from = next;
        }
        image
    }

    /// Applies a batch.
    pub fn apply(&mut self, batch: &StateBatch) {
        self.applied = batch.applied;
        self.extend(&batch.rows);
    }

    /// Every row, in order of table and key.
    pub fn iter(&self) -> impl Iterator<Item = Row> + '_ {
        self.rows.iter().map(|((table, key), value)| Row {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        })
    }

    fn extend(&mut self, rows: &[Row]) {
        for row in rows {
            let key = (row.table, row.key.clone());
            match &row.value {
                Some(value) => self.rows.insert(key, value.clone()),
                None => self.rows.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_set_replaced_and_removed() {
        let row = |key: &'static str, value: Option<&'static str>| Row {
            table: Table::Kv,
            key: Bytes::from_static(key.as_bytes()),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
        };
        let mut image = RowImage::default();
        image.apply(&StateBatch {
            applied: LogId::new(1, 4),
            rows: vec![row("b", Some("1")), row("a", Some("2"))],
        });
        image.apply(&StateBatch {
            applied: LogId::new(1, 5),
            rows: vec![row("b", None), row("a", Some("3"))],
        });
        assert_eq!(image.iter().collect::<Vec<_>>(), [row("a", Some("3"))]);
        assert_eq!(image.applied, LogId::new(1, 5));
    }
}
