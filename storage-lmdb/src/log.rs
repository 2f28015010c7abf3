//! The log store.

mod boot;
mod reader;

use std::path::Path;
use std::sync::Arc;

use heed::{RoTxn, RwTxn};
use lictor_machine::Index;
use lictor_node::store::{Installed, LogBoot, LogReader, LogStore, Notes, Outline, Staged, StoreError};
use lictor_raft::{HardState, LogId, SnapshotMeta, Sync, WriteBatch};

use crate::Options;
use crate::directory::Lock;
use crate::environment::{Environment, Layout};
use crate::error::{Failure, refusal};
use crate::tree::{Scratch, Tree};

/// How many calls of lazy batches may wait for the next commit.
const MAX_HELD_CALLS: u32 = 64;
/// How many staged chunks one commit deletes, at most.
const CHUNK_SLICE: u64 = 64;

const BOOT: &[u8] = b"boot";
const HARD_STATE: &[u8] = b"hard-state";
const BASE: &[u8] = b"base";
const NOTES: &[u8] = b"notes";
const STAGED: &[u8] = b"staged";

/// The log store on LMDB. One call of [`LogStore::write`] is one transaction, whatever it carries.
///
/// Lazy batches that readers need not see (a commit index, a compaction) wait for the next commit, at most a bounded number
/// of calls; until then they are in memory only.
#[derive(Debug)]
pub struct LmdbLog {
    tables: Arc<Tables>,
    /// What is written, held batches included.
    outline: Outline,
    held: Held,
    leftovers: Leftovers,
    trim_slice: u64,
    scratch: Scratch,
    failed: Option<StoreError>,
}

/// The environment and its tables; shared with the readers.
#[derive(Debug)]
struct Tables {
    env: Environment,
    /// Small things, by name.
    meta: Tree,
    /// Entries, by index.
    log: Tree,
    /// Chunks of the snapshot that is kept aside, by number.
    staged: Tree,
}

/// What lazy batches want that wait for the next commit, merged: only the last of each matters.
#[derive(Clone, Debug, Default)]
struct Held {
    hard_state: Option<HardState>,
    base: Option<SnapshotMeta>,
    calls: u32,
}

/// Whether something hidden may still be on disk, waiting to be deleted.
#[derive(Clone, Copy, Debug)]
struct Leftovers {
    entries: bool,
    chunks: bool,
}

impl LmdbLog {
    pub(crate) fn open(dir: &Path, options: &Options, lock: Lock) -> Result<Self, StoreError> {
        let layout = Layout {
            kind: b'L',
            tables: &["meta", "log", "staged"],
            numbered: None,
            map_bytes: options.log_map_bytes,
            max_map_bytes: options.max_map_bytes,
        };
        let (env, trees) = Environment::open(dir, &layout, lock)?;
        let [meta, log, staged] = trees.try_into().expect("one tree for each table of the layout");
        let tables = Tables {
            env,
            meta,
            log,
            staged,
        };
        let outline = tables.env.read(|txn| tables.outline(txn))?;
        Ok(Self {
            tables: Arc::new(tables),
            outline,
            held: Held::default(),
            leftovers: Leftovers {
                entries: true,
                chunks: true,
            },
            trim_slice: options.trim_slice.max(1).into(),
            scratch: Scratch::new(),
            failed: None,
        })
    }

    /// Commits what is held and what `work` does, and with it moves on to `outline`.
    fn commit(
        &mut self,
        outline: Outline,
        work: impl Fn(&Tables, &mut RwTxn<'_>, &mut Scratch) -> Result<(), Failure>,
    ) -> Result<(), StoreError> {
        let Self {
            tables,
            held,
            scratch,
            trim_slice,
            ..
        } = self;
        let mut leftovers = self.leftovers;
        leftovers.entries |= outline.base != self.outline.base || held.base.is_some();
        leftovers.chunks |= outline.staged != self.outline.staged;
        let committed = tables.env.write(|txn| {
            tables.put_hard_state(txn, scratch, held.hard_state.as_ref())?;
            tables.put_base(txn, scratch, held.base.as_ref())?;
            work(tables, txn, scratch)?;
            if outline.staged != self.outline.staged {
                tables.put_staged(txn, scratch, outline.staged.as_ref())?;
            }
            let entries = leftovers.entries && tables.trim_entries(txn, outline.base.index, *trim_slice)?;
            let chunks = leftovers.chunks && tables.trim_chunks(txn, outline.staged.as_ref())?;
            Ok(Leftovers { entries, chunks })
        });
        match committed {
            Ok(leftovers) => {
                self.leftovers = leftovers;
                self.held = Held::default();
                self.outline = outline;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.failed
            .as_ref()
            .map_or(Ok(()), |earlier| Err(refusal(self.tables.env.file(), earlier)))
    }

    /// Every failure but a full disk is the last one.
    fn fail(&mut self, error: StoreError) -> StoreError {
        if !matches!(error, StoreError::Full { .. }) {
            self.failed = Some(error.clone());
        }
        error
    }
}

impl LogStore for LmdbLog {
    fn load(&mut self, tail_bytes: usize) -> Result<LogBoot, StoreError> {
        self.flush()?;
        let mut boot = self
            .tables
            .env
            .read(|txn| boot::read(&self.tables, txn, tail_bytes))?;
        boot.raft.boot += 1;
        let count = boot.raft.boot;
        self.commit(self.outline.clone(), |tables, txn, scratch| {
            tables.meta.put_as(txn, BOOT, scratch, &count)
        })?;
        Ok(boot)
    }

    fn write(&mut self, batches: &[WriteBatch]) -> Result<(), StoreError> {
        self.check()?;
        if batches.is_empty() {
            return Ok(());
        }
        let mut outline = self.outline.clone();
        for batch in batches {
            if let Err(breach) = outline.admit(batch) {
                let path = self.tables.env.file().to_string();
                return Err(self.fail(StoreError::Contract { path, breach }));
            }
        }
        if self.held.calls < MAX_HELD_CALLS && batches.iter().all(may_wait) {
            self.held.add(batches);
            self.outline = outline;
            return Ok(());
        }
        self.commit(outline, |tables, txn, scratch| {
            batches
                .iter()
                .try_for_each(|batch| tables.apply(txn, scratch, batch))
        })
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.check()?;
        if self.held.calls == 0 {
            return Ok(());
        }
        self.commit(self.outline.clone(), |_, _, _| Ok(()))
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        self.check()?;
        if self.held.calls > 0 || self.leftovers.any() {
            self.commit(self.outline.clone(), |_, _, _| Ok(()))?;
        }
        Ok(self.leftovers.any())
    }

    fn write_notes(&mut self, notes: &Notes) -> Result<(), StoreError> {
        self.check()?;
        self.commit(self.outline.clone(), |tables, txn, scratch| {
            tables.meta.put_as(txn, NOTES, scratch, notes)
        })
    }

    fn installed(&self) -> Result<Option<Installed>, StoreError> {
        let staged = self.outline.staged.as_ref();
        Ok(staged.and_then(|staged| {
            staged.installed.clone().map(|snapshot| Installed {
                snapshot,
                chunks: staged.chunks,
            })
        }))
    }

    fn forget_staged(&mut self, snapshot: LogId) -> Result<(), StoreError> {
        self.check()?;
        if self
            .outline
            .staged
            .as_ref()
            .is_none_or(|staged| staged.snapshot != snapshot)
        {
            return Ok(());
        }
        let outline = Outline {
            staged: None,
            ..self.outline.clone()
        };
        self.commit(outline, |_, _, _| Ok(()))
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(reader::LmdbReader::new(self.tables.clone()))
    }
}

impl Tables {
    /// What is in the tables, in outline. Reads a handful of values.
    fn outline(&self, txn: &RoTxn<'_>) -> Result<Outline, Failure> {
        let base = self.base(txn)?;
        // What is compacted may still be there, waiting to be deleted.
        let last = self
            .log
            .last_number(txn)?
            .map_or(base.index, |last| base.index.max(Index(last)));
        let hard_state: HardState = self.meta.get_as(txn, HARD_STATE)?.unwrap_or_default();
        let staged = self.meta.get_as(txn, STAGED)?;
        Ok(Outline {
            base,
            last,
            commit: hard_state.commit,
            staged,
        })
    }

    /// What the log starts after.
    fn base(&self, txn: &RoTxn<'_>) -> Result<LogId, Failure> {
        let Some(payload) = self.meta.get(txn, BASE)? else {
            return Ok(LogId::ZERO);
        };
        // The id is what a `SnapshotMeta` begins with; readers need no more of it, and need it often.
        let (last, _members) =
            postcard::take_from_bytes(payload).map_err(|error| self.meta.place(BASE).damaged(error))?;
        Ok(last)
    }

    /// Applies a batch that the outline has admitted. The record of what is staged is the caller's.
    fn apply(&self, txn: &mut RwTxn<'_>, scratch: &mut Scratch, batch: &WriteBatch) -> Result<(), Failure> {
        self.put_hard_state(txn, scratch, batch.hard_state.as_ref())?;
        if let Some(chunk) = &batch.stage {
            let key = chunk.chunk.to_be_bytes();
            self.staged
                .put(txn, &key, scratch, |buffer| buffer.extend_from_slice(&chunk.data))?;
        }
        if let Some(snapshot) = &batch.install {
            // Entries up to the snapshot's are behind the new base: hidden now, trimmed later.
            self.truncate(txn, snapshot.last.index.next())?;
            self.put_base(txn, scratch, Some(snapshot))?;
        }
        if let Some(from) = batch.truncate_from {
            self.truncate(txn, from)?;
        }
        for entry in &batch.append {
            self.log
                .append_as(txn, &entry.id.index.0.to_be_bytes(), scratch, entry)?;
        }
        self.put_base(txn, scratch, batch.compact_to.as_ref())
    }

    fn truncate(&self, txn: &mut RwTxn<'_>, from: Index) -> Result<(), Failure> {
        self.log.numbers().delete_range(txn, &(from.0..))?;
        Ok(())
    }

    fn put_hard_state(
        &self,
        txn: &mut RwTxn<'_>,
        scratch: &mut Scratch,
        state: Option<&HardState>,
    ) -> Result<(), Failure> {
        state.map_or(Ok(()), |state| self.meta.put_as(txn, HARD_STATE, scratch, state))
    }

    fn put_base(
        &self,
        txn: &mut RwTxn<'_>,
        scratch: &mut Scratch,
        base: Option<&SnapshotMeta>,
    ) -> Result<(), Failure> {
        base.map_or(Ok(()), |base| self.meta.put_as(txn, BASE, scratch, base))
    }

    fn put_staged(
        &self,
        txn: &mut RwTxn<'_>,
        scratch: &mut Scratch,
        staged: Option<&Staged>,
    ) -> Result<(), Failure> {
        if let Some(staged) = staged {
            return self.meta.put_as(txn, STAGED, scratch, staged);
        }
        self.meta.raw().delete(txn, STAGED)?;
        Ok(())
    }

    /// Deletes some of the entries up to `base`. `true`: there are more.
    fn trim_entries(&self, txn: &mut RwTxn<'_>, base: Index, slice: u64) -> Result<bool, Failure> {
        let numbers = self.log.numbers();
        let first = |txn: &RoTxn<'_>| numbers.first(txn).map(|first| first.map(|(number, ())| number));
        let Some(start) = first(txn)?.filter(|start| *start <= base.0) else {
            return Ok(false);
        };
        let end = base.0.min(start.saturating_add(slice - 1));
        numbers.delete_range(txn, &(start..=end))?;
        Ok(first(txn)?.is_some_and(|rest| rest <= base.0))
    }

    /// Deletes some of the chunks that do not belong to what is staged. `true`: there are more.
    fn trim_chunks(&self, txn: &mut RwTxn<'_>, staged: Option<&Staged>) -> Result<bool, Failure> {
        let kept = staged.map_or(0, |staged| staged.chunks);
        let Some(last) = self.staged.last_number(txn)?.filter(|last| *last >= kept) else {
            return Ok(false);
        };
        let start = kept.max(last.saturating_sub(CHUNK_SLICE - 1));
        self.staged.numbers().delete_range(txn, &(start..=last))?;
        Ok(self.staged.last_number(txn)?.is_some_and(|last| last >= kept))
    }
}

impl Held {
    fn add(&mut self, batches: &[WriteBatch]) {
        for batch in batches {
            self.hard_state = batch.hard_state.or(self.hard_state);
            if let Some(base) = &batch.compact_to {
                self.base = Some(base.clone());
            }
        }
        self.calls += 1;
    }
}

impl Leftovers {
    fn any(self) -> bool {
        self.entries || self.chunks
    }
}

/// Whether nobody can tell if the batch waits: it is lazy, and adds nothing that a reader could miss.
fn may_wait(batch: &WriteBatch) -> bool {
    batch.sync == Sync::Lazy
        && batch.stage.is_none()
        && batch.install.is_none()
        && batch.truncate_from.is_none()
        && batch.append.is_empty()
}
