//! The catalog as a naive program: plain maps, full scans, whole copies.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::*;
use crate::{Autopilot, CoordinateEntry, Holder, TxnError, TxnResult};

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) entries: BTreeMap<Key, KvEntry>,
    stones: BTreeMap<Key, Index>,
    pub(super) index: Index,
    /// The highest fence so far.
    fence: u64,
    autopilot: Autopilot,
    /// By name in lower case, and segment.
    coordinates: BTreeMap<(String, String), CoordinateEntry>,
    coordinates_index: Index,
}

impl Model {
    pub(super) fn apply(&mut self, index: Index, action: &Action) -> Outcome {
        match action {
            Action::Kv(KvWrite::DeleteTree(prefix)) => {
                self.delete_tree(index, prefix);
                DONE
            }
            Action::Kv(write) => match self.write(index, write) {
                Ok(done) => Outcome::Done(done),
                Err(what) => Outcome::Refused(what),
            },
            Action::Txn(ops) => Outcome::Txn(self.txn(index, ops)),
            Action::ReapTombstones(through) => {
                self.stones.retain(|_, index| *index > *through);
                DONE
            }
            Action::SetAutopilot { config, cas } => {
                let old = &self.autopilot;
                if cas.is_some_and(|index| index != old.modify_index) {
                    return NOT_DONE;
                }
                let first = old.modify_index == Index::ZERO;
                if first || old.config != *config {
                    self.autopilot = Autopilot {
                        config: config.clone(),
                        create_index: if first { index } else { old.create_index },
                        modify_index: index,
                    };
                }
                DONE
            }
            Action::Coordinates(updates) => {
                for update in updates {
                    let entry = self
                        .coordinates
                        .entry((update.node.to_lowercase(), update.segment.clone()));
                    let modify_index = index;
                    let update = update.clone();
                    let new = CoordinateEntry { update, modify_index };
                    match entry {
                        Entry::Occupied(old) if old.get().update == new.update => continue,
                        Entry::Occupied(mut old) => {
                            old.insert(new);
                        }
                        Entry::Vacant(place) => {
                            place.insert(new);
                        }
                    }
                    self.coordinates_index = index;
                }
                DONE
            }
            Action::ForgetCoordinates(nodes) => {
                let before = self.coordinates.len();
                self.coordinates
                    .retain(|(node, _), _| !nodes.iter().any(|name| name.to_lowercase() == *node));
                if self.coordinates.len() < before {
                    self.coordinates_index = index;
                }
                DONE
            }
            Action::Register(_)
            | Action::Deregister(_)
            | Action::RegisterMany(_)
            | Action::CreateSession(_)
            | Action::EndSessions(_)
            | Action::EndLockDelays(_)
            | Action::Once(_)
            | Action::ForgetReceipts(_)
            | Action::RunOut { .. }
            | Action::Restore(_)
            | Action::CreatePrepared(_)
            | Action::UpdatePrepared(_)
            | Action::DeletePrepared(_) => unreachable!("they have a model of their own"),
        }
    }

    pub(super) fn query(&self, query: &Query) -> (Index, Found) {
        let under = |prefix: &Key| {
            let entries: Vec<_> = self
                .entries
                .values()
                .filter(|entry| entry.key.starts_with(prefix))
                .cloned()
                .map(Arc::new)
                .collect();
            let stones = self
                .stones
                .iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .map(|(_, index)| *index);
            let index = entries.iter().map(|entry| entry.modify_index).chain(stones).max();
            (
                if prefix.is_empty() {
                    self.index
                } else {
                    index.unwrap_or(self.index)
                },
                entries,
            )
        };
        match query {
            Query::KvGet(key) => {
                let entry = self.entries.get(key).cloned().map(Arc::new);
                (
                    entry.as_ref().map_or(self.index, |entry| entry.modify_index),
                    Found::Entry(entry),
                )
            }
            Query::KvList(prefix) => {
                let (index, entries) = under(prefix);
                (index, Found::Entries(entries))
            }
            Query::KvKeys { prefix, separator } => {
                let (index, entries) = under(prefix);
                let mut keys: Vec<Key> = entries
                    .iter()
                    .map(|entry| {
                        let ends = prefix.len() + separator.len()..=entry.key.len();
                        let mut ends = ends.filter(|end| {
                            !separator.is_empty() && entry.key[prefix.len()..*end].ends_with(separator)
                        });
                        entry.key.slice(..ends.next().unwrap_or(entry.key.len()))
                    })
                    .collect();
                keys.dedup();
                (index, Found::Keys(keys))
            }
            Query::Autopilot => {
                let found = self.autopilot.clone();
                (found.modify_index, Found::Autopilot(Arc::new(found)))
            }
            Query::Coordinates => {
                let all = self.coordinates.values().cloned().map(Arc::new);
                (self.coordinates_index, Found::Coordinates(all.collect()))
            }
            Query::Coordinate(name) => {
                let found: Vec<_> = self
                    .coordinates
                    .iter()
                    .filter(|((node, _), _)| *node == name.to_lowercase())
                    .map(|(_, entry)| Arc::new(entry.clone()))
                    .collect();
                let index = found.iter().map(|entry| entry.modify_index).max();
                (index.unwrap_or(self.coordinates_index), Found::Coordinates(found))
            }
            Query::Nodes
            | Query::NodeServices(_)
            | Query::NodeInfo(_)
            | Query::NodeInfos
            | Query::Services { .. }
            | Query::ServiceNodes { .. }
            | Query::HealthNode(_)
            | Query::HealthChecks { .. }
            | Query::HealthService { .. }
            | Query::HealthState { .. }
            | Query::Sessions
            | Query::Session(_)
            | Query::NodeSessions(_)
            | Query::PreparedQueries
            | Query::PreparedQuery(_)
            | Query::Resolve(_) => unreachable!("they have a model of their own"),
        }
    }

    fn put(&mut self, index: Index, pair: &KvPair, holder: Option<Holder>, lock_index: u64) -> KvEntry {
        let old = self.entries.get(&pair.key);
        let mut new = KvEntry {
            key: pair.key.clone(),
            value: pair.value.clone(),
            flags: pair.flags,
            lock_index,
            holder,
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: old.map_or(index, |old| old.modify_index),
        };
        if old != Some(&new) {
            new.modify_index = index;
            self.index = index;
            self.entries.insert(pair.key.clone(), new.clone());
        }
        new
    }

    fn check(session: &SessionRef) -> Result<(), String> {
        match &session.0[..] {
            ALICE | BOB => Ok(()),
            "" => Err("missing session".to_owned()),
            GHOST => Err(format!("invalid session \"{GHOST}\"")),
            _ => Err("failed session lookup: index error: UUID must be 36 characters".to_owned()),
        }
    }

    /// Any write but the deletion of a tree.
    fn write(&mut self, index: Index, write: &KvWrite) -> Result<bool, String> {
        let op = match write {
            KvWrite::Set(pair) => KvTxnOp::Set(pair.clone()),
            KvWrite::Cas(pair, expected) => KvTxnOp::Cas(pair.clone(), *expected),
            KvWrite::Lock(pair, session) => KvTxnOp::Lock(pair.clone(), session.clone()),
            KvWrite::Unlock(pair, session) => KvTxnOp::Unlock(pair.clone(), session.clone()),
            KvWrite::Delete(key) => KvTxnOp::Delete(key.clone()),
            KvWrite::DeleteCas(key, expected) => KvTxnOp::DeleteCas(key.clone(), *expected),
            KvWrite::DeleteTree(_) => unreachable!("see apply"),
        };
        if op.key().is_empty() {
            return Err("Must provide key".to_owned());
        }
        match self.step(index, &op, &mut Vec::new()) {
            Ok(()) => Ok(true),
            // A condition that does not hold is an error in a transaction only.
            Err(what) if what.starts_with("failed to") => Ok(false),
            Err(what) => Err(what),
        }
    }

    fn delete(&mut self, index: Index, key: &Key) {
        if self.entries.remove(key).is_some() {
            self.stones.insert(key.clone(), index);
            self.index = index;
        }
    }

    fn delete_tree(&mut self, index: Index, prefix: &Key) {
        let count = self.entries.len();
        self.entries.retain(|key, _| !key.starts_with(prefix));
        if self.entries.len() < count {
            self.index = index;
            self.stones.retain(|key, _| !key.starts_with(prefix));
            if !prefix.is_empty() {
                self.stones.insert(prefix.clone(), index);
            }
        }
    }

    fn txn(&mut self, index: Index, ops: &[TxnOp]) -> Result<Vec<TxnResult>, Vec<TxnError>> {
        let (mut copy, mut results, mut errors) = (self.clone(), Vec::new(), Vec::new());
        for (op, kv) in (0..).zip(kv_ops(ops)) {
            if kv.key().is_empty() && !matches!(kv, KvTxnOp::DeleteTree(_)) {
                errors.push(TxnError {
                    op,
                    what: "Must provide key".to_owned(),
                });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for (op, kv) in (0..).zip(kv_ops(ops)) {
            if let Err(what) = copy.step(index, kv, &mut results) {
                errors.push(TxnError { op, what });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        *self = copy;
        Ok(results)
    }

    fn step(&mut self, index: Index, op: &KvTxnOp, results: &mut Vec<TxnResult>) -> Result<(), String> {
        let name = String::from_utf8_lossy(op.key()).into_owned();
        let old = self.entries.get(op.key()).cloned();
        let mut answer = |entry: KvEntry, value| {
            results.push(TxnResult::Kv {
                entry: Arc::new(entry),
                value,
            });
        };
        match op {
            KvTxnOp::Set(pair) => answer(self.put(index, pair, old.and_then(|old| old.holder), 0), false),
            KvTxnOp::Cas(pair, expected) => {
                let holds = match &old {
                    None => expected.0 == 0,
                    Some(old) => expected.0 != 0 && *expected == old.modify_index,
                };
                if !holds {
                    return Err(format!("failed to set key \"{name}\", index is stale"));
                }
                answer(self.put(index, pair, old.and_then(|old| old.holder), 0), false);
            }
            KvTxnOp::Lock(pair, session) => {
                Self::check(session)?;
                let count = old.as_ref().map_or(0, |old| old.lock_index);
                let (fence, count) = match old.and_then(|old| old.holder) {
                    None => {
                        self.fence = index.0.max(self.fence + 1);
                        (self.fence, count + 1)
                    }
                    Some(holder) if holder.session == session.0 => (holder.fence, count),
                    Some(_) => return Err(format!("failed to lock key \"{name}\", lock is already held")),
                };
                let session = session.0.clone();
                answer(
                    self.put(index, pair, Some(Holder { session, fence }), count),
                    false,
                );
            }
            KvTxnOp::Unlock(pair, session) => {
                if session.0.is_empty() {
                    return Err("missing session".to_owned());
                }
                let why = "lock isn't held, or is held by another session";
                let old = old.filter(|old| old.session() == Some(&session.0));
                let old = old.ok_or(format!("failed to unlock key \"{name}\", {why}"))?;
                answer(self.put(index, pair, None, old.lock_index), false);
            }
            KvTxnOp::Get(_) => answer(old.ok_or(format!("key \"{name}\" doesn't exist"))?, true),
            KvTxnOp::GetOrEmpty(key) => answer(old.unwrap_or(KvEntry::empty(key.clone())), true),
            KvTxnOp::GetTree(prefix) => {
                let found = self
                    .entries
                    .values()
                    .filter(|entry| entry.key.starts_with(prefix));
                found.for_each(|entry| answer(entry.clone(), true));
            }
            KvTxnOp::CheckIndex(_, expected) => {
                let old = old.ok_or(format!("failed to check index, key \"{name}\" doesn't exist"))?;
                if old.modify_index != *expected {
                    let found = old.modify_index;
                    return Err(format!(
                        "failed index check for key \"{name}\", current modify index {found} != {expected}"
                    ));
                }
                answer(old, false);
            }
            KvTxnOp::CheckSession(_, session) => {
                let old = old.ok_or(format!("failed to check session, key \"{name}\" doesn't exist"))?;
                let found = old.session().unwrap_or_default().to_owned();
                if found != session.0 {
                    let expected = &session.0;
                    return Err(format!(
                        "failed session check for key \"{name}\", current session \"{found}\" != \"{expected}\""
                    ));
                }
                answer(old, false);
            }
            KvTxnOp::CheckFence(_, fence) => {
                let old = old.ok_or(format!("failed to check fence, key \"{name}\" doesn't exist"))?;
                if old.fence() != *fence || old.holder.is_none() {
                    let found = old.fence();
                    return Err(format!(
                        "failed fence check for key \"{name}\", current fence {found} != {fence}"
                    ));
                }
                answer(old, false);
            }
            KvTxnOp::CheckNotExists(_) => {
                if old.is_some() {
                    return Err(format!("key \"{name}\" exists"));
                }
            }
            KvTxnOp::Delete(key) => self.delete(index, key),
            KvTxnOp::DeleteTree(prefix) => self.delete_tree(index, prefix),
            KvTxnOp::DeleteCas(key, expected) => {
                if old.is_some_and(|old| old.modify_index != *expected) {
                    return Err(format!("failed to delete key \"{name}\", index is stale"));
                }
                self.delete(index, key);
            }
        }
        Ok(())
    }
}

fn kv_ops(ops: &[TxnOp]) -> impl Iterator<Item = &KvTxnOp> {
    ops.iter().map(|op| match op {
        TxnOp::Kv(op) => op,
        TxnOp::Node(_) | TxnOp::NodeById { .. } | TxnOp::Service { .. } | TxnOp::Check { .. } => {
            unreachable!("they have a model of their own")
        }
    })
}
