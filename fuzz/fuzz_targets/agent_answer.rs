//! The answer of a server, as whoever asked reads it; and whether it is a failure, as one sees who passes it on.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lictor_agent::rpc::wire::{TxnReading, decode_answer, encode_answer, failure_in, reading_bytes};
use lictor_catalog::{Found, Outcome};
use lictor_http::{Failure, RaftServer, Reading, ServersHealth};

fuzz_target!(|data: &[u8]| {
    let _: Result<Result<TxnReading, Failure>, _> = decode_answer(data);
    let _: Result<Result<Outcome, Failure>, _> = decode_answer(data);
    let _: Result<Result<Vec<RaftServer>, Failure>, _> = decode_answer(data);
    let _: Result<Result<ServersHealth, Failure>, _> = decode_answer(data);
    let failure = failure_in(data);
    if let Ok(answer) = decode_answer::<Reading<Found>>(data) {
        if failure.is_some() {
            assert_eq!(answer.as_ref().err(), failure.as_ref());
        }
        let encoded = encode_answer(&answer, reading_bytes(&answer));
        assert_eq!(decode_answer::<Reading<Found>>(&encoded), Ok(answer));
    }
});
