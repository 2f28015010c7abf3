//! The watches of the configuration: asking what there is, and telling it.
//!
//! A watch asks this agent's own API, by the door that needs no address, so it sees what any client would, also where the API listens to
//! nobody. Each is a task that asks, tells, and asks again: what changes while somebody is being told is told next, as it is then, and
//! nothing is queued.
//!
//! - `ask`: the question, and what went wrong with it;
//! - `tell`: programs and addresses that are told; `leftovers`: what such programs leave behind.

mod ask;
mod leftovers;
mod tell;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures_lite::FutureExt as _;
use lictor_http::Door;
use lictor_runtime::{Runtime, Task};
use lictor_watch::Progress;

use crate::checks::{DOCKER_SOCKET, Prober};
use crate::config::Watch;
use leftovers::Leftovers;

/// The watches of an agent.
pub(crate) struct Watches {
    shared: Arc<Shared>,
    runtime: Runtime,
    state: Mutex<State>,
}

/// What all watches need.
struct Shared {
    api: Door,
    prober: Prober,
    leftovers: Leftovers,
}

#[derive(Default)]
struct State {
    open: Vec<Open>,
    /// Those that are not wanted any more, and may still be telling.
    ending: Vec<Task<()>>,
    phase: Phase,
}

enum Phase {
    /// Nothing is watched yet. If there is a list, it is newer than what the agent was started with.
    Before(Option<Vec<Watch>>),
    On,
    Over,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Before(None)
    }
}

/// What somebody is told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// One line, with its end.
    json: String,
    /// The version of what it says.
    index: u64,
}

/// A watch that goes on until it is dropped: what it is telling by then is told to the end.
struct Open {
    watch: Arc<Watch>,
    /// Closed when the watch is to end.
    _wanted: Sender<Infallible>,
    task: Task<()>,
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches")
            .field("open", &self.lock().open.len())
            .finish_non_exhaustive()
    }
}

impl Watches {
    /// None yet. They are to ask the API behind the door `api`.
    pub(crate) fn new(runtime: Runtime, api: Door) -> Self {
        let prober = Prober::new(DOCKER_SOCKET.into());
        Self {
            shared: Arc::new(Shared {
                api,
                prober,
                leftovers: Leftovers::new(runtime.clone()),
            }),
            runtime,
            state: Mutex::default(),
        }
    }

    /// Begins, with what [`Self::set`] has said last, or else with these.
    pub(crate) fn start(&self, configured: Vec<Watch>) {
        let mut state = self.lock();
        let Phase::Before(newer) = &mut state.phase else {
            return;
        };
        let wanted = newer.take().unwrap_or(configured);
        state.phase = Phase::On;
        self.exchange(&mut state, wanted);
    }

    /// Watches these from now on, and no others. Those that were there already go on undisturbed. One that ends tells to the end what it
    /// is just telling.
    pub(crate) fn set(&self, wanted: Vec<Watch>) {
        let mut state = self.lock();
        match &mut state.phase {
            Phase::Before(newer) => *newer = Some(wanted),
            Phase::On => self.exchange(&mut state, wanted),
            Phase::Over => {}
        }
    }

    /// Ends all at once, with the programs that are being told. None begins any more.
    pub(crate) async fn stop(&self) {
        let tasks: Vec<_> = {
            let mut state = self.lock();
            state.phase = Phase::Over;
            let open = std::mem::take(&mut state.open).into_iter().map(|open| open.task);
            open.chain(std::mem::take(&mut state.ending)).collect()
        };
        for task in tasks {
            task.cancel().await;
        }
    }

    /// Opens what is not open yet, and lets go what is not wanted any more.
    fn exchange(&self, state: &mut State, wanted: Vec<Watch>) {
        let mut before = std::mem::take(&mut state.open);
        for watch in wanted {
            let known = before.iter().position(|open| *open.watch == watch);
            let open = known.map_or_else(|| self.open(watch), |known| before.swap_remove(known));
            state.open.push(open);
        }
        state.ending.retain(|task| !task.is_finished());
        state.ending.extend(before.into_iter().map(|open| open.task));
    }

    fn open(&self, watch: Watch) -> Open {
        let watch = Arc::new(watch);
        let (wanted, ended) = async_channel::bounded(1);
        let follow = follow(Arc::clone(&self.shared), Arc::clone(&watch), ended);
        Open {
            watch,
            _wanted: wanted,
            task: self.runtime.spawn(follow),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks and tells until the watch is not wanted any more.
async fn follow(shared: Arc<Shared>, watch: Arc<Watch>, ended: Receiver<Infallible>) {
    let mut progress = Progress::default();
    loop {
        let asked = async { Some(next(&shared.api, &watch, &mut progress).await) };
        let ended = async {
            // Nothing is ever sent.
            let _ = ended.recv().await;
            None
        };
        let Some(told) = ended.or(asked).await else {
            return;
        };
        tell::tell(&shared, &watch.handler, told).await;
    }
}

/// Asks until there is something new.
async fn next(api: &Door, watch: &Arc<Watch>, progress: &mut Progress) -> Told {
    loop {
        match ask::ask(api, watch, progress).await {
            Ok(Some(told)) => return told,
            Ok(None) => {}
            Err(error) => {
                let retry = progress.fail();
                tracing::error!(kind = watch.plan.kind(), %error, ?retry, "Watch errored");
                Timer::after(retry).await;
            }
        }
    }
}
