//! Locks on keys: who holds them, for how long they are kept from others afterwards, and their fencing tokens.
//!
//! **Lock delays.** When a session ends against its will, whoever had it may not know that yet. So its keys are kept from all others
//! for a while. That must hold over elections as well, and must not depend on whose clock is right: so the state only knows that a key
//! is kept, since which entry of the log, and for how long; the leader measures the time on its own monotonic clock, a new one from
//! the start, and says when it is over ([`crate::Action::RunOut`]). A delay may thus be longer than asked for, never shorter.
//!
//! **Fences.** Each time a lock changes hands its holder gets a number that is higher than all given out before, to any key. One
//! counter for all keys costs less than one for each, and needs no memory of keys that are gone. It is never behind the log either, so
//! that it goes on rising when an older state is restored.

use std::time::Duration;

use imbl::{OrdMap, OrdSet};
use lictor_machine::Index;
use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::bounded;
use crate::command::{Key, KvTxnOp};
use crate::edit::Edit;
use crate::kv::KvEntry;
use crate::quote::quote;
use crate::row::{FENCE, Table};
use crate::session::{SessionError, SessionId};

/// The most keys in one command that ends lock delays.
pub const MAX_LOCK_DELAYS: usize = 1024;

/// A key's lock is kept from everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockDelay {
    /// The entry of the log that ended the session which had it.
    pub since: Index,
    /// How long after that.
    pub delay: Duration,
}

/// What the locks of the key-value store are about. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    /// Every lock that is held, by its session.
    held: OrdSet<(SessionId, Key)>,
    pub(crate) delays: OrdMap<Key, LockDelay>,
    /// The highest fence that was ever given out.
    pub(crate) last_fence: u64,
    #[cfg(feature = "sabotage")]
    pub(crate) sabotage: Option<crate::Sabotage>,
}

/// Why a lock was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LockError {
    /// The session is none.
    Session(SessionError),
    /// Another session holds it.
    Held,
    /// It is kept from everybody.
    Delayed,
}

impl From<SessionError> for LockError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl LockError {
    /// Why a transaction's operation on this key failed, in the API's words.
    pub(crate) fn text(&self, key: &Key) -> String {
        match self {
            Self::Session(error) => error.to_string(),
            Self::Held => format!("failed to lock key {}, lock is already held", quote(key)),
            Self::Delayed => format!("failed to lock key {} due to lock delay", quote(key)),
        }
    }
}

impl Locks {
    /// The keys whose locks a session holds, in order.
    pub(crate) fn held_by(&self, session: SessionId) -> Vec<Key> {
        let held = self.held.range((session, Key::new())..);
        let held = held.take_while(|(holder, _)| *holder == session);
        held.map(|(_, key)| key.clone()).collect()
    }

    /// A number for a lock that changes hands now.
    pub(crate) fn next_fence(&mut self, edit: &mut Edit) -> u64 {
        self.last_fence = edit.index.0.max(self.last_fence.saturating_add(1));
        edit.changed(Table::Meta, Key::from_static(FENCE));
        self.last_fence
    }

    /// Gives a number that may have been given before.
    #[cfg(feature = "sabotage")]
    pub(crate) fn reuse_fence(&mut self, edit: &mut Edit, fence: u64) {
        self.last_fence = self.last_fence.max(fence);
        edit.changed(Table::Meta, Key::from_static(FENCE));
    }

    /// Takes note of who holds a key's lock now: its entry before and after the change, if there is one.
    pub(crate) fn moved(&mut self, key: &Key, old: Option<&KvEntry>, new: Option<&KvEntry>) {
        let [old, new] = [old, new].map(|entry| entry.and_then(KvEntry::session));
        if old == new {
            return;
        }
        if let Some(id) = old.and_then(SessionId::of_holder) {
            self.held.remove(&(id, key.clone()));
        }
        if let Some(id) = new.and_then(SessionId::of_holder) {
            self.held.insert((id, key.clone()));
        }
    }

    /// Takes note that no key is left.
    pub(crate) fn clear(&mut self) {
        self.held = OrdSet::new();
    }

    /// Keeps a key's lock from everybody from now on.
    pub(crate) fn delay(&mut self, edit: &mut Edit, key: Key, delay: Duration) {
        let since = edit.index;
        self.delays.insert(key.clone(), LockDelay { since, delay });
        edit.changed(Table::LockDelays, key);
    }

    /// Ends delays that have been since these indexes.
    pub(crate) fn end_delays(&mut self, edit: &mut Edit, ended: &[(Key, Index)]) {
        for (key, since) in ended {
            if self.delays.get(key).is_some_and(|delay| delay.since == *since) {
                self.delays.remove(key);
                edit.changed(Table::LockDelays, key.clone());
            }
        }
    }

    /// A key whose lock is held by a session that does not live.
    pub(crate) fn held_by_nobody(&self, lives: impl Fn(SessionId) -> bool) -> Option<&Key> {
        let lost = self.held.iter().find(|(session, _)| !lives(*session));
        lost.map(|(_, key)| key)
    }
}

impl KvTxnOp {
    /// Whether it is an attempt to take a lock that is kept from everybody.
    pub(crate) fn is_delayed(&self, locks: &Locks) -> bool {
        matches!(self, Self::Lock(pair, _) if locks.delays.contains_key(&pair.key))
    }
}

/// Reads a command's lock delays without trusting the number that they claim to be.
pub(crate) fn bounded_delays<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(Key, Index)>, D::Error> {
    bounded(deserializer, MAX_LOCK_DELAYS, "lock delays")
}
