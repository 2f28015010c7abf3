//! `lictor services deregister`

use super::{defined, text};
use crate::client::{self, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(super) const COMMAND: Command = Command {
    name: "deregister",
    summary: "Deregister services with the local agent",
    usage: "[options] [FILE...]",
    about: "
Removes services from the agent with which they were registered: those that
configuration files (JSON) define, or one by its id. A service that the agent
has in its own configuration files is back after the next reload.

    $ lictor services deregister web.json db.json

    $ lictor services deregister -id=web",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[Flag {
                    name: "id",
                    takes: Takes::Text("string"),
                    help: "The id of the service to remove. Not together with files.",
                }],
            },
        ],
        not_yet: &["namespace", "partition"],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let id = args.text("id").unwrap_or_default();
    let ids = match (args.operands.is_empty(), id.is_empty()) {
        (true, true) => {
            return Err(Failure::new(
                "Service deregistration requires at least one argument or -id.",
            ));
        }
        (false, false) => {
            return Err(Failure::new(
                "Service deregistration requires arguments or -id, not both.",
            ));
        }
        (true, false) => vec![id.to_owned()],
        (false, true) => {
            let services = defined(&args.operands, console)?;
            let id = |service| match text(service, "ID") {
                "" => text(service, "Name").to_owned(),
                id => id.to_owned(),
            };
            services.iter().map(id).collect()
        }
    };
    let client = Client::new(args, console)?;
    for id in ids {
        client
            .put(&format!("agent/service/deregister/{id}"), Vec::new(), b"")
            .map_err(|error| Failure::new(format!("Error deregistering service {id:?}: {error}")))?;
        console.line(format_args!("Deregistered service: {id}"))?;
    }
    Ok(())
}
