//! `lictor event`: fires a user event.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::client::{self, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};
use crate::pattern;

pub(crate) const COMMAND: Command = Command {
    name: "event",
    summary: "Fires an event that all agents hear of",
    usage: "[options] [PAYLOAD]",
    about: "
Fires an event, which reaches the agents of the data center within moments,
and prints its id. Events are remembered for a while and are not stored. With
filters, which are regular expressions, only some agents take notice.

    $ lictor event -name=deploy 1.4.2
    $ lictor event -name=deploy -service=web -tag=canary 1.4.2",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "name",
                        takes: Takes::Text("string"),
                        help: "The event's name. Required.",
                    },
                    Flag {
                        name: "node",
                        takes: Takes::Text("string"),
                        help: "Only for agents whose node's name matches this regular expression.",
                    },
                    Flag {
                        name: "service",
                        takes: Takes::Text("string"),
                        help: "Only for agents that have a service whose name matches this regular expression.",
                    },
                    Flag {
                        name: "tag",
                        takes: Takes::Text("string"),
                        help: "Only for agents whose service of -service, which is required, has a tag that matches this regular expression.",
                    },
                ],
            },
        ],
        not_yet: &[],
        run,
    },
};

/// The event as the API tells it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fired {
    #[serde(rename = "ID")]
    id: String,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let text = |flag| args.text(flag).unwrap_or_default();
    let name = text("name");
    if name.is_empty() {
        return Err(Failure::misuse("Event name must be specified"));
    }
    let mut query = Vec::new();
    for filter in ["node", "service", "tag"] {
        let expression = text(filter);
        if !expression.is_empty() {
            pattern::compile(expression).map_err(|error| {
                Failure::new(format!("Failed to compile {filter} filter regexp: {error}"))
            })?;
            query.push((filter, expression));
        }
    }
    if !text("tag").is_empty() && text("service").is_empty() {
        return Err(Failure::new("Cannot provide tag filter without service filter."));
    }
    let payload = match args.operands.as_slice() {
        [] => "",
        [payload] => payload,
        _ => return Err(Failure::misuse("Too many command line arguments.")),
    };
    let client = Client::new(args, console)?;
    // So that an agent that does not answer is told from an event that may or may not have been fired.
    client
        .read::<IgnoredAny>("agent/self", Vec::new())
        .map_err(|error| Failure::new(format!("Error querying Lictor agent: {error}")))?;
    let answer = client
        .put(&format!("event/fire/{name}"), query, payload.as_bytes())
        .map_err(|error| Failure::new(format!("Error firing event: {error}")))?;
    let fired: Fired = serde_json::from_slice(&answer).map_err(|error| {
        Failure::new(format!(
            "Error firing event: cannot understand the agent's answer: {error}"
        ))
    })?;
    console.line(format_args!("Event ID: {}", fired.id))
}

#[cfg(test)]
mod tests {
    use crate::console::testing::{Ran, run, run_with};
    use crate::fake::Fake;

    /// Runs the line against an agent that is well, and says so to an event.
    fn fire(status: u16, body: &str, line: &[&str]) -> (Ran, Vec<(String, Vec<u8>)>) {
        let body = body.to_owned();
        let fake = Fake::start(move |seen| {
            if seen.line == "GET /v1/agent/self" {
                (200, r#"{"Config":{"NodeName":"s1"}}"#.to_owned())
            } else {
                (status, body.clone())
            }
        });
        let ran = run_with(line, b"", &[("CONSUL_HTTP_ADDR", &fake.address)]);
        let seen = fake.seen().into_iter().skip(1);
        (ran, seen.map(|seen| (seen.line, seen.body)).collect())
    }

    const ANSWER: &str = r#"{"ID":"b54fe110-7af5-cafc-d1fb-afc8ba432b1c","Name":"deploy","Payload":null,"NodeFilter":"","ServiceFilter":"","TagFilter":"","Version":1,"LTime":0}"#;

    #[test]
    fn events_are_fired() {
        for (line, target, payload) in [
            (&["event", "-name", "deploy"][..], "PUT /v1/event/fire/deploy", ""),
            (
                &["event", "-name=deploy", "1.4.2"],
                "PUT /v1/event/fire/deploy",
                "1.4.2",
            ),
            (&["event", "-name=deploy", "-"], "PUT /v1/event/fire/deploy", "-"),
            (
                &[
                    "event",
                    "-name=f o/x?",
                    "-node=^a$",
                    "-service=s",
                    "-tag=t+",
                    "p q",
                ],
                "PUT /v1/event/fire/f%20o/x%3F?node=%5Ea%24&service=s&tag=t%2B",
                "p q",
            ),
        ] {
            assert_eq!(
                fire(200, ANSWER, line),
                (
                    Ran::ok("Event ID: b54fe110-7af5-cafc-d1fb-afc8ba432b1c\n"),
                    vec![(target.to_owned(), payload.as_bytes().to_vec())]
                )
            );
        }
    }

    #[test]
    fn failures_of_the_agent() {
        let line = ["event", "-name=deploy"];
        for (status, body, message) in [
            (
                500,
                "bad",
                "Error firing event: Unexpected response code: 500 (bad)",
            ),
            (404, "", "Error firing event: Unexpected response code: 404 ()"),
            (
                200,
                "{}",
                "Error firing event: cannot understand the agent's answer: missing field `ID` at line 1 column 2",
            ),
        ] {
            assert_eq!(fire(status, body, &line).0, Ran::error(message));
        }
        let fake = Fake::start(|_| (500, "bad".to_owned()));
        assert_eq!(
            run_with(&line, b"", &[("CONSUL_HTTP_ADDR", &fake.address)]),
            Ran::error("Error querying Lictor agent: Unexpected response code: 500 (bad)")
        );
        assert_eq!(fake.lines(), ["GET /v1/agent/self"], "nothing is fired");
    }

    #[test]
    fn mistakes_are_found_before_anything_is_sent() {
        for (line, message) in [
            (
                &["event", "-name=a", "-node=(", "b", "c"][..],
                "Failed to compile node filter regexp: error parsing regexp: missing closing ): `(`",
            ),
            (
                &["event", "-name=a", "-service=("],
                "Failed to compile service filter regexp: error parsing regexp: missing closing ): `(`",
            ),
            (
                &["event", "-name=a", "-tag=("],
                "Failed to compile tag filter regexp: error parsing regexp: missing closing ): `(`",
            ),
            (
                &["event", "-name=a", "-tag=x", "-service="],
                "Cannot provide tag filter without service filter.",
            ),
        ] {
            assert_eq!(run(line), Ran::error(message));
        }
        for (line, message) in [
            (&["event", "payload"][..], "Event name must be specified"),
            (
                &["event", "-name=a", "b", "c"],
                "Too many command line arguments.",
            ),
        ] {
            let ran = run(line);
            assert_eq!((ran.code, ran.out.as_str()), (1, ""));
            assert!(ran.err.starts_with(&format!("{message}\n\nUsage: lictor event ")));
        }
    }
}
