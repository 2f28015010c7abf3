//! `lictor services register`

use lictor_agent::config::Definition;
use serde_json::{Value, json};

use super::{defined, text};
use crate::client::{self, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(super) const COMMAND: Command = Command {
    name: "register",
    summary: "Register services with the local agent",
    usage: "[options] [FILE...]",
    about: "
Registers services with an agent: those that configuration files (JSON)
define, or one that flags describe. The agent keeps them, also over restarts,
until they are deregistered.

    $ lictor services register web.json

    $ lictor services register -name=web -port=80 -tag=v1",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "address",
                        takes: Takes::Text("string"),
                        help: "Where the service is, if not at its node's address.",
                    },
                    Flag {
                        name: "id",
                        takes: Takes::Text("string"),
                        help: "The id of the service, unique on its agent. The default is its name.",
                    },
                    Flag {
                        name: "kind",
                        takes: Takes::Text("string"),
                        help: "What kind of service it is, if not a usual one.",
                    },
                    Flag {
                        name: "meta",
                        takes: Takes::Text("key=value"),
                        help: "What else to say of the service, as a key and a value. Can be used multiple times.",
                    },
                    Flag {
                        name: "name",
                        takes: Takes::Text("string"),
                        help: "The name of the service.",
                    },
                    Flag {
                        name: "port",
                        takes: Takes::Int,
                        help: "The port of the service.",
                    },
                    Flag {
                        name: "tag",
                        takes: Takes::Text("value"),
                        help: "A tag of the service. Can be used multiple times.",
                    },
                    Flag {
                        name: "tagged-address",
                        takes: Takes::Text("name=host:port"),
                        help: "A further address of the service, with the name by which some of its users look for it. Can be used multiple times.",
                    },
                ],
            },
        ],
        not_yet: &["namespace", "partition"],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let described = described(args)?;
    let name = args.text("name").unwrap_or_default();
    let services = match (args.operands.is_empty(), name.is_empty()) {
        (true, true) => {
            return Err(Failure::new(
                "Service registration requires at least one argument or flags.",
            ));
        }
        (false, false) => {
            return Err(Failure::new(
                "Service registration requires arguments or -id, not both.",
            ));
        }
        (true, false) => vec![described],
        (false, true) => defined(&args.operands, console)?,
    };
    let client = Client::new(args, console)?;
    for service in services {
        let name = text(&service, "Name").to_owned();
        client
            .put(
                "agent/service/register",
                Vec::new(),
                Value::Object(service).to_string().as_bytes(),
            )
            .map_err(|error| Failure::new(format!("Error registering service {name:?}: {error}")))?;
        console.line(format_args!("Registered service: {name}"))?;
    }
    Ok(())
}

/// What the flags say of one service.
fn described(args: &Args) -> Result<Definition, Failure> {
    let mut service = Definition::new();
    for (flag, key) in [
        ("kind", "Kind"),
        ("id", "ID"),
        ("name", "Name"),
        ("address", "Address"),
    ] {
        if let Some(text) = args.text(flag).filter(|text| !text.is_empty()) {
            service.insert(key.to_owned(), text.into());
        }
    }
    if let Some(port) = args.int("port") {
        service.insert("Port".to_owned(), port.into());
    }
    let tags = args.texts("tag");
    if !tags.is_empty() {
        service.insert("Tags".to_owned(), tags.into());
    }
    let meta = args.pairs("meta")?;
    if !meta.is_empty() {
        service.insert("Meta".to_owned(), meta.into_iter().collect());
    }
    let addresses = args
        .pairs("tagged-address")?
        .into_iter()
        .map(|(name, place)| Ok((name, address(&place)?)))
        .collect::<Result<Definition, String>>()
        .map_err(|why| Failure::new(format!("Invalid Tagged Address: {why}")))?;
    if !addresses.is_empty() {
        service.insert("TaggedAddresses".to_owned(), addresses.into());
    }
    Ok(service)
}

/// Reads `host:port`, with brackets around a host that has colons. The error is in Go's words.
fn address(place: &str) -> Result<Value, String> {
    let Some((host, port)) = place.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
        return Err(format!("address {place}: missing port in address"));
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(format!("address {place}: too many colons in address"));
    }
    let digits = port.strip_prefix(['+', '-']).unwrap_or(port);
    let number: i64 = port.parse().map_err(|_| {
        let why = if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            "invalid syntax"
        } else {
            "value out of range"
        };
        format!("strconv.Atoi: parsing {port:?}: {why}")
    })?;
    Ok(json!({"Address": bare.unwrap_or(host), "Port": number}))
}
