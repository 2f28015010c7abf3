//! `lictor kv get`

use std::io::{BufWriter, Write};

use lictor_agent::config::decode_base64;

use super::Entry;
use crate::client::{self, CallError, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(super) const COMMAND: Command = Command {
    name: "get",
    summary: "Retrieves or lists data from the KV store",
    usage: "[options] [KEY_OR_PREFIX]",
    about: "
Prints the value of a key; it is an error if the key does not exist.

    $ lictor kv get foo

Prints everything that is known about the key: its flags, the session that
locks it, and when it was created and changed:

    $ lictor kv get -detailed foo

Prints all keys that begin with a prefix with their values, or only the keys.
Without a prefix these are all keys of the store:

    $ lictor kv get -recurse foo
    $ lictor kv get -keys foo",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "base64",
                        takes: Takes::Nothing,
                        help: "Print values in base64. The default value is false.",
                    },
                    Flag {
                        name: "detailed",
                        takes: Takes::Nothing,
                        help: "Print everything that is known about the key. The default value is false.",
                    },
                    Flag {
                        name: "keys",
                        takes: Takes::Nothing,
                        help: "Print the keys that begin with the prefix, without values. Usually combined with -separator. The default value is false.",
                    },
                    Flag {
                        name: "recurse",
                        takes: Takes::Nothing,
                        help: "Print all keys that begin with the prefix. The default value is false.",
                    },
                    Flag {
                        name: "separator",
                        takes: Takes::Text("string"),
                        help: "With -keys, print keys only up to the next separator behind the prefix, each once. Empty: print whole keys. The default value is \"/\".",
                    },
                ],
            },
        ],
        not_yet: super::NOT_YET,
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let key = match args.operands.as_slice() {
        [] => "",
        [key] => super::without_slash(key),
        more => {
            return Err(Failure::new(format!(
                "Too many arguments (expected 1, got {})",
                more.len()
            )));
        }
    };
    let (keys, recurse) = (args.switch("keys"), args.switch("recurse"));
    if key.is_empty() && !keys && !recurse {
        return Err(Failure::new("Error! Missing KEY argument"));
    }
    let client = Client::new(args, console)?;
    let get = |query| {
        let failed = |error: CallError| Failure::new(format!("Error querying Lictor agent: {error}"));
        client.find(&super::path_of(key), query).map_err(failed)
    };
    let mut out = BufWriter::new(&mut *console.out);
    if keys {
        let mut query = vec![("keys", "")];
        let separator = args.text("separator").unwrap_or("/");
        if !separator.is_empty() {
            query.push(("separator", separator));
        }
        let body = get(query)?.unwrap_or_else(|| b"[]".to_vec());
        for key in super::parse::<Vec<String>>(&body)? {
            writeln!(out, "{key}")?;
        }
    } else if recurse {
        let body = get(vec![("recurse", "")])?.unwrap_or_else(|| b"[]".to_vec());
        for (at, entry) in super::parse::<Vec<Entry<'_>>>(&body)?.iter().enumerate() {
            if args.switch("detailed") {
                if at > 0 {
                    writeln!(out)?;
                }
                write_details(&mut out, entry, args.switch("base64"))?;
            } else {
                write!(out, "{}:", entry.key)?;
                write_value(&mut out, entry, args.switch("base64"))?;
            }
        }
    } else {
        let body = get(Vec::new())?.ok_or_else(|| missing(key))?;
        let entries = super::parse::<Vec<Entry<'_>>>(&body)?;
        let entry = entries.first().ok_or_else(|| missing(key))?;
        if args.switch("detailed") {
            write_details(&mut out, entry, args.switch("base64"))?;
        } else {
            write_value(&mut out, entry, args.switch("base64"))?;
        }
    }
    Ok(out.flush()?)
}

fn missing(key: &str) -> Failure {
    Failure::new(format!("Error! No key exists at: {key}"))
}

fn write_value(out: &mut impl Write, entry: &Entry<'_>, base64: bool) -> Result<(), Failure> {
    if base64 {
        out.write_all(entry.encoded().as_bytes())?;
    } else {
        let value = decode_base64(entry.encoded().as_bytes()).map_err(|error| {
            Failure::new(format!(
                "Error querying Lictor agent: value of {}: {error}",
                entry.key
            ))
        })?;
        out.write_all(&value)?;
    }
    Ok(writeln!(out)?)
}

fn write_details(out: &mut impl Write, entry: &Entry<'_>, base64: bool) -> Result<(), Failure> {
    let session = entry
        .session
        .as_deref()
        .filter(|session| !session.is_empty())
        .unwrap_or("-");
    writeln!(out, "CreateIndex      {}", entry.create_index)?;
    writeln!(out, "Flags            {}", entry.flags)?;
    writeln!(out, "Key              {}", entry.key)?;
    writeln!(out, "LockIndex        {}", entry.lock_index)?;
    writeln!(out, "ModifyIndex      {}", entry.modify_index)?;
    writeln!(out, "Session          {session}")?;
    // No spaces where nothing follows.
    let label = if entry.encoded().is_empty() {
        "Value"
    } else {
        "Value            "
    };
    out.write_all(label.as_bytes())?;
    write_value(out, entry, base64)
}
