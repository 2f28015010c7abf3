//! The part of the program that runs pools of gossiping members: bands of seeds, one seed, or measurements.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use lictor_sim::gossip::measure::{self, Plan};
use lictor_sim::gossip::run::run_options;
use lictor_sim::gossip::swarm::Options;
use lictor_sim::gossip::tally::Tally;

use crate::seeds::Seeds;

/// What is asked of pools.
#[derive(Args)]
pub(crate) struct PoolArguments {
    /// With `--kind gossip`: how many members a pool has; without this, 5 to 60, as the seed says.
    #[arg(long)]
    pub(crate) members: Option<usize>,
    /// With `--kind gossip`: measure a calm pool instead of breaking it.
    #[arg(long, value_enum)]
    pub(crate) measure: Vec<What>,
    /// With `--measure`: how often what happens once is tried.
    #[arg(long, default_value_t = 20)]
    pub(crate) samples: usize,
    /// With `--measure lifeguard`: for how many minutes of virtual time.
    #[arg(long, default_value_t = 60)]
    pub(crate) minutes: u64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// How long until a crash is known.
    Crash,
    /// How long until a new member is known.
    Join,
    /// What a second of calm costs.
    Calm,
    /// False deaths while one member in a hundred is unwell, with Lifeguard and without.
    Lifeguard,
}

/// Whether every run held every property.
pub(crate) fn run(arguments: &PoolArguments, seeds: Seeds) -> std::io::Result<bool> {
    if !arguments.measure.is_empty() {
        return measure(arguments, seeds.one.unwrap_or(1));
    }
    match seeds.one {
        Some(seed) => replay(arguments, seed, seeds.trace),
        None => band(arguments, seeds),
    }
}

fn replay(arguments: &PoolArguments, seed: u64, trace: bool) -> std::io::Result<bool> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let options = Options::of_seed(seed, arguments.members);
    writeln!(out, "{options}\n")?;
    let outcome = run_options(&options, trace.then_some(&mut out as &mut dyn Write));
    match &outcome {
        Ok(report) => writeln!(
            out,
            "\n{}\nall views were the truth {:.1?} after the last fault\n{} records, digest {:016x}",
            report.tally, report.converged_after, report.records, report.hash
        )?,
        Err(failure) => writeln!(out, "{failure}")?,
    }
    out.flush()?;
    Ok(outcome.is_ok())
}

/// What the runs of a band add up to.
#[derive(Default)]
struct Sum {
    tally: Tally,
    slowest: Duration,
}

fn band(arguments: &PoolArguments, seeds: Seeds) -> std::io::Result<bool> {
    let run = |seed| run_options(&Options::of_seed(seed, arguments.members), None);
    let (sum, held) = seeds.band(
        run,
        |sum: &mut Sum, report| {
            sum.tally.add(&report.tally);
            sum.slowest = sum.slowest.max(report.converged_after);
        },
        |failure| failure.violation.to_string(),
    )?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}; slowest convergence after calm {:.1?}",
        sum.tally, sum.slowest
    )?;
    let missing = sum.tally.missing();
    if !missing.is_empty() && held {
        writeln!(out, "the band was too small to see: {}", missing.join(", "))?;
    }
    Ok(held)
}

fn measure(arguments: &PoolArguments, seed: u64) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    let mut all_held = true;
    for what in &arguments.measure {
        let begun = Instant::now();
        let members = arguments.members.unwrap_or(match what {
            What::Lifeguard => 2000,
            What::Crash | What::Join | What::Calm => 1000,
        });
        let plan = Plan {
            seed,
            members,
            samples: arguments.samples,
            plain_swim: false,
        };
        let text = match what {
            What::Crash => measure::pool(plan, |_| ())
                .and_then(|mut world| measure::crashes(&mut world, plan))
                .map(|known| format!("{known}\n{}", measure::crash_formula(members))),
            What::Join => measure::pool(plan, |_| ())
                .and_then(|mut world| measure::joins(&mut world, plan))
                .map(|known| known.to_string()),
            What::Calm => measure::pool(plan, |_| ())
                .and_then(|mut world| measure::calm(&mut world, Duration::from_mins(2)))
                .map(|cost| cost.to_string()),
            What::Lifeguard => lifeguard(plan, Duration::from_mins(arguments.minutes)),
        };
        match text {
            Ok(text) => writeln!(out, "{what:?} among {members} members, seed {seed}:\n{text}")?,
            Err(violation) => {
                all_held = false;
                writeln!(out, "{what:?} among {members} members: VIOLATED {violation}")?;
            }
        }
        writeln!(out, "  (took {:.1?})", begun.elapsed())?;
    }
    Ok(all_held)
}

fn lifeguard(plan: Plan, duration: Duration) -> Result<String, lictor_sim::oracles::Violation> {
    let mut lines = Vec::new();
    for plain_swim in [false, true] {
        let plan = Plan { plain_swim, ..plan };
        let mut world = measure::pool(plan, |_| ())?;
        let deaths = measure::unwell(&mut world, plan, duration)?;
        let name = if plain_swim {
            "plain SWIM"
        } else {
            "with Lifeguard"
        };
        lines.push(format!("  {name}:\n{deaths}"));
    }
    Ok(lines.join("\n"))
}
