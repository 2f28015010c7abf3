//! Prepared queries, and what they find in another data center.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clients::client;
use crate::support::{Agent, Cluster, Scene, eventually, holds};

/// A data center of one server, which knows the data center of `other`.
fn datacenter(scene: &Scene, host: u8, name: &str, other: Option<&Agent>) -> Agent {
    let data = scene.path(format!("data{host}")).display().to_string();
    let mut arguments = vec![
        "-server",
        "-bootstrap",
        "-datacenter",
        name,
        "-data-dir",
        &data,
        "-encrypt",
        Cluster::KEY,
    ];
    let wan = other.map(|other| other.ip.to_string());
    if let Some(wan) = &wan {
        arguments.extend(["-retry-join-wan", wan]);
    }
    let mut agent = Agent::new(scene, host, &arguments);
    agent.start_and_lead();
    agent
}

fn register(agent: &Agent, node: &str, status: &str) {
    let body = json!({
        "Node": node, "Address": "10.7.7.7", "Service": {"Service": "web", "Port": 8080},
        "Check": {"Name": "alive", "ServiceID": "web", "Status": status},
    });
    let registered = agent.call("PUT", "/v1/catalog/register", body.to_string().as_bytes());
    assert_eq!(registered.text(), "true");
}

fn make(agent: &Agent, query: &Value) -> String {
    let made = agent.call("POST", "/v1/query", query.to_string().as_bytes());
    assert_eq!(made.status, 200, "{made:?}");
    made.json()["ID"].as_str().unwrap().to_owned()
}

/// Where a query found what: data center, how many others were asked, nodes.
fn found(agent: &Agent, path: &str) -> (String, u64, Vec<String>) {
    let answer = agent.get(&format!("/v1/query/{path}")).json();
    let nodes = answer["Nodes"].as_array().unwrap().iter();
    (
        answer["Datacenter"].as_str().unwrap().to_owned(),
        answer["Failovers"].as_u64().unwrap(),
        nodes
            .map(|node| node["Node"]["Node"].as_str().unwrap().to_owned())
            .collect(),
    )
}

/// The TTL of the first answer to a question for addresses, and how many there are; `None` if there is no such name.
fn resolve(agent: &Agent, name: &str) -> Option<(u32, u16)> {
    let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.send_to(&question, (agent.ip, 8600)).unwrap();
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).unwrap();
    let answer = &answer[..length];
    let number = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
    match answer[3] & 15 {
        0 => {}
        3 => return None,
        code => panic!("code {code}"),
    }
    // Behind the question, and a pointer to its name: type, class, TTL.
    let ttl = question.len() + 2 + 4;
    let ttl = u32::from_be_bytes(answer[ttl..ttl + 4].try_into().unwrap());
    Some((ttl, number(6)))
}

#[test]
fn what_is_not_here_is_found_in_another_data_center() {
    let scene = Scene::new();
    let here = datacenter(&scene, 1, "dc1", None);
    let near = datacenter(&scene, 11, "dc2", Some(&here));
    let far = datacenter(&scene, 21, "dc3", Some(&here));
    let servers = [&here, &near, &far];
    for server in servers {
        eventually("all data centers are known", || {
            let known = server.try_call("GET", "/v1/catalog/datacenters", b"")?.json();
            holds(
                known.as_array().is_some_and(|known| known.len() == 3),
                known.to_string(),
            )
        });
    }
    let client = client(&scene, 9, &here);
    register(&here, "a", "passing");
    register(&near, "b", "critical");
    register(&far, "c", "passing");
    let named = json!({
        "Name": "web", "DNS": {"TTL": "17s"},
        "Service": {"Service": "web", "Failover": {"Datacenters": ["dc2", "mars", "dc3"]}},
    });
    make(&here, &named);
    let template = json!({
        "Name": "any-", "Template": {"Type": "name_prefix_match"},
        "Service": {"Service": "${name.suffix}", "Failover": {"NearestN": 2}},
    });
    make(&here, &template);
    for agent in [&here, &client] {
        assert_eq!(
            found(agent, "web/execute"),
            ("dc1".to_owned(), 0, vec!["a".to_owned()])
        );
    }
    assert_eq!(resolve(&here, "web.query.consul"), Some((17, 1)));

    // Nothing is well here, nor in the first that is named.
    register(&here, "a", "critical");
    for agent in [&here, &client] {
        assert_eq!(
            found(agent, "web/execute"),
            ("dc3".to_owned(), 2, vec!["c".to_owned()])
        );
        let (datacenter, failovers, nodes) = found(agent, "any-web/execute?limit=1");
        assert_eq!((&*datacenter, nodes), ("dc3", vec!["c".to_owned()]));
        assert!((1..=2).contains(&failovers));
        eventually("it is found by DNS too", || {
            let found = resolve(agent, "web.query.consul");
            holds(found == Some((17, 1)), format!("{found:?}"))
        });
    }
    // Asked for from elsewhere, by name.
    assert_eq!(
        found(&near, "web/execute?dc=dc1"),
        ("dc3".to_owned(), 2, vec!["c".to_owned()])
    );
    assert_eq!(
        near.get("/v1/query/web/execute").status,
        404,
        "it is a query of dc1"
    );
    assert_eq!(resolve(&near, "web.query.consul"), None);
    assert_eq!(resolve(&near, "web.query.dc1.consul"), Some((17, 1)));

    // Nothing is well anywhere.
    register(&far, "c", "critical");
    let (_, failovers, nodes) = found(&here, "web/execute");
    assert_eq!((failovers, nodes), (2, vec![]));
}

#[test]
fn a_query_ends_with_its_session_and_survives_a_restart() {
    let scene = Scene::new();
    let mut server = datacenter(&scene, 1, "dc1", None);
    eventually("the server is in the catalog, and well", || {
        let made = server.try_call("PUT", "/v1/session/create", b"{}")?;
        holds(made.status == 200, made.text())
    });
    let session = server.call("PUT", "/v1/session/create", b"{}").json();
    let session = session["ID"].as_str().unwrap();
    let bound = make(
        &server,
        &json!({"Session": session, "Service": {"Service": "web"}}),
    );
    let free = make(&server, &json!({"Name": "free", "Service": {"Service": "web"}}));
    server.stop(crate::support::Signal::Kill);
    server.start_and_lead();
    let listed = |server: &Agent| {
        server
            .get("/v1/query?consistent")
            .json()
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(listed(&server), 2);
    let ended = server.call("PUT", &format!("/v1/session/destroy/{session}"), b"");
    assert_eq!(ended.text(), "true");
    assert_eq!(listed(&server), 1);
    assert_eq!(server.get(&format!("/v1/query/{bound}")).status, 404);
    assert_eq!(server.get(&format!("/v1/query/{free}")).status, 200);
}
