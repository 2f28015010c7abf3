//! Time for many who wait a little, and mostly in vain.
//!
//! To arm a timer of one's own costs system calls and wakes the thread that keeps the timers. Requests are answered long before
//! anybody wonders where the answer is, so all that are under way share one timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use event_listener::Event;
use lictor_runtime::Runtime;

/// How late one who waits may be.
const TICK: Duration = Duration::from_millis(100);

/// Ticks as long as somebody waits.
#[derive(Clone, Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    runtime: Runtime,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    running: AtomicBool,
    tick: Event,
}

/// One who waits.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self {
            shared: Arc::default(),
            runtime,
        }
    }

    /// Waits for `time`, and up to a tenth of a second more.
    pub(crate) async fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.shared);
        if !self.shared.running.swap(true, Ordering::SeqCst) {
            self.runtime.spawn(tick(Arc::clone(&self.shared))).detach();
        }
        loop {
            let listener = self.shared.tick.listen();
            if Instant::now() >= until {
                return;
            }
            listener.await;
        }
    }
}

async fn tick(shared: Arc<Shared>) {
    loop {
        async_io::Timer::after(TICK).await;
        shared.tick.notify(usize::MAX);
        if shared.waiting.load(Ordering::SeqCst) > 0 {
            continue;
        }
        shared.running.store(false, Ordering::SeqCst);
        // Whoever came in between has seen this one running, and relies on it.
        if shared.waiting.load(Ordering::SeqCst) == 0 || shared.running.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn everybody_who_waits_is_woken_in_time_and_nobody_before() {
        for runtime in [
            lictor_runtime_smol::runtime(),
            lictor_runtime_async_std::runtime(),
        ] {
            let ticker = Ticker::new(runtime);
            let begun = Instant::now();
            let waits = (1..=50).map(|step| {
                let (ticker, time) = (ticker.clone(), Duration::from_millis(step * 10));
                async move {
                    ticker.wait(time).await;
                    assert!(begun.elapsed() >= time);
                }
            });
            block_on(futures::future::join_all(waits));
            assert_eq!(ticker.shared.waiting.load(Ordering::SeqCst), 0);
        }
    }

    #[test]
    fn it_ticks_only_while_somebody_waits() {
        let ticker = Ticker::new(lictor_runtime_smol::runtime());
        block_on(async {
            for _ in 0..3 {
                // Given up at once, as most waits are.
                let mut wait = Box::pin(ticker.wait(Duration::from_hours(1)));
                assert_eq!(poll_once(&mut wait).await, None);
                assert!(ticker.shared.running.load(Ordering::SeqCst));
                drop(wait);
                while ticker.shared.running.load(Ordering::SeqCst) {
                    async_io::Timer::after(Duration::from_millis(5)).await;
                }
            }
            ticker.wait(Duration::ZERO).await;
        });
    }
}
