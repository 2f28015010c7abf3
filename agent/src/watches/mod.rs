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

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How many handlers of watches that are not wanted any more may go on. A program holds a thread, and whoever needs the disk does, too.
const ENDING_MAX: usize = 64;

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
    /// Those that are not wanted any more, and may still be telling. The oldest first.
    ending: VecDeque<Ending>,
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

/// A watch that goes on.
struct Open {
    /// Closed when the watch is to end.
    _wanted: Sender<Infallible>,
    ending: Ending,
}

/// A watch that tells to the end what it is just telling. If this is dropped, that breaks off.
struct Ending {
    watch: Arc<Watch>,
    telling: Arc<AtomicBool>,
    /// Closed when nobody is told anything any more.
    over: Receiver<Infallible>,
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
    /// is just telling, and others with its handler begin after that. Where too many still tell, the oldest break off.
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
            let open = std::mem::take(&mut state.open)
                .into_iter()
                .map(|open| open.ending);
            let all = open.chain(std::mem::take(&mut state.ending));
            all.map(|ending| ending.task).collect()
        };
        for task in tasks {
            task.cancel().await;
        }
    }

    /// Opens what is not open yet, and lets go what is not wanted any more.
    fn exchange(&self, state: &mut State, wanted: Vec<Watch>) {
        let mut before = std::mem::take(&mut state.open);
        let known_or_new = |watch: Watch| {
            let known = before.iter().position(|open| *open.ending.watch == watch);
            known
                .map(|known| before.swap_remove(known))
                .ok_or_else(|| Arc::new(watch))
        };
        let wanted: Vec<Result<Open, Arc<Watch>>> = wanted.into_iter().map(known_or_new).collect();
        state.ending.retain(|ending| !ending.task.is_finished());
        state.ending.extend(before.into_iter().map(|open| open.ending));
        state.break_off_oldest();
        for watch in wanted {
            let open = watch.unwrap_or_else(|watch| self.open(watch, &state.ending));
            state.open.push(open);
        }
    }

    /// Opens a watch that begins when those that are ending tell its handler nothing any more: it is told one thing at a time, and what is
    /// newest last.
    fn open(&self, watch: Arc<Watch>, ending: &VecDeque<Ending>) -> Open {
        let same_handler = |ending: &&Ending| ending.watch.handler == watch.handler;
        let before = ending.iter().filter(same_handler);
        let before: Vec<_> = before.map(|ending| ending.over.clone()).collect();
        let telling = Arc::<AtomicBool>::default();
        let (wanted, ended) = async_channel::bounded(1);
        let (going_on, over) = async_channel::bounded(1);
        let follow = follow(Following {
            _going_on: going_on,
            shared: Arc::clone(&self.shared),
            watch: Arc::clone(&watch),
            before,
            telling: Arc::clone(&telling),
            ended,
        });
        Open {
            _wanted: wanted,
            ending: Ending {
                watch,
                telling,
                over,
                task: self.runtime.spawn(follow),
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Breaks off what the oldest tell of those that end, if there are too many. Those that just wait for an answer end by themselves.
    fn break_off_oldest(&mut self) {
        let is_telling = |ending: &Ending| ending.telling.load(Ordering::Relaxed);
        let telling = self.ending.iter().filter(|ending| is_telling(ending)).count();
        let mut too_many = telling.saturating_sub(ENDING_MAX);
        self.ending.retain(|ending| {
            if too_many == 0 || !is_telling(ending) {
                return true;
            }
            too_many -= 1;
            tracing::warn!(
                kind = ending.watch.plan.kind(),
                handler = %ending.watch.handler,
                "the handler of a watch that was removed has not ended, and more than {ENDING_MAX} others have not: it is killed"
            );
            false
        });
    }
}

/// What a watch that goes on has.
struct Following {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    /// Each is closed when an older watch does not tell the same handler anything any more.
    before: Vec<Receiver<Infallible>>,
    telling: Arc<AtomicBool>,
    /// Closed when the watch is not wanted any more.
    ended: Receiver<Infallible>,
    _going_on: Sender<Infallible>,
}

/// Asks and tells until the watch is not wanted any more.
async fn follow(following: Following) {
    let Following {
        shared,
        watch,
        before,
        telling,
        ended,
        ..
    } = &following;
    let mut progress = Progress::default();
    let first = async {
        for before in before {
            closed(before).await;
        }
    };
    if unless_ended(ended, first).await.is_none() {
        return;
    }
    loop {
        let asked = next(&shared.api, watch, &mut progress);
        let Some(told) = unless_ended(ended, asked).await else {
            return;
        };
        telling.store(true, Ordering::Relaxed);
        tell::tell(shared, &watch.handler, told).await;
        telling.store(false, Ordering::Relaxed);
    }
}

async fn unless_ended<T>(ended: &Receiver<Infallible>, other: impl Future<Output = T>) -> Option<T> {
    let ended = async {
        closed(ended).await;
        None
    };
    ended.or(async { Some(other.await) }).await
}

async fn closed(channel: &Receiver<Infallible>) {
    // Nothing is ever sent.
    let _ = channel.recv().await;
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
