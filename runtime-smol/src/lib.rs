//! Lictor's runtime on smol: one multi-thread executor for everything.
//!
//! smol's own global executor has one thread by default, and other libraries bring pools of their own. Here is one
//! pool, with one thread less than the machine has processors and at least one, for whatever the process runs. An idle thread of it
//! waits for sockets and timers itself, so that most events need no hand-over from the reactor's thread.

#![forbid(unsafe_code)]

use std::future::{Future, pending};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Once;
use std::thread;

use async_executor::StaticExecutor;
use lictor_runtime::{Executor, Runtime};

static POOL: StaticExecutor = StaticExecutor::new();

/// The process's one pool. Its threads, named `lictor-exec-N`, are started by the first call.
///
/// # Panics
///
/// If the system cannot start a single thread.
pub fn runtime() -> Runtime {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // The threads that write the log and the state want a processor too, and every thread more is one more to be woken.
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        start(processors.saturating_sub(1).max(1));
    });
    Runtime::new(Smol)
}

#[derive(Debug)]
struct Smol;

impl Executor for Smol {
    fn name(&self) -> &'static str {
        "smol"
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        POOL.spawn(future).detach();
    }

    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>) {
        async_io::block_on(future);
    }
}

/// Fewer threads than wanted are made do with, none are not.
fn start(wanted: usize) {
    for number in 0..wanted {
        let thread = thread::Builder::new()
            .name(format!("lictor-exec-{number}"))
            .spawn(work);
        match thread {
            Ok(_runs_for_ever) => {}
            Err(error) if number == 0 => panic!("cannot start a thread to run tasks on: {error}"),
            Err(error) => {
                tracing::warn!(%error, running = number, wanted, "going on with fewer executor threads than processors");
                return;
            }
        }
    }
}

fn work() {
    loop {
        // Tasks catch their own panics; this is for the destructors that run outside of them.
        let ran = catch_unwind(AssertUnwindSafe(|| async_io::block_on(POOL.run(pending::<()>()))));
        if ran.is_err() {
            tracing::error!("a panic reached an executor thread; the thread goes on");
        }
    }
}
