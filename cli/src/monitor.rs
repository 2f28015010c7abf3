//! `lictor monitor`: reads along in an agent's log.

use std::io::{ErrorKind, Read as _};

use crate::client::{self, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

/// The levels by the names that the help has.
const LEVELS: [&str; 5] = ["TRACE", "DEBUG", "INFO", "WARN", "ERR"];

/// How much is read at a time.
const BLOCK: usize = 16 << 10;

pub(crate) const COMMAND: Command = Command {
    name: "monitor",
    summary: "Stream logs from an agent",
    usage: "[options]",
    about: "
Prints what an agent logs from now on, until it is interrupted. The level may
be another than that of the agent's own log: what the agent does not write
down can be seen here.

    $ lictor monitor -log-level=DEBUG",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "log-json",
                        takes: Takes::Nothing,
                        help: "One JSON object a line. The default value is false.",
                    },
                    Flag {
                        name: "log-level",
                        takes: Takes::Text("string"),
                        help: "What to print: TRACE, DEBUG, INFO, WARN or ERR, and everything more important. The default value is INFO.",
                    },
                ],
            },
        ],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let level = args.text("log-level").unwrap_or("INFO");
    let mut query = vec![("loglevel", level)];
    if args.switch("log-json") {
        query.push(("logjson", "true"));
    }
    let client = Client::new(args, console)?;
    // Whoever interrupts has seen enough: no failure.
    (console.succeed_on_interrupt)();
    let mut lines = client.stream("agent/monitor", query).map_err(|error| {
        let hint = if is_level(level) {
            String::new()
        } else {
            format!("; must be one of {}", LEVELS.join(", "))
        };
        Failure::new(format!("Error starting monitor: {error}{hint}"))
    })?;
    let mut block = vec![0; BLOCK];
    loop {
        match lines.read(&mut block) {
            Ok(length @ 1..) => {
                console.out.write_all(&block[..length])?;
                console.out.flush()?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // An agent that crashes closes the connection in its own way.
            Ok(0) | Err(_) => break,
        }
    }
    console.line(
        "\nRemote side ended the monitor! This usually means that the\nremote side has exited or crashed.",
    )?;
    Err(Failure::silent(1))
}

/// Whether agents know a level by this name.
fn is_level(name: &str) -> bool {
    let mut known = LEVELS.iter().chain(&["ERROR", ""]);
    known.any(|level| level.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    const ENDED: &str =
        "\nRemote side ended the monitor! This usually means that the\nremote side has exited or crashed.\n";

    #[test]
    fn what_the_agent_logs_is_printed_until_it_ends() {
        let log =
            "2026-11-21T21:36:41.216Z [INFO]  agent: one\n2026-11-21T21:36:42.216Z [WARN]  agent: two\n";
        for (line, target) in [
            (&["monitor"][..], "GET /v1/agent/monitor?loglevel=INFO"),
            (
                &["monitor", "-log-level=debug", "-log-json"],
                "GET /v1/agent/monitor?logjson=true&loglevel=debug",
            ),
        ] {
            let (ran, asked) = ask(200, log, line);
            assert_eq!((ran.code, ran.err.as_str()), (1, ""));
            assert_eq!(ran.out, format!("{log}{ENDED}"));
            assert_eq!(asked, [target]);
        }
    }

    #[test]
    fn a_refusal_is_explained() {
        assert_eq!(
            ask(
                400,
                "Bad request: Unknown log level: nope",
                &["monitor", "-log-level=nope"]
            )
            .0,
            Ran::error(
                "Error starting monitor: Unexpected response code: 400 (Bad request: Unknown log level: nope); must be one of TRACE, DEBUG, INFO, WARN, ERR"
            )
        );
        assert_eq!(
            ask(500, "No", &["monitor", "-log-level=warn"]).0,
            Ran::error("Error starting monitor: Unexpected response code: 500 (No)")
        );
    }
}
