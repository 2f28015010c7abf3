//! `lictor snapshot inspect`

use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(super) const COMMAND: Command = Command {
    name: "inspect",
    summary: "Tells what a snapshot file is",
    usage: "[options] FILE",
    about: "
Checks a snapshot file from end to end and prints which state it is of. No
agent is asked.

    $ lictor snapshot inspect backup.snap

Snapshots of Consul can be inspected as well; they cannot be restored here.",
    action: Action::Run {
        flags: &[],
        not_yet: &["format", "kvdepth", "kvdetails", "kvfilter"],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let file = super::file(args)?;
    let snapshot = super::open(file, &super::place(file, console))?;
    let meta = super::verify(&snapshot)
        .map_err(|error| Failure::new(format!("Error verifying snapshot: {error}")))?;
    for (name, value) in [
        ("ID", meta.id),
        ("Size", meta.size.to_string()),
        ("Index", meta.index.to_string()),
        ("Term", meta.term.to_string()),
        ("Version", meta.version.to_string()),
    ] {
        console.line(format_args!("{name:<13}{value}"))?;
    }
    console.line("")
}
