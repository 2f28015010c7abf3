//! The key-value store's entries.

use bytes::Bytes;
use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use crate::command::Key;

/// An entry of the key-value store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// Opaque to the store.
    pub flags: u64,
    /// How often its lock was taken, see [`crate::KvWrite::Set`] for when it goes back to 0.
    pub lock_index: u64,
    /// The session that holds its lock: a UUID, spelled as the client did that took the lock.
    pub session: Option<String>,
    /// The fencing token of whoever holds its lock: higher than that of everybody who held it before. 0 while nobody does.
    pub fence: u64,
    /// The index that created it.
    pub create_index: Index,
    /// The index that last changed it.
    pub modify_index: Index,
}

impl KvEntry {
    /// What `get-or-empty` answers for a key that does not exist: its name, and all else empty or 0.
    pub(crate) const fn empty(key: Key) -> Self {
        Self {
            key,
            value: Bytes::new(),
            flags: 0,
            lock_index: 0,
            session: None,
            fence: 0,
            create_index: Index::ZERO,
            modify_index: Index::ZERO,
        }
    }
}
