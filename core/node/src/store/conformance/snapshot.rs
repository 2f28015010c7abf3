//! The clauses on staging and installing snapshots.

use bytes::Bytes;
use lictor_catalog::{Row, Table};
use lictor_machine::Index;
use lictor_raft::{LogId, WriteBatch};

use super::{
    Bed, all_entries, all_rows, append, chunk, entries, hard_state, reload, required, row, snapshot_at,
};
use crate::store::{Installed, LogStore, StateBatch, StateStore, StoreError, encode_rows, finish_install};

/// A chunk is read by its snapshot and number; chunk 0 starts over.
pub fn chunks_are_staged_in_order<B: Bed>(bed: &mut B) {
    let (one, two) = (LogId::new(3, 100), LogId::new(3, 200));
    let (mut log, state) = bed.open().unwrap();
    log.write(&[chunk(one, 0, "a"), chunk(one, 1, "b"), chunk(one, 2, "c")])
        .unwrap();
    let reader = log.reader();
    let staged = |snapshot, number| reader.staged(snapshot, number).unwrap();
    assert_eq!(
        [0, 1, 2, 3].map(|number| staged(one, number)),
        [Some("a"), Some("b"), Some("c"), None].map(text)
    );
    assert_eq!(staged(two, 0), None);
    log.write(&[chunk(one, 1, "B")]).unwrap();
    assert_eq!(
        [0, 1, 2].map(|number| staged(one, number)),
        [Some("a"), Some("B"), None].map(text)
    );
    log.write(&[chunk(two, 0, "x")]).unwrap();
    assert_eq!([0, 1].map(|number| staged(one, number)), [None, None]);
    assert_eq!(
        [0, 1].map(|number| staged(two, number)),
        [Some("x"), None].map(text)
    );
    assert_eq!(log.installed().unwrap(), None);
    drop((reader, log, state));

    bed.cut_power();
    let (mut log, _state) = bed.open().unwrap();
    assert_eq!(
        log.reader().staged(two, 0).unwrap(),
        text(Some("x")),
        "a chunk that was acknowledged is durable"
    );
    assert!(matches!(
        log.write(&[chunk(two, 2, "z")]),
        Err(StoreError::Contract { .. })
    ));
}

/// The log is empty after it, and goes on behind the snapshot.
pub fn an_installed_snapshot_replaces_the_log<B: Bed>(bed: &mut B) {
    let snapshot = snapshot_at(5, 40);
    let (mut log, mut state) = bed.open().unwrap();
    log.write(&[append(2, 1..=60)]).unwrap();
    log.write(&[chunk(snapshot.last, 0, encode_rows(&rows("new")).unwrap())])
        .unwrap();
    let hard_state = Some(hard_state(5, 40));
    log.write(&[WriteBatch {
        hard_state,
        install: Some(snapshot.clone()),
        ..required()
    }])
    .unwrap();
    assert!(all_entries(&log).is_empty());
    assert_eq!(
        log.installed().unwrap(),
        Some(Installed {
            snapshot: snapshot.clone(),
            chunks: 1
        })
    );
    log.write(&[append(6, 41..=42)]).unwrap();
    assert_eq!(all_entries(&log), entries(6, 41..=42));
    assert_eq!(finish_install(&mut log, &mut state), Ok(true));
    assert_eq!(finish_install(&mut log, &mut state), Ok(false));
    assert_eq!(all_rows(&mut state), rows("new"));
    assert_eq!(state.mark().unwrap().applied, snapshot.last);
    drop((log, state));

    let (boot, read) = reload(bed);
    assert_eq!((boot.raft.base, boot.raft.last_index), (snapshot, Index(42)));
    assert_eq!(boot.raft.term_starts, [LogId::new(6, 41)]);
    assert_eq!(read, entries(6, 41..=42));
}

/// A crash between the two halves of an installation leaves no mixture.
pub fn an_interrupted_installation_is_finished<B: Bed>(bed: &mut B) {
    let snapshot = snapshot_at(5, 40);
    let (mut log, mut state) = bed.open().unwrap();
    log.write(&[append(2, 1..=7)]).unwrap();
    let mut old = rows("old");
    old.push(row(Table::Meta, "only in the old state", "1"));
    state
        .write(&StateBatch {
            applied: LogId::new(2, 7),
            rows: old.clone(),
        })
        .unwrap();
    let (first, second) = (&rows("new")[..1], &rows("new")[1..]);
    log.write(&[
        chunk(snapshot.last, 0, encode_rows(first).unwrap()),
        chunk(snapshot.last, 1, encode_rows(second).unwrap()),
    ])
    .unwrap();
    drop((log, state));
    bed.cut_power();

    let (mut log, mut state) = bed.open().unwrap();
    assert_eq!(all_rows(&mut state), old, "staged is not installed");
    log.write(&[WriteBatch {
        install: Some(snapshot.clone()),
        ..required()
    }])
    .unwrap();
    drop((log, state));
    bed.cut_power();

    let (log, mut state) = bed.open().unwrap();
    assert_eq!(all_rows(&mut state), rows("new"));
    assert_eq!(state.mark().unwrap().applied, snapshot.last);
    assert_eq!(log.installed().unwrap(), None);
    assert_eq!(log.reader().staged(snapshot.last, 0).unwrap(), None);
}

/// Chunks are dropped on demand, of the snapshot that is named only.
pub fn forgotten_chunks_are_gone<B: Bed>(bed: &mut B) {
    let (here, elsewhere) = (LogId::new(3, 100), LogId::new(3, 99));
    let (mut log, state) = bed.open().unwrap();
    log.write(&[chunk(here, 0, "a"), chunk(here, 1, "b")]).unwrap();
    log.forget_staged(elsewhere).unwrap();
    assert_eq!(log.reader().staged(here, 1).unwrap(), text(Some("b")));
    log.forget_staged(here).unwrap();
    assert_eq!(log.reader().staged(here, 1).unwrap(), None);
    drop((log, state));
    bed.cut_power();
    let (mut log, _state) = bed.open().unwrap();
    assert_eq!(log.reader().staged(here, 0).unwrap(), None);
    while log.tidy().unwrap() {}
    log.write(&[chunk(here, 0, "again")]).unwrap();
    assert_eq!(log.reader().staged(here, 0).unwrap(), text(Some("again")));
    assert_eq!(log.reader().staged(here, 1).unwrap(), None);
}

fn rows(value: &'static str) -> Vec<Row> {
    vec![
        row(Table::Kv, "a", value),
        row(Table::Kv, "b", value),
        row(Table::Meta, "a", value),
    ]
}

fn text(text: Option<&'static str>) -> Option<Bytes> {
    text.map(|text| Bytes::from_static(text.as_bytes()))
}
