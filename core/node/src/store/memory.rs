//! Both stores in memory: for agents that keep nothing, and for tests and simulations that want to see a disk fail.
//!
//! A [`MemoryDisk`] outlives the stores that are opened on it, as a disk outlives a process. It tells what is *visible*,
//! which readers see, from what is *durable*, which a crash leaves.
#![expect(
    clippy::disallowed_types,
    reason = "a reader is used on other threads while the store writes, so the two share a lock; no protocol core sees it"
)]

mod content;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lictor_catalog::Row;
use lictor_machine::Index;
use lictor_raft::{Boot, Entry, LogId, Payload, SnapshotMeta, Sync, WriteBatch};

use content::{LogChange, Medium, StateChange};
pub use content::{LogContent, StateContent};

use super::{
    Breach, Installed, LogBoot, LogReader, LogStore, Notes, PartSource, StateBatch, StateMark, StateStore,
    StoreError, finish_install,
};

/// How many lazy batches may wait for the next write.
const MAX_LAZY: usize = 64;

/// A disk in memory. Clones are handles on the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    shared: Arc<Mutex<Disk>>,
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// There is no space. The write may be made again.
    Full,
    /// The disk fails; the store refuses further writes until it is opened again.
    Io,
}

/// The log store on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryLog {
    disk: Handle,
}

/// The state store on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryState {
    disk: Handle,
}

impl MemoryDisk {
    /// An empty disk on which a write that must be durable is so when it returns.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk on which nothing is durable before [`MemoryDisk::sync`]: the caller must not report a write as durable before.
    /// Only counting a start is durable at once.
    pub fn with_manual_sync() -> Self {
        let disk = Disk {
            manual_sync: true,
            ..Disk::default()
        };
        Self {
            shared: Arc::new(Mutex::new(disk)),
        }
    }

    /// Opens the stores, finishing an installation that a crash interrupted. Stores opened before are cut off, like a process that
    /// was killed: what they do from then on fails.
    pub fn open(&self) -> Result<(MemoryLog, MemoryState), StoreError> {
        let life = {
            let mut disk = self.lock();
            disk.life += 1;
            disk.log.failed = None;
            disk.state.failed = None;
            disk.life
        };
        let handle = || Handle {
            disk: self.clone(),
            life,
        };
        let (mut log, mut state) = (MemoryLog { disk: handle() }, MemoryState { disk: handle() });
        finish_install(&mut log, &mut state)?;
        Ok((log, state))
    }

    /// Makes everything durable that has been written.
    pub fn sync(&self) {
        let mut disk = self.lock();
        disk.log.sync_all();
        disk.state.sync_all();
    }

    /// A power cut: what is not durable is gone, and the open stores are cut off.
    pub fn crash(&self) {
        self.crash_keeping(0, 0);
    }

    /// A power cut that came after the disk had, on its own, kept this many of the changes that were not durable yet, oldest first: of the
    /// log's and of the state's.
    pub fn crash_keeping(&self, log: usize, state: usize) {
        let mut disk = self.lock();
        disk.life += 1;
        disk.log.lose(log);
        disk.state.lose(state);
    }

    /// How many changes are not durable yet: of the log and of the state.
    pub fn unsynced(&self) -> (usize, usize) {
        let disk = self.lock();
        (disk.log.unsynced.len(), disk.state.unsynced.len())
    }

    /// Makes the next write to the log fail.
    pub fn fail_next_log_write(&self, fault: DiskFault) {
        self.lock().log.fault = Some(fault);
    }

    /// Makes the next write to the state fail.
    pub fn fail_next_state_write(&self, fault: DiskFault) {
        self.lock().state.fault = Some(fault);
    }

    /// Looks at the log: what is visible, and what is durable. The closure must not use the disk or its stores.
    pub fn inspect_log<T>(&self, look: impl FnOnce(&LogContent, &LogContent) -> T) -> T {
        let disk = self.lock();
        look(&disk.log.visible, &disk.log.durable)
    }

    /// Looks at the state: what is visible, and what is durable. The closure must not use the disk or its stores.
    pub fn inspect_state<T>(&self, look: impl FnOnce(&StateContent, &StateContent) -> T) -> T {
        let disk = self.lock();
        look(&disk.state.visible, &disk.state.durable)
    }

    /// A panic under the lock comes from an inspecting closure, which cannot have changed anything: go on.
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for MemoryLog {
    fn load(&mut self, tail_bytes: usize) -> Result<LogBoot, StoreError> {
        let mut disk = self.disk.lock(LOG)?;
        let disk = &mut *disk;
        let count = LogChange::Boot(disk.log.visible.boot + 1);
        disk.log.write(LOG, [count.clone()])?;
        // Durable at once even by hand: completions of an earlier start must never pass for those of this one. Whatever came
        // before goes with it, for order's sake.
        disk.log.sync_all();
        let log = &disk.log.visible;

        let mut boot = Boot {
            boot: log.boot,
            hard_state: log.hard_state,
            base: log.base.clone(),
            last_index: log.last(),
            ..Boot::default()
        };
        let mut term = None;
        for entry in &log.entries {
            if term.replace(entry.id.term) != Some(entry.id.term) {
                boot.term_starts.push(entry.id);
            }
            if let Payload::Members(members) = &entry.payload {
                boot.members.push((entry.id, members.clone()));
            }
        }
        let mut room = tail_bytes;
        let fitting = log.entries.iter().rev().take_while(|entry| {
            let fits = entry.size() <= room;
            room = room.saturating_sub(entry.size());
            fits
        });
        let skipped = log.entries.len() - fitting.count();
        boot.tail = log.entries.range(skipped..).cloned().collect();
        Ok(LogBoot {
            raft: boot,
            notes: log.notes.clone(),
        })
    }

    fn write(&mut self, batches: &[WriteBatch]) -> Result<(), StoreError> {
        let mut disk = self.disk.lock(LOG)?;
        let manual = disk.manual_sync;
        let log = &mut disk.log;
        log.check(LOG)?;
        let mut outline = log.visible.outline();
        for batch in batches {
            outline.admit(batch).map_err(|breach| log.refuse(LOG, breach))?;
        }
        log.write(
            LOG,
            batches
                .iter()
                .map(|batch| LogChange::Batch(Box::new(batch.clone()))),
        )?;
        if !manual {
            let lazy = batches
                .iter()
                .rev()
                .take_while(|batch| batch.sync == Sync::Lazy)
                .count();
            // A call of lazy batches alone leaves what an earlier one left.
            let waiting = if lazy == batches.len() {
                log.unsynced.len()
            } else {
                lazy
            };
            log.sync(log.unsynced.len() - waiting.min(MAX_LAZY));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let mut disk = self.disk.lock(LOG)?;
        disk.log.check(LOG)?;
        if !disk.manual_sync {
            disk.log.sync_all();
        }
        Ok(())
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        self.flush().map(|()| false)
    }

    fn write_notes(&mut self, notes: &Notes) -> Result<(), StoreError> {
        self.change(LogChange::Notes(notes.clone()))
    }

    fn installed(&self) -> Result<Option<Installed>, StoreError> {
        Ok(self.disk.lock(LOG)?.log.visible.installed())
    }

    fn forget_staged(&mut self, snapshot: LogId) -> Result<(), StoreError> {
        self.change(LogChange::ForgetStaged(snapshot))
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(MemoryReader {
            disk: self.disk.clone(),
        })
    }
}

impl MemoryLog {
    fn change(&mut self, change: LogChange) -> Result<(), StoreError> {
        let mut disk = self.disk.lock(LOG)?;
        let manual = disk.manual_sync;
        disk.log.write(LOG, [change])?;
        if !manual {
            disk.log.sync_all();
        }
        Ok(())
    }
}

struct MemoryReader {
    disk: Handle,
}

impl LogReader for MemoryReader {
    fn entries(&self, first: Index, last: Index, max_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        let disk = self.disk.lock(LOG)?;
        let log = &disk.log.visible;
        if first <= log.base.last.index || first > last.min(log.last()) {
            return Ok(Vec::new());
        }
        let before_first = log.base.last.index.next();
        let skipped =
            usize::try_from(first.0 - before_first.0).expect("less than the number of entries in memory");
        let mut bytes = 0_usize;
        let wanted = log.entries.range(skipped..).take_while(|entry| {
            let start = bytes;
            bytes = bytes.saturating_add(entry.size());
            entry.id.index <= last && (start == 0 || bytes <= max_bytes)
        });
        Ok(wanted.cloned().collect())
    }

    fn staged(&self, snapshot: LogId, chunk: u64) -> Result<Option<Bytes>, StoreError> {
        Ok(self.disk.lock(LOG)?.log.visible.chunk(snapshot, chunk))
    }
}

impl StateStore for MemoryState {
    fn mark(&self) -> Result<StateMark, StoreError> {
        Ok(StateMark {
            applied: self.disk.lock(STATE)?.state.visible.applied,
        })
    }

    fn load(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreError>) -> Result<StateMark, StoreError> {
        // Copied out, so that the callback may use the stores.
        let state = self.disk.lock(STATE)?.state.visible.clone();
        for ((table, key), value) in state.rows {
            row(Row {
                table,
                key,
                value: Some(value),
            })?;
        }
        Ok(StateMark {
            applied: state.applied,
        })
    }

    fn write(&mut self, batch: &StateBatch) -> Result<(), StoreError> {
        let mut disk = self.disk.lock(STATE)?;
        disk.state.check(STATE)?;
        let from = disk.state.visible.applied;
        if batch.applied.index < from.index {
            return Err(disk.state.refuse(
                STATE,
                Breach::StateGoesBack {
                    from,
                    to: batch.applied,
                },
            ));
        }
        disk.write_state(StateChange::Batch(batch.clone()))
    }

    fn replace(&mut self, snapshot: &SnapshotMeta, part: &mut PartSource<'_>) -> Result<(), StoreError> {
        self.disk.lock(STATE)?.state.check(STATE)?;
        let mut content = StateContent {
            applied: snapshot.last,
            ..StateContent::default()
        };
        for number in 0.. {
            let Some(rows) = part(number)? else { break };
            content.put(&rows);
        }
        self.disk
            .lock(STATE)?
            .write_state(StateChange::Replace(Box::new(content)))
    }
}

const LOG: &str = "log store in memory";
const STATE: &str = "state store in memory";

#[derive(Debug, Default)]
struct Disk {
    manual_sync: bool,
    /// Which opening of the stores is in force.
    life: u64,
    log: Device<LogContent>,
    state: Device<StateContent>,
}

impl Disk {
    fn write_state(&mut self, change: StateChange) -> Result<(), StoreError> {
        self.state.write(STATE, [change])?;
        if !self.manual_sync {
            self.state.sync_all();
        }
        Ok(())
    }
}

/// What a store holds of its disk.
#[derive(Clone, Debug)]
struct Handle {
    disk: MemoryDisk,
    life: u64,
}

impl Handle {
    fn lock(&self, name: &str) -> Result<MutexGuard<'_, Disk>, StoreError> {
        let disk = self.disk.lock();
        if disk.life == self.life {
            return Ok(disk);
        }
        Err(StoreError::Io {
            path: name.into(),
            detail: "opened anew, or crashed, since this store was opened".into(),
        })
    }
}

/// Content, and the changes on their way to durability.
#[derive(Debug)]
struct Device<M: Medium> {
    visible: M,
    durable: M,
    /// What separates the two, oldest first.
    unsynced: Vec<M::Change>,
    fault: Option<DiskFault>,
    failed: Option<StoreError>,
}

impl<M: Medium> Default for Device<M> {
    fn default() -> Self {
        Self {
            visible: M::default(),
            durable: M::default(),
            unsynced: Vec::new(),
            fault: None,
            failed: None,
        }
    }
}

impl<M: Medium> Device<M> {
    /// All of the changes become visible, or none.
    fn write(&mut self, name: &str, changes: impl IntoIterator<Item = M::Change>) -> Result<(), StoreError> {
        self.check(name)?;
        match self.fault.take() {
            None => {}
            Some(DiskFault::Full) => {
                return Err(StoreError::Full {
                    path: name.into(),
                    detail: "as the test demanded".into(),
                });
            }
            Some(DiskFault::Io) => {
                let error = StoreError::Io {
                    path: name.into(),
                    detail: "failed, as the test demanded".into(),
                };
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        for change in changes {
            self.visible.apply(&change);
            self.unsynced.push(change);
        }
        Ok(())
    }

    /// Makes the oldest `count` changes durable.
    fn sync(&mut self, count: usize) {
        for change in self.unsynced.drain(..count) {
            self.durable.apply(&change);
        }
    }

    fn sync_all(&mut self) {
        self.sync(self.unsynced.len());
    }

    /// Loses what is not durable, except for the oldest `kept` changes.
    fn lose(&mut self, kept: usize) {
        self.sync(kept.min(self.unsynced.len()));
        self.unsynced.clear();
        self.visible = self.durable.clone();
        self.fault = None;
    }

    fn check(&self, name: &str) -> Result<(), StoreError> {
        match &self.failed {
            None => Ok(()),
            Some(earlier) => Err(StoreError::Io {
                path: name.into(),
                detail: format!("no writes after an earlier failure: {earlier}"),
            }),
        }
    }

    fn refuse(&mut self, name: &str, breach: Breach) -> StoreError {
        let error = StoreError::Contract {
            path: name.into(),
            breach,
        };
        self.failed = Some(error.clone());
        error
    }
}

#[cfg(test)]
mod tests;
