//! The storage contract: what a log store and a state store promise, whatever they are made of.
//!
//! Nothing here does I/O. An implementation may block; the driver keeps it away from the node's loop.
//!
//! # The log store
//!
//! 1. *Order.* Batches are applied in the order given. The store's content after any crash is the content after
//!    some prefix of them.
//! 2. *Atomicity.* One [`WriteBatch`] is durable whole or not at all. Several batches of one call may share one commit.
//! 3. *Durability.* When [`LogStore::write`] returns `Ok`, every batch of the call survives a power cut, except
//!    batches at the end of the call that are all [`Sync::Lazy`](lictor_raft::Sync::Lazy), which may follow with the
//!    next call, or with [`LogStore::flush`]. Readers see an appended entry, and a staged chunk, as soon as the call
//!    returns; what a lazy batch removes may stay readable until it is durable.
//! 4. *Failure is final.* After an `Err` that is not [`StoreError::Full`] the store refuses every further write: a failed sync may have
//!    dropped data that a second sync would not mention. [`StoreError::Full`] means that nothing of the call was applied, and that the same
//!    call may be made again later.
//! 5. *Nothing is guessed.* A value with a wrong checksum, or of an unknown format, is [`StoreError::Damaged`] or
//!    [`StoreError::NewerFormat`], naming the file and what to do.
//! 6. *Nothing impossible is kept.* A batch that would leave a gap, take back what is committed, or the like (see [`Breach`])
//!    is [`StoreError::Contract`]: better to stop than to write down a broken past.
//! 7. *Removal is deferred.* Compacting hides entries at once and deletes them in small slices, with later writes or when
//!    the driver has time for [`LogStore::tidy`].
//!
//! # The state store
//!
//! Holds one row per object of the catalog, and how far the log had been applied when they were written, in one
//! atomic unit. It may lag behind: the log has the rest. Failure is final here too, except for [`StoreError::Full`] and for
//! errors that the caller's own callbacks return.
//!
//! # Installing a snapshot
//!
//! Its chunks (made by [`encode_rows`]) are staged in the log store; the batch with `install` moves the log; then
//! [`finish_install`] replaces the rows from the staged chunks. Whoever opens the stores calls it before loading, so a crash
//! between the two steps is repaired. [`check_pair`] says whether the two stores still fit together.

mod install;
mod outline;
mod rows;

#[cfg(feature = "conformance")]
pub mod conformance;
mod memory;

pub use install::{check_pair, finish_install, store_whole};
pub use memory::{DiskFault, LogContent, MemoryDisk, MemoryLog, MemoryState, StateContent};
pub use outline::{Breach, Installed, Outline, Staged};
pub use rows::{MAX_CHUNK_BYTES, decode_rows, encode_rows};

use lictor_catalog::Row;
use lictor_machine::{Index, NodeId};
use lictor_raft::{Boot, Entry, LogId, SnapshotMeta, WriteBatch};
use serde::{Deserialize, Serialize};

/// Why storage failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space, or a quota is reached. Nothing of the call was applied; it may be made again.
    #[error("{path}: no space left: {detail}; free some space, writes resume by themselves")]
    Full {
        /// The file or directory.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// Stored data are not what was written, or not ours.
    #[error(
        "{path}: damaged: {detail}; restore this server from a backup, or remove the directory and let it join again"
    )]
    Damaged {
        /// The file or directory.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// Written by a newer version of this program.
    #[error(
        "{path}: format {found} is newer than this program understands ({known}); start the newer version"
    )]
    NewerFormat {
        /// The file or directory.
        path: String,
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// The caller asked for what may never be written; a bug in this program. Nothing of the call was applied.
    #[error("{path}: refused a write: {breach}; this is a bug, please report it")]
    Contract {
        /// The file or directory.
        path: String,
        /// The rule that was broken.
        breach: Breach,
    },
    /// Anything else: the disk or the file system failed.
    #[error("{path}: {detail}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system said.
        detail: String,
    },
}

/// Small facts that a node keeps beside its log, each replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notes {
    /// The node that all of it belongs to: the one that started here first.
    pub node: Option<NodeId>,
    /// The cluster that this node has joined; see [`crate::ClusterId`].
    pub cluster: Option<crate::ClusterId>,
    /// The initial members that this node has proposed, or agreed to, for a new cluster.
    pub founding: Option<crate::Founding>,
    /// The foundings that this node has proposed and given up again: all up to this attempt.
    pub given_up: u64,
    /// Other servers and where they were last reached.
    pub peers: Vec<PeerAddress>,
}

/// What a log store held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct LogBoot {
    /// Raft's past. `boot` has been raised, durably, by the call that returned this; `applied` is 0.
    pub raft: Boot,
    /// The node's notes.
    pub notes: Notes,
}

/// Keeps the Raft log. See the module for what it promises.
pub trait LogStore: Send {
    /// Reads what is there, and durably counts this start. At most `tail_bytes` of the newest entries come along.
    fn load(&mut self, tail_bytes: usize) -> Result<LogBoot, StoreError>;

    /// Applies the batches, in order.
    fn write(&mut self, batches: &[WriteBatch]) -> Result<(), StoreError>;

    /// Makes lazy batches durable that are not yet.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// Does a small, bounded piece of deferred deletion, durably. `true`: there is more to do. Never needed for the other methods
    /// to work.
    fn tidy(&mut self) -> Result<bool, StoreError>;

    /// Replaces the notes, durably.
    fn write_notes(&mut self, notes: &Notes) -> Result<(), StoreError>;

    /// The snapshot that the log was replaced by and whose chunks are still staged, if there is one.
    fn installed(&self) -> Result<Option<Installed>, StoreError>;

    /// Drops the staged chunks of this snapshot, durably: its rows are in the state store. Does nothing if they are not staged.
    fn forget_staged(&mut self, snapshot: LogId) -> Result<(), StoreError>;

    /// A reader that may be used from another thread while this store writes.
    fn reader(&self) -> Box<dyn LogReader>;
}

/// Reads a log store while it is being written.
pub trait LogReader: Send + Sync {
    /// Entries from `first` to `last`, both included, until `max_bytes` is reached, but at least one. Empty if `first` has been compacted
    /// away or is not there yet.
    fn entries(&self, first: Index, last: Index, max_bytes: usize) -> Result<Vec<Entry>, StoreError>;

    /// A staged chunk of the snapshot that ends at `snapshot`.
    fn staged(&self, snapshot: LogId, chunk: u64) -> Result<Option<bytes::Bytes>, StoreError>;
}

/// Where a state store stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StateMark {
    /// The last entry whose effects are in the rows.
    pub applied: LogId,
}

/// Changes for the state store: one atomic unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateBatch {
    /// The last entry whose effects the rows carry.
    pub applied: LogId,
    /// The rows, later ones winning over earlier ones.
    pub rows: Vec<Row>,
}

/// Keeps the catalog's rows. See the module for what it promises.
pub trait StateStore: Send {
    /// How far the rows go.
    fn mark(&self) -> Result<StateMark, StoreError>;

    /// Reads every row that has a value, in order of table and key. Ends with the first error that `row` returns.
    fn load(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreError>) -> Result<StateMark, StoreError>;

    /// Applies a batch; durable when it returns. `applied` never goes back.
    fn write(&mut self, batch: &StateBatch) -> Result<(), StoreError>;

    /// Replaces everything by the rows of the parts 0, 1, ... until `part` yields `None`, atomically; durable when it
    /// returns. A crash or an error before leaves the old rows. The store may start over: `part` must yield the same again.
    fn replace(&mut self, snapshot: &SnapshotMeta, part: &mut PartSource<'_>) -> Result<(), StoreError>;
}

/// Yields the numbered parts of a snapshot's rows; `None` after the last.
pub type PartSource<'a> = dyn FnMut(u64) -> Result<Option<Vec<Row>>, StoreError> + 'a;

/// Where a server was last reached. Who it is and where it is are kept apart: only the former never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddress {
    /// The server.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its address, as `host:port`.
    pub address: std::net::SocketAddr,
}
