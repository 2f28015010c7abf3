//! The part of the program that runs whole agents: bands of seeds, or one.

use std::io::Write;

use lictor_sim::agents::run::{Report, run_options};
use lictor_sim::agents::swarm::Options;

use crate::seeds::Seeds;

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

fn band(seeds: Seeds) -> std::io::Result<bool> {
    let (total, held) = seeds.band(
        |seed| run_options(&Options::of_seed(seed), None),
        |total: &mut Report, report| total.add(&report),
        |failure| failure.violation.to_string(),
    )?;
    writeln!(std::io::stdout().lock(), "{total:?}")?;
    Ok(held)
}
