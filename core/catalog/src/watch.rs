//! Who waits for which part of the state.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Key, Query};
use crate::state::Touched;

/// The part of the state that an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest {
    /// One key.
    KvKey(Key),
    /// Every key with this prefix.
    KvPrefix(Key),
    /// Every key.
    KvTable,
}

impl Query {
    /// What its answer depends on. The index of an answer that found nothing may move without this being touched, as it is that of the
    /// table.
    pub fn interest(&self) -> Interest {
        match self {
            Self::KvGet(key) => Interest::KvKey(key.clone()),
            Self::KvList(prefix) | Self::KvKeys { prefix, .. } if prefix.is_empty() => Interest::KvTable,
            Self::KvList(prefix) | Self::KvKeys { prefix, .. } => Interest::KvPrefix(prefix.clone()),
        }
    }
}

/// Names one subscription; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

/// There are as many watchers as there may be. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {limit} watches are taken: try again later, or raise the limit")]
pub struct WatchesFull {
    /// How many there may be.
    pub limit: usize,
}

/// Watchers by what they wait for. A watcher is any value `W`; it is handed out once, when its interest is touched.
///
/// What a change costs depends on the watchers that it wakes and on how many different lengths of watched prefixes there are, not on
/// the number of other watchers. A watch takes about 400 bytes with a short key; one on a key that others watch too, about 130.
#[derive(Debug)]
pub struct Watches<W> {
    limit: usize,
    next: u64,
    watchers: BTreeMap<WatchId, Watcher<W>>,
    keys: Group,
    /// By length of the prefix, so that a changed key is looked up once per length.
    prefixes: BTreeMap<usize, Group>,
    table: BTreeSet<WatchId>,
}

#[derive(Debug)]
struct Watcher<W> {
    interest: Interest,
    value: W,
}

type Group = BTreeMap<Key, BTreeSet<WatchId>>;

impl<W> Watches<W> {
    /// Nobody waits yet, and never more than `limit` will at once.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            next: 0,
            watchers: BTreeMap::new(),
            keys: Group::new(),
            prefixes: BTreeMap::new(),
            table: BTreeSet::new(),
        }
    }

    /// How many watchers wait.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Adds a watcher. To miss nothing, subscribe and query in the same turn, before the next command is applied.
    pub fn subscribe(&mut self, interest: Interest, watcher: W) -> Result<WatchId, WatchesFull> {
        if self.watchers.len() >= self.limit {
            return Err(WatchesFull { limit: self.limit });
        }
        let id = WatchId(self.next);
        self.next += 1;
        let interest = match interest {
            Interest::KvKey(key) => Interest::KvKey(join(&mut self.keys, &key, id)),
            Interest::KvPrefix(prefix) if !prefix.is_empty() => {
                let group = self.prefixes.entry(prefix.len()).or_default();
                Interest::KvPrefix(join(group, &prefix, id))
            }
            Interest::KvPrefix(_) | Interest::KvTable => {
                self.table.insert(id);
                Interest::KvTable
            }
        };
        self.watchers.insert(
            id,
            Watcher {
                interest,
                value: watcher,
            },
        );
        Ok(id)
    }

    /// Removes a watcher and returns it; `None` if it was woken or cancelled before.
    pub fn cancel(&mut self, id: WatchId) -> Option<W> {
        let Watcher { interest, value } = self.watchers.remove(&id)?;
        match interest {
            Interest::KvKey(key) => leave(&mut self.keys, &key, id),
            Interest::KvPrefix(prefix) => {
                if let Some(group) = self.prefixes.get_mut(&prefix.len()) {
                    leave(group, &prefix, id);
                    if group.is_empty() {
                        self.prefixes.remove(&prefix.len());
                    }
                }
            }
            Interest::KvTable => {
                self.table.remove(&id);
            }
        }
        Some(value)
    }

    /// Removes every watcher whose interest was touched, and appends each once to `woken`.
    pub fn take_touched(&mut self, touched: &Touched, woken: &mut Vec<W>) {
        match touched {
            Touched::These { kv } => kv.iter().for_each(|key| self.take_key(key, woken)),
            Touched::All => {
                self.keys.clear();
                self.prefixes.clear();
                self.table.clear();
                woken.extend(
                    std::mem::take(&mut self.watchers)
                        .into_values()
                        .map(|watcher| watcher.value),
                );
            }
        }
    }

    fn take_key(&mut self, key: &Key, woken: &mut Vec<W>) {
        if self.watchers.is_empty() {
            return;
        }
        let mut ids = std::mem::take(&mut self.table);
        ids.append(&mut self.keys.remove(key).unwrap_or_default());
        let mut emptied = Vec::new();
        for (length, group) in self.prefixes.range_mut(..=key.len()) {
            if let Some(mut found) = group.remove(&key[..*length]) {
                ids.append(&mut found);
                if group.is_empty() {
                    emptied.push(*length);
                }
            }
        }
        for length in emptied {
            self.prefixes.remove(&length);
        }
        woken.extend(
            ids.iter()
                .filter_map(|id| self.watchers.remove(id))
                .map(|watcher| watcher.value),
        );
    }
}

/// Adds a watcher of `key` to its group. Returns the group's own copy of the key: the one given may be a slice of a large request,
/// which must not live as long as the watch.
fn join(group: &mut Group, key: &Key, id: WatchId) -> Key {
    let own = group
        .get_key_value(key)
        .map_or_else(|| Key::copy_from_slice(key), |(own, _)| own.clone());
    group.entry(own.clone()).or_default().insert(id);
    own
}

fn leave(group: &mut Group, key: &Key, id: WatchId) {
    if let Some(ids) = group.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            group.remove(key);
        }
    }
}
