//! `lictor services`: what runs on an agent, registered by hand.

mod deregister;
mod register;

use std::path::PathBuf;

use lictor_agent::config::{Definition, read_services};
use serde_json::Value;

use crate::command::{Action, Command};
use crate::console::{Console, Failure};

pub(crate) const COMMAND: Command = Command {
    name: "services",
    summary: "Interact with services",
    usage: "<subcommand> [options] [args]",
    about: "
Registers services with an agent, and removes them. What all agents together
have registered is in the catalog: see \"lictor catalog services\".",
    action: Action::Group(
        &[deregister::COMMAND, register::COMMAND],
        &["export", "exported-services", "imported-services"],
    ),
};

/// The services that files and directories define. What is odd about them is remarked.
fn defined(paths: &[String], console: &mut Console<'_>) -> Result<Vec<Definition>, Failure> {
    let paths: Vec<PathBuf> = paths.iter().map(Into::into).collect();
    let (services, warnings) =
        read_services(&paths).map_err(|error| Failure::new(format!("Error: {error}")))?;
    for warning in warnings {
        console.remark(warning);
    }
    Ok(services)
}

/// A text of a definition; empty if there is none.
fn text<'d>(service: &'d Definition, key: &str) -> &'d str {
    service.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
