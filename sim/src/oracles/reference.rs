//! The key-value store as it should be: every committed change carried out once, in order, with the whole past kept.

use std::collections::BTreeMap;

use lictor_machine::Index;

use crate::workload::{Change, Held};

/// The past and present of every key.
#[derive(Debug, Default)]
pub(super) struct Reference {
    /// What each committed entry, from index 1 on, was to change, and whether it did.
    entries: Vec<(Option<Change>, bool)>,
    /// For each key, what it held from which index on.
    keys: BTreeMap<u8, Vec<(Index, Option<Held>)>>,
}

impl Reference {
    /// Carries out the next committed entry.
    pub(super) fn extend(&mut self, change: Option<Change>) {
        let index = Index(self.entries.len() as u64 + 1);
        let done = change.is_some_and(|change| self.carry_out(index, change));
        self.entries.push((change, done));
    }

    /// What the entry at `index` was to change, and whether it did.
    pub(super) fn outcome(&self, index: Index) -> Option<(Change, bool)> {
        let (change, done) = self.entries.get(usize::try_from(index.0.checked_sub(1)?).ok()?)?;
        change.map(|change| (change, *done))
    }

    /// What `key` held after `index`.
    pub(super) fn held(&self, key: u8, index: Index) -> Option<Held> {
        let past = self.keys.get(&key)?;
        let later = past.partition_point(|(from, _)| *from <= index);
        past[..later].last().and_then(|(_, held)| *held)
    }

    fn carry_out(&mut self, index: Index, change: Change) -> bool {
        let now = self.held(change.key(), index);
        let past = self.keys.entry(change.key()).or_default();
        match change {
            Change::Set { value, .. } => past.push((index, Some(Held { value, index }))),
            Change::Cas {
                value,
                index: expected,
                ..
            } => {
                if now.map_or(Index::ZERO, |held| held.index) != expected {
                    return false;
                }
                past.push((index, Some(Held { value, index })));
            }
            Change::Delete { .. } => past.push((index, None)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_stays_readable() {
        let mut reference = Reference::default();
        reference.extend(None);
        reference.extend(Some(Change::Cas {
            key: 1,
            value: 10,
            index: Index::ZERO,
        }));
        reference.extend(Some(Change::Cas {
            key: 1,
            value: 11,
            index: Index(1),
        }));
        reference.extend(Some(Change::Cas {
            key: 1,
            value: 12,
            index: Index(2),
        }));
        reference.extend(Some(Change::Delete { key: 1 }));
        let outcomes: Vec<_> = (1..=6)
            .map(|index| reference.outcome(Index(index)).map(|(_, done)| done))
            .collect();
        assert_eq!(
            outcomes,
            [None, Some(true), Some(false), Some(true), Some(true), None]
        );
        let values: Vec<_> = (0..=6)
            .map(|index| reference.held(1, Index(index)).map(|held| held.value))
            .collect();
        assert_eq!(values, [None, None, Some(10), Some(10), Some(12), None, None]);
        assert_eq!(reference.held(2, Index(6)), None);
    }
}
