//! Archives, whole and not.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use lictor_catalog::{
    Action, Builder, Changes, Command, Cursor, KvPair, KvWrite, Row, State, Table, decode_chunk, encode_chunk,
};
use lictor_machine::{Index, Rng, UnixMillis};

use super::archive::{self, ArchiveError, Member, Meta, Snapshot, Within};

const NO_LIMIT: u64 = u64::MAX;

fn state(keys: usize, value_bytes: usize) -> State {
    let mut state = State::new();
    let mut rng = Rng::new(7);
    for key in 1..=keys {
        let pair = KvPair {
            key: Bytes::from(format!("key-{key:06}")),
            value: (0..value_bytes).map(|_| rng.next_u64() as u8).collect(),
            flags: 0,
        };
        let command = Command {
            stamp: UnixMillis(1),
            action: Action::Kv(KvWrite::Set(pair)),
        };
        state
            .apply(Index(key as u64), &command, &mut Changes::default())
            .unwrap();
    }
    state
}

fn snapshot(state: &State) -> Snapshot {
    Snapshot {
        export: state.for_archive().export(),
        term: 3,
        servers: vec![Member {
            suffrage: 0,
            id: "b58f".into(),
            address: "127.0.0.1:8300".into(),
        }],
        configuration_index: 0,
        taken: UnixMillis(1_795_296_710_357),
    }
}

fn archived(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive::write(&snapshot(state), &mut bytes).unwrap();
    bytes
}

/// Reads an archive as one that is to be restored: what it says of itself, and its rows.
fn unpack(bytes: &[u8]) -> Result<(Meta, Vec<Row>), ArchiveError> {
    let mut rows = Vec::new();
    let mut sink = |chunk: Bytes| {
        rows.extend(decode_chunk(&chunk).map_err(|error| ArchiveError::Rows(error.to_string()))?);
        Ok(())
    };
    let meta = archive::read(bytes, NO_LIMIT, Within::Ours(usize::MAX, &mut sink))?;
    Ok((meta, rows))
}

/// The same without a look at the state, as one who only wants to know whether it is whole.
fn verify(bytes: &[u8]) -> Result<Meta, ArchiveError> {
    archive::read(bytes, NO_LIMIT, Within::Anything)
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn zip(content: &[u8]) -> Vec<u8> {
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(content).unwrap();
    zip.finish().unwrap()
}

/// Names and contents.
type Files = Vec<(String, Vec<u8>)>;

/// The files of an archive.
fn files(archive: &[u8]) -> Files {
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    });
    entries.collect()
}

fn repacked(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, content)| (&**name, &**content))
        .collect();
    zip(&tar_of(&files))
}

#[test]
fn an_archive_holds_the_state_and_says_what_it_is() {
    let state = state(5_000, 400);
    let bytes = archived(&state);
    let (meta, rows) = unpack(&bytes).unwrap();
    let files = files(&bytes);
    assert_eq!(
        meta,
        Meta {
            version: 1,
            id: "3-5000-1795296710357".into(),
            index: 5000,
            term: 3,
            peers: None,
            configuration: archive::Configuration {
                servers: Some(snapshot(&state).servers)
            },
            configuration_index: 0,
            size: files[1].1.len() as u64,
        }
    );
    let names: Vec<&str> = files.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["meta.json", "state.bin", "SHA256SUMS"]);
    let mut builder = Builder::new();
    for row in rows {
        builder.add(row).unwrap();
    }
    assert_eq!(
        builder.finish(Index(meta.index)).unwrap().digest(),
        state.digest()
    );
    assert_eq!(verify(&bytes).unwrap(), meta);
}

#[test]
fn an_empty_state_can_be_archived_as_well() {
    let (meta, rows) = unpack(&archived(&State::new())).unwrap();
    assert_eq!((meta.index, rows), (0, Vec::new()));
}

#[test]
fn the_format_of_the_state_stands_still() {
    let files = files(&archived(&state(1, 0)));
    let row = b"\x01\x0akey-000001\x01\x07\x01\x00\x00\x00\x01\x01\x00";
    let counter = b"\x03\x08kv-index\x01\x02\x01\x01";
    let chunk = [&b"\x01"[..], row, counter].concat();
    let expected = [
        &b"LICTOR\r\n\x01"[..],
        &(chunk.len() as u32).to_be_bytes(),
        &chunk,
        &[0; 4],
    ]
    .concat();
    assert_eq!(files[1].1, expected, "{:02x?}", files[1].1);
}

#[test]
fn wherever_it_is_cut_it_is_refused() {
    let bytes = archived(&state(20, 10));
    for end in 0..bytes.len() {
        assert!(unpack(&bytes[..end]).is_err(), "cut at {end} of {}", bytes.len());
        assert!(verify(&bytes[..end]).is_err(), "cut at {end}");
    }
    unpack(&bytes).unwrap();
    let more = [&bytes[..], b"more"].concat();
    assert!(unpack(&more).is_err());
}

#[test]
fn whichever_byte_is_altered_it_is_refused_or_the_same() {
    let bytes = archived(&state(20, 10));
    let whole = unpack(&bytes).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x41;
        match unpack(&altered) {
            Err(_) => refused += 1,
            // A few bits of the compression say nothing.
            Ok(same) => assert!(same == whole, "altered at {at}"),
        }
    }
    assert!(refused >= bytes.len() - 12, "{refused} of {}", bytes.len());
}

#[test]
fn texts_are_those_that_people_know() {
    let whole = archived(&state(20, 100));
    let whole_files = files(&whole);
    let edited = |edit: &dyn Fn(&mut Files)| {
        let mut files = whole_files.clone();
        edit(&mut files);
        repacked(&files)
    };
    let cases: [(&str, Vec<u8>, &str); 14] = [
        (
            "no tar",
            zip(b"hello"),
            "failed to read snapshot file: failed reading snapshot: unexpected EOF",
        ),
        (
            "empty",
            Vec::new(),
            "failed to decompress snapshot: EOF; it is no snapshot",
        ),
        (
            "short",
            b"x".to_vec(),
            "failed to decompress snapshot: unexpected EOF; it is no snapshot",
        ),
        (
            "text",
            b"this is not an archive at all".to_vec(),
            "failed to decompress snapshot: gzip: invalid header; it is no snapshot",
        ),
        (
            "half",
            whole[..whole.len() / 2].to_vec(),
            "failed to read snapshot file: failed to read or write snapshot data: unexpected EOF",
        ),
        ("almost", whole[..whole.len() - 4].to_vec(), "unexpected EOF"),
        (
            "no sums",
            edited(&|files| files.truncate(2)),
            "failed to read snapshot file: failed checking integrity of snapshot: file missing for \"meta.json\"",
        ),
        (
            "no state",
            edited(&|files| drop(files.remove(1))),
            "failed to read snapshot file: failed checking integrity of snapshot: hash check failed for \"state.bin\"",
        ),
        (
            "altered",
            edited(&|files| files[0].1.push(b' ')),
            "failed to read snapshot file: failed checking integrity of snapshot: hash check failed for \"meta.json\"",
        ),
        (
            "extra",
            edited(&|files| files.push(("extra".into(), Vec::new()))),
            "failed to read snapshot file: unexpected file \"extra\" in snapshot",
        ),
        (
            "twice",
            edited(&|files| files.push(files[0].clone())),
            "failed to read snapshot file: file \"meta.json\" is there twice",
        ),
        (
            "metadata",
            edited(&|files| files[0].1 = b"{\n".to_vec()),
            "failed to read snapshot file: failed to decode snapshot metadata: unexpected end of JSON input",
        ),
        (
            "another's sums",
            edited(&|files| files[2].1.extend(b"00  other\n")),
            "failed to read snapshot file: failed checking integrity of snapshot: list missing hash for \"other\"",
        ),
        (
            "no line",
            edited(&|files| files[2].1.extend(b"what\n")),
            "failed to read snapshot file: failed checking integrity of snapshot: the line \"what\" of SHA256SUMS is not one",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = unpack(&bytes).unwrap_err();
        assert_eq!(error.to_string(), expected, "{name}");
        assert_eq!(verify(&bytes).unwrap_err().to_string(), expected, "{name}");
    }
}

#[test]
fn the_order_of_the_files_does_not_matter() {
    let bytes = archived(&state(20, 10));
    let mut files = files(&bytes);
    files.rotate_left(1);
    assert_eq!(unpack(&repacked(&files)).unwrap(), unpack(&bytes).unwrap());
}

/// An archive of a state as these bytes, with all else as it should be.
fn with_state(state_bin: &[u8]) -> Vec<u8> {
    let mut files = files(&archived(&State::new()));
    let hex = |bytes: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut text = String::new();
        for byte in digest.as_ref() {
            write!(text, "{byte:02x}").unwrap();
        }
        text
    };
    files[1].1 = state_bin.to_vec();
    files[2].1 = format!("{}  meta.json\n{}  state.bin\n", hex(&files[0].1), hex(state_bin)).into_bytes();
    repacked(&files)
}

#[test]
fn a_state_in_another_format_is_whole_and_cannot_be_restored() {
    // The beginning of what Consul writes.
    let consul = with_state(b"\x81\xa9LastIndex\x0e\x00\x88");
    verify(&consul).unwrap();
    let error = unpack(&consul).unwrap_err();
    assert!(matches!(error, ArchiveError::Foreign), "{error}");
    assert!(error.to_string().contains("lictor kv import"));
    let newer = with_state(b"LICTOR\r\n\x02whatever");
    let error = unpack(&newer).unwrap_err();
    assert!(
        matches!(error, ArchiveError::NewerFormat { found: 2, known: 1 }),
        "{error}"
    );
}

#[test]
fn a_damaged_state_is_refused_even_with_the_right_checksum() {
    let chunk = encode_chunk(&[]).unwrap();
    let framed = |length: u32| [&b"LICTOR\r\n\x01"[..], &length.to_be_bytes(), &chunk].concat();
    for (state_bin, expected) in [
        (b"LICTOR\r\n\x00".to_vec(), "unknown format 0"),
        (framed(u32::MAX), "a chunk of 4294967295 bytes"),
        (
            [framed(1), vec![0, 0, 0, 0, 7]].concat(),
            "something behind its end",
        ),
        (framed(1), "unexpected EOF"),
        (framed(9), "unexpected EOF"),
        (b"LICTOR\r\n\x01".to_vec(), "unexpected EOF"),
        (Vec::new(), "unexpected EOF"),
    ] {
        let error = unpack(&with_state(&state_bin)).unwrap_err().to_string();
        assert!(error.contains(expected), "{state_bin:02x?}: {error}");
    }
}

#[test]
fn what_unpacks_to_more_than_allowed_is_refused_before_it_is_unpacked() {
    let bytes = archived(&state(20, 1000));
    let size = unpack(&bytes).unwrap().0.size;
    archive::read(&bytes[..], size, Within::Anything).unwrap();
    let error = archive::read(&bytes[..], size - 1, Within::Anything).unwrap_err();
    assert!(
        matches!(
            error,
            ArchiveError::TooLarge {
                what: "state.bin",
                ..
            }
        ),
        "{error}"
    );
    let large = vec![b' '; 2 << 20];
    let error = verify(&zip(&tar_of(&[("meta.json", &large)]))).unwrap_err();
    assert!(
        matches!(
            error,
            ArchiveError::TooLarge {
                what: "meta.json",
                ..
            }
        ),
        "{error}"
    );
    // Neither does what follows an archive without end.
    let mut tar = GzDecoder::new(&bytes[..]);
    let mut content = Vec::new();
    tar.read_to_end(&mut content).unwrap();
    content.extend(vec![0; 2 << 20]);
    let error = verify(&zip(&content)).unwrap_err();
    assert!(matches!(error, ArchiveError::End(_)), "{error}");
}

#[test]
fn chunks_are_cut_to_fit_into_commands() {
    let state = state(30, 300_000);
    let mut sizes = Vec::new();
    let mut sink = |chunk: Bytes| {
        sizes.push(chunk.len());
        Ok(())
    };
    let bytes = archived(&state);
    archive::read(&bytes[..], NO_LIMIT, Within::Ours(2 << 20, &mut sink)).unwrap();
    assert!(
        sizes.len() > 5 && sizes.iter().all(|size| *size <= 2 << 20),
        "{sizes:?}"
    );
    let mut refuse = |_: Bytes| Ok(());
    let error = archive::read(&bytes[..], NO_LIMIT, Within::Ours(100, &mut refuse)).unwrap_err();
    assert!(matches!(error, ArchiveError::State(_)), "{error}");
}

#[test]
fn what_is_read_twice_is_the_same() {
    let state = state(100, 50_000);
    assert_eq!(archived(&state), archived(&state.clone()));
    let first = state.export().chunk(&Cursor::start(), usize::MAX).0;
    let (_, rows) = unpack(&archived(&state)).unwrap();
    assert_eq!(rows, first);
    assert_eq!(rows.iter().filter(|row| row.table == Table::Kv).count(), 100);
}

#[test]
fn nothing_but_files_is_unpacked() {
    use tar::EntryType;

    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNUSparse,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(16 << 20);
        header.set_path("meta.json").unwrap();
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.resize(16 << 20, b'a');
        let bytes = zip(&tar);
        let mut left = &bytes[..];
        let error = archive::read(&mut left, NO_LIMIT, Within::Anything).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read snapshot file: \"meta.json\" in snapshot is not a regular file",
            "{kind:?}"
        );
        assert!(left.len() > bytes.len() / 4, "{kind:?}: all of it was unpacked");
    }
}
