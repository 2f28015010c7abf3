//! `lictor catalog nodes`

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{no_operands, node_meta};
use crate::client::{self, Client, null_is_empty};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};
use crate::table;

/// How much of an id is enough to tell nodes apart.
const SHORT_ID: usize = 8;

pub(super) const COMMAND: Command = Command {
    name: "nodes",
    summary: "Lists all nodes in the given datacenter",
    usage: "[options]",
    about: "
Lists the nodes that are registered in a data center, by default in that of
the agent that is asked.

    $ lictor catalog nodes

Those that run a service, with all that is known of them:

    $ lictor catalog nodes -service=web -detailed

The nearest to a node first:

    $ lictor catalog nodes -near=node7",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "detailed",
                        takes: Takes::Nothing,
                        help: "Print whole ids, and further addresses and metadata too. The default value is false.",
                    },
                    Flag {
                        name: "filter",
                        takes: Takes::Text("string"),
                        help: "List only nodes that this expression holds for, such as 'Meta.rack == \"b7\"'.",
                    },
                    Flag {
                        name: "near",
                        takes: Takes::Text("string"),
                        help: "Sort by the estimated round-trip time from the node of this name, the nearest first; \"_agent\" is the node of the agent that is asked.",
                    },
                    Flag {
                        name: "node-meta",
                        takes: Takes::Text("key=value"),
                        help: "List only nodes with this in their metadata. Can be used multiple times: all have to be there.",
                    },
                    Flag {
                        name: "service",
                        takes: Takes::Text("name"),
                        help: "List only nodes that run this service, once for each instance.",
                    },
                ],
            },
        ],
        not_yet: &["partition"],
        run,
    },
};

/// A node as the API tells it, by itself or with an instance that runs on it.
#[derive(Deserialize)]
struct Node {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Node")]
    name: String,
    #[serde(rename = "Address", default)]
    address: String,
    #[serde(rename = "Datacenter", default)]
    datacenter: String,
    #[serde(rename = "TaggedAddresses", default, deserialize_with = "null_is_empty")]
    tagged_addresses: BTreeMap<String, String>,
    #[serde(
        rename = "Meta",
        alias = "NodeMeta",
        default,
        deserialize_with = "null_is_empty"
    )]
    meta: BTreeMap<String, String>,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let meta = node_meta(args)?;
    no_operands(args)?;
    let said = |flag| args.text(flag).filter(|text| !text.is_empty());
    let mut query: Vec<(&str, &str)> = meta.iter().map(|pair| ("node-meta", pair.as_str())).collect();
    query.extend(
        ["near", "filter"]
            .into_iter()
            .filter_map(|flag| Some((flag, said(flag)?))),
    );
    let (path, what) = match said("service") {
        Some(service) => (format!("catalog/service/{service}"), "nodes for service"),
        None => ("catalog/nodes".to_owned(), "nodes"),
    };
    let nodes: Option<Vec<Node>> = Client::new(args, console)?
        .read(&path, query)
        .map_err(|error| Failure::new(format!("Error listing {what}: {error}")))?;
    let nodes = nodes.unwrap_or_default();
    if nodes.is_empty() {
        console.remark("No nodes match the given query - try expanding your search.");
        return Ok(());
    }
    if args.switch("detailed") {
        let heading = ["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"].map(str::to_owned);
        let rows = nodes.into_iter().map(|node| {
            let (addresses, meta) = (pairs(&node.tagged_addresses), pairs(&node.meta));
            [node.name, node.id, node.address, node.datacenter, addresses, meta]
        });
        table::write(console, &[heading].into_iter().chain(rows).collect::<Vec<_>>())
    } else {
        let heading = ["Node", "ID", "Address", "DC"].map(str::to_owned);
        let rows = nodes.into_iter().map(|node| {
            let id = node.id.chars().take(SHORT_ID).collect();
            [node.name, id, node.address, node.datacenter]
        });
        table::write(console, &[heading].into_iter().chain(rows).collect::<Vec<_>>())
    }
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(", ")
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    const NODES: &str = r#"[
        {"ID":"890037e5-4129-e14c-f138-e14a1d095702","Node":"alpha","Address":"127.0.0.1","Datacenter":"dc1",
         "TaggedAddresses":{"wan":"127.0.0.2","lan":"127.0.0.1"},"Meta":{"consul-network-segment":""},"CreateIndex":5,"ModifyIndex":6},
        {"ID":"","Node":"foo","Address":"10.1.0.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":{"z":"1","a":"2"},"CreateIndex":9,"ModifyIndex":9}]"#;

    #[test]
    fn short_and_whole() {
        assert_eq!(
            ask(200, NODES, &["catalog", "nodes"]),
            (
                Ran::ok(
                    "Node   ID        Address    DC\nalpha  890037e5  127.0.0.1  dc1\nfoo              10.1.0.1   dc1\n"
                ),
                vec!["GET /v1/catalog/nodes".to_owned()]
            )
        );
        assert_eq!(
            ask(200, NODES, &["catalog", "nodes", "-detailed"]).0,
            Ran::ok(
                "Node   ID                                    Address    DC   TaggedAddresses               Meta\n\
                 alpha  890037e5-4129-e14c-f138-e14a1d095702  127.0.0.1  dc1  lan=127.0.0.1, wan=127.0.0.2  consul-network-segment=\n\
                 foo                                          10.1.0.1   dc1                                a=2, z=1\n"
            )
        );
    }

    #[test]
    fn nodes_of_a_service() {
        let instances = r#"[{"ID":"","Node":"bar","Address":"10.1.0.2","Datacenter":"dc1","TaggedAddresses":null,"NodeMeta":null,"ServiceID":"d1"},
            {"ID":"","Node":"bar","Address":"10.1.0.2","Datacenter":"dc1","TaggedAddresses":null,"NodeMeta":{"a":"b"},"ServiceID":"d2"}]"#;
        assert_eq!(
            ask(200, instances, &["catalog", "nodes", "-service=db", "-detailed"]),
            (
                Ran::ok(
                    "Node  ID  Address   DC   TaggedAddresses  Meta\nbar       10.1.0.2  dc1                   \nbar       10.1.0.2  dc1                   a=b\n"
                ),
                vec!["GET /v1/catalog/service/db".to_owned()]
            )
        );
    }

    #[test]
    fn every_flag_is_asked_for() {
        let line = [
            "catalog",
            "nodes",
            "-near=_agent",
            "-filter=Node == \"x\"",
            "-node-meta=b=1",
            "-node-meta=a=b=c",
            "-node-meta=b=2",
            "-stale",
            "-datacenter=dc2",
        ];
        let (ran, asked) = ask(200, "[]", &line);
        assert_eq!((ran.code, ran.out.as_str()), (0, ""));
        assert_eq!(
            ran.err,
            "No nodes match the given query - try expanding your search.\n"
        );
        assert_eq!(
            asked,
            [
                "GET /v1/catalog/nodes?dc=dc2&filter=Node%20%3D%3D%20%22x%22&near=_agent&node-meta=a%3Ab%3Dc&node-meta=b%3A2&stale="
            ]
        );
    }

    #[test]
    fn failures() {
        for (line, message) in [
            (
                &["catalog", "nodes"][..],
                "Error listing nodes: Unexpected response code: 500 (oops)",
            ),
            (
                &["catalog", "nodes", "-service=x"],
                "Error listing nodes for service: Unexpected response code: 500 (oops)",
            ),
            (
                &["catalog", "nodes", "x"],
                "Too many arguments (expected 0, got 1)",
            ),
        ] {
            assert_eq!(ask(500, "oops", line).0, Ran::error(message));
        }
        let (ran, asked) = ask(200, "[]", &["catalog", "nodes", "-node-meta=a"]);
        assert_eq!((ran.code, asked.len()), (1, 0));
        assert!(ran.err.starts_with(
            "invalid value \"a\" for flag -node-meta: Missing \"=\" value in argument: a\n\nUsage: lictor catalog nodes "
        ));
    }
}
