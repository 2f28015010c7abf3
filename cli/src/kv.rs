//! `lictor kv`: the key-value store.

mod delete;
mod export;
mod get;
mod import;
mod put;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Read;

use lictor_agent::config::system_error;
use serde::Deserialize;

use crate::command::{Action, Command};
use crate::console::{Console, Failure};

/// More than a single write may carry anywhere.
const MAX_INPUT: u64 = 1 << 30;

/// What commands refuse by name: a feature of Consul Enterprise.
const NOT_YET: &[&str] = &["namespace", "partition"];

pub(crate) const COMMAND: Command = Command {
    name: "kv",
    summary: "Interact with the key-value store",
    usage: "<subcommand> [options] [args]",
    about: "
Reads and writes the key-value store. For example, set a key, read it back,
see everything that is known about it, and remove it:

    $ lictor kv put redis/config/connections 5
    $ lictor kv get redis/config/connections
    $ lictor kv get -detailed redis/config/connections
    $ lictor kv delete redis/config/connections",
    action: Action::Group(
        &[
            delete::COMMAND,
            export::COMMAND,
            get::COMMAND,
            import::COMMAND,
            put::COMMAND,
        ],
        &[],
    ),
};

/// A key as the API tells it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    create_index: u64,
    modify_index: u64,
    lock_index: u64,
    flags: u64,
    /// In base64; absent if empty.
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session: Option<Cow<'a, str>>,
}

impl Entry<'_> {
    /// The value in base64.
    fn encoded(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

/// Reads what the API says about keys.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::new(format!(
            "Error querying Lictor agent: cannot understand its answer: {error}"
        ))
    })
}

/// The path of a key below `/v1/`.
fn path_of(key: &str) -> String {
    format!("kv/{key}")
}

/// A key that is only looked up may be written with a slash before it.
fn without_slash(key: &str) -> &str {
    key.strip_prefix('/').unwrap_or(key)
}

/// The store takes no key that begins with a slash: it would be taken for the key without.
fn check_writable(key: &str) -> Result<(), String> {
    if key.starts_with('/') {
        return Err(format!("Invalid key. Key must not begin with a '/': {key}"));
    }
    Ok(())
}

/// What a DATA operand stands for: `@file`, `-` for standard input, or itself.
fn read_data(operand: &str, console: &mut Console<'_>) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    let (what, read) = if let Some(path) = operand.strip_prefix('@') {
        let fail = |error| {
            Failure::new(format!(
                "Error! Failed to read file: open {path}: {}",
                system_error(&error)
            ))
        };
        let file = std::fs::File::open(path).map_err(fail)?;
        ("file", file.take(MAX_INPUT + 1).read_to_end(&mut data))
    } else if operand == "-" {
        (
            "stdin",
            (&mut *console.input).take(MAX_INPUT + 1).read_to_end(&mut data),
        )
    } else {
        return Ok(operand.as_bytes().to_vec());
    };
    read.map_err(|error| Failure::new(format!("Error! Failed to read {what}: {}", system_error(&error))))?;
    if data.len() as u64 > MAX_INPUT {
        return Err(Failure::new(format!(
            "Error! Failed to read {what}: more than {} MiB",
            MAX_INPUT >> 20
        )));
    }
    Ok(data)
}

/// `-cas` and `-modify-index` belong together; the index to compare with, if any.
fn compare_and_set(args: &crate::flags::Args) -> Result<Option<String>, Failure> {
    let index = args.uint("modify-index").filter(|index| *index > 0);
    match (args.switch("cas"), index) {
        (true, None) => Err(Failure::new("Must specify -modify-index with -cas!")),
        (true, Some(index)) => Ok(Some(index.to_string())),
        (false, Some(_) | None) => Ok(None),
    }
}
