//! `lictor kv delete`

use crate::client::{self, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(super) const COMMAND: Command = Command {
    name: "delete",
    summary: "Removes data from the KV store",
    usage: "[options] KEY_OR_PREFIX",
    about: "
Removes a key. It is no error if there is none.

    $ lictor kv delete foo

Removes all keys that begin with a prefix, such as \"foo\", \"food\" and
\"foo/bar/zip\":

    $ lictor kv delete -recurse foo",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "cas",
                        takes: Takes::Nothing,
                        help: "Remove the key only if it has not changed since -modify-index, which is required. The default value is false.",
                    },
                    Flag {
                        name: "modify-index",
                        takes: Takes::Uint,
                        help: "The ModifyIndex that the key must have. Used with -cas.",
                    },
                    Flag {
                        name: "recurse",
                        takes: Takes::Nothing,
                        help: "Remove all keys that begin with the prefix. The default value is false.",
                    },
                ],
            },
        ],
        not_yet: super::NOT_YET,
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let recurse = args.switch("recurse");
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
    if key.is_empty() && !recurse {
        return Err(Failure::new("Error! Missing KEY argument"));
    }
    let compare = super::compare_and_set(args)?;
    if recurse && compare.is_some() {
        return Err(Failure::new("Cannot specify both -cas and -recurse!"));
    }
    if compare.is_none() && args.uint("modify-index").is_some_and(|index| index > 0) {
        return Err(Failure::new("Cannot specify -modify-index without -cas!"));
    }

    let client = Client::new(args, console)?;
    let path = super::path_of(key);
    if recurse {
        let done = client
            .delete_if(&path, vec![("recurse", "")])
            .map_err(|error| Failure::new(format!("Error! Did not delete prefix {key}: {error}")))?;
        return if done {
            console.line(format_args!("Success! Deleted keys with prefix: {key}"))
        } else {
            Err(Failure::new(format!("Error! Did not delete prefix {key}")))
        };
    }
    if let Some(index) = &compare {
        let done = client
            .delete_if(&path, vec![("cas", index)])
            .map_err(|error| Failure::new(format!("Error! Did not delete key {key}: {error}")))?;
        if !done {
            return Err(Failure::new(format!(
                "Error! Did not delete key {key}: CAS failed"
            )));
        }
    } else {
        let done = client
            .delete_if(&path, Vec::new())
            .map_err(|error| Failure::new(format!("Error deleting key {key}: {error}")))?;
        if !done {
            return Err(Failure::new(format!(
                "Error deleting key {key}: the agent answered that it did not"
            )));
        }
    }
    console.line(format_args!("Success! Deleted key: {key}"))
}
