//! The catalog as rows: how it goes to disk and to servers that lag behind.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A kind of row. The numbers are on disk and on the wire: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Table {
    /// Entries of the key-value store, by key.
    Kv = 1,
    /// Tombstones of deleted keys, by key.
    KvTombstones = 2,
    /// Counters of the catalog, such as the highest index of each table, by name.
    Meta = 3,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Kv, Self::KvTombstones, Self::Meta];

    /// The table with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }
}

/// One object of the catalog as bytes. Storage keeps rows and knows nothing of what they mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its kind.
    pub table: Table,
    /// Its name within the table.
    pub key: Bytes,
    /// The object; `None` removes the row.
    pub value: Option<Bytes>,
}
