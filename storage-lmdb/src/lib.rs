//! Lictor's log and state on LMDB: the storage contract of [`lictor_node::store`], kept on a real disk.
//!
//! A data directory holds two LMDB environments, because they have two rhythms: `raft` (the log, the hard state, staged
//! snapshots) commits with every group of writes, `state` (one row per object of the catalog) every few seconds.
//! What an agent keeps of what runs on it is a third, in a directory of its own ([`LmdbRecords`]), since agents in client mode have it too.
//! All are fully durable: no LMDB flag that trades safety for speed is set.
//!
//! LMDB has no checksums of its own, so every value carries one, over the name of its table and its key too: a bit that
//! flipped, or a value that strayed to another key, is [`StoreError::Damaged`], never an answer.
#![deny(unsafe_code)]

mod directory;
mod environment;
mod error;
mod extent;
mod frame;
mod key;
mod log;
mod records;
mod state;
mod tree;

use std::path::Path;

use lictor_node::store::{StoreError, finish_install};

pub use log::LmdbLog;
pub use records::LmdbRecords;
pub use state::LmdbState;

/// How large things may get. The defaults suit a server; a test wants less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Address space, in bytes, that is set aside for the log at first. Costs neither memory nor disk.
    pub log_map_bytes: usize,
    /// The same for the state.
    pub state_map_bytes: usize,
    /// How far either may grow, by doubling. A write that needs more is [`StoreError::Full`].
    pub max_map_bytes: usize,
    /// How many compacted entries one commit deletes, at most. Large slices stall writes and leave LMDB long lists of free pages.
    pub trim_slice: u32,
}

impl Default for Options {
    fn default() -> Self {
        #[cfg(target_pointer_width = "64")]
        let (map, max) = (64 << 30, 1 << 40);
        #[cfg(not(target_pointer_width = "64"))]
        let (map, max) = (128 << 20, 512 << 20);
        Self {
            log_map_bytes: map,
            state_map_bytes: map,
            max_map_bytes: max,
            trim_slice: 1024,
        }
    }
}

/// The two stores of one data directory. While either of them, or a reader, lives, nobody else can open the directory.
#[derive(Debug)]
pub struct Stores {
    /// The Raft log.
    pub log: LmdbLog,
    /// The catalog's rows.
    pub state: LmdbState,
}

/// Opens a data directory, making it if it is not there, and finishes the installation of a snapshot that a crash interrupted.
///
/// Fails with [`StoreError::Io`] if somebody else has it open, and with [`StoreError::Damaged`] or [`StoreError::NewerFormat`] if
/// what is there was not written by this version or an earlier one.
pub fn open(dir: &Path, options: &Options) -> Result<Stores, StoreError> {
    let lock = directory::claim(dir)?;
    let mut log = LmdbLog::open(&dir.join("raft"), options, lock.clone())?;
    let mut state = LmdbState::open(&dir.join("state"), options, lock)?;
    if finish_install(&mut log, &mut state)? {
        tracing::info!(dir = %dir.display(), "finished the installation of a snapshot that was interrupted");
    }
    Ok(Stores { log, state })
}
