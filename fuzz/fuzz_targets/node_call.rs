//! Calls of other agents, as bytes and then to a server that is in no cluster yet.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lictor_fuzz::{node, parts, serve};
use lictor_machine::{Instant, Machine, NodeId, Now};
use lictor_node::wire::{decode_call, encode_call};
use lictor_node::{InboundId, Input};

fuzz_target!(|data: &[u8]| {
    let mut node = node();
    for (part, id) in parts(data).into_iter().zip(0..) {
        let Some((who, bytes)) = part.split_first() else {
            continue;
        };
        let Ok(call) = decode_call(bytes) else { continue };
        assert_eq!(decode_call(&encode_call(&call)).as_ref(), Ok(&call));
        let now = Now::at(Instant::from_millis(id * 100));
        let (id, from) = (InboundId(id), NodeId(u128::from(*who)));
        let _ = node.handle(now, Input::Call { id, from, call });
        serve(&mut node, now);
        node.handle_timeout(now);
        serve(&mut node, now);
    }
});
