//! `lictor leave`: an agent's orderly departure.

use crate::client::{self, Client};
use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(crate) const COMMAND: Command = Command {
    name: "leave",
    summary: "Makes an agent leave its cluster and shut down",
    usage: "[options]",
    about: "
Makes an agent say good-bye to its cluster and end: the others see it as left,
not as failed. A server also leaves the set of those that vote. The command
returns when the agent has left.",
    action: Action::Run {
        flags: &[client::TOPIC],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    if !args.operands.is_empty() {
        return Err(Failure::misuse(format!(
            "Error found unexpected args: [{}]",
            args.operands.join(" ")
        )));
    }
    Client::new(args, console)?
        .put("agent/leave", Vec::new(), b"")
        .map_err(|error| Failure::new(format!("Error leaving: {error}")))?;
    console.line("Graceful leave complete")
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    #[test]
    fn leaving() {
        assert_eq!(
            ask(200, "", &["leave"]),
            (
                Ran::ok("Graceful leave complete\n"),
                vec!["PUT /v1/agent/leave".to_owned()]
            )
        );
        assert_eq!(
            ask(500, "bad", &["leave"]).0,
            Ran::error("Error leaving: Unexpected response code: 500 (bad)")
        );
    }

    #[test]
    fn nobody_leaves_by_mistake() {
        let (ran, asked) = ask(200, "", &["leave", "x", "y"]);
        assert_eq!((ran.code, ran.out.as_str(), asked.len()), (1, "", 0));
        assert!(
            ran.err
                .starts_with("Error found unexpected args: [x y]\n\nUsage: lictor leave ")
        );
    }
}
