//! Replies of other agents, as bytes and then to whatever a server has asked.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lictor_catalog::{Action, KvWrite};
use lictor_fuzz::{node, parts, serve};
use lictor_machine::{Instant, Machine, Now, Token};
use lictor_node::wire::{decode_reply, encode_reply};
use lictor_node::{Input, Request};

fuzz_target!(|data: &[u8]| {
    let mut node = node();
    let contact = ([127, 0, 0, 1], 8301).into();
    let _ = node.handle(Now::at(Instant::ZERO), Input::Contacts(vec![contact]));
    let mut calls = Vec::new();
    for (part, round) in parts(data).into_iter().zip(0..) {
        let now = Now::at(Instant::from_millis(round * 500));
        let request = Request::Write(Action::Kv(KvWrite::Delete("k".into())));
        let _ = node.handle(
            now,
            Input::Request {
                token: Token(round),
                request,
            },
        );
        node.handle_timeout(now);
        calls.extend(serve(&mut node, now));
        let Ok(reply) = decode_reply(part) else { continue };
        assert_eq!(decode_reply(&encode_reply(&reply)).as_ref(), Ok(&reply));
        if let Some(id) = calls.pop() {
            let _ = node.handle(
                now,
                Input::CallDone {
                    id,
                    result: Ok(reply),
                },
            );
            calls.extend(serve(&mut node, now));
        }
    }
});
