//! The probes that are under way.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lictor_node::local::{Probe, RunId};
use lictor_runtime::{Runtime, Task};

use super::{Outcome, Prober};

/// Runs probes side by side, as the agent's machine asks for them, and says what each has found.
///
/// How many there are at once is the machine's decision, which knows how many it has asked for. Dropping this ends them all.
pub(crate) struct Runners {
    prober: Arc<Prober>,
    runtime: Runtime,
    report: Arc<dyn Fn(RunId, Outcome) + Send + Sync>,
    running: Arc<Mutex<HashMap<RunId, Task<()>>>>,
}

impl fmt::Debug for Runners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runners")
            .field("running", &lock(&self.running).len())
            .finish_non_exhaustive()
    }
}

impl Runners {
    /// What is found goes to `report`: once for each run, unless it is stopped before.
    pub(crate) fn new(
        runtime: Runtime,
        prober: Prober,
        report: impl Fn(RunId, Outcome) + Send + Sync + 'static,
    ) -> Self {
        Self {
            prober: Arc::new(prober),
            runtime,
            report: Arc::new(report),
            running: Arc::default(),
        }
    }

    /// Begins a probe.
    pub(crate) fn start(&self, run: RunId, probe: Arc<Probe>, timeout: Duration, output_max: usize) {
        let (prober, report, running) = (
            Arc::clone(&self.prober),
            Arc::clone(&self.report),
            Arc::clone(&self.running),
        );
        // Held until the task is where it looks for itself when it is done.
        let mut tasks = lock(&self.running);
        let task = self.runtime.spawn(async move {
            let outcome = prober.probe(&probe, timeout, output_max).await;
            // One that is not there any more was stopped.
            let task = lock(&running).remove(&run);
            if let Some(task) = task {
                task.detach();
                report(run, outcome);
            }
        });
        tasks.insert(run, task);
    }

    /// Ends a probe, and what it has started. It reports nothing any more. One that is over is left alone.
    pub(crate) fn stop(&self, run: RunId) {
        let task = lock(&self.running).remove(&run);
        drop(task);
    }
}

impl Drop for Runners {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *lock(&self.running));
        drop(tasks);
    }
}

fn lock(running: &Mutex<HashMap<RunId, Task<()>>>) -> MutexGuard<'_, HashMap<RunId, Task<()>>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}
