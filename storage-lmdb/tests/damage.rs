//! Nothing is guessed: what is damaged, foreign or newer is an error that says where.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::fs;
use std::path::Path;

use common::{all_entries, all_rows, append, damage, entries, open_default, row, state_batch};
use heed::types::Bytes;
use heed::{CommitOrAbort, EnvOpenOptions};
use lictor_catalog::Row;
use lictor_machine::Index;
use lictor_node::store::{LogStore, StateStore, StoreError};
use lictor_storage_lmdb::{Options, Stores, open};

/// A store with entries 1 to 100 and some rows.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let Stores { mut log, mut state } = open_default(dir.path());
    log.load(0).unwrap();
    log.write(&[append(1..=100, 200)]).unwrap();
    state
        .write(&state_batch(
            1,
            vec![row("first", "one value"), row("second", "another value")],
        ))
        .unwrap();
    dir
}

fn open_error(dir: &Path) -> StoreError {
    open(dir, &Options::default()).map(|_| ()).unwrap_err()
}

/// Fails unless the error is `Damaged`, names the file and contains the words.
fn assert_damaged(error: &StoreError, file: &Path, words: &str) {
    let StoreError::Damaged { path, detail } = error else {
        panic!("not called damaged: {error}")
    };
    assert_eq!(Path::new(path), file);
    assert!(detail.contains(words), "{words:?} is not in {detail:?}");
}

/// Writes a value into a table as another program, or another version of this one, might.
fn write_raw(dir: &Path, table: &str, key: &[u8], value: &[u8]) {
    fs::create_dir_all(dir).unwrap();
    // SAFETY: the directory belongs to this test alone, and no store is open on it.
    let env = unsafe { EnvOpenOptions::new().max_dbs(8).open(dir) }.unwrap();
    let txn = env.write_txn().unwrap();
    env.create_databases_and_commit(txn, |opener, txn| -> heed::Result<_> {
        let table = opener.create_database::<Bytes, Bytes>(txn, Some(table))?;
        table.put(txn, key, value)?;
        Ok(CommitOrAbort::<_, ()>::Commit(table))
    })
    .unwrap();
    env.prepare_for_closing().wait();
}

#[test]
fn a_damaged_entry_in_the_middle_is_never_cut_off() {
    let dir = filled();
    let file = dir.path().join("raft/data.mdb");
    damage(&file, b"<entry 00000042");
    let Stores { mut log, .. } = open_default(dir.path());
    assert_damaged(
        &log.load(0).unwrap_err(),
        &file,
        "table log, key 42: wrong checksum",
    );
    let reader = log.reader();
    let read = reader.entries(Index(42), Index(42), usize::MAX).unwrap_err();
    assert_damaged(&read, &file, "key 42");
    assert_eq!(
        reader.entries(Index(1), Index(41), usize::MAX).unwrap(),
        entries(1..=41, 200)
    );
    assert_eq!(
        reader.entries(Index(43), Index(100), usize::MAX).unwrap(),
        entries(43..=100, 200)
    );
}

#[test]
fn the_last_entry_is_no_exception() {
    let dir = filled();
    let file = dir.path().join("raft/data.mdb");
    damage(&file, b"<entry 00000100");
    let Stores { mut log, .. } = open_default(dir.path());
    assert_damaged(&log.load(0).unwrap_err(), &file, "key 100");
}

#[test]
fn a_damaged_row_ends_the_load() {
    let dir = filled();
    let file = dir.path().join("state/data.mdb");
    damage(&file, b"another value");
    let Stores { mut state, .. } = open_default(dir.path());
    let error = state.load(&mut |_| Ok(())).unwrap_err();
    assert_damaged(&error, &file, "table rows-1, key \"\\x01second\": wrong checksum");
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    for content in ["#!/bin/sh\necho hello\n".repeat(1000), "x".to_owned()] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("raft/data.mdb");
        fs::create_dir(dir.path().join("raft")).unwrap();
        fs::write(&file, &content).unwrap();
        assert_damaged(&open_error(dir.path()), &file, "not an LMDB file");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
}

#[test]
fn another_programs_lmdb_file_is_refused() {
    for table in ["accounts", "meta", "log"] {
        let dir = tempfile::tempdir().unwrap();
        write_raw(&dir.path().join("raft"), table, b"key", b"value");
        let error = open_error(dir.path());
        assert_damaged(&error, &dir.path().join("raft/data.mdb"), "not one of Lictor's");
    }
}

#[test]
fn the_two_environments_are_not_mistaken_for_each_other() {
    let dir = filled();
    let (raft, state) = (dir.path().join("raft"), dir.path().join("state"));
    fs::remove_dir_all(&raft).unwrap();
    fs::rename(&state, &raft).unwrap();
    let error = open_error(dir.path());
    assert!(
        matches!(error, StoreError::Damaged { .. } | StoreError::NewerFormat { .. }),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    write_raw(&dir.path().join("raft"), "meta", b"header", &header(b'S', 1));
    let error = open_error(dir.path());
    assert_damaged(
        &error,
        &dir.path().join("raft/data.mdb"),
        "the wrong one of Lictor's files",
    );
}

#[test]
fn a_newer_layout_is_refused_as_newer() {
    let dir = filled();
    write_raw(&dir.path().join("raft"), "meta", b"header", &header(b'L', 7));
    let path = dir.path().join("raft/data.mdb").display().to_string();
    assert_eq!(
        open_error(dir.path()),
        StoreError::NewerFormat {
            path,
            found: 7,
            known: 1
        }
    );
}

#[test]
fn a_damaged_header_is_refused() {
    let dir = filled();
    let mut header = header(b'L', 1);
    header[8] ^= 1;
    write_raw(&dir.path().join("raft"), "meta", b"header", &header);
    assert_damaged(
        &open_error(dir.path()),
        &dir.path().join("raft/data.mdb"),
        "header",
    );
}

#[test]
fn rows_of_an_unknown_table_are_refused_as_newer() {
    let dir = filled();
    write_raw(&dir.path().join("state"), "rows-250", b"\x01key", b"value");
    let error = open_error(dir.path());
    assert!(
        matches!(error, StoreError::NewerFormat { found: 250, .. }),
        "{error}"
    );
}

#[test]
fn a_missing_entry_is_damage() {
    let dir = filled();
    let file = dir.path().join("raft");
    // SAFETY: the directory belongs to this test alone, and no store is open on it.
    let env = unsafe { EnvOpenOptions::new().max_dbs(8).open(&file) }.unwrap();
    let txn = env.write_txn().unwrap();
    env.create_databases_and_commit(txn, |opener, txn| -> heed::Result<_> {
        let log = opener.create_database::<Bytes, Bytes>(txn, Some("log"))?;
        assert!(log.delete(txn, &42_u64.to_be_bytes())?);
        Ok(CommitOrAbort::<_, ()>::Commit(log))
    })
    .map(|_| ())
    .unwrap();
    env.prepare_for_closing().wait();

    let file = file.join("data.mdb");
    let Stores { mut log, .. } = open_default(dir.path());
    assert_damaged(
        &log.load(0).unwrap_err(),
        &file,
        "key 43: the entries between 41 and this one are missing",
    );
    let read = log
        .reader()
        .entries(Index(40), Index(50), usize::MAX)
        .unwrap_err();
    assert_damaged(&read, &file, "the entries from 42 to it are missing");
}

fn set_length(file: &Path, length: u64) {
    fs::File::options()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(length)
        .unwrap();
}

#[test]
fn a_file_that_was_cut_off_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let Stores { mut log, mut state } = open_default(dir.path());
    for first in (1..=2000).step_by(50) {
        log.write(&[append(first..=first + 49, 1000)]).unwrap();
        let rows = (first..first + 50).map(|key| row(&key.to_string(), vec![b'x'; 1000]));
        state.write(&state_batch(first, rows.collect())).unwrap();
    }
    drop((log, state));
    for part in ["raft", "state"] {
        let file = dir.path().join(part).join("data.mdb");
        let whole = fs::read(&file).unwrap();
        let content = written(&whole);
        for left in [100, 4096, 5000, 2 * 4096, content / 2, content - 4096] {
            set_length(&file, left);
            let error = open_error(dir.path());
            let words = if left < 4096 {
                "not an LMDB file"
            } else {
                "cut off"
            };
            assert_damaged(&error, &file, words);
            if left > 4096 {
                assert_damaged(&error, &file, &format!("{left} of {content} bytes are there"));
            }
            assert_eq!(fs::metadata(&file).unwrap().len(), left, "it was left alone");
            fs::write(&file, &whole).unwrap();
        }
    }
    let Stores { log, mut state } = open_default(dir.path());
    assert_eq!(all_entries(&log, 1), entries(1..=2000, 1000));
    assert_eq!(all_rows(&mut state).len(), 2000);
}

/// How much of a file was ever written, up to the end of a page.
fn written(content: &[u8]) -> u64 {
    let unwritten = content.iter().rev().take_while(|byte| **byte == 0).count();
    (content.len() - unwritten).next_multiple_of(4096) as u64
}

/// LMDB never writes pages that a transaction allocated and freed again. They must neither be missed nor be touched.
#[test]
fn pages_that_were_never_written_are_not_missed() {
    let large = |bytes: usize| row("row", vec![b'x'; bytes]);
    let removed = || Row {
        value: None,
        ..row("row", "")
    };
    for (bytes, crash) in [(500 << 10, false), (2500 << 10, true), (8 << 20, false)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state/data.mdb");
        let length = || fs::metadata(&file).unwrap().len();
        let Stores { mut state, .. } = open_default(dir.path());
        // Only where pages are used again does LMDB take back those that it just gave.
        for index in 1..5 {
            state
                .write(&state_batch(index, vec![row("row", "small")]))
                .unwrap();
        }
        let before = length();
        let rows = vec![large(bytes), removed(), row("row", "small again")];
        state.write(&state_batch(5, rows)).unwrap();
        drop(state);
        let content = written(&fs::read(&file).unwrap());
        assert!(content < 100 << 10, "{content}");
        if crash {
            // As if it had come right after the commit.
            assert!(before < bytes as u64, "{before}");
            set_length(&file, before);
        }
        let Stores { mut state, .. } = open_default(dir.path());
        assert!(length() > bytes as u64, "{}", length());
        assert_eq!(all_rows(&mut state), [row("row", "small again")]);
        state.write(&state_batch(6, vec![large(bytes)])).unwrap();
        assert_eq!(all_rows(&mut state), [large(bytes)]);
    }
}

#[test]
fn a_directory_is_open_once_while_anything_of_it_lives() {
    let dir = filled();
    let Stores { log, state } = open_default(dir.path());
    let reader = log.reader();
    let refused = || {
        let error = open_error(dir.path()).to_string();
        assert!(error.contains("in use by another process"), "{error}");
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    };
    refused();
    drop(state);
    refused();
    drop(log);
    refused();
    assert_eq!(
        reader.entries(Index(1), Index(1), 0).unwrap(),
        entries(1..=1, 200)
    );
    drop(reader);
    assert_eq!(
        all_entries(&open_default(dir.path()).log, 1),
        entries(1..=100, 200)
    );
}

/// As the store writes it.
fn header(kind: u8, version: u32) -> Vec<u8> {
    let mut header = [&b"LICTOR"[..], &[kind], &version.to_be_bytes()].concat();
    header.extend(crc32c::crc32c(&header).to_be_bytes());
    header
}
