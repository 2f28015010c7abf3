//! One LMDB environment: opened with every doubt resolved, and used through two doors, [`Environment::read`] and
//! [`Environment::write`].
//!
//! The only module with unsafe code. LMDB asks three things of its user that the compiler cannot check:
//! one open environment per file and process (the directory's lock and heed see to it), nobody else changing the file
//! (the lock), and no transaction in flight while the map is resized (the gate below).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use heed::types::{Bytes, DecodeIgnore};
use heed::{CommitOrAbort, CommitToken, Env, EnvOpenOptions, MdbError, OnCommit, RoTxn, RwTxn, WithoutTls};
use lictor_node::store::StoreError;
use rustix::io::Errno;

use crate::directory::{self, Lock};
use crate::error::{Failure, explain, io_error, is_full};
use crate::extent::{self, AHEAD};
use crate::tree::{Raw, Tree};

/// The newest layout of tables and keys that this program knows.
const LAYOUT: u32 = 1;
const HEADER_KEY: &[u8] = b"header";
const MAX_READERS: u32 = 512;
/// A multiple of every page size there is.
const MAP_STEP: usize = 64 << 10;
/// How much space is asked for to find out whether there is any.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PROBE_BYTES: u64 = 1 << 20;

/// What is to be opened.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    /// What the header calls it, 1 byte; tells one environment of Lictor's from another.
    pub(crate) kind: u8,
    /// The tables. The first one keeps the header.
    pub(crate) tables: &'a [&'a str],
    /// Tables whose names begin like this may come with newer versions: `prefix` and a number.
    pub(crate) numbered: Option<&'a str>,
    /// The size of the map at first, in bytes.
    pub(crate) map_bytes: usize,
    /// The size up to which it may grow.
    pub(crate) max_map_bytes: usize,
}

/// An open environment.
#[derive(Debug)]
pub(crate) struct Environment {
    env: Env<WithoutTls>,
    /// Every transaction lives under a read lock of it, resizing takes the write lock. The value: whether the map is there.
    gate: RwLock<bool>,
    file: Arc<str>,
    data: File,
    /// In bytes.
    page: u64,
    /// The file is at least so long, in bytes.
    covered: AtomicU64,
    max_map_bytes: usize,
    /// Dropped after `env`.
    _lock: Lock,
}

impl Environment {
    /// Opens the environment in `dir`, or makes it, with a tree for each table of the layout.
    pub(crate) fn open(dir: &Path, layout: &Layout<'_>, lock: Lock) -> Result<(Self, Vec<Tree>), StoreError> {
        directory::create(dir)?;
        let path = dir.join("data.mdb");
        let file: Arc<str> = path.display().to_string().into();
        extent::check(&path)?;
        let map_bytes = layout
            .map_bytes
            .clamp(MAP_STEP, usize::MAX / 2)
            .next_multiple_of(MAP_STEP);

        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options
            .map_size(map_bytes)
            .max_readers(MAX_READERS)
            .max_dbs(layout.tables.len() as u32);
        // SAFETY: while the map is there, nobody may change the file but LMDB itself. The data directory is locked, so no other
        // process of ours has it open, and heed refuses to open it twice in this one. No flag weakens LMDB's own locking.
        let env = unsafe { options.open(dir) }.map_err(|error| explain(&file, error))?;
        let data = File::options()
            .write(true)
            .open(&path)
            .map_err(|error| io_error(&file, error))?;
        let this = Self {
            page: env.unnamed_database_stat().page_size.into(),
            covered: AtomicU64::new(0),
            data,
            env,
            gate: RwLock::new(true),
            file,
            max_map_bytes: layout.max_map_bytes.max(map_bytes),
            _lock: lock,
        };
        this.env
            .clear_stale_readers()
            .map_err(|error| explain(&this.file, error))?;
        // A map that reaches beyond the end of its file kills the process when it is touched there.
        this.cover()?;
        this.identify(layout)?;
        let trees = this.create_trees(layout)?;
        directory::sync(dir)?;
        Ok((this, trees))
    }

    /// The file, for messages.
    pub(crate) fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Runs `work` on what is committed. It must not call `read` or `write` of the same environment.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&RoTxn<'_, WithoutTls>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let usable = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.check_map(*usable)?;
        let txn = self.env.read_txn().map_err(|error| explain(&self.file, error))?;
        work(&txn).map_err(|failure| self.translate(failure))
    }

    /// Runs `work` in a transaction and commits it, durably. On `Err` nothing of it is applied. The map grows as needed, and
    /// then `work` runs again from the start. It must not call `read` or `write` of the same environment.
    pub(crate) fn write<T>(
        &self,
        mut work: impl FnMut(&mut RwTxn<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.growing(|| {
            let usable = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            self.check_map(*usable)?;
            let mut txn = self.env.write_txn()?;
            self.cover()?;
            let value = work(&mut txn)?;
            txn.commit()?;
            self.cover_commit();
            Ok(value)
        })
    }

    /// Makes attempts, each under the gate's read lock, and lets the map grow between them.
    fn growing<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, StoreError> {
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Lmdb(heed::Error::Mdb(MdbError::MapFull))) => self.grow()?,
                Err(failure) => return Err(self.translate_write(failure)),
            }
        }
    }

    /// Doubles the map.
    fn grow(&self) -> Result<(), StoreError> {
        let mut usable = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.check_map(*usable)?;
        let size = self.env.info().map_size;
        let larger = size
            .saturating_mul(2)
            .min(self.max_map_bytes / MAP_STEP * MAP_STEP);
        if larger <= size {
            return Err(StoreError::Full {
                path: self.file.to_string(),
                detail: format!("the map has reached its limit of {size} bytes"),
            });
        }
        // SAFETY: no transaction may be open. All of them are opened under a read lock of the gate and closed before it is
        // released (`read`, `write` and `create_trees` own both), and this is its write lock. No other process has the file open.
        let resized = unsafe { self.env.resize(larger) };
        // LMDB takes the old map away first: after a failure there is none, and any access would be one to nowhere.
        *usable = resized.is_ok();
        resized.map_err(|error| explain(&self.file, error))?;
        tracing::info!(file = %self.file, bytes = larger, "the map has grown");
        Ok(())
    }

    fn check_map(&self, usable: bool) -> Result<(), StoreError> {
        if usable {
            return Ok(());
        }
        Err(StoreError::Io {
            path: self.file.to_string(),
            detail: "the map was lost when it was to grow".into(),
        })
    }

    /// Keeps the file longer than the pages that it counts. No need to sync that: the next commit does, before it counts itself.
    fn cover(&self) -> Result<(), StoreError> {
        let needed = (self.env.info().last_page_number as u64 + 1) * self.page + AHEAD;
        if needed <= self.covered.load(Ordering::Relaxed) {
            return Ok(());
        }
        let extend = || {
            let mut length = self.data.metadata()?.len();
            if length < needed {
                // More than needed, so that not every commit comes here.
                length = needed + AHEAD;
                self.data.set_len(length)?;
            }
            self.covered.store(length, Ordering::Relaxed);
            Ok(())
        };
        extend().map_err(|error| io_error(&self.file, error))
    }

    /// After a commit, which is done whatever becomes of this. The next one makes sure.
    fn cover_commit(&self) {
        if let Err(error) = self.cover() {
            tracing::warn!(%error, "the file could not be extended");
        }
    }

    /// Refuses an environment that is not Lictor's, or not this one, or newer.
    fn identify(&self, layout: &Layout<'_>) -> Result<(), StoreError> {
        let foreign = |what: &str| StoreError::Damaged {
            path: self.file.to_string(),
            detail: format!("an LMDB file, but not one of Lictor's: {what}"),
        };
        let txn = self.env.read_txn().map_err(|error| explain(&self.file, error))?;
        let opened = self
            .env
            .open_databases_and_commit(txn, |opener, txn| -> Result<_, Failure> {
                let Some(names) = opener
                    .database_options()
                    .types::<Bytes, DecodeIgnore>()
                    .open(txn)?
                else {
                    return Ok(CommitOrAbort::Abort(()));
                };
                if names.is_empty(txn)? {
                    return Ok(CommitOrAbort::Abort(()));
                }
                for name in names.iter(txn)? {
                    self.recognize(layout, name?.0)
                        .map_err(|what| what.unwrap_or_else(|| foreign("unknown table")))?;
                }
                let meta: Option<heed::Database<'_, Bytes, Bytes>> = opener
                    .database_options()
                    .types()
                    .name(layout.tables[0])
                    .open(txn)?;
                let Some(meta) = meta else {
                    return Err(foreign("no header").into());
                };
                let header = meta.get(txn, HEADER_KEY)?.ok_or_else(|| foreign("no header"))?;
                self.check_header(layout, header)?;
                Ok(CommitOrAbort::Commit(()))
            })
            .map_err(|failure| self.translate(failure));
        opened.map(|_| ())
    }

    /// Whether a table is known; `Err(None)`: not at all.
    fn recognize(&self, layout: &Layout<'_>, name: &[u8]) -> Result<(), Option<StoreError>> {
        if layout.tables.iter().any(|known| known.as_bytes() == name) {
            return Ok(());
        }
        let number = |name: &[u8]| {
            let digits = name.strip_prefix(layout.numbered?.as_bytes())?;
            std::str::from_utf8(digits).ok()?.parse::<u8>().ok()
        };
        let Some(found) = number(name) else {
            return Err(None);
        };
        let known = layout
            .tables
            .iter()
            .filter_map(|known| number(known.as_bytes()))
            .max()
            .unwrap_or(0);
        let path = format!("{}, table {}", self.file, name.escape_ascii());
        Err(Some(StoreError::NewerFormat {
            path,
            found: found.into(),
            known: known.into(),
        }))
    }

    fn check_header(&self, layout: &Layout<'_>, found: &[u8]) -> Result<(), StoreError> {
        let expected = header(layout.kind, LAYOUT);
        if found == expected {
            return Ok(());
        }
        let damaged = |detail: &str| StoreError::Damaged {
            path: self.file.to_string(),
            detail: detail.into(),
        };
        let newer = |bytes: &[u8]| -> Option<(u8, u32)> {
            let (&kind, version) = bytes.strip_prefix(MAGIC)?.split_first()?;
            let version = u32::from_be_bytes(*version.first_chunk()?);
            (bytes == header(kind, version)).then_some((kind, version))
        };
        match newer(found) {
            None => Err(damaged(
                "an LMDB file, but its header is not Lictor's, or damaged",
            )),
            Some((kind, _)) if kind != layout.kind => Err(damaged("the wrong one of Lictor's files")),
            Some((_, found)) if found > LAYOUT => Err(StoreError::NewerFormat {
                path: self.file.to_string(),
                found,
                known: LAYOUT,
            }),
            Some(_) => Err(damaged("its header has an unknown format")),
        }
    }

    /// Opens the tables, making those that are missing, and writes the header: all or nothing.
    fn create_trees(&self, layout: &Layout<'_>) -> Result<Vec<Tree>, StoreError> {
        let raws = self.growing(|| {
            let usable = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            self.check_map(*usable)?;
            let txn = self.env.write_txn()?;
            self.cover()?;
            let made = self
                .env
                .create_databases_and_commit(txn, |opener, txn| -> Result<_, Failure> {
                    let make = |name| opener.create_database(&mut *txn, Some(name));
                    let handles: Vec<heed::Database<'_, Bytes, Bytes>> = layout
                        .tables
                        .iter()
                        .copied()
                        .map(make)
                        .collect::<Result<_, _>>()?;
                    if handles[0].get(txn, HEADER_KEY)?.is_none() {
                        handles[0].put(txn, HEADER_KEY, &header(layout.kind, LAYOUT))?;
                    }
                    Ok(CommitOrAbort::<_, ()>::Commit(Handles(handles)))
                })?;
            self.cover_commit();
            Ok(made.commit().unwrap_or_default())
        })?;
        let trees = layout.tables.iter().zip(raws);
        Ok(trees
            .map(|(name, raw)| Tree::new(self.file.clone(), name, raw))
            .collect())
    }

    fn translate(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Store(error) => error,
            Failure::Lmdb(error) => explain(&self.file, error),
        }
    }

    /// As `translate`, for a transaction that was aborted: tells a full disk from a broken one.
    fn translate_write(&self, failure: Failure) -> StoreError {
        let error = match failure {
            Failure::Store(error) => return error,
            // LMDB's word for a write that was cut short, which is how most file systems begin to be full.
            Failure::Lmdb(heed::Error::Io(error)) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                match self.probe_space() {
                    Err(full) if is_full(&full) => full,
                    Ok(()) | Err(_) => error,
                }
            }
            Failure::Lmdb(heed::Error::Io(error)) => error,
            Failure::Lmdb(error) => return explain(&self.file, error),
        };
        if !is_full(&error) {
            return io_error(&self.file, error);
        }
        // If LMDB could not even keep its last good state, it refuses every further transaction: that is no full disk.
        match self.env.write_txn() {
            Ok(txn) => {
                txn.abort();
                io_error(&self.file, error)
            }
            Err(broken) => StoreError::Io {
                path: self.file.to_string(),
                detail: format!("{error}, then: {broken}"),
            },
        }
    }

    /// Asks the file system for space at the end of the file.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn probe_space(&self) -> io::Result<()> {
        let file = File::options().write(true).open(&*self.file)?;
        let end = file.metadata()?.len();
        Ok(rustix::fs::fallocate(
            &file,
            rustix::fs::FallocateFlags::empty(),
            end,
            PROBE_BYTES,
        )?)
    }

    /// There is no way to ask: an error that may be a full disk is taken for a broken one, which stops writes for good.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "other systems need both"
    )]
    fn probe_space(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Handles that outlive the transaction that made them once it is committed.
struct Handles<'t>(Vec<heed::Database<'t, Bytes, Bytes>>);

impl OnCommit for Handles<'_> {
    type Committed = Vec<Raw>;

    fn on_commit(self, token: &CommitToken) -> Vec<Raw> {
        self.0.into_iter().map(|handle| handle.on_commit(token)).collect()
    }
}

const MAGIC: &[u8] = b"LICTOR";

/// `LICTOR`, the kind, the version of the layout, a checksum.
fn header(kind: u8, version: u32) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.push(kind);
    header.extend(version.to_be_bytes());
    header.extend(crc32c::crc32c(&header).to_be_bytes());
    header
}
