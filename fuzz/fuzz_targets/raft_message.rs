//! Raft messages, as bytes and then as a conversation with one node.

#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use lictor_fuzz::{carry_out, parts, raft};
use lictor_machine::{Index, Instant, Machine, NodeId, Now};
use lictor_node::wire::{decode_raft, encode_raft};
use lictor_raft::Input;

fuzz_target!(|data: &[u8]| {
    let (mut raft, mut applied, mut at) = (raft(), Index::ZERO, Instant::ZERO);
    for part in parts(data) {
        let Some((who, bytes)) = part.split_first() else {
            continue;
        };
        at = at + Duration::from_millis(u64::from(*who) * 4);
        let now = Now::at(at);
        raft.handle_timeout(now);
        if let Ok((cluster, message)) = decode_raft(bytes) {
            assert_eq!(
                decode_raft(&encode_raft(cluster, &message)),
                Ok((cluster, message.clone()))
            );
            let from = NodeId(u128::from(who % 4));
            let _ = raft.handle(now, Input::Message { from, message });
        }
        carry_out(&mut raft, now, &mut applied);
        let due = raft
            .poll_timeout()
            .is_some_and(|deadline| deadline.at <= now.mono);
        if due {
            raft.handle_timeout(now);
            let left = raft.poll_timeout();
            assert!(
                left.is_none_or(|left| left.at > now.mono),
                "a deadline that is not serviced"
            );
        }
    }
});
