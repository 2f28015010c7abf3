//! `lictor info`: what an agent counts.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use serde::Deserialize;

use crate::client::{self, Client};
use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(crate) const COMMAND: Command = Command {
    name: "info",
    summary: "Prints facts and figures of an agent",
    usage: "[options]",
    about: "
Prints what an agent knows of itself, for whoever looks for the cause of
something: its version, its part in consensus, its view of the pools.",
    action: Action::Run {
        flags: &[client::TOPIC],
        not_yet: &[],
        run,
    },
};

/// What of an agent's account of itself is printed: facts by section.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Account {
    stats: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let fail = |error| Failure::new(format!("Error querying agent: {error}"));
    let account: Account = Client::new(args, console)?
        .read("agent/self", Vec::new())
        .map_err(fail)?;
    let stats = account
        .stats
        .ok_or_else(|| Failure::new("Agent response did not contain 'Stats' key"))?;
    let mut out = BufWriter::new(&mut *console.out);
    for (section, facts) in &stats {
        writeln!(out, "{section}:")?;
        for (name, value) in facts {
            writeln!(out, "\t{name} = {value}")?;
        }
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    #[test]
    fn sections_and_facts_are_sorted() {
        let body = r#"{"Config":{"NodeName":"s1"},"Stats":{
            "raft":{"term":"2","state":"Leader","last_contact":"0"},
            "build":{"version":"1.8.7","prerelease":""},
            "empty":{}},"Member":{"Name":"s1"}}"#;
        let printed = "build:\n\tprerelease = \n\tversion = 1.8.7\nempty:\nraft:\n\tlast_contact = 0\n\tstate = Leader\n\tterm = 2\n";
        let asked = vec!["GET /v1/agent/self".to_owned()];
        assert_eq!(ask(200, body, &["info"]), (Ran::ok(printed), asked));
    }

    #[test]
    fn failures() {
        for (status, body, message) in [
            (
                500,
                "bad",
                "Error querying agent: Unexpected response code: 500 (bad)",
            ),
            (404, "", "Error querying agent: Unexpected response code: 404 ()"),
            (200, "{}", "Agent response did not contain 'Stats' key"),
            (
                200,
                "",
                "Error querying agent: cannot understand the agent's answer: EOF while parsing a value at line 1 column 0",
            ),
        ] {
            assert_eq!(ask(status, body, &["info"]).0, Ran::error(message));
        }
    }
}
