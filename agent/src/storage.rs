//! The threads between the node's loop and its stores. They may block for as long as a disk takes; the loop never does.

use std::sync::Arc;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lictor_machine::Index;
use lictor_node::Input;
use lictor_node::store::{Installed, LogReader, LogStore, Notes, StateBatch, StateStore, StoreError};
use lictor_raft::{Fetch, FetchId, Fetched, LogId, SnapshotMeta, WriteBatch};

use crate::handle::Handle;

/// How long to wait before writing again to a disk that was full.
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// A queue to a thread. Bounded by what the node has outstanding, which it bounds itself.
#[derive(Debug)]
struct Queue<T> {
    jobs: Mutex<(Vec<T>, bool)>,
    ready: Condvar,
}

impl<T> Queue<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            jobs: Mutex::new((Vec::new(), false)),
            ready: Condvar::new(),
        })
    }

    fn push(&self, job: T) {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .push(job);
        self.ready.notify_one();
    }

    fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.ready.notify_one();
    }

    /// Everything that waits; `None` once closed and empty. With `patient` false, does not wait.
    fn take(&self, patient: bool) -> Option<Vec<T>> {
        let mut guard = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (jobs, closed) = &mut *guard;
            if !jobs.is_empty() {
                return Some(std::mem::take(jobs));
            }
            if *closed {
                return None;
            }
            if !patient {
                return Some(Vec::new());
            }
            guard = self.ready.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[derive(Debug)]
enum LogJob {
    Write(WriteBatch),
    Notes(Notes),
    /// The log was replaced by this snapshot: have its rows take the place of the state's.
    Installed(SnapshotMeta),
    /// They have.
    Forget(LogId),
}

#[derive(Debug)]
enum StateJob {
    Write(StateBatch),
    Replace(Installed),
}

/// The way to the stores.
#[derive(Debug)]
pub(crate) struct Storage {
    log: Arc<Queue<LogJob>>,
    state: Arc<Queue<StateJob>>,
    reads: Arc<Queue<(FetchId, Fetch)>>,
    threads: Vec<JoinHandle<()>>,
}

impl Storage {
    /// Starts the threads. They report to `handle`.
    pub(crate) fn start(
        log: Box<dyn LogStore>,
        state: Box<dyn StateStore>,
        handle: &Handle,
    ) -> std::io::Result<Self> {
        let (log_jobs, state_jobs, read_jobs) = (Queue::new(), Queue::new(), Queue::new());
        let staged = log.reader();
        let reader = log.reader();
        let mut threads = Vec::new();
        let (jobs, to_state, to) = (Arc::clone(&log_jobs), Arc::clone(&state_jobs), handle.clone());
        threads.push(named("lictor-log", move || {
            write_log(log, &jobs, &to_state, &to)
        })?);
        let (jobs, to_log, to) = (Arc::clone(&state_jobs), Arc::clone(&log_jobs), handle.clone());
        threads.push(named("lictor-state", move || {
            write_state(state, &*staged, &jobs, &to_log, &to)
        })?);
        let (jobs, to) = (Arc::clone(&read_jobs), handle.clone());
        threads.push(named("lictor-read", move || read_log(&*reader, &jobs, &to))?);
        Ok(Self {
            log: log_jobs,
            state: state_jobs,
            reads: read_jobs,
            threads,
        })
    }

    pub(crate) fn persist(&self, batch: WriteBatch) {
        self.log.push(LogJob::Write(batch));
    }

    pub(crate) fn save_notes(&self, notes: Notes) {
        self.log.push(LogJob::Notes(notes));
    }

    pub(crate) fn store(&self, batch: StateBatch) {
        self.state.push(StateJob::Write(batch));
    }

    pub(crate) fn replace_state(&self, snapshot: SnapshotMeta) {
        self.log.push(LogJob::Installed(snapshot));
    }

    pub(crate) fn fetch(&self, id: FetchId, what: Fetch) {
        self.reads.push((id, what));
    }

    /// Lets the threads finish what they were given, and waits for them.
    pub(crate) fn close(self) {
        self.log.close();
        self.state.close();
        self.reads.close();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a storage thread panicked");
            }
        }
    }
}

fn named(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Tries again while the disk is full, since nothing was applied; says so once.
fn until_not_full<T>(mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let mut complained = false;
    loop {
        match attempt() {
            Err(error @ StoreError::Full { .. }) => {
                if !complained {
                    tracing::error!(%error, "no space: writes wait, reads go on");
                    complained = true;
                }
                thread::sleep(FULL_PAUSE);
            }
            result => {
                if complained && result.is_ok() {
                    tracing::info!("there is space again: writes go on");
                }
                return result;
            }
        }
    }
}

fn write_log(mut log: Box<dyn LogStore>, jobs: &Queue<LogJob>, state: &Queue<StateJob>, handle: &Handle) {
    let mut untidy = true;
    loop {
        let Some(taken) = jobs.take(!untidy) else { break };
        if taken.is_empty() {
            // Nothing to write: a moment to clear away what was compacted.
            untidy = log.tidy().unwrap_or_else(|error| {
                tracing::warn!(%error, "the log could not be tidied");
                false
            });
            continue;
        }
        untidy = true;
        let mut batches: Vec<WriteBatch> = Vec::with_capacity(taken.len());
        let mut failed = None;
        for job in taken {
            // Everything that waited is one commit, up to something that is no write.
            match job {
                LogJob::Write(batch) => batches.push(batch),
                other => {
                    failed = failed.or(write_batches(&mut *log, &mut batches, handle));
                    failed = failed.or(other_log_job(&mut *log, other, state, handle));
                }
            }
        }
        failed = failed.or(write_batches(&mut *log, &mut batches, handle));
        if let Some(error) = failed {
            tracing::error!(%error, "the log failed; this agent stops");
            return;
        }
    }
    if let Err(error) = log.flush() {
        tracing::warn!(%error, "the log could not be flushed");
    }
}

fn write_batches(
    log: &mut dyn LogStore,
    batches: &mut Vec<WriteBatch>,
    handle: &Handle,
) -> Option<StoreError> {
    let (Some(first), Some(last)) = (
        batches.first().map(|batch| batch.id),
        batches.last().map(|batch| batch.id),
    ) else {
        return None;
    };
    let written = until_not_full(|| log.write(batches));
    batches.clear();
    match written {
        Ok(()) => {
            handle.complete(Input::Persisted { through: last });
            None
        }
        Err(error) => {
            handle.complete(Input::PersistFailed {
                id: first,
                detail: error.to_string(),
            });
            Some(error)
        }
    }
}

fn other_log_job(
    log: &mut dyn LogStore,
    job: LogJob,
    state: &Queue<StateJob>,
    handle: &Handle,
) -> Option<StoreError> {
    let done = match job {
        // Writes are gathered by the caller.
        LogJob::Write(batch) => until_not_full(|| log.write(std::slice::from_ref(&batch))),
        LogJob::Notes(notes) => {
            let written = until_not_full(|| log.write_notes(&notes));
            if written.is_ok() {
                handle.complete(Input::NotesSaved);
            }
            written
        }
        LogJob::Installed(snapshot) => log.installed().map(|installed| {
            match installed.filter(|installed| installed.snapshot.last == snapshot.last) {
                Some(installed) => state.push(StateJob::Replace(installed)),
                None => handle.complete(Input::StateFailed {
                    detail: format!(
                        "the chunks of snapshot {} are not in the log store",
                        snapshot.last
                    ),
                }),
            }
        }),
        LogJob::Forget(snapshot) => until_not_full(|| log.forget_staged(snapshot)),
    };
    done.err().inspect(|error| {
        handle.complete(Input::StateFailed {
            detail: error.to_string(),
        })
    })
}

fn write_state(
    mut state: Box<dyn StateStore>,
    staged: &dyn LogReader,
    jobs: &Queue<StateJob>,
    log: &Queue<LogJob>,
    handle: &Handle,
) {
    while let Some(taken) = jobs.take(true) {
        for job in taken {
            let stored: Result<Index, StoreError> = match job {
                StateJob::Write(batch) => {
                    until_not_full(|| state.write(&batch)).map(|()| batch.applied.index)
                }
                StateJob::Replace(installed) => {
                    let last = installed.snapshot.last;
                    let mut part = |part| installed.rows(staged, part);
                    until_not_full(|| state.replace(&installed.snapshot, &mut part)).map(|()| {
                        log.push(LogJob::Forget(last));
                        last.index
                    })
                }
            };
            match stored {
                Ok(applied) => handle.complete(Input::StateStored { applied }),
                Err(error) => {
                    tracing::error!(%error, "the state store failed; this agent stops");
                    handle.complete(Input::StateFailed {
                        detail: error.to_string(),
                    });
                    return;
                }
            }
        }
    }
}

fn read_log(reader: &dyn LogReader, jobs: &Queue<(FetchId, Fetch)>, handle: &Handle) {
    while let Some(taken) = jobs.take(true) {
        for (id, what) in taken {
            let data = match what {
                Fetch::Entries {
                    first,
                    last,
                    max_bytes,
                } => match reader.entries(first, last, max_bytes) {
                    Ok(entries) => Fetched::Entries(entries),
                    Err(error) => Fetched::Failed(error.to_string()),
                },
                // The node serves snapshots from memory.
                Fetch::Chunk { .. } => Fetched::Gone,
            };
            handle.complete(Input::Fetched { id, data });
        }
    }
}
