//! Changes that are carried out once, however often they are asked for.
//!
//! Whoever asks for a change under an idempotency key can ask again when the answer got lost: the first one is kept for a while, in
//! the replicated state, and is given again by whichever server leads then. How long that is, the leader measures on its own clock, and
//! says when it is over ([`crate::Action::RunOut`]): here no time passes. Changes without a key pay nothing for this.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;
use crate::command::{Action, Key, Outcome};
use crate::edit::Edit;
use crate::fnv::{Fnv64, Fnv128};
use crate::prepared::{PreparedDef, PreparedId};
use crate::row::{Table, ValueError, decode, encode};
use crate::session::{SessionDef, SessionId};
use crate::size::size;
use crate::state::State;

/// The longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// The largest answer that is kept, in bytes.
pub const MAX_RECEIPT_BYTES: usize = 64 << 10;

/// What is said of a request whose idempotency key was another's.
pub const KEY_REUSED: &str = "the idempotency key was used for another request before: each needs its own";

/// How many answers are kept at most.
const RECEIPTS_MAX: usize = 1 << 18;

/// How many bytes of answers are kept at most.
const RECEIPT_BYTES_MAX: usize = 64 << 20;

/// What an idempotency key is known by: a hash of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IdempotencyKey(pub u128);

impl IdempotencyKey {
    /// That of these texts: what the client chose, and what else makes it one of its own.
    pub fn of(texts: &[&[u8]]) -> Self {
        let mut hash = Fnv128::new();
        for text in texts {
            hash.bytes(text);
        }
        Self(hash.finish())
    }

    fn key(self) -> Key {
        Key::copy_from_slice(&self.0.to_be_bytes())
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        let bytes = key.try_into().ok()?;
        Some(Self(u128::from_be_bytes(bytes)))
    }
}

/// A change under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// The key.
    pub key: IdempotencyKey,
    /// A hash of what is asked for. Another request under the same key is refused.
    request: u64,
    /// The change, encoded: so that none can hold another, and that one a third, to no end.
    action: Bytes,
}

impl Once {
    /// This change under this key, if it is one that takes a key: a change of keys, of the catalog, of sessions, of prepared
    /// queries, or of settings.
    pub fn new(key: IdempotencyKey, action: &Action) -> Option<Self> {
        if !takes_key(action) {
            return None;
        }
        let encoded = postcard::to_allocvec(action).ok()?;
        let request = match unnamed(action) {
            Some(unnamed) => fingerprint(&postcard::to_allocvec(&unnamed).ok()?),
            None => fingerprint(&encoded),
        };
        let action = encoded.into();
        Some(Self { key, request, action })
    }

    /// The change. Fails with what does not come from [`Self::new`].
    pub fn action(&self) -> Result<Action, DecodeError> {
        let malformed = |detail: &str| DecodeError::Malformed {
            len: self.action.len(),
            detail: detail.to_owned(),
        };
        match postcard::take_from_bytes::<Action>(&self.action) {
            Ok((action, [])) if takes_key(&action) => Ok(action),
            Ok((_, [])) => Err(malformed("it takes no idempotency key")),
            Ok(_) => Err(malformed("something is left over at its end")),
            Err(error) => Err(malformed(&error.to_string())),
        }
    }

    /// How many bytes the change takes.
    pub const fn len(&self) -> usize {
        self.action.len()
    }

    /// Whether there is none, which [`Self::new`] never makes.
    pub const fn is_empty(&self) -> bool {
        self.action.is_empty()
    }
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The entry of the log that carried it out.
    index: Index,
    request: u64,
    outcome: Outcome,
}

/// The answers that are kept. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipts {
    by_key: OrdMap<IdempotencyKey, Arc<Receipt>>,
    by_age: OrdSet<(Index, IdempotencyKey)>,
    /// About how much memory the answers take.
    bytes: usize,
}

impl Receipts {
    fn get(&self, key: IdempotencyKey) -> Option<&Arc<Receipt>> {
        self.by_key.get(&key)
    }

    fn is_full(&self) -> bool {
        self.by_key.len() >= RECEIPTS_MAX || self.bytes >= RECEIPT_BYTES_MAX
    }

    fn insert(&mut self, key: IdempotencyKey, receipt: Receipt) {
        self.bytes = self.bytes.saturating_add(size(&receipt.outcome));
        self.by_age.insert((receipt.index, key));
        self.by_key.insert(key, Arc::new(receipt));
    }

    /// Forgets answers that were given at or before this index.
    pub(crate) fn forget(&mut self, edit: &mut Edit, through: Index) {
        while let Some((index, key)) = self.by_age.get_min().copied()
            && index <= through
        {
            self.by_age.remove(&(index, key));
            if let Some(receipt) = self.by_key.remove(&key) {
                self.bytes = self.bytes.saturating_sub(size(&receipt.outcome));
            }
            edit.changed(Table::Receipts, key.key());
        }
    }

    /// The index of the oldest.
    pub(crate) fn oldest(&self) -> Option<Index> {
        self.by_age.get_min().map(|(index, _)| *index)
    }

    /// The index of the latest.
    pub(crate) fn latest(&self) -> Index {
        self.by_age.get_max().map_or(Index::ZERO, |(index, _)| *index)
    }

    /// The value of a row; `None` if there is none of this name.
    pub(crate) fn value(&self, key: &[u8]) -> Option<Bytes> {
        let receipt = self.by_key.get(&IdempotencyKey::of_key(key)?)?;
        Some(encode(&**receipt, 64))
    }

    /// The names of all rows behind this one, or of all, in order.
    pub(crate) fn keys_behind(&self, after: Option<&[u8]>) -> impl Iterator<Item = Key> {
        let after = after.and_then(IdempotencyKey::of_key);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.by_key.range((from, Bound::Unbounded));
        behind.map(|(key, _)| key.key())
    }

    /// Whether there is a row of this name.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        IdempotencyKey::of_key(key).is_some_and(|key| self.by_key.contains_key(&key))
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), ValueError> {
        let Some(key) = IdempotencyKey::of_key(key) else {
            return Err(ValueError::Damaged("its name is not one".to_owned()));
        };
        let receipt: Receipt = decode(value)?;
        if receipt.index == Index::ZERO {
            return Err(ValueError::Damaged("its index is 0".to_owned()));
        }
        self.insert(key, receipt);
        Ok(())
    }
}

impl State {
    /// Carries a change out, unless that was done under the same key: then the answer is that of the first time.
    pub(crate) fn once(&mut self, edit: &mut Edit, once: &Once) -> Outcome {
        let receipt = self.receipts.get(once.key);
        #[cfg(feature = "sabotage")]
        let receipt = receipt.filter(|_| !self.kv.locks.sabotaged(crate::Sabotage::CarryOutAgain));
        if let Some(receipt) = receipt {
            if receipt.request != once.request {
                return refused(KEY_REUSED);
            }
            return receipt.outcome.clone();
        }
        if self.receipts.is_full() {
            return refused(
                "too many changes with idempotency keys in the last minutes: try again later, or without one",
            );
        }
        let action = match once.action() {
            Ok(action) => action,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        // Whether its answer can be kept is only known when it is there.
        let (mut scratch, mut tried) = (self.clone(), Edit::new(edit.index));
        let outcome = scratch.carry_out(&mut tried, &action);
        if size(&outcome) > MAX_RECEIPT_BYTES {
            return refused(
                "the answer is too large to be kept: an idempotency key is for changes whose answers have at most 64 KiB",
            );
        }
        *self = scratch;
        *edit = tried;
        let receipt = Receipt {
            index: edit.index,
            request: once.request,
            outcome: outcome.clone(),
        };
        self.receipts.insert(once.key, receipt);
        edit.changed(Table::Receipts, once.key.key());
        outcome
    }
}

/// Whether a change is one that clients ask for.
const fn takes_key(action: &Action) -> bool {
    match action {
        Action::Kv(_)
        | Action::Txn(_)
        | Action::SetAutopilot { .. }
        | Action::Register(_)
        | Action::Deregister(_)
        | Action::RegisterMany(_)
        | Action::CreateSession(_)
        | Action::EndSessions(_)
        | Action::CreatePrepared(_)
        | Action::UpdatePrepared(_)
        | Action::DeletePrepared(_) => true,
        Action::ReapTombstones(_)
        | Action::Coordinates(_)
        | Action::ForgetCoordinates(_)
        | Action::EndLockDelays(_)
        | Action::Once(_)
        | Action::ForgetReceipts(_)
        | Action::RunOut { .. }
        | Action::Restore(_) => false,
    }
}

/// The same change without the name of what it makes, if it makes something: that is drawn anew each time, and not asked for.
fn unnamed(action: &Action) -> Option<Action> {
    if let Action::CreateSession(def) = action {
        let id = SessionId::default();
        let unnamed = SessionDef {
            id,
            ..SessionDef::clone(def)
        };
        return Some(Action::CreateSession(Box::new(unnamed)));
    }
    if let Action::CreatePrepared(def) = action {
        let id = PreparedId::default();
        let unnamed = PreparedDef {
            id,
            ..PreparedDef::clone(def)
        };
        return Some(Action::CreatePrepared(Box::new(unnamed)));
    }
    None
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = Fnv64::new();
    hash.bytes(bytes);
    hash.finish()
}

fn refused(why: &str) -> Outcome {
    Outcome::Refused(why.to_owned())
}
