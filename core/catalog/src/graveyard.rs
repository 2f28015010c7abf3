//! Tombstones: what is remembered of deleted keys, so that the index of a prefix does not go back.
//!
//! A deleted key leaves a tombstone of its own, a recursive delete leaves one at its prefix. They are forgotten
//! when the leader says so ([`crate::Action::ReapTombstones`]).

use std::ops::Bound;

use imbl::OrdSet;
use lictor_machine::Index;

use crate::command::Key;
use crate::max_tree::{Iter, MaxTree};

/// The tombstones, by key and by age. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Graveyard {
    by_key: MaxTree,
    by_age: OrdSet<(Index, Key)>,
}

impl Graveyard {
    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The index of the tombstone at exactly `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Index> {
        self.by_key.get(key)
    }

    /// Puts a tombstone at `key`, in place of an earlier one; returns the index of that.
    pub(crate) fn bury(&mut self, key: Key, index: Index) -> Option<Index> {
        let earlier = self.by_key.insert(key.clone(), index);
        if let Some(earlier) = earlier {
            self.by_age.remove(&(earlier, key.clone()));
        }
        self.by_age.insert((index, key));
        earlier
    }

    /// Removes every tombstone with `prefix`; returns their keys.
    pub(crate) fn clear_under(&mut self, prefix: &[u8]) -> Vec<Key> {
        let from = self.by_key.iter_from(Bound::Included(prefix));
        let keys: Vec<_> = from
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect();
        for key in &keys {
            if let Some(index) = self.by_key.remove(key) {
                self.by_age.remove(&(index, key.clone()));
            }
        }
        keys
    }

    /// Removes every tombstone whose index is not later than `through`; returns their keys. Costs nothing for those that stay.
    pub(crate) fn reap(&mut self, through: Index) -> Vec<Key> {
        let mut keys = Vec::new();
        while let Some((index, key)) = self.by_age.get_min().cloned()
            && index <= through
        {
            self.by_key.remove(&key);
            self.by_age.remove(&(index, key.clone()));
            keys.push(key);
        }
        keys
    }

    /// The index of the oldest tombstone.
    pub(crate) fn oldest(&self) -> Option<Index> {
        self.by_age.get_min().map(|(index, _)| *index)
    }

    /// The largest index of the tombstones with `prefix`; zero if there is none. O(log n).
    pub(crate) fn max_under(&self, prefix: &[u8]) -> Index {
        self.by_key.max_under(prefix)
    }

    /// Tombstones in order of their keys, starting at `from`.
    pub(crate) fn iter_from(&self, from: Bound<&[u8]>) -> Iter<'_> {
        self.by_key.iter_from(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graveyard(stones: &[(&'static str, u64)]) -> Graveyard {
        let mut graveyard = Graveyard::default();
        for (key, index) in stones {
            graveyard.bury(Key::from_static(key.as_bytes()), Index(*index));
        }
        graveyard
    }

    fn keys(graveyard: &Graveyard) -> Vec<&[u8]> {
        graveyard
            .iter_from(Bound::Unbounded)
            .map(|(key, _)| &key[..])
            .collect()
    }

    #[test]
    fn a_later_burial_replaces_the_earlier() {
        let mut graveyard = graveyard(&[("a", 3), ("b", 4), ("a", 7)]);
        assert_eq!(graveyard.len(), 2);
        assert_eq!(graveyard.get(b"a"), Some(Index(7)));
        assert_eq!(graveyard.reap(Index(4)), [&b"b"[..]]);
        assert_eq!(keys(&graveyard), [b"a"]);
    }

    #[test]
    fn reaping_takes_the_old_and_clearing_takes_the_near() {
        let all = graveyard(&[("a/1", 9), ("a/2", 2), ("b", 3), ("c", 4)]);
        let mut reaped = all.clone();
        assert_eq!(reaped.reap(Index(3)), [&b"a/2"[..], b"b"]);
        assert_eq!(keys(&reaped), [&b"a/1"[..], b"c"]);
        let mut cleared = all.clone();
        assert_eq!(cleared.clear_under(b"a/"), [&b"a/1"[..], b"a/2"]);
        assert_eq!(cleared.reap(Index(100)), [&b"b"[..], b"c"]);
        assert_eq!(cleared.len(), 0);
        assert_eq!(all.len(), 4);
    }
}
