//! Archives of the state, as an operator may hand in anything: whole, behind its compression, and as the state within.
#![no_main]

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use lictor_agent::snapshot::archive::{Within, read};
use lictor_catalog::{Builder, decode_chunk};
use ring::digest::{SHA256, digest};

/// What an archive may unpack to.
const STATE_MAX: u64 = 1 << 20;

/// Of a state that is within limits, whatever it is.
const META: &[u8] = br#"{"Version":1,"Index":1000000,"Term":1}"#;

fuzz_target!(|data: &[u8]| {
    take(data);
    take(&zip(data));
    take(&zip(&with_state(data)));
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

fn zip(content: &[u8]) -> Vec<u8> {
    let mut zip = GzEncoder::new(Vec::new(), Compression::none());
    zip.write_all(content).unwrap();
    zip.finish().unwrap()
}

/// The files of an archive with this state, and the checksums that they have to have.
fn with_state(state: &[u8]) -> Vec<u8> {
    let mut sums = String::new();
    for (name, content) in [("meta.json", META), ("state.bin", state)] {
        for byte in digest(&SHA256, content).as_ref() {
            write!(sums, "{byte:02x}").unwrap();
        }
        writeln!(sums, "  {name}").unwrap();
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("meta.json", META),
        ("state.bin", state),
        ("SHA256SUMS", sums.as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
    }
    tar.into_inner().unwrap()
}
