//! Spawning, joining, cancelling, panics and sleeps.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::FutureExt as _;
use futures_lite::future::yield_now;
use tracing::field::{Field, Visit};
use tracing::span;

use super::{PATIENCE, run, until};
use crate::executor::Runtime;

/// A task's result reaches whoever awaits it, whether the task is done before or after.
pub fn spawn_and_join(runtime: &Runtime) {
    let (early, late) = run(runtime, async {
        let early = runtime.spawn(async { 1 });
        until(runtime, || early.is_finished()).await;
        let sleep = runtime.sleep(Duration::from_millis(5));
        let late = runtime.spawn(async move {
            sleep.await;
            String::from("two")
        });
        (early.await, late.await)
    });
    assert_eq!((early, late.as_str()), (1, "two"));
}

/// `detach` lets a task run to its end.
pub fn a_detached_task_runs_on(runtime: &Runtime) {
    let done = Arc::new(AtomicBool::new(false));
    let (sleep, flag) = (runtime.sleep(Duration::from_millis(5)), Arc::clone(&done));
    runtime
        .spawn(async move {
            sleep.await;
            flag.store(true, Ordering::SeqCst);
        })
        .detach();
    run(runtime, until(runtime, || done.load(Ordering::SeqCst)));
}

/// Dropping the handle drops the future, though nothing else would ever wake it.
pub fn a_dropped_task_is_cancelled(runtime: &Runtime) {
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let task = runtime.spawn(async move {
        pending::<()>().await;
        drop(inside);
    });
    drop(task);
    run(runtime, until(runtime, || Arc::strong_count(&held) == 1));
}

/// After `cancel` the future is gone, with all it held.
pub fn cancel_waits_until_the_future_is_dropped(runtime: &Runtime) {
    for _ in 0..100 {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let task = runtime.spawn(async move {
            while Arc::strong_count(&inside) > 0 {
                yield_now().await;
            }
        });
        let result: Option<()> = run(runtime, task.cancel());
        assert_eq!(result, None);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

/// A task that was done first gives its result to `cancel`.
pub fn cancel_returns_a_result_that_was_ready(runtime: &Runtime) {
    let task = runtime.spawn(async { 7 });
    let result = run(runtime, async {
        until(runtime, || task.is_finished()).await;
        task.cancel().await
    });
    assert_eq!(result, Some(7));
}

/// The joiner gets the panic itself, payload and all.
pub fn a_panic_is_resumed_in_the_joiner(runtime: &Runtime) {
    let task = runtime.spawn(async { std::panic::panic_any(42_u64) });
    let joined = catch_unwind(AssertUnwindSafe(|| run(runtime, task)));
    let payload = joined.expect_err("the join must panic");
    assert_eq!(payload.downcast_ref::<u64>(), Some(&42));
}

/// The log says what happened, also for a detached task.
pub fn a_panic_is_logged_even_if_nobody_joins(runtime: &Runtime) {
    let log = LazyLock::force(&LOG);
    runtime
        .spawn(async { panic!("the suite's own panic {}", 6 * 7) })
        .detach();
    run(
        runtime,
        until(runtime, || log.contains("the suite's own panic 42")),
    );
}

/// What a future's destructor does wrong is not lost on its executor.
pub fn a_panicking_destructor_is_a_panic_of_the_task(runtime: &Runtime) {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("from a destructor");
        }
    }
    let started = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&started);
    let task = runtime.spawn(async move {
        let _bad = Bad;
        flag.store(true, Ordering::SeqCst);
        pending::<()>().await;
    });
    let cancelled = catch_unwind(AssertUnwindSafe(|| {
        run(runtime, async {
            until(runtime, || started.load(Ordering::SeqCst)).await;
            task.cancel().await
        })
    }));
    let payload = cancelled.expect_err("the cancel must panic");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"from a destructor"));
    assert_eq!(run(runtime, runtime.spawn(async { 1 })), 1);
}

/// More panics than there are threads, and tasks still run.
pub fn the_executor_survives_panics(runtime: &Runtime) {
    for _ in 0..50 {
        runtime.spawn(async { panic!("one of many") }).detach();
    }
    let sum = run(runtime, async {
        let tasks: Vec<_> = (0..50).map(|n| runtime.spawn(async move { n })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    });
    assert_eq!(sum, (0..50).sum());
}

/// A task may spawn, and await what it spawned, to some depth.
pub fn tasks_spawn_tasks(runtime: &Runtime) {
    fn count(runtime: &Runtime, depth: u32) -> futures_lite::future::Boxed<u64> {
        let inner = runtime.clone();
        async move {
            if depth == 0 {
                return 1;
            }
            let left = inner.spawn(count(&inner, depth - 1));
            let right = inner.spawn(count(&inner, depth - 1));
            left.await + right.await
        }
        .boxed()
    }
    assert_eq!(run(runtime, count(runtime, 8)), 1 << 8);
}

/// A spawned task goes on although the thread that spawned it is busy elsewhere.
pub fn tasks_run_in_parallel_with_block_on(runtime: &Runtime) {
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let task = runtime.spawn(async move { flag.store(true, Ordering::SeqCst) });
    let give_up = Instant::now() + PATIENCE;
    while !done.load(Ordering::SeqCst) {
        assert!(
            Instant::now() < give_up,
            "a task waits for its spawner to let go of its thread"
        );
        std::thread::yield_now();
    }
    run(runtime, task);
}

/// `block_on` gives back the value, and the future may borrow from its caller and need not be `Send`.
pub fn block_on_returns_and_may_borrow(runtime: &Runtime) {
    let text = std::rc::Rc::new(String::from("borrowed"));
    let borrowed = &text;
    let length = runtime.block_on(async {
        yield_now().await;
        borrowed.len()
    });
    assert_eq!(length, 8);
}

/// A sleep takes at least as long as was asked for.
pub fn a_sleep_is_never_short(runtime: &Runtime) {
    for millis in [0, 1, 3, 20] {
        let duration = Duration::from_millis(millis);
        let start = Instant::now();
        run(runtime, runtime.sleep(duration));
        assert!(start.elapsed() >= duration);
    }
}

/// Many timers at once, beside tasks that never rest: each fires, none early.
pub fn timers_fire_under_load(runtime: &Runtime) {
    let stop = Arc::new(AtomicBool::new(false));
    let early = Arc::new(AtomicUsize::new(0));
    run(runtime, async {
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let stop = Arc::clone(&stop);
                runtime.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        yield_now().await;
                    }
                })
            })
            .collect();
        let sleepers: Vec<_> = (0..500_u64)
            .map(|n| {
                let (runtime, early) = (runtime.clone(), Arc::clone(&early));
                runtime.clone().spawn(async move {
                    let (start, duration) = (Instant::now(), Duration::from_millis(n % 50));
                    runtime.sleep(duration).await;
                    if start.elapsed() < duration {
                        early.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for sleeper in sleepers {
            sleeper.await;
        }
        stop.store(true, Ordering::Relaxed);
        for task in busy {
            task.await;
        }
    });
    assert_eq!(early.load(Ordering::Relaxed), 0);
}

/// Keeps what is logged at level `ERROR`, for the whole process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone())
        .expect("the suite's tests share no process with a logger");
    log
});

impl Log {
    fn contains(&self, part: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|line| line.contains(part))
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0.extend([field.name(), "=", &format!("{value:?} ")]);
            }

            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.extend([field.name(), "=", value, " "]);
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
