//! The disk with what runs on an agent: it keeps what the contract of [`Effect::Save`](lictor_local::Effect::Save) asks for, and
//! not a bit more. Writes are durable whole and in order; a crash keeps some of those that were under way, the earlier ones first.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lictor_local::{Change, Memory, RecordKey, SaveId};
use lictor_machine::{Instant, Rng};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Records {
    durable: BTreeMap<RecordKey, Bytes>,
    saving: VecDeque<(SaveId, Vec<Change>)>,
    /// When the latest write ends.
    busy_until: Instant,
    /// It takes nothing.
    pub(super) full: bool,
}

impl Records {
    /// Begins a write that takes so long by itself; returns when it ends, which is after those before it.
    pub(super) fn begin(&mut self, id: SaveId, changes: Vec<Change>, earliest: Instant) -> Instant {
        self.saving.push_back((id, changes));
        self.busy_until = self.busy_until.max(earliest);
        self.busy_until
    }

    /// The oldest write ends.
    pub(super) fn finish(&mut self) -> Option<(SaveId, Result<(), String>)> {
        let (id, changes) = self.saving.pop_front()?;
        if self.full {
            return Some((id, Err("no space left on the device".to_owned())));
        }
        self.apply(changes);
        Some((id, Ok(())))
    }

    /// The process is no more.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let kept = if self.full {
            0
        } else {
            rng.below(self.saving.len() as u64 + 1) as usize
        };
        let saving = core::mem::take(&mut self.saving);
        for (_, changes) in saving.into_iter().take(kept) {
            self.apply(changes);
        }
    }

    /// Another, empty disk is in its place.
    pub(super) fn replace(&mut self) {
        *self = Self::default();
    }

    /// What an agent that starts finds.
    pub(super) fn read(&self) -> Result<Memory, String> {
        let mut memory = Memory::default();
        for record in self.durable.values() {
            memory.read(record).map_err(|error| error.to_string())?;
        }
        Ok(memory)
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change.content {
                Some(content) => self.durable.insert(change.key, content),
                None => self.durable.remove(&change.key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, content: Option<&'static str>) -> Change {
        Change {
            key: RecordKey::Service(name.into()),
            content: content.map(|text| Bytes::from_static(text.as_bytes())),
        }
    }

    fn with_writes() -> Records {
        let mut records = Records::default();
        let both = vec![change("a", Some("1")), change("b", Some("1"))];
        records.begin(SaveId(1), both, Instant::from_millis(3));
        let second = vec![change("a", None), change("b", Some("2"))];
        let ends = records.begin(SaveId(2), second, Instant::from_millis(1));
        assert_eq!(ends, Instant::from_millis(3), "not before the first");
        records
    }

    #[test]
    fn a_crash_keeps_whole_writes_the_earlier_ones_first() {
        let mut kept = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut records = with_writes();
            records.crash(&mut Rng::new(seed));
            kept.insert(records.durable.values().cloned().collect::<Vec<_>>());
        }
        let content = |text: &'static str| Bytes::from_static(text.as_bytes());
        let possible = [vec![], vec![content("1"), content("1")], vec![content("2")]];
        assert_eq!(kept, possible.into());
    }

    #[test]
    fn what_was_reported_is_there_and_a_full_disk_takes_nothing() {
        let mut records = with_writes();
        assert_eq!(records.finish(), Some((SaveId(1), Ok(()))));
        records.full = true;
        let refused = records.finish();
        assert!(matches!(refused, Some((SaveId(2), Err(_)))), "{refused:?}");
        assert_eq!(records.durable.len(), 2);
        assert_eq!(records.finish(), None);
    }
}
