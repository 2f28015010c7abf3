//! Runs many seeds of the simulator, on all cores; or replays one.

#![forbid(unsafe_code)]

mod fleet;
mod pools;
mod seeds;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use lictor_sim::host::Host;
use lictor_sim::node_host::NodeHost;
use lictor_sim::raft_host::RaftHost;
use lictor_sim::report::Counters;
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
    #[command(flatten)]
    fleet: fleet::FleetArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Whole nodes.
    Node,
    /// Bare Raft machines with the catalog behind them.
    Raft,
    /// Pools of gossiping members.
    Gossip,
    /// Whole agents: gossip, Raft and nodes, and what runs on them.
    Agent,
    /// Processes on the machines of agents that contend for locks, and repeat changes under idempotency keys.
    Locks,
    /// Days of agents that come and go, of services that are registered and removed, of others that interfere.
    Churn,
    /// A rolling restart of many agents, which no reader may notice. One run may take minutes.
    Rolling,
}

#[derive(Default)]
struct Sum {
    counters: Counters,
    undecided: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let worked = match arguments.kind {
        Kind::Node => run::<NodeHost>(&arguments),
        Kind::Raft => run::<RaftHost>(&arguments),
        Kind::Agent => fleet::faults(seeds_of(&arguments, threads_of(&arguments))),
        Kind::Locks => fleet::locks(seeds_of(&arguments, threads_of(&arguments))),
        Kind::Churn => fleet::churn(&arguments.fleet, seeds_of(&arguments, threads_of(&arguments))),
        Kind::Rolling => fleet::rolling(&arguments.fleet, seeds_of(&arguments, threads_of(&arguments))),
        Kind::Gossip => pools::run(&arguments.pools, seeds_of(&arguments, threads_of(&arguments))),
    };
    match worked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Nobody reads what is printed.
        Err(_) => ExitCode::from(2),
    }
}

const fn seeds_of(arguments: &Arguments, threads: usize) -> seeds::Seeds {
    seeds::Seeds {
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
    let seeds = seeds_of(arguments, threads_of(arguments));
    let (sum, held) = seeds.band(
        |seed| run_seed::<H>(seed, servers_of(arguments, seed), None),
        |sum: &mut Sum, report| {
            sum.counters.add(&report.counters);
            sum.undecided += report.undecided;
        },
        |failure| failure.violation.to_string(),
    )?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}; histories undecided {}", sum.counters, sum.undecided)?;
    let missing = sum.counters.missing();
    if !missing.is_empty() && held {
        writeln!(out, "the band was too small to see: {}", missing.join(", "))?;
    }
    Ok(held)
}
