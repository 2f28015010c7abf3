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
    /// Who holds its lock.
    pub holder: Option<Holder>,
    /// The index that created it.
    pub create_index: Index,
    /// The index that last changed it.
    pub modify_index: Index,
}

/// Who holds the lock of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The session: a UUID, spelled as the client did that took the lock.
    pub session: String,
    /// The holder's fencing token: higher than that of everybody who held the lock before, and never 0.
    pub fence: u64,
}

impl KvEntry {
    /// The session that holds its lock, as the client spelled it that took the lock.
    pub fn session(&self) -> Option<&str> {
        self.holder.as_ref().map(|holder| &*holder.session)
    }

    /// The fencing token of whoever holds its lock; 0 while nobody does.
    pub fn fence(&self) -> u64 {
        self.holder.as_ref().map_or(0, |holder| holder.fence)
    }

    /// What `get-or-empty` answers for a key that does not exist: its name, and all else empty or 0.
    pub(crate) const fn empty(key: Key) -> Self {
        Self {
            key,
            value: Bytes::new(),
            flags: 0,
            lock_index: 0,
            holder: None,
            create_index: Index::ZERO,
            modify_index: Index::ZERO,
        }
    }
}
