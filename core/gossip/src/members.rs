//! The table of members: who is known, in which state, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_machine::{Instant, NodeId, Rng};

use crate::index::Index;
use crate::lamport::LamportTime;
use crate::member::{Incarnation, Member, MemberState};
use crate::statement::BUCKETS;

/// Names an entry while it is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

impl Slot {
    /// Of this member itself.
    pub(crate) const ME: Self = Self(0);
}

#[derive(Debug)]
struct Entry {
    member: Arc<Member>,
    /// Of its last intent.
    time: LamportTime,
    /// Where in the list that its state puts it.
    position: u32,
}

/// All members that are known, this one among them. A name and an id have one entry at most.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_id: Index,
    by_name: Index,
    key: u64,
    /// The others that are here, in the order in which they are probed (SWIM §4.3).
    ring: Vec<u32>,
    cursor: usize,
    failed: Vec<u32>,
    gone: BTreeMap<u32, Instant>,
    reaping: BTreeSet<(Instant, u32)>,
    buckets: [u64; BUCKETS],
    len: usize,
    well: usize,
}

/// The list that a member is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Ring,
    Failed,
    None,
}

impl Table {
    /// A table with this member only. `key` makes its hashes its own.
    pub(crate) fn new(me: Arc<Member>, key: u64, rng: &mut Rng) -> Self {
        let mut table = Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_id: Index::default(),
            by_name: Index::default(),
            key,
            ring: Vec::new(),
            cursor: 0,
            failed: Vec::new(),
            gone: BTreeMap::new(),
            reaping: BTreeSet::new(),
            buckets: [0; BUCKETS],
            len: 0,
            well: 0,
        };
        table.insert(me, LamportTime(0), rng);
        table
    }

    /// How many are known.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// How many are well, this member among them.
    pub(crate) const fn well(&self) -> usize {
        self.well
    }

    /// How many others are here: well, or about to leave.
    pub(crate) const fn here(&self) -> usize {
        self.ring.len()
    }

    /// How many have failed.
    pub(crate) const fn failed(&self) -> usize {
        self.failed.len()
    }

    /// A fingerprint of each group of members, equal for members that hold the same of them.
    pub(crate) const fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    /// The entry of this id.
    pub(crate) fn find(&self, id: NodeId) -> Option<Slot> {
        let is = |slot: u32| self.entry(slot).member.id == id;
        self.by_id.find(hash_id(self.key, id), is).map(Slot)
    }

    /// The entry of this name.
    pub(crate) fn find_name(&self, name: &str) -> Option<Slot> {
        let is = |slot: u32| self.entry(slot).member.name == name;
        self.by_name.find(hash_name(self.key, name), is).map(Slot)
    }

    /// The member.
    pub(crate) fn member(&self, slot: Slot) -> &Arc<Member> {
        &self.entry(slot.0).member
    }

    /// When the last intent of the member was said.
    pub(crate) fn time(&self, slot: Slot) -> LamportTime {
        self.entry(slot.0).time
    }

    /// Notes a later intent.
    pub(crate) fn set_time(&mut self, slot: Slot, time: LamportTime) {
        self.entry_mut(slot.0).time = time;
    }

    /// All, in a reproducible order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Arc<Member>)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(slot, entry)| Some((Slot(slot as u32), &entry.as_ref()?.member)))
    }

    /// Adds a member whose id and name nobody has.
    pub(crate) fn insert(&mut self, member: Arc<Member>, time: LamportTime, rng: &mut Rng) -> Slot {
        let slot = self.free.pop().unwrap_or(self.entries.len() as u32);
        let state = member.state;
        let entry = Entry {
            member,
            time,
            position: 0,
        };
        if slot as usize == self.entries.len() {
            self.entries.push(Some(entry));
        } else {
            self.entries[slot as usize] = Some(entry);
        }
        let (entries, key) = (&self.entries, self.key);
        self.by_id
            .insert(slot, |slot| hash_id(key, member_of(entries, slot).id));
        self.by_name
            .insert(slot, |slot| hash_name(key, &member_of(entries, slot).name));
        self.len += 1;
        self.well += usize::from(state.is_well());
        self.toggle_bucket(slot);
        self.enlist(slot, list_of(slot, state), rng);
        Slot(slot)
    }

    /// Replaces what is known of a member. The id stays; nobody else has the name.
    pub(crate) fn replace(&mut self, slot: Slot, member: Arc<Member>, rng: &mut Rng) {
        let slot = slot.0;
        let old = Arc::clone(&self.entry(slot).member);
        debug_assert_eq!(old.id, member.id, "an entry keeps its id");
        let renamed = old.name != member.name;
        self.toggle_bucket(slot);
        if renamed {
            let (entries, key) = (&self.entries, self.key);
            self.by_name
                .remove(slot, |slot| hash_name(key, &member_of(entries, slot).name));
        }
        let (from, to) = (list_of(slot, old.state), list_of(slot, member.state));
        if from != to {
            self.delist(slot, from);
        }
        if !is_gone(member.state) {
            self.keep(slot);
        }
        self.well += usize::from(member.state.is_well());
        self.well -= usize::from(old.state.is_well());
        self.entry_mut(slot).member = member;
        if renamed {
            let (entries, key) = (&self.entries, self.key);
            self.by_name
                .insert(slot, |slot| hash_name(key, &member_of(entries, slot).name));
        }
        self.toggle_bucket(slot);
        if from != to {
            self.enlist(slot, to, rng);
        }
    }

    /// Takes a member out.
    pub(crate) fn remove(&mut self, slot: Slot) -> Arc<Member> {
        let slot = slot.0;
        self.toggle_bucket(slot);
        let (entries, key) = (&self.entries, self.key);
        self.by_id
            .remove(slot, |slot| hash_id(key, member_of(entries, slot).id));
        self.by_name
            .remove(slot, |slot| hash_name(key, &member_of(entries, slot).name));
        let state = self.entry(slot).member.state;
        self.delist(slot, list_of(slot, state));
        self.keep(slot);
        self.len -= 1;
        self.well -= usize::from(state.is_well());
        let entry = self.entries[slot as usize].take();
        self.free.push(slot);
        entry
            .expect("slots are handed out for entries that are there")
            .member
    }

    /// Says when a member that is gone is to be forgotten.
    pub(crate) fn forget_at(&mut self, slot: Slot, at: Instant) {
        self.keep(slot.0);
        self.gone.insert(slot.0, at);
        self.reaping.insert((at, slot.0));
    }

    /// When that member is to be forgotten; `None` while it is here.
    pub(crate) fn forgotten_at(&self, slot: Slot) -> Option<Instant> {
        self.gone.get(&slot.0).copied()
    }

    /// Who is to be forgotten first, and when.
    pub(crate) fn first_to_forget(&self) -> Option<(Instant, Slot)> {
        self.reaping.first().map(|(at, slot)| (*at, Slot(*slot)))
    }

    /// Who is to be probed next: everybody once, then in another order (SWIM §4.3).
    pub(crate) fn next_to_probe(&mut self, rng: &mut Rng) -> Option<Slot> {
        if self.cursor >= self.ring.len() {
            rng.shuffle(&mut self.ring);
            for position in 0..self.ring.len() {
                let slot = self.ring[position];
                self.entry_mut(slot).position = position as u32;
            }
            self.cursor = 0;
        }
        let slot = *self.ring.get(self.cursor)?;
        self.cursor += 1;
        Some(Slot(slot))
    }

    /// Up to `count` different members that are here and that `accept` wants, at random.
    pub(crate) fn sample(&self, count: usize, rng: &mut Rng, accept: impl Fn(&Member) -> bool) -> Vec<Slot> {
        let mut chosen: Vec<Slot> = Vec::with_capacity(count.min(self.ring.len()));
        let len = self.ring.len();
        // Few enough to look at all; the ring's own order is random.
        if len <= 4 * count {
            let start = rng.below(len as u64) as usize;
            let all = self.ring[start..].iter().chain(&self.ring[..start]);
            let wanted = all
                .map(|slot| Slot(*slot))
                .filter(|slot| accept(self.member(*slot)));
            chosen.extend(wanted.take(count));
            return chosen;
        }
        for _ in 0..4 * count {
            if chosen.len() == count {
                break;
            }
            let slot = Slot(self.ring[rng.below(len as u64) as usize]);
            if !chosen.contains(&slot) && accept(self.member(slot)) {
                chosen.push(slot);
            }
        }
        chosen
    }

    /// One of the members that failed, at random.
    pub(crate) fn random_failed(&self, rng: &mut Rng) -> Option<Slot> {
        rng.pick(&self.failed).map(|slot| Slot(*slot))
    }

    /// Up to `count` that are well beyond doubt, in the probe order, which is random.
    pub(crate) fn some_alive(&self, count: usize) -> impl Iterator<Item = &Arc<Member>> {
        let here = self.ring.iter().map(|slot| self.member(Slot(*slot)));
        here.filter(|member| member.state == MemberState::Alive)
            .take(count)
    }

    fn entry(&self, slot: u32) -> &Entry {
        let entry = self.entries.get(slot as usize).and_then(Option::as_ref);
        entry.expect("slots are handed out for entries that are there")
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        let entry = self.entries.get_mut(slot as usize).and_then(Option::as_mut);
        entry.expect("slots are handed out for entries that are there")
    }

    fn keep(&mut self, slot: u32) {
        if let Some(at) = self.gone.remove(&slot) {
            self.reaping.remove(&(at, slot));
        }
    }

    fn toggle_bucket(&mut self, slot: u32) {
        let member = &self.entry(slot).member;
        let (bucket, print) = (bucket_of(member.id), fingerprint(member));
        self.buckets[bucket] ^= print;
    }

    fn enlist(&mut self, slot: u32, list: List, rng: &mut Rng) {
        match list {
            List::Ring => {
                // At random among those that this round has still to come to: it may be the next.
                let last = self.ring.len();
                self.ring.push(slot);
                let left = last + 1 - self.cursor.min(last);
                let at = self.cursor.min(last) + rng.below(left as u64) as usize;
                self.ring.swap(at, last);
                self.note_position(last);
                self.note_position(at);
            }
            List::Failed => {
                self.entry_mut(slot).position = self.failed.len() as u32;
                self.failed.push(slot);
            }
            List::None => {}
        }
    }

    fn delist(&mut self, slot: u32, list: List) {
        let at = self.entry(slot).position as usize;
        match list {
            List::Ring => {
                // Those before the cursor were probed in this round, those behind were not, and so it must stay.
                let mut hole = at;
                if at < self.cursor {
                    self.cursor -= 1;
                    self.ring.swap(at, self.cursor);
                    self.note_position(at);
                    hole = self.cursor;
                }
                self.ring.swap_remove(hole);
                if hole < self.ring.len() {
                    self.note_position(hole);
                }
            }
            List::Failed => {
                self.failed.swap_remove(at);
                if let Some(moved) = self.failed.get(at).copied() {
                    self.entry_mut(moved).position = at as u32;
                }
            }
            List::None => {}
        }
    }

    fn note_position(&mut self, at: usize) {
        let slot = self.ring[at];
        self.entry_mut(slot).position = at as u32;
    }
}

/// Whether a member in this state is no longer here.
pub(crate) const fn is_gone(state: MemberState) -> bool {
    matches!(state, MemberState::Left | MemberState::Failed)
}

/// The group that a member is in; the same on every member.
pub(crate) fn bucket_of(id: NodeId) -> usize {
    hash_id(0, id) as usize % BUCKETS
}

/// How strong a statement about a member is: of two with the same incarnation the stronger holds. A suspicion counts as nothing: it
/// passes by itself.
pub(crate) const fn strength(incarnation: Incarnation, state: MemberState) -> (u64, u8) {
    let rank = match state {
        MemberState::Alive | MemberState::Suspect => 0,
        MemberState::Leaving => 1,
        MemberState::Failed => 2,
        MemberState::Left => 3,
    };
    (incarnation.0, rank)
}

fn fingerprint(member: &Member) -> u64 {
    let (incarnation, rank) = strength(member.incarnation, member.state);
    mix(hash_id(1, member.id) ^ mix(incarnation << 2 | u64::from(rank)))
}

const fn list_of(slot: u32, state: MemberState) -> List {
    if slot == Slot::ME.0 {
        return List::None;
    }
    match state {
        MemberState::Alive | MemberState::Suspect | MemberState::Leaving => List::Ring,
        MemberState::Failed => List::Failed,
        MemberState::Left => List::None,
    }
}

fn member_of(entries: &[Option<Entry>], slot: u32) -> &Member {
    let entry = entries[slot as usize].as_ref();
    &entry.expect("an index holds only slots that are there").member
}

const fn hash_id(key: u64, id: NodeId) -> u64 {
    mix(mix(key ^ id.0 as u64) ^ (id.0 >> 64) as u64)
}

fn hash_name(key: u64, name: &str) -> u64 {
    name.as_bytes().chunks(8).fold(mix(key), |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}

/// Spreads each bit over all (SplitMix64's finalizer).
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
