//! Finds members by a hash, in one step and in few bytes: a pool of ten thousand has ten thousand of these.

/// Open addressing with linear probing over slot numbers. What a slot's hash is, and whether it is the one looked for, the owner of
/// the slots says. Hashes must be keyed, or whoever chooses ids chooses collisions.
#[derive(Debug, Default)]
pub(crate) struct Index {
    cells: Vec<u32>,
    len: usize,
}

const EMPTY: u32 = u32::MAX;

impl Index {
    /// The slot with this hash for which `is` holds.
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.cells.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            match self.cells[at] {
                EMPTY => return None,
                slot if is(slot) => return Some(slot),
                _ => at = self.after(at),
            }
        }
    }

    /// Adds a slot, which is not there yet.
    pub(crate) fn insert(&mut self, slot: u32, hash_of: impl Fn(u32) -> u64) {
        // At most three quarters full, so that there is always an empty cell and runs stay short.
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            let cells = (self.cells.len() * 2).max(8);
            let old = core::mem::replace(&mut self.cells, vec![EMPTY; cells]);
            for moved in old.into_iter().filter(|cell| *cell != EMPTY) {
                self.place(moved, hash_of(moved));
            }
        }
        self.place(slot, hash_of(slot));
        self.len += 1;
    }

    /// Takes a slot out, if it is there. Its hash must still be what it was.
    pub(crate) fn remove(&mut self, slot: u32, hash_of: impl Fn(u32) -> u64) {
        if self.cells.is_empty() {
            return;
        }
        let mut hole = self.home(hash_of(slot));
        loop {
            match self.cells[hole] {
                EMPTY => return,
                found if found == slot => break,
                _ => hole = self.after(hole),
            }
        }
        self.len -= 1;
        // Close the gap: whatever comes behind and does not belong behind the hole moves into it.
        let mut at = hole;
        loop {
            at = self.after(at);
            let cell = self.cells[at];
            if cell == EMPTY {
                break;
            }
            let home = self.home(hash_of(cell));
            let from_home = |place: usize| place.wrapping_sub(home) & (self.cells.len() - 1);
            if from_home(hole) < from_home(at) {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = EMPTY;
    }

    fn place(&mut self, slot: u32, hash: u64) {
        let mut at = self.home(hash);
        while self.cells[at] != EMPTY {
            at = self.after(at);
        }
        self.cells[at] = slot;
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.cells.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lictor_machine::Rng;

    use super::*;

    #[test]
    fn it_agrees_with_a_set_whatever_is_added_and_removed() {
        // Few hashes, so that there are long runs which overlap and wrap around.
        let hash_of = |slot: u32| u64::from(slot % 13) * 5;
        let mut rng = Rng::new(3);
        let (mut index, mut set) = (Index::default(), BTreeSet::new());
        for _ in 0..20_000 {
            let slot = rng.below(96) as u32;
            if set.remove(&slot) {
                index.remove(slot, hash_of);
            } else {
                set.insert(slot);
                index.insert(slot, hash_of);
            }
            let probe = rng.below(96) as u32;
            let found = index.find(hash_of(probe), |other| other == probe);
            assert_eq!(found.is_some(), set.contains(&probe));
        }
        assert!(
            index.cells.len() <= 256,
            "it grows with what it holds, not with what it held"
        );
    }
}
