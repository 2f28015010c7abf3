//! Maps that grow, and space that ends.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use common::{
    SMALL, all_entries, all_rows, append, compact, entries, entry, open_default, required, row, state_batch,
};
use lictor_machine::Index;
use lictor_node::store::{LogStore, StateStore, StoreError, encode_rows};
use lictor_raft::{LogId, SnapshotMeta, StagedChunk, WriteBatch};
use lictor_storage_lmdb::{Options, Stores, open};

const GROWING: Options = Options {
    max_map_bytes: 1 << 30,
    ..SMALL
};

#[test]
fn a_map_grows_as_needed() {
    let dir = tempfile::tempdir().unwrap();
    let Stores { mut log, mut state } = open(dir.path(), &GROWING).unwrap();
    for first in (1..2000).step_by(100) {
        log.write(&[append(first..=first + 99, 1000)]).unwrap();
    }
    // One value that needs many doublings at once.
    let large = vec![7; 5 << 20];
    state
        .write(&state_batch(1, vec![row("large", large.clone())]))
        .unwrap();
    assert_eq!(all_entries(&log, 1), entries(1..=2000, 1000));
    drop((log, state));
    let Stores { log, mut state } = open(dir.path(), &GROWING).unwrap();
    assert_eq!(all_entries(&log, 1), entries(1..=2000, 1000));
    assert_eq!(all_rows(&mut state), [row("large", large)]);
}

#[test]
fn a_map_grows_under_readers() {
    let dir = tempfile::tempdir().unwrap();
    let Stores { mut log, .. } = open(dir.path(), &GROWING).unwrap();
    log.write(&[append(1..=10, 1000)]).unwrap();
    let readers = [log.reader(), log.reader()];
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = readers.each_ref().map(|reader| {
            scope.spawn(|| {
                let mut rounds = 0_u64;
                while !done.load(std::sync::atomic::Ordering::Relaxed) || rounds == 0 {
                    assert_eq!(
                        reader.entries(Index(1), Index(10), usize::MAX).unwrap(),
                        entries(1..=10, 1000)
                    );
                    rounds += 1;
                }
                rounds
            })
        });
        for first in (11..3000).step_by(100) {
            log.write(&[append(first..=first + 99, 1000)]).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for thread in reading {
            assert!(thread.join().unwrap() > 0);
        }
    });
    assert_eq!(all_entries(&log, 3010), [entry(3010, 1000)]);
}

#[test]
fn a_full_map_applies_nothing_and_frees_itself_by_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let Stores { mut log, .. } = open(dir.path(), &SMALL).unwrap();
    let mut last = 0;
    let refused = loop {
        assert!(last < 1000, "the map never fills");
        match log.write(&[
            append(last + 1..=last + 5, 1000),
            append(last + 6..=last + 10, 1000),
        ]) {
            Ok(()) => last += 10,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert!(
        last > 100,
        "half a megabyte takes more than {last} entries of a kilobyte"
    );
    assert_eq!(all_entries(&log, 1), entries(1..=last, 1000));
    let again = log.write(&[append(last + 1..=last + 10, 1000)]);
    assert!(matches!(again, Err(StoreError::Full { .. })), "{again:?}");

    log.write(&[compact(last - 1)]).unwrap();
    while log.tidy().unwrap() {}
    log.write(&[append(last + 1..=last + 10, 1000)]).unwrap();
    assert_eq!(all_entries(&log, last), entries(last..=last + 10, 1000));
}

#[test]
fn a_full_state_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let Stores { mut state, .. } = open(dir.path(), &SMALL).unwrap();
    let small = row("small", "value");
    state.write(&state_batch(1, vec![small.clone()])).unwrap();
    let large = row("large", vec![7; 1 << 20]);
    for _ in 0..3 {
        let full = state.write(&state_batch(2, vec![row("other", "value"), large.clone()]));
        assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    }
    let snapshot = SnapshotMeta {
        last: LogId::new(1, 9),
        ..SnapshotMeta::default()
    };
    let full = state.replace(
        &snapshot,
        &mut |part| Ok((part == 0).then(|| vec![large.clone()])),
    );
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    assert_eq!(all_rows(&mut state), [small]);
    assert_eq!(state.mark().unwrap().applied.index, Index(1));
    state.write(&state_batch(2, vec![row("other", "value")])).unwrap();
}

#[test]
fn an_installation_larger_than_the_map_is_finished_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let chunks = 8;
    let rows = |chunk: u64| vec![row(&format!("key {chunk}"), vec![chunk as u8; 300 << 10])];
    let snapshot = SnapshotMeta {
        last: LogId::new(1, 50),
        ..SnapshotMeta::default()
    };
    let Stores { mut log, mut state } = open(dir.path(), &GROWING).unwrap();
    log.write(&[append(1..=10, 100)]).unwrap();
    state.write(&state_batch(10, vec![row("old", "value")])).unwrap();
    for chunk in 0..chunks {
        let data = encode_rows(&rows(chunk)).unwrap();
        let stage = Some(StagedChunk {
            snapshot: snapshot.last,
            chunk,
            data,
        });
        log.write(&[WriteBatch { stage, ..required() }]).unwrap();
    }
    log.write(&[WriteBatch {
        install: Some(snapshot.clone()),
        ..required()
    }])
    .unwrap();
    drop((log, state));

    let Stores { mut log, mut state } = open(dir.path(), &GROWING).unwrap();
    assert_eq!(
        all_rows(&mut state),
        (0..chunks).flat_map(rows).collect::<Vec<_>>()
    );
    assert_eq!(state.mark().unwrap().applied, snapshot.last);
    assert_eq!(log.load(usize::MAX).unwrap().raft.base, snapshot);
    assert_eq!(log.reader().staged(snapshot.last, 0).unwrap(), None);
}

#[test]
fn a_huge_compaction_is_deleted_slice_by_slice() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        trim_slice: 500,
        ..Options::default()
    };
    let Stores { mut log, state } = open(dir.path(), &options).unwrap();
    log.write(&[append(1..=10_000, 50)]).unwrap();
    log.write(&[compact(9_990)]).unwrap();
    assert_eq!(
        all_entries(&log, 9_991),
        entries(9_991..=10_000, 50),
        "hidden at once"
    );
    assert_eq!(all_entries(&log, 9_990), []);
    // The compaction deleted the first slice, this append the second.
    log.write(&[append(10_001..=10_001, 50)]).unwrap();
    drop((log, state));
    let Stores { mut log, .. } = open(dir.path(), &options).unwrap();
    assert_eq!(
        log.load(usize::MAX).unwrap().raft.tail,
        entries(9_991..=10_001, 50)
    );
    let mut slices = 1;
    while log.tidy().unwrap() {
        slices += 1;
    }
    // 20 slices in all; opening counted a start, and so took the third along.
    assert_eq!(slices, 17);
    assert!(!log.tidy().unwrap());
}

#[test]
fn what_was_compacted_away_makes_room_for_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let Stores { mut log, .. } = open_default(dir.path());
    let file = dir.path().join("raft/data.mdb");
    let mut size_after_warm_up = 0;
    for round in 0..60_u64 {
        let first = round * 100 + 1;
        log.write(&[append(first..=first + 99, 1000)]).unwrap();
        log.write(&[compact(first.saturating_sub(100))]).unwrap();
        if round == 10 {
            size_after_warm_up = std::fs::metadata(&file).unwrap().len();
        }
    }
    let size = std::fs::metadata(&file).unwrap().len();
    assert!(
        size <= size_after_warm_up * 3 / 2,
        "grew from {size_after_warm_up} to {size}"
    );
}
