//! `lictor reload`: has an agent read its configuration again.

use crate::client::{self, Client};
use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(crate) const COMMAND: Command = Command {
    name: "reload",
    summary: "Triggers the agent to reload configuration files",
    usage: "[options]",
    about: "
Has an agent read its configuration files again, as the signal SIGHUP does.
Services, checks and the log level follow at once; of other changes the
agent's log says that they need a restart. If the files cannot be used, the
agent goes on as it was, and the command says why.",
    action: Action::Run {
        flags: &[client::TOPIC],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    Client::new(args, console)?
        .put("agent/reload", Vec::new(), b"")
        .map_err(|error| Failure::new(format!("Error reloading: {error}")))?;
    console.line("Configuration reload triggered")
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    #[test]
    fn it_is_triggered_or_the_reason_said() {
        assert_eq!(
            ask(200, "", &["reload"]),
            (
                Ran::ok("Configuration reload triggered\n"),
                vec!["PUT /v1/agent/reload".to_owned()]
            )
        );
        assert_eq!(
            ask(500, "failed to parse a.json: EOF", &["reload"]).0,
            Ran::error("Error reloading: Unexpected response code: 500 (failed to parse a.json: EOF)")
        );
    }
}
