use lictor_raft::{HardState, Term, WriteId};

use super::*;

fn append(index: u64) -> WriteBatch {
    let entry = Entry {
        id: LogId::new(1, index),
        payload: Payload::Noop,
    };
    WriteBatch {
        sync: Sync::Required,
        append: vec![entry],
        ..WriteBatch::new(WriteId::default())
    }
}

fn last(disk: &MemoryDisk) -> (Index, Index) {
    disk.inspect_log(|visible, durable| (visible.last(), durable.last()))
}

fn rows(index: u64) -> StateBatch {
    let row = Row {
        table: lictor_catalog::Table::Kv,
        key: Bytes::from_static(b"k"),
        value: Some(Bytes::new()),
    };
    StateBatch {
        applied: LogId::new(1, index),
        rows: vec![row],
    }
}

#[test]
fn by_hand_nothing_is_durable_before_the_sync() {
    let disk = MemoryDisk::with_manual_sync();
    let (mut log, mut state) = disk.open().unwrap();
    log.write(&[append(1), append(2)]).unwrap();
    state.write(&rows(1)).unwrap();
    log.flush().unwrap();
    assert_eq!(disk.unsynced(), (2, 1));
    assert_eq!(last(&disk), (Index(2), Index(0)));
    disk.sync();
    assert_eq!(disk.unsynced(), (0, 0));
    log.write(&[append(3)]).unwrap();
    assert_eq!(last(&disk), (Index(3), Index(2)));
    disk.crash();
    assert_eq!(last(&disk), (Index(2), Index(2)));
    assert_eq!(disk.inspect_state(|visible, _| visible.applied), LogId::new(1, 1));
}

#[test]
fn a_crash_may_keep_any_prefix() {
    for kept in 0..=4 {
        let disk = MemoryDisk::with_manual_sync();
        let (mut log, mut state) = disk.open().unwrap();
        for index in 1..=3 {
            log.write(&[append(index)]).unwrap();
            state.write(&rows(index)).unwrap();
        }
        disk.crash_keeping(kept, 1);
        let expected = Index(kept.min(3) as u64);
        assert_eq!(last(&disk), (expected, expected));
        assert_eq!(disk.inspect_state(|visible, _| visible.applied.index), Index(1));
    }
}

#[test]
fn a_start_is_counted_durably_even_by_hand() {
    let disk = MemoryDisk::with_manual_sync();
    for start in 1..=3 {
        let (mut log, _state) = disk.open().unwrap();
        assert_eq!(log.load(0).unwrap().raft.boot, start);
        disk.crash();
    }
}

#[test]
fn a_lazy_batch_at_the_end_is_visible_and_not_durable() {
    let disk = MemoryDisk::new();
    let (mut log, _state) = disk.open().unwrap();
    let state = HardState {
        term: Term(1),
        vote: None,
        commit: Index(1),
    };
    let lazy = WriteBatch {
        hard_state: Some(state),
        ..WriteBatch::new(WriteId::default())
    };
    log.write(&[append(1), lazy.clone()]).unwrap();
    let commits =
        || disk.inspect_log(|visible, durable| (visible.hard_state.commit, durable.hard_state.commit));
    assert_eq!(commits(), (Index(1), Index(0)));
    assert_eq!(last(&disk), (Index(1), Index(1)));
    log.write(&[lazy]).unwrap();
    assert_eq!(commits(), (Index(1), Index(0)));
    log.write(&[append(2)]).unwrap();
    assert_eq!(commits(), (Index(1), Index(1)));
}

#[test]
fn full_applies_nothing_and_heals() {
    let disk = MemoryDisk::new();
    let (mut log, mut state) = disk.open().unwrap();
    disk.fail_next_log_write(DiskFault::Full);
    disk.fail_next_state_write(DiskFault::Full);
    assert!(matches!(
        log.write(&[append(1), append(2)]),
        Err(StoreError::Full { .. })
    ));
    assert!(matches!(state.write(&rows(1)), Err(StoreError::Full { .. })));
    assert_eq!(last(&disk), (Index(0), Index(0)));
    log.write(&[append(1), append(2)]).unwrap();
    state.write(&rows(1)).unwrap();
    assert_eq!(last(&disk), (Index(2), Index(2)));
}

#[test]
fn a_failure_is_final_until_the_store_is_opened_again() {
    let disk = MemoryDisk::new();
    let (mut log, mut state) = disk.open().unwrap();
    disk.fail_next_log_write(DiskFault::Io);
    disk.fail_next_state_write(DiskFault::Io);
    assert!(matches!(log.write(&[append(1)]), Err(StoreError::Io { .. })));
    assert!(matches!(log.write(&[append(1)]), Err(StoreError::Io { .. })));
    assert!(matches!(log.flush(), Err(StoreError::Io { .. })));
    assert!(matches!(state.write(&rows(1)), Err(StoreError::Io { .. })));
    assert!(matches!(state.write(&rows(1)), Err(StoreError::Io { .. })));
    let (mut log, mut state) = disk.open().unwrap();
    log.write(&[append(1)]).unwrap();
    state.write(&rows(1)).unwrap();
}

#[test]
fn stores_of_an_earlier_life_are_cut_off() {
    let disk = MemoryDisk::new();
    let (mut log, mut state) = disk.open().unwrap();
    let reader = log.reader();
    disk.crash();
    assert!(matches!(log.write(&[append(1)]), Err(StoreError::Io { .. })));
    assert!(matches!(state.write(&rows(1)), Err(StoreError::Io { .. })));
    assert!(matches!(
        reader.entries(Index(1), Index(1), 0),
        Err(StoreError::Io { .. })
    ));
    assert_eq!(last(&disk), (Index(0), Index(0)));
}

/// The clauses of the contract, on a disk that keeps what must be kept and loses everything else.
#[cfg(feature = "conformance")]
mod contract {
    use crate::store::conformance::Bed;
    use crate::store::{MemoryDisk, MemoryLog, MemoryState, StoreError};

    impl Bed for MemoryDisk {
        type Log = MemoryLog;
        type State = MemoryState;

        fn open(&mut self) -> Result<(MemoryLog, MemoryState), StoreError> {
            Self::open(self)
        }

        fn cut_power(&mut self) {
            self.crash();
        }
    }

    crate::store_conformance!(MemoryDisk::new());
}
