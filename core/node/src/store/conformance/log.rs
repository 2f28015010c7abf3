//! The log store's clauses.

use lictor_machine::{Index, NodeId};
use lictor_raft::{Boot, Configuration, Entry, LogId, Payload, WriteBatch};

use super::{Bed, all_entries, append, entries, entry, hard_state, lazy, reload, required, snapshot_at};
use crate::store::{Breach, LogStore, Notes, StoreError};
use crate::{ClusterId, PeerAddress};

/// A new store has no past.
pub fn an_empty_store_boots_from_nothing<B: Bed>(bed: &mut B) {
    let (boot, read) = reload(bed);
    assert_eq!(
        boot.raft,
        Boot {
            boot: 1,
            ..Boot::default()
        }
    );
    assert_eq!(boot.notes, Notes::default());
    assert!(read.is_empty());
}

/// The number of the start grows with every load, whatever happened in between.
pub fn every_load_counts_a_start<B: Bed>(bed: &mut B) {
    for start in 1..=4 {
        let (mut log, state) = bed.open().unwrap();
        assert_eq!(log.load(0).unwrap().raft.boot, start);
        drop((log, state));
        if start % 2 == 0 {
            bed.cut_power();
        }
    }
}

/// Clause 3.
pub fn required_batches_survive_a_power_cut<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[WriteBatch {
        hard_state: Some(hard_state(3, 2)),
        ..append(3, 1..=5)
    }])
    .unwrap();
    drop((log, state));
    bed.cut_power();
    let (boot, read) = reload(bed);
    assert_eq!(boot.raft.hard_state, hard_state(3, 2));
    assert_eq!(boot.raft.last_index, Index(5));
    assert_eq!(read, entries(3, 1..=5));
}

/// Clauses 1 and 2: what a crash leaves is a prefix of the batches.
pub fn a_lazy_tail_is_lost_whole_or_not_at_all<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    let first = WriteBatch {
        hard_state: Some(hard_state(1, 1)),
        ..lazy()
    };
    let second = WriteBatch {
        hard_state: Some(hard_state(1, 3)),
        compact_to: Some(snapshot_at(1, 2)),
        ..lazy()
    };
    log.write(&[append(1, 1..=4), first, second]).unwrap();
    drop((log, state));
    bed.cut_power();
    let (boot, read) = reload(bed);
    match boot.raft.hard_state.commit {
        Index(0 | 1) => assert_eq!(read, entries(1, 1..=4)),
        Index(3) => assert_eq!((read, boot.raft.base), (entries(1, 3..=4), snapshot_at(1, 2))),
        other => panic!("no batch wrote the commit index {other}"),
    }
}

/// Clause 1.
pub fn a_required_batch_takes_lazy_ones_along<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=4)]).unwrap();
    log.write(&[WriteBatch {
        hard_state: Some(hard_state(1, 4)),
        ..lazy()
    }])
    .unwrap();
    log.write(&[append(1, 5..=5)]).unwrap();
    drop((log, state));
    bed.cut_power();
    let (boot, read) = reload(bed);
    assert_eq!(boot.raft.hard_state, hard_state(1, 4));
    assert_eq!(read, entries(1, 1..=5));
}

/// Clause 3.
pub fn flush_makes_lazy_batches_durable<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=4)]).unwrap();
    let last = WriteBatch {
        compact_to: Some(snapshot_at(1, 3)),
        ..lazy()
    };
    log.write(&[
        WriteBatch {
            hard_state: Some(hard_state(1, 3)),
            ..lazy()
        },
        last,
    ])
    .unwrap();
    log.flush().unwrap();
    assert_eq!(all_entries(&log), entries(1, 4..=4));
    drop((log, state));
    bed.cut_power();
    let (boot, read) = reload(bed);
    assert_eq!(
        (boot.raft.hard_state, boot.raft.base),
        (hard_state(1, 3), snapshot_at(1, 3))
    );
    assert_eq!(read, entries(1, 4..=4));
}

/// Lazy writes do not pile up: some of many survive.
pub fn lazy_batches_without_end_stay_bounded<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=2000)]).unwrap();
    for commit in 1..=2000 {
        log.write(&[WriteBatch {
            hard_state: Some(hard_state(1, commit)),
            ..lazy()
        }])
        .unwrap();
    }
    drop((log, state));
    bed.cut_power();
    assert!(reload(bed).0.raft.hard_state.commit >= Index(1000));
}

/// Hard state, truncation, appends and compaction of one batch.
pub fn the_fields_of_a_batch_apply_in_order<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=10)]).unwrap();
    log.write(&[WriteBatch {
        hard_state: Some(hard_state(2, 7)),
        truncate_from: Some(Index(6)),
        append: entries(2, 6..=8),
        compact_to: Some(snapshot_at(2, 7)),
        ..required()
    }])
    .unwrap();
    assert_eq!(all_entries(&log), [entry(2, 8)]);
    drop((log, state));
    let (boot, read) = reload(bed);
    assert_eq!(boot.raft.hard_state, hard_state(2, 7));
    assert_eq!(boot.raft.base, snapshot_at(2, 7));
    assert_eq!(read, [entry(2, 8)]);
}

/// A follower's conflicting tail gives way to the leader's, also to nothing.
pub fn a_truncated_tail_is_replaced<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=10)]).unwrap();
    log.write(&[WriteBatch {
        truncate_from: Some(Index(4)),
        ..append(2, 4..=5)
    }])
    .unwrap();
    assert_eq!(all_entries(&log), [entries(1, 1..=3), entries(2, 4..=5)].concat());
    log.write(&[WriteBatch {
        truncate_from: Some(Index(1)),
        ..required()
    }])
    .unwrap();
    assert!(all_entries(&log).is_empty());
    log.write(&[append(3, 1..=2)]).unwrap();
    drop((log, state));
    assert_eq!(reload(bed).1, entries(3, 1..=2));
}

/// Clause 2.
pub fn one_call_may_carry_many_batches<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    let batches: Vec<_> = (1..=50).map(|index| append(1, index..=index)).collect();
    log.write(&batches).unwrap();
    log.write(&[]).unwrap();
    assert_eq!(all_entries(&log), entries(1, 1..=50));
    drop((log, state));
    bed.cut_power();
    assert_eq!(reload(bed).1, entries(1, 1..=50));
}

/// Compacted entries are not read, and the base tells what the log starts after.
pub fn compaction_moves_the_base_and_hides_entries<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=20)]).unwrap();
    log.write(&[WriteBatch {
        compact_to: Some(snapshot_at(1, 15)),
        ..required()
    }])
    .unwrap();
    let reader = log.reader();
    assert!(
        reader
            .entries(Index(15), Index(20), usize::MAX)
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        reader.entries(Index(16), Index(20), usize::MAX).unwrap(),
        entries(1, 16..=20)
    );
    log.write(&[WriteBatch {
        compact_to: Some(snapshot_at(1, 20)),
        ..required()
    }])
    .unwrap();
    assert!(
        reader
            .entries(Index(20), Index(20), usize::MAX)
            .unwrap()
            .is_empty()
    );
    log.write(&[append(1, 21..=21)]).unwrap();
    drop((reader, log, state));
    let (boot, read) = reload(bed);
    assert_eq!(
        (boot.raft.base, boot.raft.last_index),
        (snapshot_at(1, 20), Index(21))
    );
    assert_eq!(read, [entry(1, 21)]);
}

/// Clause 7: what is hidden is deleted in the end, and a crash in the middle of that shows nothing of it.
pub fn a_large_compaction_is_tidied_in_slices<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=4000)]).unwrap();
    log.write(&[WriteBatch {
        compact_to: Some(snapshot_at(1, 3990)),
        ..required()
    }])
    .unwrap();
    log.tidy().unwrap();
    drop((log, state));
    bed.cut_power();
    let (mut log, _state) = bed.open().unwrap();
    let boot = log.load(usize::MAX).unwrap();
    assert_eq!(boot.raft.tail, entries(1, 3991..=4000));
    let mut slices = 0;
    while log.tidy().unwrap() {
        slices += 1;
        assert!(slices < 4000, "tidying does not end");
    }
    assert_eq!(
        log.reader()
            .entries(Index(3991), Index(4000), usize::MAX)
            .unwrap(),
        entries(1, 3991..=4000)
    );
}

/// What Raft wants to know without reading the whole log.
pub fn boot_tells_terms_and_members<B: Bed>(bed: &mut B) {
    let members = |index, ids: &[u128]| {
        let members = Configuration::of(ids.iter().copied().map(NodeId));
        Entry {
            id: LogId::new(4, index),
            payload: Payload::Members(members),
        }
    };
    let noop = Entry {
        id: LogId::new(7, 6),
        payload: Payload::Noop,
    };
    let (mut log, state) = bed.open().unwrap();
    let log_entries = [
        entries(2, 1..=2),
        vec![members(3, &[1, 2]), members(4, &[1])],
        entries(5, 5..=5),
        vec![noop],
    ]
    .concat();
    log.write(&[WriteBatch {
        append: log_entries,
        ..required()
    }])
    .unwrap();
    drop((log, state));

    let boot = reload(bed).0.raft;
    assert_eq!(
        boot.term_starts,
        [(2, 1), (4, 3), (5, 5), (7, 6)].map(|(term, index)| LogId::new(term, index))
    );
    let found = |index, ids: &[u128]| {
        (
            LogId::new(4, index),
            Configuration::of(ids.iter().copied().map(NodeId)),
        )
    };
    assert_eq!(boot.members, [found(3, &[1, 2]), found(4, &[1])]);

    let (mut log, state) = bed.open().unwrap();
    log.write(&[WriteBatch {
        compact_to: Some(snapshot_at(4, 3)),
        ..required()
    }])
    .unwrap();
    drop((log, state));
    let boot = reload(bed).0.raft;
    assert_eq!(
        boot.term_starts,
        [(4, 4), (5, 5), (7, 6)].map(|(term, index)| LogId::new(term, index))
    );
    assert_eq!(boot.members, [found(4, &[1])]);
}

/// A load brings the newest entries that fit, and none that does not.
pub fn the_tail_is_bounded_by_bytes<B: Bed>(bed: &mut B) {
    let (mut log, _state) = bed.open().unwrap();
    log.write(&[append(1, 1..=3)]).unwrap();
    let size = entry(1, 1).size();
    let mut tail = |bytes| log.load(bytes).unwrap().raft.tail;
    assert_eq!(tail(0), []);
    assert_eq!(tail(size - 1), []);
    assert_eq!(tail(size), entries(1, 3..=3));
    assert_eq!(tail(3 * size - 1), entries(1, 2..=3));
    assert_eq!(tail(3 * size), entries(1, 1..=3));
}

/// A read yields whole entries from `first` on, at least one, or nothing.
pub fn reads_are_bounded_and_never_partial<B: Bed>(bed: &mut B) {
    let (mut log, _state) = bed.open().unwrap();
    log.write(&[append(1, 1..=9)]).unwrap();
    let reader = log.reader();
    let read = |first, last, bytes| reader.entries(Index(first), Index(last), bytes).unwrap();
    let size = entry(1, 1).size();
    assert_eq!(read(3, 5, usize::MAX), entries(1, 3..=5));
    assert_eq!(read(3, 9, 0), entries(1, 3..=3));
    assert_eq!(read(3, 9, 2 * size), entries(1, 3..=4));
    assert_eq!(read(3, 9, 3 * size - 1), entries(1, 3..=4));
    assert_eq!(read(8, 100, usize::MAX), entries(1, 8..=9));
    assert_eq!(read(10, 10, usize::MAX), []);
    assert_eq!(read(5, 4, usize::MAX), []);
    assert_eq!(read(0, 9, usize::MAX), []);
}

/// A reader is not a snapshot: it follows the store.
pub fn a_reader_sees_later_writes_from_another_thread<B: Bed>(bed: &mut B) {
    let (mut log, _state) = bed.open().unwrap();
    let reader = log.reader();
    for round in 0..20 {
        let first = round * 10 + 1;
        log.write(&[append(1, first..=first + 9)]).unwrap();
        let read = std::thread::scope(|scope| {
            scope
                .spawn(|| reader.entries(Index(first), Index(u64::MAX), usize::MAX).unwrap())
                .join()
                .unwrap()
        });
        assert_eq!(read, entries(1, first..=first + 9));
    }
}

/// Notes are durable at once and leave the log alone.
pub fn notes_are_replaced_as_a_whole<B: Bed>(bed: &mut B) {
    let address = "192.0.2.1:8300".parse().unwrap();
    let peer = PeerAddress {
        id: NodeId(2),
        name: "two".into(),
        address,
    };
    let first = Notes {
        cluster: Some(ClusterId(9)),
        peers: vec![peer],
        ..Notes::default()
    };
    let second = Notes {
        cluster: Some(ClusterId(9)),
        ..Notes::default()
    };
    let (mut log, mut state) = bed.open().unwrap();
    log.write(&[append(1, 1..=2)]).unwrap();
    for notes in [first, second] {
        log.write_notes(&notes).unwrap();
        drop((log, state));
        bed.cut_power();
        let (boot, read) = reload(bed);
        assert_eq!(boot.notes, notes);
        assert_eq!(read, entries(1, 1..=2));
        (log, state) = bed.open().unwrap();
    }
}

/// Clauses 4 and 6.
pub fn a_gap_is_refused_and_ends_the_store<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=2)]).unwrap();
    let breach = Breach::Gap {
        expected: Index(3),
        found: Index(4),
    };
    match log.write(&[append(1, 4..=4)]) {
        Err(StoreError::Contract { breach: found, .. }) => assert_eq!(found, breach),
        other => panic!("a gap was answered by {other:?}"),
    }
    assert!(matches!(
        log.write(&[append(1, 3..=3)]),
        Err(StoreError::Io { .. })
    ));
    assert!(matches!(
        log.write_notes(&Notes::default()),
        Err(StoreError::Io { .. })
    ));
    assert_eq!(all_entries(&log), entries(1, 1..=2), "reads go on");
    drop((log, state));
    let (mut log, _state) = bed.open().unwrap();
    log.write(&[append(1, 3..=3)]).unwrap();
}

/// No batch of a refused call is applied, not even those before the bad one.
pub fn a_refused_call_leaves_nothing<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[append(1, 1..=1)]).unwrap();
    let bad = WriteBatch {
        compact_to: Some(snapshot_at(1, 9)),
        ..required()
    };
    assert!(matches!(
        log.write(&[append(1, 2..=2), bad]),
        Err(StoreError::Contract { .. })
    ));
    assert_eq!(all_entries(&log), entries(1, 1..=1));
    drop((log, state));
    assert_eq!(reload(bed).1, entries(1, 1..=1));
}

/// Clause 6.
pub fn committed_entries_are_not_truncated<B: Bed>(bed: &mut B) {
    let (mut log, state) = bed.open().unwrap();
    log.write(&[WriteBatch {
        hard_state: Some(hard_state(1, 3)),
        ..append(1, 1..=5)
    }])
    .unwrap();
    drop((log, state));
    let (mut log, _state) = bed.open().unwrap();
    let truncate = WriteBatch {
        truncate_from: Some(Index(3)),
        ..required()
    };
    assert!(matches!(log.write(&[truncate]), Err(StoreError::Contract { .. })));
}
