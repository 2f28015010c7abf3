//! Streams, cut into frames: the same whatever pieces they come in.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lictor_transport_quic::frame::{Decoder, Hello};

/// The frames of a stream that comes in pieces of this size; ends with an error if one is too long.
fn frames(data: &[u8], piece: usize) -> (Vec<Bytes>, bool) {
    let (mut decoder, mut frames) = (Decoder::new(64), Vec::new());
    for piece in data.chunks(piece) {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fuzz_target!(|data: &[u8]| {
    let whole = frames(data, data.len().max(1));
    for piece in [1, 3, 7] {
        assert_eq!(frames(data, piece), whole);
    }
    if let Ok(hello) = Hello::decode(data) {
        let _ = hello.encode();
    }
});
