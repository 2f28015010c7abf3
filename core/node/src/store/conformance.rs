//! The tests that every implementation of the storage contract must pass, each a clause of it.
//!
//! [`store_conformance!`](crate::store_conformance) makes a `#[test]` of each, over a [`Bed`] of the implementation's own.
#![allow(
    clippy::unwrap_used,
    reason = "these are tests, though they are compiled as a library"
)]

mod log;
mod snapshot;
mod state;

use bytes::Bytes;
use lictor_catalog::{Row, Table};
use lictor_machine::{Index, NodeId};
use lictor_raft::{
    Configuration, Entry, HardState, LogId, Payload, SnapshotMeta, StagedChunk, Sync, Term, WriteBatch,
    WriteId,
};

pub use log::*;
pub use snapshot::*;
pub use state::*;

use super::{LogBoot, LogStore, StateStore, StoreError};

/// Where a pair of stores lives. A new bed is empty.
pub trait Bed {
    /// The log store.
    type Log: LogStore;
    /// The state store.
    type State: StateStore;

    /// Opens the stores, finishing what a crash interrupted. Called while no store is open on the bed.
    fn open(&mut self) -> Result<(Self::Log, Self::State), StoreError>;

    /// Cuts the power: whatever may be lost is lost. Called while no store is open on the bed.
    fn cut_power(&mut self);
}

/// Makes a test of each clause. The argument is an expression that makes a new [`Bed`].
#[macro_export]
macro_rules! store_conformance {
    ($bed:expr) => {
        $crate::store_conformance! { @each $bed,
            an_empty_store_boots_from_nothing
            every_load_counts_a_start
            required_batches_survive_a_power_cut
            a_lazy_tail_is_lost_whole_or_not_at_all
            a_required_batch_takes_lazy_ones_along
            flush_makes_lazy_batches_durable
            lazy_batches_without_end_stay_bounded
            the_fields_of_a_batch_apply_in_order
            a_truncated_tail_is_replaced
            one_call_may_carry_many_batches
            compaction_moves_the_base_and_hides_entries
            a_large_compaction_is_tidied_in_slices
            boot_tells_terms_and_members
            the_tail_is_bounded_by_bytes
            reads_are_bounded_and_never_partial
            a_reader_sees_later_writes_from_another_thread
            notes_are_replaced_as_a_whole
            a_gap_is_refused_and_ends_the_store
            a_refused_call_leaves_nothing
            committed_entries_are_not_truncated
            chunks_are_staged_in_order
            an_installed_snapshot_replaces_the_log
            an_interrupted_installation_is_finished
            forgotten_chunks_are_gone
            an_empty_state_has_no_rows
            rows_come_back_in_order
            long_keys_are_rows_like_others
            the_last_row_of_a_key_wins
            state_survives_a_power_cut
            the_state_never_goes_back
            replace_leaves_only_the_new_rows
            a_failed_replacement_leaves_the_old_rows
            an_error_of_the_callback_ends_a_load
        }
    };
    (@each $bed:expr, $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                $crate::store::conformance::$clause(&mut $bed);
            }
        )*
    };
}

fn batch(sync: Sync) -> WriteBatch {
    WriteBatch {
        sync,
        ..WriteBatch::new(WriteId::default())
    }
}

fn required() -> WriteBatch {
    batch(Sync::Required)
}

fn lazy() -> WriteBatch {
    batch(Sync::Lazy)
}

fn entry(term: u64, index: u64) -> Entry {
    let text = format!("the command of entry {term}.{index}");
    Entry {
        id: LogId::new(term, index),
        payload: Payload::Command(text.into()),
    }
}

fn entries(term: u64, indexes: core::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

fn append(term: u64, indexes: core::ops::RangeInclusive<u64>) -> WriteBatch {
    WriteBatch {
        append: entries(term, indexes),
        ..required()
    }
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: Some(NodeId(7)),
        commit: Index(commit),
    }
}

fn snapshot_at(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last: LogId::new(term, index),
        members: Configuration::of([1, 2, 3].map(NodeId)),
    }
}

fn chunk(snapshot: LogId, chunk: u64, data: impl Into<Bytes>) -> WriteBatch {
    WriteBatch {
        stage: Some(StagedChunk {
            snapshot,
            chunk,
            data: data.into(),
        }),
        ..required()
    }
}

fn row(table: Table, key: impl Into<Bytes>, value: &'static str) -> Row {
    Row {
        table,
        key: key.into(),
        value: Some(Bytes::from_static(value.as_bytes())),
    }
}

/// What the log holds after it was opened again, as a load and a reader tell it.
fn reload<B: Bed>(bed: &mut B) -> (LogBoot, Vec<Entry>) {
    let (mut log, _state) = bed.open().unwrap();
    let boot = log.load(usize::MAX).unwrap();
    let read = all_entries(&log);
    assert_eq!(boot.raft.tail, read, "the boot and the reader disagree");
    (boot, read)
}

fn all_entries(log: &impl LogStore) -> Vec<Entry> {
    let reader = log.reader();
    let first = (1..=4096).find(|&index| !reader.entries(Index(index), Index(index), 0).unwrap().is_empty());
    first.map_or_else(Vec::new, |first| {
        reader.entries(Index(first), Index(u64::MAX), usize::MAX).unwrap()
    })
}

fn all_rows(state: &mut impl StateStore) -> Vec<Row> {
    let mut rows = Vec::new();
    let mark = state
        .load(&mut |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    assert_eq!(mark, state.mark().unwrap());
    rows
}
