//! `lictor force-leave`: for a member that will not come back.

use crate::client::{self, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(crate) const COMMAND: Command = Command {
    name: "force-leave",
    summary: "Makes the cluster take a failed member for one that has left",
    usage: "[options] NODE",
    about: "
Makes the cluster take a failed member for one that has left. Use it for a
node that is never coming back: without it, the others go on trying to reach
the node, until they forget it after some days. A member that is still alive
says so, and remains one.

    $ lictor force-leave node7",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            Topic {
                title: "Command Options",
                flags: &[Flag {
                    name: "prune",
                    takes: Takes::Nothing,
                    help: "Forget the member at once, so that it is no longer listed. The default value is false.",
                }],
            },
        ],
        not_yet: &["partition"],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let [node] = args.operands.as_slice() else {
        return Err(Failure::misuse(
            "A single node name must be specified to force leave.",
        ));
    };
    let query = if args.switch("prune") {
        vec![("prune", "1")]
    } else {
        Vec::new()
    };
    Client::new(args, console)?
        .put(&format!("agent/force-leave/{node}"), query, b"")
        .map_err(|error| Failure::new(format!("Error force leaving: {error}")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    #[test]
    fn success_is_silent() {
        for (line, target) in [
            (&["force-leave", "a"][..], "PUT /v1/agent/force-leave/a"),
            (&["force-leave", "a b/c"], "PUT /v1/agent/force-leave/a%20b/c"),
            (
                &["force-leave", "-prune", "a"],
                "PUT /v1/agent/force-leave/a?prune=1",
            ),
        ] {
            assert_eq!(ask(200, "", line), (Ran::ok(""), vec![target.to_owned()]));
        }
    }

    #[test]
    fn failures() {
        assert_eq!(
            ask(
                500,
                "agent: No node found with name 'nope'",
                &["force-leave", "nope"]
            )
            .0,
            Ran::error(
                "Error force leaving: Unexpected response code: 500 (agent: No node found with name 'nope')"
            )
        );
        for line in [&["force-leave"][..], &["force-leave", "a", "-prune"]] {
            let (ran, asked) = ask(200, "", line);
            assert_eq!((ran.code, ran.out.as_str(), asked.len()), (1, "", 0));
            assert!(ran.err.starts_with(
                "A single node name must be specified to force leave.\n\nUsage: lictor force-leave "
            ));
        }
    }
}
