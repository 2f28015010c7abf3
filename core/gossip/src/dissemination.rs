//! What waits to be passed on (SWIM §4.1): what was sent least goes first, and nothing is sent more than a bounded number of times.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::wire::PacketBuilder;

/// The most statements that wait. Of more, those that were sent most go; who misses them finds out in an exchange of everything.
const QUEUE_MAX: usize = 8192;

/// So many that did not fit are passed over before a packet counts as full.
const MISFITS: usize = 16;

/// Statements that wait, encoded once and shared by all their transmissions. There is one for each key: a newer one replaces the
/// older.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    items: BTreeMap<K, Item>,
    /// By transmissions, then the newest first: news of long ago is known to more members already.
    order: BTreeSet<(u32, Reverse<u64>, K)>,
    serial: u64,
    most_sent: u32,
}

#[derive(Debug)]
struct Item {
    bytes: Bytes,
    sent: u32,
    serial: u64,
}

impl<K: Ord + Copy> Queue<K> {
    pub(crate) const fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            order: BTreeSet::new(),
            serial: 0,
            most_sent: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.items.contains_key(&key)
    }

    /// The most transmissions that anything had.
    pub(crate) const fn most_sent(&self) -> u32 {
        self.most_sent
    }

    /// Adds a statement, or replaces the one with this key.
    pub(crate) fn push(&mut self, key: K, bytes: Bytes) {
        self.remove(key);
        self.serial += 1;
        let item = Item {
            bytes,
            sent: 0,
            serial: self.serial,
        };
        self.order.insert((0, Reverse(self.serial), key));
        self.items.insert(key, item);
        if self.items.len() > QUEUE_MAX
            && let Some((_, _, most_sent)) = self.order.pop_last()
        {
            self.items.remove(&most_sent);
        }
    }

    pub(crate) fn remove(&mut self, key: K) {
        if let Some(item) = self.items.remove(&key) {
            self.order.remove(&(item.sent, Reverse(item.serial), key));
        }
    }

    /// Removes those with a key in the range.
    pub(crate) fn remove_range(&mut self, range: core::ops::RangeInclusive<K>) {
        while let Some(key) = self.items.range(range.clone()).next().map(|(key, _)| *key) {
            self.remove(key);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.order.clear();
    }

    /// Puts as many into a packet as fit. The packet is going to be sent `copies` times; what has been sent `limit` times is taken out.
    pub(crate) fn fill(&mut self, packet: &mut PacketBuilder, copies: u32, limit: u32) {
        let mut sent = Vec::new();
        let mut misfits = 0;
        for (_, _, key) in &self.order {
            if misfits == MISFITS {
                break;
            }
            let item = &self.items[key];
            if packet.push(&item.bytes) {
                sent.push(*key);
            } else {
                misfits += 1;
            }
        }
        for key in sent {
            let Some(item) = self.items.get_mut(&key) else {
                continue;
            };
            self.order.remove(&(item.sent, Reverse(item.serial), key));
            item.sent += copies;
            self.most_sent = self.most_sent.max(item.sent);
            if item.sent >= limit {
                self.items.remove(&key);
            } else {
                self.order.insert((item.sent, Reverse(item.serial), key));
            }
        }
    }
}

/// How often a statement is sent in a pool of this size. One time `mult` more than the logarithm asks for: of a few members one that
/// nobody happened to choose is no rarity otherwise.
pub(crate) fn retransmit_limit(mult: u32, size: usize) -> u32 {
    let digits = ((size + 1) as f64).log10().ceil().max(1.0);
    mult.saturating_mul(digits as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Part, PoolTag, read_packet};

    fn nack(seq: u32) -> Bytes {
        Part::Nack { seq }.encode()
    }

    fn sent(queue: &mut Queue<u32>, budget: usize, limit: u32) -> Vec<u32> {
        let pool = PoolTag::new("test");
        let mut packet = PacketBuilder::packet(pool, budget);
        queue.fill(&mut packet, 1, limit);
        read_packet(&packet.finish(), pool)
            .unwrap()
            .map(|part| {
                let Part::Nack { seq } = part.unwrap().part else {
                    panic!("only these were pushed")
                };
                seq
            })
            .collect()
    }

    #[test]
    fn what_was_sent_least_goes_first_and_the_newest_of_those() {
        let mut queue = Queue::new();
        queue.push(1, nack(1));
        queue.push(2, nack(2));
        let one = 5 + 2 + nack(1).len();
        assert_eq!(sent(&mut queue, one, 9), [2]);
        queue.push(3, nack(3));
        assert_eq!(sent(&mut queue, one, 9), [3]);
        assert_eq!(sent(&mut queue, one, 9), [1]);
        assert_eq!(sent(&mut queue, 512, 9), [3, 2, 1]);
    }

    #[test]
    fn a_newer_statement_replaces_the_older_and_begins_again() {
        let mut queue = Queue::new();
        queue.push(1, nack(1));
        assert_eq!(sent(&mut queue, 512, 2), [1]);
        queue.push(1, nack(7));
        assert_eq!(sent(&mut queue, 512, 2), [7]);
        assert_eq!(sent(&mut queue, 512, 2), [7]);
        assert!(queue.is_empty());
    }

    #[test]
    fn nothing_is_sent_more_often_than_the_limit() {
        let mut queue = Queue::new();
        for key in 0..100 {
            queue.push(key, nack(key));
        }
        let mut counts = vec![0; 100];
        while !queue.is_empty() {
            for key in sent(&mut queue, 64, 4) {
                counts[key as usize] += 1;
            }
        }
        assert_eq!(counts, vec![4; 100]);
        assert_eq!(queue.most_sent(), 4);
        assert!(queue.order.is_empty());
    }

    #[test]
    fn a_flood_does_not_make_the_queue_grow() {
        let mut queue = Queue::new();
        queue.push(0, nack(0));
        assert_eq!(sent(&mut queue, 512, 9), [0]);
        for key in 1..=QUEUE_MAX as u32 + 10 {
            queue.push(key, nack(key));
        }
        assert_eq!((queue.len(), queue.order.len()), (QUEUE_MAX, QUEUE_MAX));
        assert!(!queue.contains(0), "what was sent most went first");
        assert!(queue.contains(QUEUE_MAX as u32 + 10), "the news stays");
    }

    #[test]
    fn the_limit_grows_with_the_logarithm_of_the_pool() {
        for (size, limit) in [(1, 8), (9, 8), (10, 12), (99, 12), (100, 16), (10_000, 24)] {
            assert_eq!(retransmit_limit(4, size), limit, "{size}");
        }
    }
}
