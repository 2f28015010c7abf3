//! What is to be passed on beside membership: user events and queries, each a bounded number of times.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::wire::PacketBuilder;

/// Parts that are to be passed on, those that were sent least often first, and among equals in the order in which they came. They fill
/// what room statements about members leave in a packet, and so never delay those.
#[derive(Debug)]
pub(crate) struct PayloadQueue {
    parts: BTreeMap<Place, Bytes>,
    bytes: usize,
    bytes_max: usize,
    next: u64,
    dropped: u64,
    transmissions_max: u32,
}

/// How often a part was sent, and when it came.
type Place = (u32, u64);

/// There is no room for what somebody here wants to be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting to be passed on ({0} bytes); wait a while and try again")]
pub(crate) struct Full(usize);

impl PayloadQueue {
    /// A queue of at most `bytes_max` bytes.
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            parts: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            next: 0,
            dropped: 0,
            transmissions_max: 0,
        }
    }

    /// Whether nothing is to be passed on.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many parts wait.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// How many parts of others had to make room before they were sent as often as they should.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The most transmissions that any part had.
    pub(crate) const fn transmissions_max(&self) -> u32 {
        self.transmissions_max
    }

    /// Whether there is room for a part of this member's own.
    ///
    /// # Errors
    /// There is none, since so much was said here that has not been passed on yet.
    pub(crate) const fn check_room(&self, part_bytes: usize) -> Result<(), Full> {
        if self.bytes + part_bytes > self.bytes_max {
            return Err(Full(self.bytes));
        }
        Ok(())
    }

    /// Adds a part. If there is no room, those parts go that were sent most often: others have them, and whoever still lacks an event
    /// learns so by the digests.
    pub(crate) fn push(&mut self, part: Bytes) {
        self.bytes += part.len();
        self.parts.insert((0, self.next), part);
        self.next += 1;
        while self.bytes > self.bytes_max
            && let Some((_, part)) = self.parts.pop_last()
        {
            self.bytes -= part.len();
            self.dropped += 1;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
        self.bytes = 0;
    }

    /// Adds to a packet what fits into it. What was sent `limit` times by then is done.
    pub(crate) fn fill(&mut self, packet: &mut PacketBuilder, limit: u32) {
        let mut sent = Vec::new();
        for (place, part) in &self.parts {
            if packet.room() <= SMALLEST_PART {
                break;
            }
            if packet.push(part) {
                sent.push(*place);
            }
        }
        for place in sent {
            let Some(part) = self.parts.remove(&place) else {
                continue;
            };
            let (sends, order) = (place.0 + 1, place.1);
            self.transmissions_max = self.transmissions_max.max(sends);
            if sends < limit {
                self.parts.insert((sends, order), part);
            } else {
                self.bytes -= part.len();
            }
        }
    }
}

/// No user event and no query is shorter, in bytes.
const SMALLEST_PART: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{PoolTag, read_packet};

    fn part(of: u8) -> Bytes {
        Bytes::from(vec![of; 100])
    }

    /// The first byte of each part in a packet of `budget` bytes.
    fn fill(queue: &mut PayloadQueue, budget: usize) -> Vec<u8> {
        let mut packet = PacketBuilder::packet(PoolTag::new("dc1"), budget);
        queue.fill(&mut packet, 3);
        let bytes = packet.finish();
        bytes[5..].chunks(102).map(|part| part[2]).collect()
    }

    #[test]
    fn each_part_is_sent_a_bounded_number_of_times_and_the_least_sent_first() {
        let mut queue = PayloadQueue::new(1000);
        for of in 1..=3 {
            queue.push(part(of));
        }
        assert_eq!(fill(&mut queue, 5 + 2 * 102), [1, 2]);
        assert_eq!(fill(&mut queue, 5 + 2 * 102), [3, 1]);
        queue.push(part(4));
        assert_eq!(fill(&mut queue, 5 + 102), [4]);
        assert_eq!(fill(&mut queue, 1000), [2, 3, 4, 1]);
        assert_eq!(fill(&mut queue, 1000), [2, 3, 4]);
        assert_eq!(fill(&mut queue, 1000), [0; 0]);
        assert!(queue.is_empty());
        assert_eq!((queue.bytes, queue.transmissions_max()), (0, 3));
    }

    #[test]
    fn what_is_too_long_for_the_room_does_not_hold_up_what_is_not() {
        let mut queue = PayloadQueue::new(1000);
        queue.push(Bytes::from(vec![1; 300]));
        queue.push(part(2));
        assert_eq!(fill(&mut queue, 250), [2]);
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_full_queue_refuses_what_is_new_here_and_forgets_what_others_have() {
        let mut queue = PayloadQueue::new(350);
        for of in 1..=3 {
            assert_eq!(queue.check_room(100), Ok(()));
            queue.push(part(of));
        }
        assert_eq!(queue.check_room(100), Err(Full(300)));
        assert_eq!(fill(&mut queue, 5 + 102), [1]);
        queue.push(part(4));
        assert_eq!(queue.dropped(), 1);
        assert_eq!(fill(&mut queue, 1000), [2, 3, 4], "1 was sent before");
    }

    #[test]
    fn what_is_filled_in_can_be_read() {
        let tag = PoolTag::new("dc1");
        let mut queue = PayloadQueue::new(1000);
        let said = crate::wire::Part::Nack { seq: 7 };
        queue.push(said.encode());
        let mut packet = PacketBuilder::packet(tag, 1150);
        queue.fill(&mut packet, 1);
        let read: Vec<_> = read_packet(&packet.finish(), tag)
            .unwrap()
            .map(|part| part.unwrap().part)
            .collect();
        assert_eq!(read, [said]);
    }
}
