//! Running one seed.

use std::io::Write;

use crate::host::Host;
use crate::report::{Failure, Report};
use crate::swarm::Options;
use crate::world::World;

/// Runs a seed to its end. The trace goes to `out` as it grows.
pub fn run_seed<H: Host>(
    seed: u64,
    servers: usize,
    out: Option<&mut dyn Write>,
) -> Result<Report, Box<Failure>> {
    run_options::<H>(Options::of_seed(seed, servers), out)
}

/// Runs options that were made, or changed, by hand.
pub fn run_options<H: Host>(options: Options, out: Option<&mut dyn Write>) -> Result<Report, Box<Failure>> {
    let mut world = World::<H>::new(options, out);
    world.run().map_err(|violation| {
        let options = world.options();
        Box::new(Failure {
            options: options.to_string(),
            violation,
            tail: world.tail(),
            replay: format!(
                "cargo run --release -p lictor-sim -- --kind {} --servers {} --seed {} --trace",
                H::KIND,
                options.setup.servers.len(),
                options.seed
            ),
            hash: world.hash(),
        })
    })
}
