//! What servers say of themselves and to whom, above all when some of them are killed: what clients are told, what is heard again, and whom a
//! client agent turns to when all are gone.

use crate::clients::client;
use crate::support::{Agent, Cluster, Modes, Scene, Signal, eventually, holds};

/// A server that is a cluster of its own, in the pool of the others' key.
fn alone(scene: &Scene, host: u8) -> Agent {
    let data = scene.path(format!("data{host}")).display().to_string();
    let mut server = Agent::new(
        scene,
        host,
        &[
            "-server",
            "-bootstrap-expect",
            "1",
            "-data-dir",
            &data,
            "-encrypt",
            Cluster::KEY,
        ],
    );
    server.start_and_lead();
    server
}

#[test]
fn commands_do_not_notice_that_the_leader_dies() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    let client = client(&scene, 9, &cluster[0]);
    client.put("counter", "0");
    for round in 1..=3_u8 {
        let value = |agent: &Agent| {
            let entry = &agent.get("/v1/kv/counter").json()[0];
            entry["ModifyIndex"].to_string()
        };
        let index = value(&client);
        let leader = cluster.leader();
        cluster[leader].stop(Signal::Kill);
        // It would fail if it was made twice: the second time the index is another.
        let address = format!("{}:8500", client.ip);
        let text = round.to_string();
        let put = scene.run(&[
            "kv",
            "put",
            "-cas",
            "-modify-index",
            &index,
            "-http-addr",
            &address,
            "counter",
            &text,
        ]);
        assert_eq!(put.ok(), "Success! Data written to: counter\n");
        assert_eq!(client.value("counter", Modes::Default), Some(text));
        cluster.start();
    }
}

#[test]
fn who_was_killed_hears_no_event_twice() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    let mut client = client(&scene, 9, &cluster[0]);
    let heard = |agent: &Agent, count: usize| {
        eventually(&format!("{} hears", agent.name), || {
            let events = agent.try_call("GET", "/v1/event/list?name=deploy", b"")?.json();
            let events = events.as_array().cloned().unwrap_or_default();
            holds(events.len() == count, format!("{events:?}"))
        });
    };
    let fire = |agent: &Agent, payload: &[u8]| {
        let fired = agent.try_call("PUT", "/v1/event/fire/deploy", payload).unwrap();
        assert_eq!(fired.status, 200);
    };
    fire(&cluster[0], b"1");
    for agent in [&cluster[0], &cluster[1], &client] {
        heard(agent, 1);
    }
    fire(&cluster[0], b"2");
    for agent in [&cluster[0], &cluster[1], &client] {
        heard(agent, 2);
    }
    cluster[1].stop(Signal::Kill);
    client.stop(Signal::Kill);
    // What is said meanwhile they get; nothing else comes with it.
    fire(&cluster[0], b"3");
    cluster.start();
    client.start_and_lead();
    for agent in [&cluster[1], &client] {
        heard(agent, 1);
        let events = agent.get("/v1/event/list?name=deploy").json();
        assert_eq!(events[0]["Payload"], "Mw==", "{events}");
    }
    heard(&cluster[0], 3);
}

#[test]
fn a_client_agent_asks_no_server_of_another_cluster() {
    let scene = Scene::new();
    let mut own = alone(&scene, 1);
    let mut client = client(&scene, 9, &own);
    client.put("a", "own");
    let foreign = alone(&scene, 5);
    foreign.put("a", "foreign");
    let joined = foreign
        .try_call("PUT", &format!("/v1/agent/join/{}", client.ip), b"")
        .unwrap();
    assert_eq!(joined.status, 200, "{}", joined.text());
    let file = scene.path("data9").join("cluster-id").display().to_string();
    client.wait_log(&["is in another cluster than this agent", &file]);
    own.stop(Signal::Kill);
    for restarted in [false, true] {
        if restarted {
            client.stop(Signal::Kill);
            client.start();
            eventually("it sees the foreign server", || {
                let members = client.try_call("GET", "/v1/agent/members", b"")?.json();
                let seen = members
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|member| member["Name"] == "n5");
                holds(seen, members.to_string())
            });
        }
        for (method, path) in [
            ("PUT", "/v1/kv/a"),
            ("GET", "/v1/kv/a"),
            ("GET", "/v1/kv/a?stale"),
        ] {
            let answer = client.try_call(method, path, b"x").unwrap();
            assert_eq!(answer.status, 500, "{method} {path}: {}", answer.text());
        }
        // As soon as gossip takes its own for gone.
        eventually("it says why it asks nobody", || {
            let answer = client.try_call("GET", "/v1/kv/a", b"")?;
            let said = answer.text();
            let whole =
                said.starts_with("No known Consul servers: ") && said.contains("n5") && said.contains(&file);
            holds(whole, said.to_owned())
        });
    }
    assert_eq!(foreign.value("a", Modes::Default).as_deref(), Some("foreign"));
    own.start_and_lead();
    client.wait_leader();
    eventually("it has its own again", || {
        let value = client.value("a", Modes::Default);
        holds(value.as_deref() == Some("own"), format!("{value:?}"))
    });
}

#[test]
fn a_server_says_how_far_it_is_and_not_how_far_it_was() {
    let scene = Scene::new();
    let server = alone(&scene, 1);
    for round in 0..20 {
        server.put("a", &round.to_string());
        let written = server.get("/v1/kv/a").json()[0]["ModifyIndex"].as_u64().unwrap();
        // The answer may overtake what is shown by a moment, not by the time until something else happens.
        let shown = || {
            let raft = &server.get("/v1/agent/self").json()["Stats"]["raft"];
            raft["applied_index"].as_str().unwrap().parse::<u64>().unwrap()
        };
        assert!((0..200).any(|_| shown() >= written), "{} of {written}", shown());
    }
}

#[test]
fn a_directory_in_use_is_refused_before_anything_is_said() {
    let scene = Scene::new();
    let own = alone(&scene, 1);
    let _client = client(&scene, 9, &own);
    let data = scene.path("data9").display().to_string();
    let key = ["-encrypt", Cluster::KEY, "-data-dir", &data];
    for more in [&[][..], &["-server"]] {
        let ran = Agent::new(&scene, 8, &[&key[..], more].concat()).run_to_end();
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("in use by another process"), "{}", ran.err);
        assert!(!ran.err.contains("Starting Lictor agent"), "{}", ran.err);
    }
}
