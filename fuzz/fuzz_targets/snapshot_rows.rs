//! Chunks of rows, as bytes and then as a state.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lictor_catalog::Builder;
use lictor_machine::Index;
use lictor_node::store::{decode_rows, encode_rows};

fuzz_target!(|data: &[u8]| {
    let Ok(rows) = decode_rows(data) else { return };
    let again = encode_rows(&rows).expect("no larger than it was");
    assert_eq!(decode_rows(&again).as_ref(), Ok(&rows));
    let mut builder = Builder::new();
    if rows.into_iter().try_for_each(|row| builder.add(row)).is_ok()
        && let Ok(state) = builder.finish(Index(1 << 40))
    {
        let _ = state.digest();
    }
});
