//! Datagrams of other members, as bytes and then to a member of a small pool.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lictor_fuzz::{gossip, parts, settle};
use lictor_gossip::Input;
use lictor_gossip::wire::{PacketBuilder, PoolTag, read_packet};
use lictor_machine::{Instant, Machine, Now};

fuzz_target!(|data: &[u8]| {
    let (mut gossip, senders) = gossip();
    let pool = PoolTag::new("dc1");
    for (part, step) in parts(data).into_iter().zip(1..) {
        let Some((who, bytes)) = part.split_first() else {
            continue;
        };
        // As it is, and behind a good beginning.
        let mut framed = PacketBuilder::packet(pool, 1150).finish().to_vec();
        framed.extend(bytes);
        let now = Now::at(Instant::from_millis(step * 100));
        for packet in [Bytes::copy_from_slice(bytes), Bytes::from(framed)] {
            for received in read_packet(&packet, pool).into_iter().flatten().flatten() {
                assert_eq!(received.part.check(), Ok(()));
                let again = received.part.encode();
                let mut packet = PacketBuilder::packet(pool, 4096);
                assert!(packet.push(&again));
                let read = read_packet(&packet.finish(), pool)
                    .ok()
                    .and_then(|mut parts| parts.next());
                assert_eq!(
                    read.and_then(Result::ok).map(|read| read.part),
                    Some(received.part)
                );
            }
            let from = senders[usize::from(*who) % senders.len()].clone();
            let _ = gossip.handle(now, Input::Packet { from, packet });
            settle(&mut gossip, now);
        }
        gossip.handle_timeout(now);
        settle(&mut gossip, now);
    }
});
