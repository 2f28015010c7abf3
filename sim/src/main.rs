//! Runs many seeds of the simulator, on all cores; or replays one.

#![forbid(unsafe_code)]

mod fleet;
mod pools;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::{Parser, ValueEnum};
use lictor_sim::host::Host;
use lictor_sim::node_host::NodeHost;
use lictor_sim::raft_host::RaftHost;
use lictor_sim::report::{Counters, Failure};
use lictor_sim::run::run_seed;
use lictor_sim::swarm::Options;

/// Runs simulated clusters, one for each seed, until one of them breaks a property.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// How many servers a cluster has; without this, 3 or 5 by turns.
    #[arg(long)]
    servers: Option<usize>,
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = Kind::Node)]
    kind: Kind,
    /// How many threads run seeds; without this, one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Go on after failures, and list the seeds that failed.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    pools: pools::PoolArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Whole nodes.
    Node,
    /// Bare Raft machines with the catalog behind them.
    Raft,
    /// Pools of gossiping members.
    Gossip,
    /// Whole agents: gossip, Raft and nodes.
    Agent,
}

/// What the threads share.
struct Progress {
    next: AtomicU64,
    stop: AtomicBool,
    sum: Mutex<Sum>,
}

#[derive(Default)]
struct Sum {
    done: u64,
    counters: Counters,
    undecided: u64,
    failures: Vec<(u64, Box<Failure>)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let worked = match arguments.kind {
        Kind::Node => run::<NodeHost>(&arguments),
        Kind::Raft => run::<RaftHost>(&arguments),
        Kind::Agent => fleet::run(seeds_of(&arguments, threads_of(&arguments))),
        Kind::Gossip => pools::run(&arguments.pools, seeds_of(&arguments, threads_of(&arguments))),
    };
    match worked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Nobody reads what is printed.
        Err(_) => ExitCode::from(2),
    }
}

const fn seeds_of(arguments: &Arguments, threads: usize) -> pools::Seeds {
    pools::Seeds {
        one: arguments.seed,
        start: arguments.start,
        count: arguments.seeds,
        threads,
        trace: arguments.trace,
        all: arguments.all,
    }
}

fn threads_of(arguments: &Arguments) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.threads.unwrap_or(cores).max(1)
}

/// Whether every seed held every property.
fn run<H: Host>(arguments: &Arguments) -> std::io::Result<bool> {
    match arguments.seed {
        Some(seed) => replay::<H>(arguments, seed),
        None => band::<H>(arguments),
    }
}

const fn servers_of(arguments: &Arguments, seed: u64) -> usize {
    match arguments.servers {
        Some(servers) => servers,
        None if seed.is_multiple_of(2) => 3,
        None => 5,
    }
}

fn replay<H: Host>(arguments: &Arguments, seed: u64) -> std::io::Result<bool> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let servers = servers_of(arguments, seed);
    writeln!(out, "{}\n", Options::of_seed(seed, servers))?;
    let outcome = run_seed::<H>(
        seed,
        servers,
        arguments.trace.then_some(&mut out as &mut dyn Write),
    );
    match &outcome {
        Ok(report) => writeln!(
            out,
            "\n{}\n{} records, digest {:016x}",
            report.counters, report.records, report.hash
        )?,
        Err(failure) => writeln!(out, "{failure}")?,
    }
    out.flush()?;
    Ok(outcome.is_ok())
}

fn band<H: Host>(arguments: &Arguments) -> std::io::Result<bool> {
    let threads = threads_of(arguments);
    let end = arguments.start.saturating_add(arguments.seeds);
    let progress = Progress {
        next: AtomicU64::new(arguments.start),
        stop: AtomicBool::new(false),
        sum: Mutex::new(Sum::default()),
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work::<H>(arguments, end, &progress));
        }
    });
    let sum = progress
        .sum
        .into_inner()
        .expect("a thread that panicked has ended the scope");
    let mut out = std::io::stdout().lock();
    if let Some((_, failure)) = sum.failures.iter().min_by_key(|(seed, _)| *seed) {
        writeln!(out, "{failure}")?;
    }
    for (seed, failure) in &sum.failures {
        writeln!(
            out,
            "seed {seed}: {}",
            failure.violation.to_string().lines().next().unwrap_or_default()
        )?;
    }
    writeln!(
        out,
        "{} seeds in {:.1?}, {} failed",
        sum.done,
        begun.elapsed(),
        sum.failures.len()
    )?;
    writeln!(out, "{}; histories undecided {}", sum.counters, sum.undecided)?;
    let missing = sum.counters.missing();
    if !missing.is_empty() && sum.failures.is_empty() {
        writeln!(out, "the band was too small to see: {}", missing.join(", "))?;
    }
    Ok(sum.failures.is_empty())
}

fn work<H: Host>(arguments: &Arguments, end: u64, progress: &Progress) {
    while !progress.stop.load(Ordering::Relaxed) {
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let outcome = run_seed::<H>(seed, servers_of(arguments, seed), None);
        let mut sum = progress
            .sum
            .lock()
            .expect("no thread panics while it holds the lock");
        sum.done += 1;
        match outcome {
            Ok(report) => {
                sum.counters.add(&report.counters);
                sum.undecided += report.undecided;
            }
            Err(failure) => {
                sum.failures.push((seed, failure));
                progress.stop.store(!arguments.all, Ordering::Relaxed);
            }
        }
        if sum.done.is_multiple_of(100) {
            // Progress is a courtesy: a closed standard error is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{} seeds done", sum.done);
        }
    }
}
