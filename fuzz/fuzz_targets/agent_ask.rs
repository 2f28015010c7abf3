//! A request that another agent passes on: whatever decodes says how long it waits and how large it is, and is the same once it is
//! encoded again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lictor_agent::rpc::wire::{decode_ask, encode_ask};

fuzz_target!(|data: &[u8]| {
    let Ok(ask) = decode_ask(data) else { return };
    let question = &ask.question;
    let _ = (question.is_repeatable(), question.wait());
    let encoded = encode_ask(Vec::with_capacity(question.bytes()), &ask.datacenter, question);
    assert_eq!(decode_ask(&encoded), Ok(ask));
});
