//! `lictor snapshot`: the whole state of a data center in a file.

mod inspect;
mod restore;
mod save;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use lictor_agent::config::system_error;
use lictor_agent::snapshot::archive::{self, ArchiveError, Meta, Within};

use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(crate) const COMMAND: Command = Command {
    name: "snapshot",
    summary: "Saves, restores and inspects snapshots of the state",
    usage: "<subcommand> [options] [args]",
    about: "
A snapshot is a file with all that the servers of a data center agree on: the
keys, the catalog, sessions, locks, and the settings of operators. It is one
moment's state, whatever is written meanwhile.

Save one:

    $ lictor snapshot save backup.snap

Look at one, without an agent:

    $ lictor snapshot inspect backup.snap

Put one in the place of all there is:

    $ lictor snapshot restore backup.snap",
    action: Action::Group(&[inspect::COMMAND, restore::COMMAND, save::COMMAND], &["agent"]),
};

/// The one operand of these commands.
fn file(args: &Args) -> Result<&str, Failure> {
    match args.operands.as_slice() {
        [] => Err(Failure::new("Missing FILE argument")),
        [file] => Ok(file),
        more => Err(Failure::new(format!(
            "Too many arguments (expected 1, got {})",
            more.len()
        ))),
    }
}

/// Where that is.
fn place(file: &str, console: &Console<'_>) -> PathBuf {
    console.directory.join(file)
}

fn open(file: &str, path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        Failure::new(format!(
            "Error opening snapshot file: open {file}: {}",
            system_error(&error)
        ))
    })
}

/// Reads a snapshot to its end, whoever made it, and checks that it is whole.
fn verify(snapshot: &File) -> Result<Meta, ArchiveError> {
    archive::read(BufReader::new(snapshot), u64::MAX, Within::Anything)
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(format!("{what}: {}", system_error(error)))
}
