//! `lictor catalog services`

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{no_operands, node_meta};
use crate::client::{self, CallError, Client, null_is_empty};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

/// Between the longest name and the tags.
const GAP: usize = 6;

pub(super) const COMMAND: Command = Command {
    name: "services",
    summary: "Lists all registered services in a datacenter",
    usage: "[options]",
    about: "
Lists the services that are registered in a data center, by default in that of
the agent that is asked.

    $ lictor catalog services

With all their tags:

    $ lictor catalog services -tags

Those that run on a node:

    $ lictor catalog services -node=node7",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "node",
                        takes: Takes::Text("name"),
                        help: "List only services that run on this node.",
                    },
                    Flag {
                        name: "node-meta",
                        takes: Takes::Text("key=value"),
                        help: "List only services that run on nodes with this in their metadata. Can be used multiple times: all have to be there. Not together with -node.",
                    },
                    Flag {
                        name: "tags",
                        takes: Takes::Nothing,
                        help: "Print the tags beside each service. The default value is false.",
                    },
                ],
            },
        ],
        not_yet: &["filter", "namespace", "partition"],
        run,
    },
};

/// A node as the API tells it, with what runs on it.
#[derive(Deserialize)]
struct Node {
    #[serde(rename = "Services", default, deserialize_with = "null_is_empty")]
    services: BTreeMap<String, Instance>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(rename = "Service")]
    name: String,
    #[serde(rename = "Tags", default, deserialize_with = "null_is_empty")]
    tags: Vec<String>,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let meta = node_meta(args)?;
    no_operands(args)?;
    let client = Client::new(args, console)?;
    let services = match args.text("node").filter(|name| !name.is_empty()) {
        Some(node) => {
            on_node(&client, node).map_err(|error| format!("Error listing services for node: {error}"))
        }
        None => in_datacenter(&client, &meta).map_err(|error| format!("Error listing services: {error}")),
    };
    let services = services.map_err(Failure::new)?;
    if services.is_empty() {
        console.remark("No services match the given query - try expanding your search.");
        return Ok(());
    }
    if !args.switch("tags") {
        for name in services.keys() {
            console.line(name)?;
        }
        return Ok(());
    }
    let longest = services
        .keys()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let width = longest + GAP;
    for (name, mut tags) in services {
        tags.sort();
        writeln!(console.out, "{name:<width$}{}", tags.join(","))?;
    }
    Ok(())
}

/// All services by name, with the tags of their instances.
fn in_datacenter(client: &Client, meta: &[String]) -> Result<BTreeMap<String, Vec<String>>, CallError> {
    let query = meta.iter().map(|pair| ("node-meta", pair.as_str())).collect();
    let services: Option<BTreeMap<String, Vec<String>>> = client.read("catalog/services", query)?;
    Ok(services.unwrap_or_default())
}

/// The same on one node.
fn on_node(client: &Client, node: &str) -> Result<BTreeMap<String, Vec<String>>, CallError> {
    let node: Option<Node> = client.read(&format!("catalog/node/{node}"), Vec::new())?;
    let mut services = BTreeMap::<String, Vec<String>>::new();
    for instance in node.into_iter().flat_map(|node| node.services.into_values()) {
        services.entry(instance.name).or_default().extend(instance.tags);
    }
    Ok(services)
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    const NOTHING: &str = "No services match the given query - try expanding your search.\n";

    #[test]
    fn names_and_tags() {
        let all = r#"{"web":["b","a"],"consul":[],"db":["x"]}"#;
        assert_eq!(
            ask(200, all, &["catalog", "services"]),
            (
                Ran::ok("consul\ndb\nweb\n"),
                vec!["GET /v1/catalog/services".to_owned()]
            )
        );
        assert_eq!(
            ask(200, all, &["catalog", "services", "-tags"]).0,
            Ran::ok("consul      \ndb          x\nweb         a,b\n")
        );
        let (ran, asked) = ask(
            200,
            "{}",
            &[
                "catalog",
                "services",
                "-node-meta=b=1",
                "-node-meta=a=2",
                "-stale",
            ],
        );
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", NOTHING));
        assert_eq!(
            asked,
            ["GET /v1/catalog/services?node-meta=a%3A2&node-meta=b%3A1&stale="]
        );
    }

    #[test]
    fn what_runs_on_a_node() {
        let node = r#"{"Node":{"Node":"bar"},"Services":{"d1":{"ID":"d1","Service":"db","Tags":["z","a"]},
            "d2":{"ID":"d2","Service":"db","Tags":["b"]},"w":{"ID":"w","Service":"web","Tags":null}}}"#;
        assert_eq!(
            ask(200, node, &["catalog", "services", "-node=bar", "-tags"]),
            (
                Ran::ok("db       a,b,z\nweb      \n"),
                vec!["GET /v1/catalog/node/bar".to_owned()]
            )
        );
        let (ran, _) = ask(200, "null", &["catalog", "services", "-node=nope"]);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", NOTHING));
    }

    #[test]
    fn failures() {
        for (line, message) in [
            (
                &["catalog", "services"][..],
                "Error listing services: Unexpected response code: 500 (oops)",
            ),
            (
                &["catalog", "services", "-node=x"],
                "Error listing services for node: Unexpected response code: 500 (oops)",
            ),
            (
                &["catalog", "services", "x", "y"],
                "Too many arguments (expected 0, got 2)",
            ),
        ] {
            assert_eq!(ask(500, "oops", line).0, Ran::error(message));
        }
    }
}
