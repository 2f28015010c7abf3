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
//!    batches at the end of the call that are all [`Sync::Lazy`](lictor_raft::Sync::Lazy), which may follow with the next call.
//! 4. *Failure is final.* After an `Err` that is not [`StoreError::Full`] the store refuses every further write: a failed sync may have
//!    dropped data that a second sync would not mention. [`StoreError::Full`] means that nothing of the call was applied, and that the same
//!    call may be made again later.
//! 5. *Nothing is guessed.* A value with a wrong checksum, or of an unknown format, is [`StoreError::Damaged`] or
//!    [`StoreError::NewerFormat`], naming the file and what to do.
//!
//! # The state store
//!
//! Holds one row per object of the catalog, and how far the log had been applied when they were written, in one
//! atomic unit. It may lag behind: the log has the rest.

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
    #[error("{path}: damaged: {detail}; restore this server from a backup, or remove the directory and let it join again")]
    Damaged {
        /// The file or directory.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// Written by a newer version of this program.
    #[error("{path}: format {found} is newer than this program understands ({known}); start the newer version")]
    NewerFormat {
        /// The file or directory.
        path: String,
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
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
    /// The cluster that this node has joined; see [`crate::ClusterId`].
    pub cluster: Option<crate::ClusterId>,
    /// The initial members that this node has proposed, or agreed to, for a new cluster.
    pub founding: Option<crate::Founding>,
    /// Other servers and where they were last reached.
    pub peers: Vec<crate::PeerAddress>,
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

    /// Applies the batches.
    fn write(&mut self, batches: &[WriteBatch]) -> Result<(), StoreError>;

    /// Replaces the notes, durably.
    fn write_notes(&mut self, notes: &Notes) -> Result<(), StoreError>;

    /// A reader that may be used from another thread while this store writes.
    fn reader(&self) -> Box<dyn LogReader>;
}

/// Reads a log store while it is being written.
pub trait LogReader: Send + std::marker::Sync {
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
    /// Reads every row that has a value, in order of table and key.
    fn load(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreError>) -> Result<StateMark, StoreError>;

    /// Applies a batch; durable when it returns.
    fn write(&mut self, batch: &StateBatch) -> Result<(), StoreError>;

    /// Replaces everything by the rows that `next` yields, atomically; durable when it returns. A crash before leaves the old rows.
    fn replace(
        &mut self,
        snapshot: &SnapshotMeta,
        next: &mut dyn FnMut() -> Result<Option<Vec<Row>>, StoreError>,
    ) -> Result<(), StoreError>;
}

/// Who keeps `id` apart from an address: where a server was last reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddress {
    /// The server.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its address, as `host:port`.
    pub address: std::net::SocketAddr,
}
