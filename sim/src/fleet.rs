//! The part of the program that runs whole agents: bands of seeds, or one.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use lictor_sim::agents::run::{Failure, Report, run_options};
use lictor_sim::agents::swarm::Options;

use crate::pools::Seeds;

/// Whether every run held every property.
pub(crate) fn run(seeds: Seeds) -> std::io::Result<bool> {
    match seeds.one {
        Some(seed) => replay(seed, seeds.trace),
        None => band(seeds),
    }
}

fn replay(seed: u64, trace: bool) -> std::io::Result<bool> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let options = Options::of_seed(seed);
    writeln!(out, "{options}\n")?;
    let outcome = run_options(&options, trace.then_some(&mut out as &mut dyn Write));
    match &outcome {
        Ok(report) => writeln!(out, "\n{report:#?}")?,
        Err(failure) => writeln!(out, "{failure}")?,
    }
    out.flush()?;
    Ok(outcome.is_ok())
}

#[derive(Default)]
struct Sum {
    done: u64,
    total: Report,
    failures: Vec<(u64, Box<Failure>)>,
}

fn band(seeds: Seeds) -> std::io::Result<bool> {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let end = seeds.start.saturating_add(seeds.count);
    let sum = Mutex::new(Sum::default());
    let begun = Instant::now();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let outcome = run_options(&Options::of_seed(seed), None);
            let mut sum = sum.lock().expect("no thread panics while it holds the lock");
            sum.done += 1;
            match outcome {
                Ok(report) => sum.total.add(&report),
                Err(failure) => {
                    sum.failures.push((seed, failure));
                    stop.store(!seeds.all, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..seeds.threads {
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
        let text = failure.violation.to_string();
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
        "{} seeds in {:.1?}, {} failed\n{:?}",
        sum.done,
        begun.elapsed(),
        sum.failures.len(),
        sum.total
    )?;
    Ok(sum.failures.is_empty())
}
