//! The threads between the node's loop and its stores. They may block for as long as a disk takes; the loop never does.

#[cfg(test)]
mod tests;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lictor_catalog::Export;
use lictor_machine::Index;
use lictor_node::Input;
use lictor_node::store::{
    Installed, LogReader, LogStore, Notes, StateBatch, StateStore, StoreError, store_whole,
};
use lictor_raft::{Fetch, FetchId, Fetched, LogId, SnapshotMeta, WriteBatch};

use crate::handle::Handle;
use crate::metrics::DiskTimes;

/// How long to wait before writing again to a disk that was full.
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// How long the end of an agent waits for its disk.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

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

    fn is_closed(&self) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).1
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
    Write(Box<WriteBatch>),
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
    Whole(LogId, Box<Export>),
}

/// Whether a store has no space, and what it said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space(Arc<Mutex<Option<String>>>);

impl Space {
    /// Says that there is no space, and why, or that there is some again.
    pub(crate) fn missing(&self, what: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// What the store said, while it has no space.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The way to the stores.
#[derive(Debug)]
pub(crate) struct Storage {
    log: Arc<Queue<LogJob>>,
    state: Arc<Queue<StateJob>>,
    reads: Arc<Queue<(FetchId, Fetch)>>,
    space: Space,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected when all threads have ended.
    ended: Receiver<()>,
}

impl Storage {
    /// Starts the threads. They report to `handle`.
    pub(crate) fn start(
        log: Box<dyn LogStore>,
        state: Box<dyn StateStore>,
        handle: &Handle,
        times: DiskTimes,
    ) -> std::io::Result<Self> {
        let (log_jobs, state_jobs, reads) = (Queue::new(), Queue::new(), Queue::new());
        let space = Space::default();
        let reader = log.reader();
        let state_writer = StateWriter {
            state,
            staged: log.reader(),
            jobs: Arc::clone(&state_jobs),
            log: Arc::clone(&log_jobs),
            space: space.clone(),
            handle: handle.clone(),
            times: times.clone(),
        };
        let log_writer = LogWriter {
            log,
            jobs: Arc::clone(&log_jobs),
            state: Arc::clone(&state_jobs),
            space: space.clone(),
            handle: handle.clone(),
            times,
        };
        let (jobs, to) = (Arc::clone(&reads), handle.clone());
        let (running, ended) = mpsc::channel();
        let threads = vec![
            named("lictor-log", &running, move || log_writer.run())?,
            named("lictor-state", &running, move || state_writer.run())?,
            named("lictor-read", &running, move || read_log(&*reader, &jobs, &to))?,
        ];
        Ok(Self {
            log: log_jobs,
            state: state_jobs,
            reads,
            space,
            threads,
            ended,
        })
    }

    /// Tells whether there is space.
    pub(crate) const fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) fn persist(&self, batch: Box<WriteBatch>) {
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

    pub(crate) fn store_whole(&self, applied: LogId, state: Box<Export>) {
        self.state.push(StateJob::Whole(applied, state));
    }

    pub(crate) fn fetch(&self, id: FetchId, what: Fetch) {
        self.reads.push((id, what));
    }

    /// Lets the threads finish what they were given, and waits for them, but not for ever: a disk that does not answer must
    /// not keep the agent from ending. What it was given last is then as after a power cut.
    pub(crate) fn close(&mut self) {
        self.close_within(CLOSE_LIMIT);
    }

    /// Whether all threads have ended.
    fn close_within(&mut self, limit: Duration) -> bool {
        self.log.close();
        self.state.close();
        self.reads.close();
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(limit) {
            tracing::error!(
                ?limit,
                "the disk does not finish what it was given; the agent ends without waiting any longer"
            );
            return false;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a storage thread panicked");
            }
        }
        true
    }
}

/// A thread that holds on to `running` as long as it runs.
fn named(
    name: &str,
    running: &mpsc::Sender<()>,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let running = running.clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _running = running;
        body();
    })
}

/// Tries again while the disk is full, since nothing was applied; says so once. Gives up when the agent stops.
fn until_not_full<J, T>(
    jobs: &Queue<J>,
    space: &Space,
    mut attempt: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut complained = false;
    loop {
        match attempt() {
            Err(error @ StoreError::Full { .. }) if !jobs.is_closed() => {
                if !complained {
                    tracing::error!(%error, "no space: writes wait, reads go on");
                    space.missing(Some(error.to_string()));
                    complained = true;
                }
                thread::sleep(FULL_PAUSE);
            }
            result => {
                if complained && result.is_ok() {
                    space.missing(None);
                    tracing::info!("there is space again: writes go on");
                }
                return result;
            }
        }
    }
}

/// The thread that writes the log.
struct LogWriter {
    log: Box<dyn LogStore>,
    jobs: Arc<Queue<LogJob>>,
    state: Arc<Queue<StateJob>>,
    space: Space,
    handle: Handle,
    times: DiskTimes,
}

impl LogWriter {
    fn run(mut self) {
        let mut untidy = true;
        while let Some(taken) = self.jobs.take(!untidy) {
            if taken.is_empty() {
                // Nothing to write: a moment to clear away what was compacted.
                untidy = self.log.tidy().unwrap_or_else(|error| {
                    tracing::warn!(%error, "the log could not be tidied");
                    false
                });
                continue;
            }
            untidy = true;
            if let Err(error) = self.work(taken) {
                tracing::error!(%error, "the log failed; this agent stops");
                return;
            }
        }
        if let Err(error) = self.log.flush() {
            tracing::warn!(%error, "the log could not be flushed");
        }
    }

    /// Everything that waited is one commit, up to something that is no write.
    fn work(&mut self, taken: Vec<LogJob>) -> Result<(), StoreError> {
        let mut batches = Vec::with_capacity(taken.len());
        for job in taken {
            if let LogJob::Write(batch) = job {
                batches.push(*batch);
                continue;
            }
            self.write(&mut batches)?;
            self.other(job).inspect_err(|error| {
                self.handle.complete(Input::StateFailed {
                    detail: error.to_string(),
                });
            })?;
        }
        self.write(&mut batches)
    }

    fn write(&mut self, batches: &mut Vec<WriteBatch>) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (
            batches.first().map(|batch| batch.id),
            batches.last().map(|batch| batch.id),
        ) else {
            return Ok(());
        };
        let start = Instant::now();
        let written = until_not_full(&self.jobs, &self.space, || self.log.write(batches));
        self.times.log.record_since(start);
        batches.clear();
        self.handle.complete(match &written {
            Ok(()) => Input::Persisted { through: last },
            Err(error) => Input::PersistFailed {
                id: first,
                detail: error.to_string(),
            },
        });
        written
    }

    fn other(&mut self, job: LogJob) -> Result<(), StoreError> {
        let Self {
            log,
            jobs,
            state,
            space,
            handle,
            ..
        } = self;
        match job {
            LogJob::Write(batch) => self.write(&mut vec![*batch])?,
            LogJob::Notes(notes) => {
                until_not_full(jobs, space, || log.write_notes(&notes))?;
                handle.complete(Input::NotesSaved);
            }
            LogJob::Installed(snapshot) => {
                match log
                    .installed()?
                    .filter(|installed| installed.snapshot.last == snapshot.last)
                {
                    Some(installed) => state.push(StateJob::Replace(installed)),
                    None => {
                        return Err(StoreError::Damaged {
                            path: "the log store".into(),
                            detail: format!("the chunks of snapshot {} are missing", snapshot.last),
                        });
                    }
                }
            }
            LogJob::Forget(snapshot) => until_not_full(jobs, space, || log.forget_staged(snapshot))?,
        }
        Ok(())
    }
}

/// The thread that writes the state.
struct StateWriter {
    state: Box<dyn StateStore>,
    staged: Box<dyn LogReader>,
    jobs: Arc<Queue<StateJob>>,
    log: Arc<Queue<LogJob>>,
    space: Space,
    handle: Handle,
    times: DiskTimes,
}

impl StateWriter {
    fn run(mut self) {
        while let Some(taken) = self.jobs.take(true) {
            for job in taken {
                match self.work(job) {
                    Ok(applied) => self.handle.complete(Input::StateStored { applied }),
                    Err(error) => {
                        tracing::error!(%error, "the state store failed; this agent stops");
                        self.handle.complete(Input::StateFailed {
                            detail: error.to_string(),
                        });
                        return;
                    }
                }
            }
        }
    }

    fn work(&mut self, job: StateJob) -> Result<Index, StoreError> {
        let Self {
            state,
            staged,
            jobs,
            log,
            space,
            times,
            ..
        } = self;
        match job {
            StateJob::Write(batch) => {
                let start = Instant::now();
                until_not_full(jobs, space, || state.write(&batch))?;
                times.state.record_since(start);
                Ok(batch.applied.index)
            }
            StateJob::Replace(installed) => {
                let last = installed.snapshot.last;
                let mut part = |part| installed.rows(&**staged, part);
                until_not_full(jobs, space, || state.replace(&installed.snapshot, &mut part))?;
                log.push(LogJob::Forget(last));
                Ok(last.index)
            }
            StateJob::Whole(applied, export) => {
                until_not_full(jobs, space, || store_whole(&mut **state, applied, &export))?;
                Ok(applied.index)
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
