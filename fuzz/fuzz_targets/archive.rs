//! Archives of the state, as an operator may hand in anything: whole, behind its compression, and as the state within.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use lictor_agent::snapshot::archive::{Within, read};
use lictor_catalog::{Builder, decode_chunk};

/// What an archive may unpack to.
const STATE_MAX: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    take(data);
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    zip.write_all(data).unwrap();
    take(&zip.finish().unwrap());
});

/// Reads it as one who only wants to know whether it is whole, and as one who restores it.
fn take(archive: &[u8]) {
    let whole = read(archive, STATE_MAX, Within::Anything);
    let mut builder = Builder::new();
    let mut sink = |chunk: bytes::Bytes| {
        for row in decode_chunk(&chunk).into_iter().flatten() {
            let _ = builder.add(row);
        }
        Ok(())
    };
    let ours = read(archive, STATE_MAX, Within::Ours(1 << 16, &mut sink));
    if let Ok(meta) = ours {
        assert_eq!(whole.unwrap(), meta, "what can be restored is whole");
        let _ = builder.finish(lictor_machine::Index(meta.index));
    }
}
