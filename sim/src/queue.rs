//! What will happen, in order: by time, and at one time by the order in which it was scheduled.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use lictor_machine::Instant;

/// A queue of events of one virtual time. The heap holds small keys only; the events themselves stay where they are.
#[derive(Debug)]
pub struct Queue<E> {
    keys: BinaryHeap<Reverse<Key>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
    order: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: Instant,
    order: u64,
    slot: u32,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            keys: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            order: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Has something happen at an instant.
    pub fn push(&mut self, at: Instant, event: E) {
        let slot = if let Some(slot) = self.free.pop() {
            self.events[slot as usize] = Some(event);
            slot
        } else {
            self.events.push(Some(event));
            u32::try_from(self.events.len() - 1).expect("fewer than four billion events wait")
        };
        self.order += 1;
        self.keys.push(Reverse(Key {
            at,
            order: self.order,
            slot,
        }));
    }

    /// The next event, unless it is later than `until`.
    pub fn pop(&mut self, until: Instant) -> Option<(Instant, E)> {
        if self.keys.peek()?.0.at > until {
            return None;
        }
        let Reverse(Key { at, slot, .. }) = self.keys.pop()?;
        self.free.push(slot);
        let event = self.events[slot as usize].take();
        Some((at, event.expect("a key's slot is filled until it is popped")))
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is going to happen.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use lictor_machine::Rng;

    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order_of_scheduling_and_slots_are_used_again() {
        let mut queue = Queue::default();
        let mut rng = Rng::new(1);
        let mut expected = Vec::new();
        for round in 0..50_u64 {
            for number in 0..20_u64 {
                let at = Instant::from_nanos(round * 10 + rng.below(10));
                queue.push(at, (at, round, number));
                expected.push((at, round, number));
            }
            while let Some((at, event)) = queue.pop(Instant::from_nanos(round * 10 + 9)) {
                assert_eq!(at, event.0);
                expected.retain(|other| other != &event);
                assert!(
                    expected.iter().all(|other| other >= &event),
                    "{event:?} came too early"
                );
            }
        }
        assert!(expected.is_empty() && queue.is_empty());
        assert_eq!(queue.events.len(), 20);
    }
}
