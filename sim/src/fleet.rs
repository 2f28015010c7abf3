//! The part of the program that runs whole agents: minutes of faults, days of churn, or a rolling restart; bands of seeds, or one.

use std::fmt::{Debug, Display};
use std::io::Write;

use clap::Args;
use lictor_sim::agents::locks::swarm::Options as LockOptions;
use lictor_sim::agents::run::{Report, run_options};
use lictor_sim::agents::swarm::Options;
use lictor_sim::agents::{locks, rolling};

use crate::seeds::Seeds;

/// What is asked of agents.
#[derive(Args)]
pub(crate) struct FleetArguments {
    /// With `--kind churn`: for how many days of virtual time.
    #[arg(long, default_value_t = 30)]
    days: u32,
    /// With `--kind rolling`: how many client agents are restarted.
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// With `--kind rolling`: how many services each of them has.
    #[arg(long, default_value_t = 10)]
    services: usize,
}

/// Minutes of faults: whether every run held every property.
pub(crate) fn faults(seeds: Seeds) -> std::io::Result<bool> {
    run(seeds, Options::of_seed)
}

/// Days of churn: whether every run held every property.
pub(crate) fn churn(arguments: &FleetArguments, seeds: Seeds) -> std::io::Result<bool> {
    run(seeds, |seed| Options::churn(seed, arguments.days))
}

/// Processes that contend for locks: whether every run held every property.
pub(crate) fn locks(seeds: Seeds) -> std::io::Result<bool> {
    if let Some(seed) = seeds.one {
        let options = LockOptions::of_seed(seed);
        let run = |out: Option<&mut dyn Write>| locks::run::run_options(&options, out);
        return replay(&options.to_string(), seeds.trace, run);
    }
    let (total, held) = seeds.band(
        |seed| locks::run::run_options(&LockOptions::of_seed(seed), None),
        |total: &mut locks::run::Report, report| total.add(&report),
        |failure| failure.violation.to_string(),
    )?;
    writeln!(std::io::stdout().lock(), "{total:#?}")?;
    Ok(held)
}

/// Rolling restarts: whether nobody noticed any of them.
pub(crate) fn rolling(arguments: &FleetArguments, seeds: Seeds) -> std::io::Result<bool> {
    let options = |seed| rolling::Options::new(seed, arguments.agents, arguments.services);
    if let Some(seed) = seeds.one {
        let run = |out: Option<&mut dyn Write>| rolling::run_options(options(seed), out);
        return replay("", seeds.trace, run);
    }
    let (total, held) = seeds.band(
        |seed| rolling::run_options(options(seed), None),
        |total: &mut rolling::Report, report| total.add(&report),
        |failure| failure.violation.to_string(),
    )?;
    writeln!(std::io::stdout().lock(), "{total}")?;
    Ok(held)
}

fn run(seeds: Seeds, options: impl Fn(u64) -> Options + Sync) -> std::io::Result<bool> {
    if let Some(seed) = seeds.one {
        let options = options(seed);
        let run = |out: Option<&mut dyn Write>| run_options(&options, out);
        return replay(&options.to_string(), seeds.trace, run);
    }
    let (total, held) = seeds.band(
        |seed| run_options(&options(seed), None),
        |total: &mut Report, report| total.add(&report),
        |failure| failure.violation.to_string(),
    )?;
    writeln!(std::io::stdout().lock(), "{total:#?}")?;
    Ok(held)
}

fn replay<R: Debug, F: Display>(
    options: &str,
    trace: bool,
    run: impl FnOnce(Option<&mut dyn Write>) -> Result<R, F>,
) -> std::io::Result<bool> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(out, "{options}\n")?;
    let outcome = run(trace.then_some(&mut out as &mut dyn Write));
    match &outcome {
        Ok(report) => writeln!(out, "\n{report:#?}")?,
        Err(failure) => writeln!(out, "{failure}")?,
    }
    out.flush()?;
    Ok(outcome.is_ok())
}
