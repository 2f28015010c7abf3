//! `lictor operator raft`: the servers that keep the log.

use serde::Deserialize;

use crate::client::{self, Client, null_is_empty};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};
use crate::table;

pub(super) const COMMAND: Command = Command {
    name: "raft",
    summary: "Provides access to the consensus among the servers",
    usage: "<subcommand> [options]",
    about: "
Shows the servers that keep the log, and removes one that was left behind.",
    action: Action::Group(&[LIST_PEERS, REMOVE_PEER], &["transfer-leader"]),
};

const LIST_PEERS: Command = Command {
    name: "list-peers",
    summary: "Displays the servers that keep the log",
    usage: "[options]",
    about: "
Lists the servers that keep the log: which of them leads, and which have a
vote. With -stale a server answers that has no leader.

    $ lictor operator raft list-peers",
    action: Action::Run {
        flags: &[client::TOPIC, client::QUERY_TOPIC],
        not_yet: &[],
        run: list_peers,
    },
};

const REMOVE_PEER: Command = Command {
    name: "remove-peer",
    summary: "Removes a server from those that keep the log",
    usage: "[options]",
    about: "
Removes a server from those that keep the log, by its id or by its address.
This is for a server that is gone and was left behind. As long as \"lictor
members\" lists it, \"lictor force-leave\" is the better way.

    $ lictor operator raft remove-peer -address=10.0.0.5:8300",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "address",
                        takes: Takes::Text("string"),
                        help: "The address of the server to remove, as \"lictor operator raft list-peers\" shows it.",
                    },
                    Flag {
                        name: "id",
                        takes: Takes::Text("string"),
                        help: "The id of the server to remove.",
                    },
                ],
            },
        ],
        not_yet: &[],
        run: remove_peer,
    },
};

/// The servers as the API tells them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    #[serde(default, deserialize_with = "null_is_empty")]
    servers: Vec<Server>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    leader: bool,
    /// Empty, if the server did not say.
    protocol_version: String,
    voter: bool,
}

fn list_peers(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let configuration: Configuration = Client::new(args, console)?
        .read("operator/raft/configuration", Vec::new())
        .map_err(|error| {
            Failure::new(format!(
                "Error getting peers: Failed to retrieve raft configuration: {error}"
            ))
        })?;
    let mut rows = vec![["Node", "ID", "Address", "State", "Voter", "RaftProtocol"].map(str::to_owned)];
    for server in configuration.servers {
        let state = if server.leader { "leader" } else { "follower" };
        let protocol = if server.protocol_version.is_empty() {
            "<=1".to_owned()
        } else {
            server.protocol_version
        };
        rows.push([
            server.node,
            server.id,
            server.address,
            state.to_owned(),
            server.voter.to_string(),
            protocol,
        ]);
    }
    table::write(console, &rows)
}

fn remove_peer(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let fail = |reason: &str| Failure::new(format!("Error removing peer: {reason}"));
    let text = |flag| args.text(flag).filter(|text| !text.is_empty());
    let (what, which) = match (text("address"), text("id")) {
        (Some(address), None) => ("address", address),
        (None, Some(id)) => ("id", id),
        (None, None) => return Err(fail("an address or id is required for the peer to remove")),
        (Some(_), Some(_)) => return Err(fail("cannot give both an address and id")),
    };
    Client::new(args, console)?
        .delete("operator/raft/peer", vec![(what, which)])
        .map_err(|error| fail(&error.to_string()))?;
    console.line(format_args!("Removed peer with {what} {which:?}"))
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    /// As Consul 1.8.7 says it, and one server that it has lost.
    const SERVERS: &str = r#"{"Servers":[
        {"ID":"f79aa6ee-548f-7703-22c3-691bd0791019","Node":"s2","Address":"127.66.0.2:8300","Leader":false,"ProtocolVersion":"3","Voter":true},
        {"ID":"97fe3ba5-c64a-c2f4-1f76-2d89d21c20b0","Node":"s1","Address":"127.66.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true},
        {"ID":"47d637e6-1170-2c51-8585-f6c89ee03b1b","Node":"(unknown)","Address":"1.1.1.1:8300","Leader":false,"ProtocolVersion":"","Voter":false}],"Index":0}"#;

    #[test]
    fn peers_are_listed_in_the_agents_order() {
        let table = "\
Node       ID                                    Address          State     Voter  RaftProtocol
s2         f79aa6ee-548f-7703-22c3-691bd0791019  127.66.0.2:8300  follower  true   3
s1         97fe3ba5-c64a-c2f4-1f76-2d89d21c20b0  127.66.0.1:8300  leader    true   3
(unknown)  47d637e6-1170-2c51-8585-f6c89ee03b1b  1.1.1.1:8300     follower  false  <=1
";
        let line = ["operator", "raft", "list-peers"];
        assert_eq!(
            ask(200, SERVERS, &line),
            (
                Ran::ok(table),
                vec!["GET /v1/operator/raft/configuration".to_owned()]
            )
        );
        assert_eq!(
            ask(
                200,
                SERVERS,
                &[&line[..], &["-stale", "-datacenter=dc2"]].concat()
            )
            .1,
            ["GET /v1/operator/raft/configuration?dc=dc2&stale="]
        );
        for nobody in [r#"{"Servers":[]}"#, r#"{"Servers":null}"#] {
            assert_eq!(
                ask(200, nobody, &line).0,
                Ran::ok("Node  ID  Address  State  Voter  RaftProtocol\n")
            );
        }
        assert_eq!(
            ask(500, "No cluster leader", &line).0,
            Ran::error(
                "Error getting peers: Failed to retrieve raft configuration: Unexpected response code: 500 (No cluster leader)"
            )
        );
    }

    #[test]
    fn a_peer_is_removed_by_either_name() {
        for (flags, target, said) in [
            (
                &["-id=a", "-stale", "-datacenter=d"][..],
                "DELETE /v1/operator/raft/peer?dc=d&id=a",
                "Removed peer with id \"a\"\n",
            ),
            (
                &["-address", "10.0.0.1:8300"],
                "DELETE /v1/operator/raft/peer?address=10.0.0.1%3A8300",
                "Removed peer with address \"10.0.0.1:8300\"\n",
            ),
        ] {
            let line = [&["operator", "raft", "remove-peer"], flags].concat();
            assert_eq!(ask(200, "", &line), (Ran::ok(said), vec![target.to_owned()]));
        }
    }

    #[test]
    fn failures_of_a_removal() {
        for (flags, reason, requests) in [
            (&[][..], "an address or id is required for the peer to remove", 0),
            (
                &["-id=", "-address="],
                "an address or id is required for the peer to remove",
                0,
            ),
            (&["-id=a", "-address=b"], "cannot give both an address and id", 0),
            (
                &["-id=nope"],
                "Unexpected response code: 500 (id \"nope\" was not found in the Raft configuration)",
                1,
            ),
        ] {
            let line = [&["operator", "raft", "remove-peer"], flags].concat();
            let (ran, asked) = ask(500, "id \"nope\" was not found in the Raft configuration", &line);
            assert_eq!(ran, Ran::error(&format!("Error removing peer: {reason}")));
            assert_eq!(asked.len(), requests);
        }
    }
}
