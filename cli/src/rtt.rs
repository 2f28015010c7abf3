//! `lictor rtt`: how far two nodes are from each other, by their network coordinates.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::client::{self, CallError, Client, null_is_empty};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(crate) const COMMAND: Command = Command {
    name: "rtt",
    summary: "Estimates the round-trip time between two nodes",
    usage: "[options] NODE1 [NODE2]",
    about: "
Estimates the round-trip time between two nodes from their coordinates: none
of them is asked. Without a second node it is that of the agent. Nodes are
named as \"lictor members\" does.

    $ lictor rtt node1 node2

With -wan the nodes are servers, of any data centers, and named as \"lictor
members -wan\" does:

    $ lictor rtt -wan server1.dc1 server1.dc2",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            Topic {
                title: "Command Options",
                flags: &[Flag {
                    name: "wan",
                    takes: Takes::Nothing,
                    help: "Use the coordinates of the pool of all data centers' servers. The two pools have nothing to do with each other. The default value is false.",
                }],
            },
        ],
        not_yet: &[],
        run,
    },
};

/// Where a node is in the network. All in seconds.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Coordinate {
    vec: Vec<f64>,
    adjustment: f64,
    height: f64,
}

impl Coordinate {
    /// The estimated round-trip time in milliseconds, in whole nanoseconds; `None` if the two are of different spaces.
    fn milliseconds_to(&self, other: &Self) -> Option<f64> {
        if self.vec.len() != other.vec.len() {
            return None;
        }
        let squares = self.vec.iter().zip(&other.vec).map(|(a, b)| (a - b) * (a - b));
        let distance = squares.sum::<f64>().sqrt() + self.height + other.height;
        let adjusted = distance + self.adjustment + other.adjustment;
        // The adjustments may be off by more than the distance; then they are no help.
        let seconds = if adjusted > 0.0 { adjusted } else { distance };
        Some((seconds * 1e9).trunc() / 1e6)
    }
}

/// A node's coordinate as the API tells it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: String,
    #[serde(default)]
    segment: String,
    coord: Option<Coordinate>,
}

/// The servers of a data center, as the API tells their coordinates.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Datacenter {
    datacenter: String,
    #[serde(rename = "AreaID")]
    area: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    coordinates: Vec<Entry>,
}

/// Who the agent is.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Account {
    config: Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Identity {
    node_name: String,
    datacenter: String,
}

/// The coordinates of one node, by the pool that they belong to. Only those of one pool can be compared.
type Found = BTreeMap<String, Coordinate>;

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let (first, second) = match args.operands.as_slice() {
        [first] => (first, None),
        [first, second] => (first, Some(second)),
        _ => return Err(Failure::misuse("One or two node names must be specified")),
    };
    let wan = args.switch("wan");
    let client = Client::new(args, console)?;
    let second = match second {
        Some(second) => second.clone(),
        None => own_name(&client, wan)?,
    };
    let found = if wan {
        find_servers(&client, [first, &second])?
    } else {
        find_nodes(&client, [first, &second])?
    };
    let missing = |node: &str| Failure::new(format!("Could not find a coordinate for node {node:?}"));
    let Some((one, other)) = found[0]
        .iter()
        .find_map(|(pool, one)| Some((one, found[1].get(pool)?)))
    else {
        let is_second = !found[0].is_empty() && found[1].is_empty();
        return Err(missing(if is_second { &second } else { first }));
    };
    let estimate = one.milliseconds_to(other).ok_or_else(|| {
        Failure::new(format!(
            "The coordinates of {first} and {second} have {} and {} dimensions and cannot be compared",
            one.vec.len(),
            other.vec.len()
        ))
    })?;
    console.line(format_args!(
        "Estimated {first} <-> {second} rtt: {estimate:.3} ms (using {} coordinates)",
        if wan { "WAN" } else { "LAN" }
    ))
}

fn own_name(client: &Client, wan: bool) -> Result<String, Failure> {
    let account: Account = client
        .read("agent/self", Vec::new())
        .map_err(|error| Failure::new(format!("Unable to look up agent info: {error}")))?;
    let Identity {
        node_name,
        datacenter,
    } = account.config;
    Ok(if wan {
        format!("{node_name}.{datacenter}")
    } else {
        node_name
    })
}

fn failed(error: CallError) -> Failure {
    Failure::new(format!("Error getting coordinates: {error}"))
}

/// Nodes of the agent's data center.
fn find_nodes(client: &Client, nodes: [&str; 2]) -> Result<[Found; 2], Failure> {
    let entries: Option<Vec<Entry>> = client.read("coordinate/nodes", Vec::new()).map_err(failed)?;
    let entries = entries.unwrap_or_default();
    Ok(nodes.map(|node| {
        entries
            .iter()
            .filter(|entry| entry.node == node)
            .filter_map(|entry| Some((entry.segment.clone(), entry.coord.clone()?)))
            .collect()
    }))
}

/// Servers of all data centers, named as in `node.datacenter`.
fn find_servers(client: &Client, nodes: [&str; 2]) -> Result<[Found; 2], Failure> {
    let parts = nodes.map(|node| {
        node.split_once('.')
            .filter(|(_, datacenter)| !datacenter.contains('.'))
    });
    let [Some(one), Some(other)] = parts else {
        return Err(Failure::new(
            "Node names must be specified as <node name>.<datacenter> with -wan",
        ));
    };
    let datacenters: Option<Vec<Datacenter>> = client
        .read("coordinate/datacenters", Vec::new())
        .map_err(failed)?;
    let datacenters = datacenters.unwrap_or_default();
    Ok([one, other].map(|(node, name)| {
        datacenters
            .iter()
            .filter(|datacenter| datacenter.datacenter == name)
            .flat_map(|datacenter| {
                datacenter
                    .coordinates
                    .iter()
                    .map(|entry| (&datacenter.area, entry))
            })
            .filter(|(_, entry)| entry.node == node)
            .filter_map(|(area, entry)| Some((area.clone(), entry.coord.clone()?)))
            .collect()
    }))
}

#[cfg(test)]
mod tests {
    use crate::console::testing::{Ran, run, run_with};
    use crate::fake::{Fake, ask};

    const SELF: &str = r#"{"Config":{"Datacenter":"dc1","NodeName":"s1"}}"#;

    /// Estimates were taken from Consul 1.8.7, which was told the same.
    const NODES: &str = r#"[
        {"Node":"s1","Segment":"","Coord":{"Vec":[0.001,0,0,0,0,0,0,0.002],"Error":1.5,"Adjustment":-0.5,"Height":0.00021605513147212056}},
        {"Node":"s2","Segment":"","Coord":{"Vec":[0.5,0,0,0,0,0,0,-0.3],"Error":1.5,"Adjustment":0.00001,"Height":0.001}},
        {"Node":"s3","Segment":"x","Coord":{"Vec":[0.5,0,0,0,0,0,0,-0.3],"Error":1.5,"Adjustment":0.00001,"Height":0.002}},
        {"Node":"s4","Segment":"x","Coord":{"Vec":[0.5,0,0],"Error":1.5,"Adjustment":0.00001,"Height":0.002}},
        {"Node":"s5","Segment":"","Coord":null},
        {"Node":"a","Segment":"","Coord":{"Vec":[-0.00002961325130519414,-0.0000029167955201815954,0.000004925992725031179,-0.000022057463816621272,0.00002925702387886235,0.00003792626911207487,-0.0000030187695221329448,0.000018696103793103275],"Error":0.5324805186118486,"Adjustment":-0.000008353384815020211,"Height":0.00021605513147212056}},
        {"Node":"b","Segment":"","Coord":{"Vec":[-0.00006094921581091034,0.00006097049911677817,0.00007229705515124749,-0.00006223773831426894,0.00011772024621626563,0.00010463620430347531,0.000013547117139589987,0.00013079034963269168],"Error":0.24716576766109272,"Adjustment":0.00006560959044847359,"Height":0.00004466865075918343}}]"#;

    const SERVERS: &str = r#"[
        {"Datacenter":"dc1","AreaID":"wan","Coordinates":[{"Node":"s1","Segment":"","Coord":{"Vec":[0.001,0,0,0,0,0,0,0.002],"Error":1.5,"Adjustment":0.0,"Height":0.0002}}]},
        {"Datacenter":"dc2","AreaID":"wan","Coordinates":[{"Node":"t1","Segment":"","Coord":{"Vec":[0.1,0,0,0,0,0,0,0.002],"Error":1.5,"Adjustment":0.0,"Height":0.0002}}]},
        {"Datacenter":"dc2","AreaID":"other","Coordinates":[
            {"Node":"t1","Segment":"","Coord":{"Vec":[0.2,0,0,0,0,0,0,0.002],"Error":1.5,"Adjustment":0.0,"Height":0.0002}},
            {"Node":"t2","Segment":"","Coord":{"Vec":[0.2,0,0,0,0,0,0,0.002],"Error":1.5,"Adjustment":0.0,"Height":0.0002}}]},
        {"Datacenter":"dc3","AreaID":"wan","Coordinates":null}]"#;

    fn rtt(operands: &[&str]) -> Ran {
        let fake = Fake::start(|seen| match seen.line.as_str() {
            "GET /v1/agent/self" => (200, SELF.to_owned()),
            "GET /v1/coordinate/nodes" => (200, NODES.to_owned()),
            "GET /v1/coordinate/datacenters" => (200, SERVERS.to_owned()),
            _ => (404, String::new()),
        });
        run_with(
            &[&["rtt"], operands].concat(),
            b"",
            &[("CONSUL_HTTP_ADDR", &fake.address)],
        )
    }

    #[test]
    fn estimates() {
        for (operands, estimate) in [
            (&["s1"][..], "s1 <-> s1 rtt: 0.432 ms (using LAN"),
            (&["s1", "s2"], "s1 <-> s2 rtt: 84.497 ms (using LAN"),
            (&["s3", "s3"], "s3 <-> s3 rtt: 4.020 ms (using LAN"),
            (&["a", "b"], "a <-> b rtt: 0.509 ms (using LAN"),
            (&["a", "a"], "a <-> a rtt: 0.415 ms (using LAN"),
            (&["-wan", "t1.dc2"], "t1.dc2 <-> s1.dc1 rtt: 99.400 ms (using WAN"),
            (
                &["-wan", "t1.dc2", "t2.dc2"],
                "t1.dc2 <-> t2.dc2 rtt: 0.400 ms (using WAN",
            ),
            (
                &["-wan", "s1.dc1", "s1.dc1"],
                "s1.dc1 <-> s1.dc1 rtt: 0.400 ms (using WAN",
            ),
        ] {
            assert_eq!(
                rtt(operands),
                Ran::ok(format!("Estimated {estimate} coordinates)\n"))
            );
        }
    }

    #[test]
    fn nodes_that_cannot_be_compared() {
        for (operands, missing) in [
            (&["s2", "s3"][..], "s2"),
            (&["s5", "s1"], "s5"),
            (&["s9", "s1"], "s9"),
            (&["s1", "s9"], "s9"),
            (&["", "s1"], ""),
            (&["-wan", "s1.dc1", "t2.dc2"], "s1.dc1"),
            (&["-wan", "s9.dc1", "t9.dc2"], "s9.dc1"),
            (&["-wan", "s1.dc1", "t9.dc3"], "t9.dc3"),
        ] {
            let message = format!("Could not find a coordinate for node {missing:?}");
            assert_eq!(rtt(operands), Ran::error(&message), "{operands:?}");
        }
        assert_eq!(
            rtt(&["s3", "s4"]),
            Ran::error("The coordinates of s3 and s4 have 8 and 3 dimensions and cannot be compared")
        );
        for operands in [
            &["-wan", "s1"][..],
            &["-wan", "s1.dc1", "a"],
            &["-wan", "s1.dc1", "a.b.dc2"],
        ] {
            assert_eq!(
                rtt(operands),
                Ran::error("Node names must be specified as <node name>.<datacenter> with -wan")
            );
        }
    }

    #[test]
    fn failures() {
        for (line, message) in [
            (
                &["rtt", "a"][..],
                "Unable to look up agent info: Unexpected response code: 500 (x)",
            ),
            (
                &["rtt", "a", "b"],
                "Error getting coordinates: Unexpected response code: 500 (x)",
            ),
            (
                &["rtt", "-wan", "a.b", "c.d"],
                "Error getting coordinates: Unexpected response code: 500 (x)",
            ),
        ] {
            assert_eq!(ask(500, "x", line).0, Ran::error(message));
        }
        for line in [&["rtt"][..], &["rtt", "a", "b", "c"]] {
            let ran = run(line);
            assert_eq!((ran.code, ran.out.as_str()), (1, ""));
            assert!(
                ran.err
                    .starts_with("One or two node names must be specified\n\nUsage: lictor rtt ")
            );
        }
    }
}
