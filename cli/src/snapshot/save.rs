//! `lictor snapshot save`

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use lictor_agent::config::system_error;

use crate::client::{self, Client};
use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(super) const COMMAND: Command = Command {
    name: "save",
    summary: "Saves a snapshot of the state to a file",
    usage: "[options] FILE",
    about: "
Saves all that the servers of a data center agree on to a file. The file is
written aside, checked from end to end, and only then takes the name, so it
is there as a whole or not at all. Only a regular file is replaced, if need be
the one that a link leads to: no device and no pipe.

    $ lictor snapshot save backup.snap

The leader's state is saved, or one that is as fresh. If there is no leader,
or to spare it, any server's state can be saved, which may be a little behind:

    $ lictor snapshot save -stale backup.snap",
    action: Action::Run {
        flags: &[client::TOPIC, client::QUERY_TOPIC],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let file = super::file(args)?;
    let client = Client::new(args, console)?;
    let path = replaceable(&super::place(file, console)).map_err(|what| {
        Failure::new(format!(
            "Error saving snapshot: {file} is {what}, which is not replaced; name a regular file, or one that is not there yet"
        ))
    })?;
    let aside = path.with_added_extension(format!("unverified.{}", std::process::id()));
    let saved = save(&client, &path, &aside, file);
    if saved.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&aside);
    }
    let index = saved?;
    console.line(format_args!("Saved and verified snapshot to index {index}"))
}

/// Saves a snapshot aside, checks it, and moves it to its place. The index that it is of.
fn save(client: &Client, path: &Path, aside: &Path, file: &str) -> Result<u64, Failure> {
    let mut answer = client
        .download("snapshot")
        .map_err(|error| Failure::new(format!("Error saving snapshot: {error}")))?;
    let unwritten = |error: &io::Error| super::failed("Error writing unverified snapshot file", error);
    let created = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(aside);
    let mut snapshot = created.map_err(|error| {
        Failure::new(format!(
            "Error writing unverified snapshot file: open {file}: {}",
            system_error(&error)
        ))
    })?;
    let mut out = BufWriter::new(&snapshot);
    io::copy(&mut answer, &mut out)
        .and_then(|_| out.flush())
        .map_err(|error| unwritten(&error))?;
    drop(out);
    snapshot.rewind().map_err(|error| unwritten(&error))?;
    let meta = super::verify(&snapshot)
        .map_err(|error| Failure::new(format!("Error verifying snapshot file: {error}")))?;
    snapshot.sync_all().map_err(|error| unwritten(&error))?;
    fs::rename(aside, path)
        .and_then(|()| File::open(directory(path))?.sync_all())
        .map_err(|error| super::failed("Error saving snapshot file", &error))?;
    Ok(meta.index)
}

/// What a snapshot of this name takes the place of: a file, which may be elsewhere if the name is a link's, or nothing yet. `Err`: what there is
/// that must not be replaced. A rename asks nothing: to whoever may write there, `/dev/null` is a name like any other.
fn replaceable(path: &Path) -> Result<PathBuf, &'static str> {
    // What cannot be looked at cannot be written either, and then that says why.
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(path.to_owned());
    };
    let kind = found.file_type();
    if kind.is_file() {
        Ok(path.to_owned())
    } else if kind.is_symlink() {
        let end = fs::canonicalize(path).map_err(|_| "a symbolic link that leads to nothing")?;
        replaceable(&end)
    } else if kind.is_dir() {
        Err("a directory")
    } else if kind.is_fifo() {
        Err("a pipe")
    } else if kind.is_socket() {
        Err("a socket")
    } else {
        Err("a device")
    }
}

/// The directory that the name is in.
fn directory(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
