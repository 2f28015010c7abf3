//! What Lictor asks of an executor.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;

use crate::task::{self, Task};

/// Polls futures. The one thing that an adapter to an executor implements.
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// What it is called in logs and in configuration.
    fn name(&self) -> &'static str;

    /// Runs `future` to its end, on any thread, while the caller goes on. Must not poll it before returning, so that
    /// a caller may hold a lock that the future wants. A future that wakes itself while it is polled must wait for its
    /// turn behind the others: that is how a busy one makes room for them.
    ///
    /// The future does not panic when polled: [`Runtime::spawn`] has seen to that.
    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Polls `future` on the calling thread until it is done, and only then returns.
    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>);
}

/// An executor to run on. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Runtime(Arc<dyn Executor>);

impl Runtime {
    /// Runs on `executor`.
    pub fn new(executor: impl Executor) -> Self {
        Self(Arc::new(executor))
    }

    /// What the executor is called.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Starts `future`. Dropping the [`Task`] cancels it; [`Task::detach`] lets it run on.
    ///
    /// A panic inside `future` is logged when it happens and resumed in whoever joins the task. The executor's
    /// threads survive it.
    #[must_use = "a task that is dropped is cancelled; detach it to let it run on"]
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let (task, body) = task::prepare(future);
        self.0.spawn_detached(Box::pin(body));
        task
    }

    /// Waits for `duration`, as measured by a clock that may stand still while the system is suspended. One too long
    /// for the clock never ends.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep(Timer::after(duration))
    }

    /// Polls `future` on the calling thread until it is done. Not for use inside a task: it would hold up one of the
    /// executor's threads.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut result = None;
        {
            let mut body = pin!(async { result = Some(future.await) });
            self.0.block_on(body.as_mut());
        }
        result.expect("Executor::block_on returns only when its future is done")
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.0).finish()
    }
}

/// A future that is ready once its time has passed; see [`Runtime::sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep(Timer);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_fired_at| ())
    }
}
