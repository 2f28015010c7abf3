//! Calls of other members, and answers to its own, as bytes to a member of a small pool.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lictor_fuzz::{gossip, parts, settle};
use lictor_gossip::wire::{PacketBuilder, PoolTag};
use lictor_gossip::{InboundId, Input};
use lictor_machine::{Instant, Machine, Now, Token};

fuzz_target!(|data: &[u8]| {
    let (mut gossip, senders) = gossip();
    let pool = PoolTag::new("dc1");
    let mut open = Vec::new();
    for (part, step) in parts(data).into_iter().zip(1..) {
        let Some((who, bytes)) = part.split_first() else {
            continue;
        };
        let from = senders[usize::from(*who) % senders.len()].clone();
        let mut framed = PacketBuilder::call(pool).finish().to_vec();
        framed.extend(bytes);
        let message = Bytes::from(framed);
        let now = Now::at(Instant::from_millis(step * 100));
        // Most of what it calls for, it calls for when it joins.
        let (token, addresses) = (Token(step), vec![from.address]);
        let _ = gossip.handle(now, Input::Join { token, addresses });
        open.append(&mut settle(&mut gossip, now));
        let input = match open.pop().filter(|_| who & 0x80 != 0) {
            Some(id) => Input::CallDone {
                id,
                result: Ok((from, message)),
            },
            None => Input::Call {
                id: InboundId(step),
                from,
                request: message,
            },
        };
        let _ = gossip.handle(now, input);
        open.append(&mut settle(&mut gossip, now));
        gossip.handle_timeout(now);
        open.append(&mut settle(&mut gossip, now));
    }
});
