//! Bands of seeds, run on several threads, whatever a seed stands for.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Which seeds are run.
#[derive(Clone, Copy)]
pub(crate) struct Seeds {
    pub(crate) one: Option<u64>,
    pub(crate) start: u64,
    pub(crate) count: u64,
    pub(crate) threads: usize,
    pub(crate) trace: bool,
    pub(crate) all: bool,
}

/// What the threads of a band bring together.
struct Sum<T, F> {
    done: u64,
    total: T,
    failures: Vec<(u64, F)>,
}

impl Seeds {
    /// Runs every seed, or, unless all are wanted, up to the first failure; adds up the reports of those that held, and tells of the
    /// others: of the one with the lowest seed all, of each the first line of `reason`. `true`: all held.
    pub(crate) fn band<T: Default + Send, R, F: Display + Send>(
        self,
        run: impl Fn(u64) -> Result<R, F> + Sync,
        add: impl Fn(&mut T, R) + Sync,
        reason: impl Fn(&F) -> String,
    ) -> std::io::Result<(T, bool)> {
        let (next, stop) = (AtomicU64::new(self.start), AtomicBool::new(false));
        let end = self.start.saturating_add(self.count);
        let sum = Mutex::new(Sum {
            done: 0,
            total: T::default(),
            failures: Vec::new(),
        });
        let begun = Instant::now();
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                let outcome = run(seed);
                let mut sum = sum.lock().expect("no thread panics while it holds the lock");
                sum.done += 1;
                match outcome {
                    Ok(report) => add(&mut sum.total, report),
                    Err(failure) => {
                        sum.failures.push((seed, failure));
                        stop.store(!self.all, Ordering::Relaxed);
                    }
                }
                if sum.done.is_multiple_of(100) {
                    // Progress is a courtesy: a closed standard error is no reason to stop.
                    let _ = writeln!(std::io::stderr(), "{} seeds done", sum.done);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        let sum = sum
            .into_inner()
            .expect("a thread that panicked has ended the scope");
        let mut out = std::io::stdout().lock();
        if let Some((_, failure)) = sum.failures.iter().min_by_key(|(seed, _)| *seed) {
            writeln!(out, "{failure}")?;
        }
        for (seed, failure) in &sum.failures {
            let text = reason(failure);
            let first: String = text
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(240)
                .collect();
            writeln!(out, "seed {seed}: {first}")?;
        }
        writeln!(
            out,
            "{} seeds in {:.1?}, {} failed",
            sum.done,
            begun.elapsed(),
            sum.failures.len()
        )?;
        Ok((sum.total, sum.failures.is_empty()))
    }
}
