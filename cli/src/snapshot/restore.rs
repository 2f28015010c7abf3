//! `lictor snapshot restore`

use std::io::{BufReader, Seek as _};

use crate::client::{self, Client};
use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(super) const COMMAND: Command = Command {
    name: "restore",
    summary: "Restores a snapshot file",
    usage: "[options] FILE",
    about: "
Puts the state in a snapshot file in the place of all that the servers of the
data center have, on all of them at once. Everything that is there now is
gone, and every blocking query is answered. A file that is not whole, or was
not made by Lictor, changes nothing; and an agent that is not one of Lictor is
sent nothing.

    $ lictor snapshot restore backup.snap",
    action: Action::Run {
        flags: &[client::TOPIC, client::QUERY_TOPIC],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let file = super::file(args)?;
    let mut snapshot = super::open(file, &super::place(file, console))?;
    let failed = |why: String| Failure::new(format!("Error restoring snapshot: {why}"));
    let client = Client::new(args, console)?;
    // The agent checks it too; but what is not whole need not be sent.
    super::verify(&snapshot).map_err(|error| failed(error.to_string()))?;
    snapshot
        .rewind()
        .map_err(|error| super::failed("Error reading snapshot file", &error))?;
    // A server of Consul takes in whatever has the right checksums, and then ends, with all others, over what it cannot read.
    let knows_ours = client
        .keeps_answers("agent/self")
        .map_err(|error| failed(error.to_string()))?;
    if !knows_ours {
        return Err(failed(
            "the agent is not one of Lictor, whose snapshots no other program can restore; nothing was sent. To bring keys over, use \
             \"lictor kv export\" and \"consul kv import\""
                .to_owned(),
        ));
    }
    client
        .upload("snapshot", &mut BufReader::new(snapshot))
        .map_err(|error| failed(error.to_string()))?;
    console.line("Restored snapshot")
}
