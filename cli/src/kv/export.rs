//! `lictor kv export`

use std::io::{BufWriter, Write};

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::Entry;
use crate::client::{self, Client};
use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(super) const COMMAND: Command = Command {
    name: "export",
    summary: "Exports a tree from the KV store as JSON",
    usage: "[options] [KEY_OR_PREFIX]",
    about: "
Prints all keys that begin with a prefix as JSON, for \"lictor kv import\" to
read into another cluster. Without a prefix these are all keys of the store.

    $ lictor kv export vault > vault.json",
    action: Action::Run {
        flags: &[client::TOPIC, client::QUERY_TOPIC],
        not_yet: super::NOT_YET,
        run,
    },
};

/// One key as it is exported.
#[derive(Serialize)]
struct Exported<'a> {
    key: &'a str,
    flags: u64,
    /// In base64.
    value: &'a str,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let prefix = match args.operands.as_slice() {
        [] => "",
        [prefix] => super::without_slash(prefix),
        more => {
            return Err(Failure::new(format!(
                "Too many arguments (expected 1, got {})",
                more.len()
            )));
        }
    };
    let client = Client::new(args, console)?;
    let body = client
        .find(&super::path_of(prefix), vec![("recurse", "")])
        .map_err(|error| Failure::new(format!("Error querying Lictor agent: {error}")))?
        .unwrap_or_else(|| b"[]".to_vec());
    let entries = super::parse::<Vec<Entry<'_>>>(&body)?;

    let mut out = BufWriter::new(&mut *console.out);
    let layout = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    write_entries(
        &mut serde_json::Serializer::with_formatter(&mut out, layout),
        &entries,
    )
    .map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn write_entries<S: Serializer>(serializer: S, entries: &[Entry<'_>]) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(entries.len()))?;
    for entry in entries {
        list.serialize_element(&Exported {
            key: &entry.key,
            flags: entry.flags,
            value: entry.encoded(),
        })?;
    }
    list.end()
}
