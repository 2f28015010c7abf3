//! `lictor kv put`

use lictor_agent::config::decode_base64;

use crate::client::{self, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(super) const COMMAND: Command = Command {
    name: "put",
    summary: "Sets or updates data in the KV store",
    usage: "[options] KEY [DATA]",
    about: "
Sets a key to a value, which may be any bytes:

    $ lictor kv put config/redis/maxconns 5

The value can also come from a file or from standard input. Without DATA it is
empty:

    $ lictor kv put config/program/license @license.lic
    $ echo \"abcd1234\" | lictor kv put config/program/license -
    $ lictor kv put webapp/beta/active

With -cas the key is set only if nobody has changed it since it was read:

    $ lictor kv put -cas -modify-index=844 config/redis/maxconns 5",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "acquire",
                        takes: Takes::Nothing,
                        help: "Lock the key for the session of -session, and create it if needed. The default value is false.",
                    },
                    Flag {
                        name: "base64",
                        takes: Takes::Nothing,
                        help: "DATA is in base64: store what it stands for. The default value is false.",
                    },
                    Flag {
                        name: "cas",
                        takes: Takes::Nothing,
                        help: "Set the key only if it has not changed since -modify-index, which is required. The default value is false.",
                    },
                    Flag {
                        name: "flags",
                        takes: Takes::Uint,
                        help: "A number to keep with the key, for whatever the application likes. The default value is 0.",
                    },
                    Flag {
                        name: "modify-index",
                        takes: Takes::Uint,
                        help: "The ModifyIndex that the key must have. Used with -cas.",
                    },
                    Flag {
                        name: "release",
                        takes: Takes::Nothing,
                        help: "Unlock the key, which the session of -session must hold. The default value is false.",
                    },
                    Flag {
                        name: "session",
                        takes: Takes::Text("string"),
                        help: "The id of the session for -acquire and -release.",
                    },
                ],
            },
        ],
        not_yet: super::NOT_YET,
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let (key, operand) = match args.operands.as_slice() {
        [] => return Err(Failure::new("Error! Missing KEY argument")),
        [key] => (key.as_str(), None),
        [key, data] => (key.as_str(), Some(data.as_str())),
        more => {
            return Err(Failure::new(format!(
                "Error! Too many arguments (expected 1 or 2, got {})",
                more.len()
            )));
        }
    };
    let mut data = operand.map_or_else(|| Ok(Vec::new()), |operand| super::read_data(operand, console))?;
    if args.switch("base64") {
        data = decode_base64(&data)
            .map_err(|error| Failure::new(format!("Error! Cannot base 64 decode data: {error}")))?;
    }
    let compare = super::compare_and_set(args)?;
    let session = args.text("session").unwrap_or_default();
    let (acquire, release) = (args.switch("acquire"), args.switch("release"));
    if session.is_empty() && (acquire || release) {
        return Err(Failure::new(
            "Error! Missing -session (required with -acquire and -release)",
        ));
    }

    let flags = args.uint("flags").unwrap_or(0).to_string();
    let mut query = Vec::new();
    if flags != "0" {
        query.push(("flags", flags.as_str()));
    }
    // One condition counts, in this order, as in Consul.
    let (refused, done) = if let Some(index) = &compare {
        query.push(("cas", index));
        (
            format!("Error! Did not write to {key}: CAS failed"),
            format!("Success! Data written to: {key}"),
        )
    } else if acquire {
        query.push(("acquire", session));
        (
            "Error! Did not acquire lock".to_owned(),
            format!("Success! Lock acquired on: {key}"),
        )
    } else if release {
        query.push(("release", session));
        (
            "Error! Did not release lock".to_owned(),
            format!("Success! Lock released on: {key}"),
        )
    } else {
        (
            format!("Error! Did not write to {key}"),
            format!("Success! Data written to: {key}"),
        )
    };

    let failed = |text: String| {
        Failure::new(if compare.is_some() {
            format!("Error! Did not write to {key}: {text}")
        } else {
            format!("Error! Failed writing data: {text}")
        })
    };
    super::check_writable(key).map_err(failed)?;
    let client = Client::new(args, console)?;
    if client
        .put_if(&super::path_of(key), query, &data)
        .map_err(|error| failed(error.to_string()))?
    {
        console.line(done)
    } else {
        Err(Failure::new(refused))
    }
}
