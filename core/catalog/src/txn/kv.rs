//! A transaction's operations on the key-value store.

use std::sync::Arc;

use crate::command::{Key, KvTxnOp, TxnResult};
use crate::edit::Edit;
use crate::kv::KvEntry;
use crate::locks::{LockError, Locks};
use crate::quote::quote;
use crate::session::Sessions;
use crate::store::{KvStore, NO_KEY};

impl KvTxnOp {
    /// Whether it changes nothing.
    pub const fn is_read_only(&self) -> bool {
        match self {
            Self::Get(_)
            | Self::GetOrEmpty(_)
            | Self::GetTree(_)
            | Self::CheckIndex(..)
            | Self::CheckSession(..)
            | Self::CheckFence(..)
            | Self::CheckNotExists(_) => true,
            Self::Set(_)
            | Self::Cas(..)
            | Self::Lock(..)
            | Self::Unlock(..)
            | Self::Delete(_)
            | Self::DeleteTree(_)
            | Self::DeleteCas(..) => false,
        }
    }

    /// The key that it is about; a prefix for the two on trees.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Set(pair) | Self::Cas(pair, _) | Self::Lock(pair, _) | Self::Unlock(pair, _) => &pair.key,
            Self::Get(key)
            | Self::GetOrEmpty(key)
            | Self::GetTree(key)
            | Self::CheckIndex(key, _)
            | Self::CheckSession(key, _)
            | Self::CheckFence(key, _)
            | Self::CheckNotExists(key)
            | Self::Delete(key)
            | Self::DeleteTree(key)
            | Self::DeleteCas(key, _) => key,
        }
    }

    /// Whether it is refused before anything runs, and why.
    pub(super) fn precheck(&self, locks: &Locks) -> Result<(), String> {
        if self.key().is_empty() && !matches!(self, Self::DeleteTree(_)) {
            return Err(NO_KEY.to_owned());
        }
        if self.is_delayed(locks) {
            return Err(LockError::Delayed.text(self.key()));
        }
        Ok(())
    }
}

/// Carries out one operation and appends its results.
pub(super) fn step(
    kv: &mut KvStore,
    edit: &mut Edit,
    sessions: &Sessions,
    op: &KvTxnOp,
    results: &mut Vec<TxnResult>,
) -> Result<(), String> {
    let mut answer = |entry: Arc<KvEntry>, value: bool| results.push(TxnResult::Kv { entry, value });
    let find = |kv: &KvStore, key: &Key| kv.entries.get(key).cloned();
    match op {
        KvTxnOp::Set(pair) => answer(kv.set(edit, pair), false),
        KvTxnOp::Cas(pair, expected) => {
            let entry = kv.cas(edit, pair, *expected);
            answer(
                entry.ok_or_else(|| format!("failed to set key {}, index is stale", quote(&pair.key)))?,
                false,
            );
        }
        KvTxnOp::Lock(pair, session) => {
            let entry = kv.lock(edit, sessions, pair, session);
            answer(entry.map_err(|error| error.text(&pair.key))?, false);
        }
        KvTxnOp::Unlock(pair, session) => {
            let entry = kv
                .unlock(edit, pair, session)
                .map_err(|error| error.to_string())?;
            let not_held = || {
                let key = quote(&pair.key);
                format!("failed to unlock key {key}, lock isn't held, or is held by another session")
            };
            answer(entry.ok_or_else(not_held)?, false);
        }
        KvTxnOp::Get(key) => {
            answer(
                find(kv, key).ok_or_else(|| format!("key {} doesn't exist", quote(key)))?,
                true,
            );
        }
        KvTxnOp::GetOrEmpty(key) => answer(
            find(kv, key).unwrap_or_else(|| Arc::new(KvEntry::empty(key.clone()))),
            true,
        ),
        KvTxnOp::GetTree(prefix) => kv.under(prefix).cloned().for_each(|entry| answer(entry, true)),
        KvTxnOp::CheckIndex(key, expected) => {
            let entry = find(kv, key)
                .ok_or_else(|| format!("failed to check index, key {} doesn't exist", quote(key)))?;
            if entry.modify_index != *expected {
                let (key, found) = (quote(key), entry.modify_index);
                return Err(format!(
                    "failed index check for key {key}, current modify index {found} != {expected}"
                ));
            }
            answer(entry, false);
        }
        KvTxnOp::CheckSession(key, session) => {
            let absent = || format!("failed to check session, key {} doesn't exist", quote(key));
            let entry = find(kv, key).ok_or_else(absent)?;
            let holder = entry.session().unwrap_or_default();
            if holder != session.0 {
                let (key, found, expected) =
                    (quote(key), quote(holder.as_bytes()), quote(session.0.as_bytes()));
                return Err(format!(
                    "failed session check for key {key}, current session {found} != {expected}"
                ));
            }
            answer(entry, false);
        }
        KvTxnOp::CheckFence(key, expected) => {
            let absent = || format!("failed to check fence, key {} doesn't exist", quote(key));
            let entry = find(kv, key).ok_or_else(absent)?;
            // Nobody was ever given 0, so whoever asks with it has none.
            let passes = entry.fence() == *expected && *expected != 0;
            #[cfg(feature = "sabotage")]
            let passes = passes || kv.locks.sabotaged(crate::Sabotage::PassOldFences) && *expected != 0;
            if !passes {
                let (key, found) = (quote(key), entry.fence());
                return Err(format!(
                    "failed fence check for key {key}, current fence {found} != {expected}"
                ));
            }
            answer(entry, false);
        }
        KvTxnOp::CheckNotExists(key) => {
            if kv.entries.contains_key(key) {
                return Err(format!("key {} exists", quote(key)));
            }
        }
        KvTxnOp::Delete(key) => kv.delete(edit, key),
        KvTxnOp::DeleteTree(prefix) => kv.delete_tree(edit, prefix),
        KvTxnOp::DeleteCas(key, expected) => {
            if !kv.delete_cas(edit, key, *expected) {
                return Err(format!("failed to delete key {}, index is stale", quote(key)));
            }
        }
    }
    Ok(())
}
