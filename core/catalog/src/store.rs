//! What a key-value change does: entries, indexes, tombstones and the rules of locks.

use std::sync::Arc;

use imbl::OrdMap;
use lictor_machine::Index;

use crate::command::{Key, KvPair, KvWrite, SessionRef};
use crate::edit::Edit;
use crate::graveyard::Graveyard;
use crate::kv::{Holder, KvEntry};
use crate::locks::{LockError, Locks};
use crate::row::Table;
use crate::session::{Behavior, SessionDef, SessionError, Sessions};

/// The key-value store. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct KvStore {
    pub(crate) entries: OrdMap<Key, Arc<KvEntry>>,
    pub(crate) graveyard: Graveyard,
    pub(crate) locks: Locks,
    /// The last index that changed any entry. Deletions count, reaping does not.
    pub(crate) index: Index,
}

/// The answer to an operation that needs a key and has none.
pub(crate) const NO_KEY: &str = "Must provide key";

impl KvWrite {
    /// Whether it is refused before anything is looked at, and why.
    pub(crate) fn precheck(&self) -> Result<(), String> {
        let key = match self {
            Self::Set(pair) | Self::Cas(pair, _) | Self::Lock(pair, _) | Self::Unlock(pair, _) => &pair.key,
            Self::Delete(key) | Self::DeleteCas(key, _) => key,
            Self::DeleteTree(_) => return Ok(()),
        };
        if key.is_empty() {
            Err(NO_KEY.to_owned())
        } else {
            Ok(())
        }
    }
}

impl KvStore {
    /// Carries out one write; whether it happened. On an error nothing was changed.
    pub(crate) fn write(
        &mut self,
        edit: &mut Edit,
        sessions: &Sessions,
        write: &KvWrite,
    ) -> Result<bool, SessionError> {
        Ok(match write {
            KvWrite::Set(pair) => {
                self.set(edit, pair);
                true
            }
            KvWrite::Cas(pair, expected) => self.cas(edit, pair, *expected).is_some(),
            KvWrite::Lock(pair, session) => match self.lock(edit, sessions, pair, session) {
                Ok(_) => true,
                Err(LockError::Held | LockError::Delayed) => false,
                Err(LockError::Session(error)) => return Err(error),
            },
            KvWrite::Unlock(pair, session) => self.unlock(edit, pair, session)?.is_some(),
            KvWrite::Delete(key) => {
                self.delete(edit, key);
                true
            }
            KvWrite::DeleteCas(key, expected) => self.delete_cas(edit, key, *expected),
            KvWrite::DeleteTree(prefix) => {
                self.delete_tree(edit, prefix);
                true
            }
        })
    }

    /// Sets a key. Whoever holds its lock keeps it; the lock index goes back to 0.
    pub(crate) fn set(&mut self, edit: &mut Edit, pair: &KvPair) -> Arc<KvEntry> {
        let holder = self.entries.get(&pair.key).and_then(|entry| entry.holder.clone());
        self.put(edit, pair, holder, 0)
    }

    /// Sets a key if its modify index is `expected`, where 0 stands for "it does not exist"; `None` if not.
    pub(crate) fn cas(&mut self, edit: &mut Edit, pair: &KvPair, expected: Index) -> Option<Arc<KvEntry>> {
        let found = self
            .entries
            .get(&pair.key)
            .map_or(Index::ZERO, |entry| entry.modify_index);
        (found == expected).then(|| self.set(edit, pair))
    }

    /// Takes a key's lock and sets the key.
    pub(crate) fn lock(
        &mut self,
        edit: &mut Edit,
        sessions: &Sessions,
        pair: &KvPair,
        session: &SessionRef,
    ) -> Result<Arc<KvEntry>, LockError> {
        if self.locks.delays.contains_key(&pair.key) {
            return Err(LockError::Delayed);
        }
        sessions.check(session)?;
        let found = self.entries.get(&pair.key);
        let lock_index = found.map_or(0, |entry| entry.lock_index);
        let (fence, lock_index) = match found.and_then(|entry| entry.holder.as_ref()) {
            Some(holder) if holder.session == session.0 => (holder.fence, lock_index),
            #[cfg(feature = "sabotage")]
            Some(_) if self.locks.sabotaged(crate::Sabotage::GiveHeldLocks) => {
                (self.locks.next_fence(edit), lock_index)
            }
            Some(_) => return Err(LockError::Held),
            #[cfg(feature = "sabotage")]
            None if self.locks.sabotaged(crate::Sabotage::ReuseFences) => {
                let fence = lock_index.saturating_add(1);
                self.locks.reuse_fence(edit, fence);
                (fence, fence)
            }
            None => (self.locks.next_fence(edit), lock_index.saturating_add(1)),
        };
        let session = session.0.clone();
        Ok(self.put(edit, pair, Some(Holder { session, fence }), lock_index))
    }

    /// Gives a key's lock back and sets the key; `None` if `session` does not hold it. The session need not live.
    pub(crate) fn unlock(
        &mut self,
        edit: &mut Edit,
        pair: &KvPair,
        session: &SessionRef,
    ) -> Result<Option<Arc<KvEntry>>, SessionError> {
        if session.0.is_empty() {
            return Err(SessionError::Missing);
        }
        let held = self
            .entries
            .get(&pair.key)
            .filter(|entry| entry.session() == Some(&session.0));
        let Some(lock_index) = held.map(|entry| entry.lock_index) else {
            return Ok(None);
        };
        Ok(Some(self.put(edit, pair, None, lock_index)))
    }

    /// Frees the keys that a session has locked, which has ended, or deletes them, and keeps them from others for a while.
    pub(crate) fn release(&mut self, edit: &mut Edit, session: &SessionDef) {
        #[cfg(feature = "sabotage")]
        if self.locks.sabotaged(crate::Sabotage::KeepLocksOfTheDead) {
            return;
        }
        let delay = session.lock_delay();
        #[cfg(feature = "sabotage")]
        let delay = if self.locks.sabotaged(crate::Sabotage::SkipLockDelays) {
            std::time::Duration::ZERO
        } else {
            delay
        };
        for key in self.locks.held_by(session.id) {
            match session.behavior {
                Behavior::Release => self.free(edit, &key),
                Behavior::Delete => self.delete(edit, &key),
            }
            if !delay.is_zero() {
                self.locks.delay(edit, key, delay);
            }
        }
    }

    /// Frees a key's lock, and leaves all else as it is.
    fn free(&mut self, edit: &mut Edit, key: &Key) {
        let Some(entry) = self.entries.get(key).cloned() else {
            return;
        };
        let pair = KvPair {
            key: key.clone(),
            value: entry.value.clone(),
            flags: entry.flags,
        };
        self.put(edit, &pair, None, entry.lock_index);
    }

    /// Deletes a key, if it exists. A lock does not protect it.
    pub(crate) fn delete(&mut self, edit: &mut Edit, key: &Key) {
        if let Some((key, entry)) = self.entries.remove_with_key(key) {
            self.locks.moved(&key, Some(&entry), None);
            self.index = edit.index;
            self.graveyard.bury(key.clone(), edit.index);
            edit.changed(Table::KvTombstones, key.clone());
            edit.changed(Table::Kv, key);
        }
    }

    /// Deletes a key if its modify index is `expected`. True also if it does not exist.
    pub(crate) fn delete_cas(&mut self, edit: &mut Edit, key: &Key, expected: Index) -> bool {
        let holds = self
            .entries
            .get(key)
            .is_none_or(|entry| entry.modify_index == expected);
        if holds {
            self.delete(edit, key);
        }
        holds
    }

    /// Deletes every key with `prefix`, if there is one.
    ///
    /// One tombstone at the prefix stands for them all, and for those that were below it: a longer prefix has nothing left and
    /// falls back to the table's index, while an old tombstone would make its index go back. The empty prefix needs none,
    /// because its index is the table's in any case.
    pub(crate) fn delete_tree(&mut self, edit: &mut Edit, prefix: &Key) {
        let doomed: Vec<Key> = self.under(prefix).map(|entry| entry.key.clone()).collect();
        if doomed.is_empty() {
            return;
        }
        if prefix.is_empty() {
            self.entries = OrdMap::new();
            self.locks.clear();
        } else {
            for key in &doomed {
                let entry = self.entries.remove(key);
                self.locks.moved(key, entry.as_deref(), None);
            }
        }
        for key in doomed {
            edit.changed(Table::Kv, key);
        }
        for key in self.graveyard.clear_under(prefix) {
            edit.changed(Table::KvTombstones, key);
        }
        if !prefix.is_empty() {
            self.graveyard.bury(prefix.clone(), edit.index);
            edit.changed(Table::KvTombstones, prefix.clone());
        }
        self.index = edit.index;
    }

    /// Forgets tombstones whose index is not later than `through`. No index moves, but those of prefixes may fall back.
    pub(crate) fn reap(&mut self, edit: &mut Edit, through: Index) {
        for key in self.graveyard.reap(through) {
            edit.changed(Table::KvTombstones, key);
        }
    }

    /// Writes an entry, unless that would change nothing: then it keeps its modify index, and nothing is touched.
    fn put(
        &mut self,
        edit: &mut Edit,
        pair: &KvPair,
        holder: Option<Holder>,
        lock_index: u64,
    ) -> Arc<KvEntry> {
        let existing = self.entries.get(&pair.key);
        if let Some(entry) = existing
            && entry.value == pair.value
            && entry.flags == pair.flags
            && entry.holder == holder
            && entry.lock_index == lock_index
        {
            return Arc::clone(entry);
        }
        let (key, create_index) = match existing {
            Some(entry) => (entry.key.clone(), entry.create_index),
            None => (pair.key.clone(), edit.index),
        };
        let entry = Arc::new(KvEntry {
            key: key.clone(),
            value: pair.value.clone(),
            flags: pair.flags,
            lock_index,
            holder,
            create_index,
            modify_index: edit.index,
        });
        let old = self.entries.insert(key.clone(), Arc::clone(&entry));
        self.locks.moved(&key, old.as_deref(), Some(&entry));
        edit.changed(Table::Kv, key);
        self.index = edit.index;
        entry
    }
}
