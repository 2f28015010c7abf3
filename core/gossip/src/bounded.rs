//! Small memories with a bound: who was forgotten, and what was said lately.

use core::time::Duration;
use std::collections::BTreeMap;

use lictor_machine::{Instant, NodeId};

use crate::member::Incarnation;

/// Members that are forgotten, and the incarnation that died: old news must not bring them back. The oldest of too many go.
#[derive(Debug)]
pub(crate) struct Tombstones {
    dead: BTreeMap<NodeId, (Incarnation, u64)>,
    order: BTreeMap<u64, NodeId>,
    serial: u64,
    max: usize,
}

impl Tombstones {
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            dead: BTreeMap::new(),
            order: BTreeMap::new(),
            serial: 0,
            max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.dead.len()
    }

    pub(crate) fn bury(&mut self, id: NodeId, incarnation: Incarnation) {
        self.remove(id);
        self.serial += 1;
        self.dead.insert(id, (incarnation, self.serial));
        self.order.insert(self.serial, id);
        if self.dead.len() > self.max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.dead.remove(&oldest);
        }
    }

    /// The incarnation that died.
    pub(crate) fn get(&self, id: NodeId) -> Option<Incarnation> {
        self.dead.get(&id).map(|(incarnation, _)| *incarnation)
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        if let Some((_, serial)) = self.dead.remove(&id) {
            self.order.remove(&serial);
        }
    }
}

/// Allows each thing once in a while. Of more different things than it can remember, it allows none.
#[derive(Debug)]
pub(crate) struct Throttle<K> {
    last: BTreeMap<K, Instant>,
    every: Duration,
    max: usize,
}

impl<K: Ord + Copy> Throttle<K> {
    pub(crate) const fn new(every: Duration, max: usize) -> Self {
        Self {
            last: BTreeMap::new(),
            every,
            max,
        }
    }

    /// Whether it is time for this again; if so, it is not for a while.
    pub(crate) fn allow(&mut self, key: K, now: Instant) -> bool {
        if self.is_recent(key, now) {
            return false;
        }
        if self.last.len() >= self.max {
            let every = self.every;
            self.last.retain(|_, last| now.since(*last) < every);
            if self.last.len() >= self.max {
                return false;
            }
        }
        self.last.insert(key, now);
        true
    }

    /// Whether it was allowed a while ago.
    pub(crate) fn is_recent(&self, key: K, now: Instant) -> bool {
        self.last
            .get(&key)
            .is_some_and(|last| now.since(*last) < self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_tombstones_go_first() {
        let mut tombstones = Tombstones::new(2);
        tombstones.bury(NodeId(1), Incarnation(5));
        tombstones.bury(NodeId(2), Incarnation(5));
        tombstones.bury(NodeId(1), Incarnation(6));
        tombstones.bury(NodeId(3), Incarnation(7));
        assert_eq!(tombstones.get(NodeId(1)), Some(Incarnation(6)));
        assert_eq!(tombstones.get(NodeId(2)), None);
        assert_eq!(tombstones.len(), 2);
        tombstones.remove(NodeId(1));
        assert_eq!((tombstones.len(), tombstones.order.len()), (1, 1));
    }

    #[test]
    fn a_throttle_lets_each_thing_through_once_in_a_while_and_never_grows() {
        let mut throttle = Throttle::new(Duration::from_mins(1), 2);
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        assert!(throttle.allow('a', at(0)));
        assert!(!throttle.allow('a', at(59)));
        assert!(throttle.allow('b', at(30)));
        assert!(!throttle.allow('c', at(31)), "no room, and it fails closed");
        assert!(throttle.allow('c', at(61)), "the first is over");
        assert!(throttle.allow('a', at(95)), "the second too");
        assert_eq!(throttle.last.len(), 2);
    }
}
