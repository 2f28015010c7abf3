//! `lictor join`: brings an agent into a cluster.

use crate::client::{self, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(crate) const COMMAND: Command = Command {
    name: "join",
    summary: "Tells an agent to join a cluster",
    usage: "[options] ADDRESS...",
    about: "
Tells a running agent to join the cluster that the agents at these addresses
are members of. One of them is enough: the others are found through it.

    $ lictor join 10.0.0.5
    $ lictor join -wan 10.8.0.5",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            Topic {
                title: "Command Options",
                flags: &[Flag {
                    name: "wan",
                    takes: Takes::Nothing,
                    help: "Join the pool of the servers of all data centers. The agent must be a server. The default value is false.",
                }],
            },
        ],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    if args.operands.is_empty() {
        return Err(Failure::misuse("At least one address to join must be specified."));
    }
    let client = Client::new(args, console)?;
    let query = if args.switch("wan") {
        vec![("wan", "1")]
    } else {
        Vec::new()
    };
    let mut joined = 0;
    for address in &args.operands {
        match client.put(&format!("agent/join/{address}"), query.clone(), b"") {
            Ok(_) => joined += 1,
            Err(error) => console.remark(format_args!("Error joining address '{address}': {error}")),
        }
    }
    if joined == 0 {
        return Err(Failure::new("Failed to join any nodes."));
    }
    console.line(format_args!(
        "Successfully joined cluster by contacting {joined} nodes."
    ))
}

#[cfg(test)]
mod tests {
    use crate::console::testing::{Ran, run, run_with};
    use crate::fake::{Fake, ask};

    #[test]
    fn every_address_is_asked_for() {
        for (line, targets) in [
            (&["join", "a", "b:1"][..], &["agent/join/a", "agent/join/b:1"][..]),
            (
                &["join", "a b/c?%41", "::1", "[::1]:83"],
                &[
                    "agent/join/a%20b/c%3F%2541",
                    "agent/join/::1",
                    "agent/join/%5B::1%5D:83",
                ],
            ),
            (&["join", "-wan", "a"], &["agent/join/a?wan=1"]),
        ] {
            let said = format!(
                "Successfully joined cluster by contacting {} nodes.\n",
                targets.len()
            );
            let targets = targets.iter().map(|target| format!("PUT /v1/{target}")).collect();
            assert_eq!(ask(200, "", line), (Ran::ok(said), targets));
        }
    }

    #[test]
    fn one_that_answers_is_enough() {
        let fake = Fake::start(|seen| {
            if seen.line.ends_with("/good") {
                (200, String::new())
            } else {
                (500, "1 error occurred:\n\t* no\n\n".to_owned())
            }
        });
        let variables = [("CONSUL_HTTP_ADDR", fake.address.as_str())];
        let failed = |name| {
            format!(
                "Error joining address '{name}': Unexpected response code: 500 (1 error occurred:\n\t* no\n\n)\n"
            )
        };
        let ran = run_with(&["join", "bad", "good"], b"", &variables);
        assert_eq!(
            ran,
            Ran {
                code: 0,
                out: "Successfully joined cluster by contacting 1 nodes.\n".to_owned(),
                err: failed("bad"),
            }
        );
        let ran = run_with(&["join", "bad", "worse"], b"", &variables);
        let err = format!("{}{}Failed to join any nodes.\n", failed("bad"), failed("worse"));
        assert_eq!(
            ran,
            Ran {
                code: 1,
                out: String::new(),
                err,
            }
        );
    }

    #[test]
    fn an_address_is_needed() {
        for line in [&["join"][..], &["join", "-wan"]] {
            let ran = run(line);
            assert_eq!((ran.code, ran.out.as_str()), (1, ""));
            assert!(
                ran.err
                    .starts_with("At least one address to join must be specified.\n\nUsage: lictor join ")
            );
        }
    }
}
