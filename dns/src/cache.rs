//! Encoded answers, kept for those who ask the same.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lictor_catalog::Query;
use lictor_machine::Index;

use crate::encode::Encoded;
use crate::form::Topic;
use crate::kept::KeptWitness;
use crate::source::Snapshot;

/// How many parts there are, each with a lock of its own.
const SHARDS: usize = 16;

/// What a place takes besides its answer, about.
const PLACE_BYTES: usize = 256;

/// No catalog has this index.
const NEVER: u64 = u64::MAX;

/// What an answer was made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witnesses {
    /// The catalog's [`Snapshot::generation`], if it was read, what was asked of it, and the indexes of the answers.
    pub(crate) generation: u64,
    pub(crate) local: Vec<(Query, Index)>,
    pub(crate) kept: Vec<KeptWitness>,
    /// When a part of it that others said is out of date.
    pub(crate) until: Option<Instant>,
}

/// An encoded answer and what it was made of.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) encoded: Encoded,
    pub(crate) witnesses: Witnesses,
    pub(crate) topic: Topic,
    /// Which configuration it was made for.
    pub(crate) epoch: u64,
    /// The index of a catalog in which it was seen to be right.
    checked: AtomicU64,
}

impl Entry {
    pub(crate) const fn new(encoded: Encoded, witnesses: Witnesses, topic: Topic, epoch: u64) -> Self {
        Self {
            encoded,
            witnesses,
            topic,
            epoch,
            checked: AtomicU64::new(NEVER),
        }
    }

    /// How old the part of it is that was read in the catalog here.
    pub(crate) fn age_here(&self, snapshot: Option<&Snapshot>) -> Duration {
        match snapshot {
            Some(snapshot) if !self.witnesses.local.is_empty() => snapshot.age,
            Some(_) | None => Duration::ZERO,
        }
    }

    /// Whether the catalog still says what this was made of.
    pub(crate) fn stands(&self, snapshot: Option<&Snapshot>) -> bool {
        if self.witnesses.local.is_empty() {
            return true;
        }
        let Some(snapshot) = snapshot else { return false };
        if snapshot.generation != self.witnesses.generation {
            return false;
        }
        let index = snapshot.state.index().0;
        if self.checked.load(Ordering::Relaxed) == index {
            return true;
        }
        let mut read = self.witnesses.local.iter();
        let same = read.all(|(query, index)| snapshot.state.index_of(query) == Some(*index));
        if same {
            self.checked.store(index, Ordering::Relaxed);
        }
        same
    }
}

/// Entries by question. What has not been asked for in a while makes room for what has.
#[derive(Debug)]
pub(crate) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// When the younger half of a shard is as large as this, the older half is dropped.
    half: usize,
}

/// Two halves: what was asked for lately, and before that.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Box<[u8]>, Arc<Entry>>,
    old: HashMap<Box<[u8]>, Arc<Entry>>,
    /// Of the younger half.
    bytes: usize,
}

impl Cache {
    /// Room for about so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            half: bytes / SHARDS / 2,
        }
    }

    fn shard(&self, key: &[u8]) -> std::sync::MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry for a question, which may be out of date.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.young.get(key) {
            return Some(Arc::clone(entry));
        }
        let (key, entry) = shard.old.remove_entry(key)?;
        shard.insert(key, Arc::clone(&entry), self.half);
        Some(entry)
    }

    /// Keeps an entry, if it is not as large as to push everything else out.
    pub(crate) fn insert(&self, key: &[u8], entry: Arc<Entry>) {
        if entry.bytes(key) > self.half {
            return;
        }
        self.shard(key).insert(key.into(), entry, self.half);
    }
}

impl Shard {
    fn insert(&mut self, key: Box<[u8]>, entry: Arc<Entry>, half: usize) {
        let bytes = entry.bytes(&key);
        if self.bytes + bytes > half {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += bytes;
        if let Some(replaced) = self.young.get(&key) {
            self.bytes -= replaced.bytes(&key).min(self.bytes);
        }
        self.young.insert(key, entry);
    }
}

impl Entry {
    /// What keeping it takes, about.
    fn bytes(&self, key: &[u8]) -> usize {
        PLACE_BYTES + key.len() + self.encoded.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answer;
    use hickory_proto::op::ResponseCode;

    fn entry() -> Arc<Entry> {
        let encoded = Encoded::new(&Answer::only(ResponseCode::NoError), b"\0", true);
        Arc::new(Entry::new(encoded, Witnesses::default(), Topic::Other, 0))
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let each = entry().bytes(b"0000");
        let cache = Cache::new(each * 10 * SHARDS * 2);
        cache.insert(b"kept", entry());
        for number in 0..10_000_u32 {
            cache.insert(&number.to_be_bytes(), entry());
            assert!(cache.get(b"kept").is_some());
        }
        let mut left = 0;
        for shard in &cache.shards {
            let shard = shard.lock().unwrap();
            left += shard.young.len() + shard.old.len();
        }
        assert!((SHARDS..=SHARDS * 20).contains(&left), "{left}");
        let newest = 9_999_u32.to_be_bytes();
        assert!(cache.get(&newest).is_some() && cache.get(&0_u32.to_be_bytes()).is_none());
    }

    #[test]
    fn what_would_push_everything_out_is_not_kept() {
        let cache = Cache::new(0);
        cache.insert(b"key", entry());
        assert!(cache.get(b"key").is_none());
    }

    #[test]
    fn replacing_counts_once() {
        let each = entry().bytes(b"key");
        let cache = Cache::new(each * 10 * SHARDS * 2);
        for _ in 0..100 {
            cache.insert(b"key", entry());
        }
        assert_eq!(cache.shard(b"key").bytes, each);
    }
}
