//! `lictor catalog`: what is registered.

mod datacenters;
mod nodes;
mod services;

use crate::command::{Action, Command};
use crate::console::Failure;
use crate::flags::Args;

pub(crate) const COMMAND: Command = Command {
    name: "catalog",
    summary: "Interact with the catalog",
    usage: "<subcommand> [options] [args]",
    about: "
Reads the catalog, in which everything that the cluster knows is registered.

List all datacenters:

    $ lictor catalog datacenters

List all nodes:

    $ lictor catalog nodes

List all services:

    $ lictor catalog services",
    action: Action::Group(&[datacenters::COMMAND, nodes::COMMAND, services::COMMAND], &[]),
};

/// These commands take flags alone.
fn no_operands(args: &Args) -> Result<(), Failure> {
    if args.operands.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "Too many arguments (expected 0, got {})",
        args.operands.len()
    )))
}

/// What `-node-meta` asks for, as the API takes it.
fn node_meta(args: &Args) -> Result<Vec<String>, Failure> {
    // Of several values for one key the last counts.
    let pairs: std::collections::BTreeMap<_, _> = args.pairs("node-meta")?.into_iter().collect();
    Ok(pairs
        .into_iter()
        .map(|(key, value)| format!("{key}:{value}"))
        .collect())
}
