//! A spawned future and the handle to it, the same on every executor.
//!
//! Executors differ in what it means to drop a task's handle, and in where a panic goes. Here both are settled once:
//! the executor gets a future that never panics and that ends soon after it was cancelled; the handle and that future
//! share a slot for the outcome.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_lite::FutureExt as _;

/// A running future, and the future of its result.
///
/// Dropping it cancels the running future, which is then dropped the next time the executor would poll it.
///
/// # Panics
///
/// Awaiting it resumes the panic that ended the running future. It panics by itself if the executor was shut down and
/// dropped the future before it was done, and if it is polled again after it was ready.
#[must_use = "a task that is dropped is cancelled; detach it to let it run on"]
pub struct Task<T> {
    /// `None` once the task is detached.
    shared: Option<Arc<Shared<T>>>,
}

impl<T> Task<T> {
    /// Lets the future run on with nobody waiting for it. Its result is dropped; a panic is still logged.
    pub fn detach(mut self) {
        self.shared = None;
    }

    /// Stops the future and waits until it has been dropped with all it held. `Some` if it was done before it could
    /// be stopped. Waits for ever if the task itself calls it.
    ///
    /// # Panics
    ///
    /// Resumes the panic that ended the future, if one did.
    pub async fn cancel(self) -> Option<T> {
        let shared = self.shared()?;
        shared.cancel();
        poll_fn(|cx| shared.poll_outcome(cx)).await
    }

    /// Whether the future has ended, in whatever way: joining it would not wait.
    pub fn is_finished(&self) -> bool {
        self.shared()
            .is_none_or(|shared| !matches!(shared.lock().outcome, Outcome::Running))
    }

    fn shared(&self) -> Option<&Arc<Shared<T>>> {
        self.shared.as_ref()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let shared = self
            .shared()
            .expect("only `detach` empties a task, and it consumes it");
        shared.poll_outcome(cx).map(|result| match result {
            Some(value) => value,
            None => panic!(
                "a task has no result: its executor was shut down early, or the result was taken before"
            ),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared() {
            shared.cancel();
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// Splits `future` into a handle and a body for the executor, which never panics.
pub(crate) fn prepare<T, F>(future: F) -> (Task<T>, impl Future<Output = ()> + Send + 'static)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let shared = Arc::new(Shared::new());
    let task = Task {
        shared: Some(Arc::clone(&shared)),
    };
    let ending = Ending(shared);
    // What follows would hold the future itself three times: as what it is given, as what it calls, and as what that pins.
    let future = Box::pin(future);
    let body = async move {
        // The future is dropped inside, so that a panic of its destructor is caught too, and so that whoever waits
        // for the end finds that it has let go of everything.
        let run = AssertUnwindSafe(run_until_cancelled(future, &ending.0)).catch_unwind();
        let outcome = match run.await {
            Ok(Some(value)) => Outcome::Done(value),
            Ok(None) => Outcome::Dropped,
            Err(panic) => {
                tracing::error!(reason = reason(panic.as_ref()), "a task panicked");
                Outcome::Panicked(panic)
            }
        };
        ending.0.finish(outcome);
    };
    (task, body)
}

/// `None` if it was cancelled first.
async fn run_until_cancelled<T>(future: impl Future<Output = T>, shared: &Shared<T>) -> Option<T> {
    let mut future = pin!(future);
    let mut registered: Option<Waker> = None;
    poll_fn(|cx| {
        if !registered
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            shared.lock().body = Some(cx.waker().clone());
            registered = Some(cx.waker().clone());
        }
        // Read after the waker is in place: a cancel from now on wakes it.
        if shared.cancelled.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// What a panic said, as far as it is text.
fn reason(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a value that is not text"
    }
}

/// Where the handle and the body meet.
struct Shared<T> {
    cancelled: AtomicBool,
    state: Mutex<State<T>>,
}

struct State<T> {
    outcome: Outcome<T>,
    /// Wakes the body, so that it sees that it is cancelled.
    body: Option<Waker>,
    /// Wakes whoever waits for the outcome.
    joiner: Option<Waker>,
}

enum Outcome<T> {
    Running,
    Done(T),
    Panicked(Box<dyn Any + Send>),
    /// Cancelled, or dropped by the executor.
    Dropped,
}

impl<T> Shared<T> {
    fn new() -> Self {
        let state = State {
            outcome: Outcome::Running,
            body: None,
            joiner: None,
        };
        Self {
            cancelled: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// No foreign code runs under the lock, so a poisoned one still guards a sound state.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        let body = self.lock().body.take();
        if let Some(waker) = body {
            waker.wake();
        }
    }

    fn finish(&self, outcome: Outcome<T>) {
        let joiner = {
            let mut state = self.lock();
            state.outcome = outcome;
            state.body = None;
            state.joiner.take()
        };
        if let Some(waker) = joiner {
            waker.wake();
        }
    }

    /// Takes the outcome: `None` if the future was dropped before it was done.
    fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let outcome = {
            let mut state = self.lock();
            if matches!(state.outcome, Outcome::Running) {
                state.joiner = Some(cx.waker().clone());
                return Poll::Pending;
            }
            std::mem::replace(&mut state.outcome, Outcome::Dropped)
        };
        match outcome {
            Outcome::Done(value) => Poll::Ready(Some(value)),
            Outcome::Panicked(panic) => resume_unwind(panic),
            Outcome::Running | Outcome::Dropped => Poll::Ready(None),
        }
    }
}

/// Held by the body: tells the handle when the executor drops the body unfinished.
struct Ending<T>(Arc<Shared<T>>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        if matches!(self.0.lock().outcome, Outcome::Running) {
            self.0.finish(Outcome::Dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::panic::catch_unwind;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn an_executor_that_drops_a_task_does_not_leave_its_joiner_waiting() {
        let (task, body) = prepare(pending::<()>());
        let mut body = Box::pin(body);
        assert!(block_on(poll_once(&mut body)).is_none());
        drop(body);
        assert!(task.is_finished());
        assert!(catch_unwind(AssertUnwindSafe(|| block_on(task))).is_err());

        let (task, body) = prepare(pending::<()>());
        drop(body);
        assert_eq!(block_on(task.cancel()), None);
    }

    #[test]
    fn a_task_cancelled_before_it_ran_is_never_polled() {
        let (task, body) = prepare(async { panic!("it was cancelled") });
        drop(task);
        block_on(body);
    }

    #[test]
    fn a_task_is_hardly_larger_than_its_future() {
        let (_task, body) = prepare(async {
            let large = [const { String::new() }; 200];
            pending::<()>().await;
            drop(large);
        });
        assert!(
            size_of_val(&body) < 512,
            "{} bytes beside the future",
            size_of_val(&body)
        );
    }

    #[test]
    fn a_task_may_move_between_wakers() {
        let (task, body) = prepare(pending::<()>());
        let mut body = Box::pin(body);
        // Two polls, each with a waker of its own; only the second is in use when the cancel comes.
        assert!(block_on(poll_once(&mut body)).is_none());
        let cancelled = std::thread::spawn(move || block_on(body));
        drop(task);
        cancelled.join().unwrap();
    }
}
