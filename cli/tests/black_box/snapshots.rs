//! Snapshots of whole clusters: saved, restored, in the middle of crashes and across data centers.

use std::fs;

use crate::clients::client;
use crate::support::{Agent, Cluster, Modes, Scene, Signal, eventually, holds};

fn at(agent: &Agent) -> String {
    format!("-http-addr={}:8500", agent.ip)
}

fn values(agent: &Agent) -> serde_json::Value {
    agent.get("/v1/kv/?recurse&consistent").json()
}

#[test]
fn a_snapshot_by_way_of_a_client_agent_is_what_everybody_has_afterwards() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    let client = client(&scene, 9, &cluster[0]);
    for key in 0..200 {
        client.put(&format!("key/{key:03}"), &"value ".repeat(100));
    }
    let file = scene.path("backup.snap").display().to_string();
    let saved = scene.run(&["snapshot", "save", &at(&client), &file]).ok();
    assert!(
        saved.starts_with("Saved and verified snapshot to index "),
        "{saved}"
    );
    let before = values(&client);
    let inspected = scene.run(&["snapshot", "inspect", &file]).ok();
    assert!(inspected.contains("\nVersion      1\n"), "{inspected}");

    // What comes after it is undone, and whoever waits is told.
    client.put("key/007", "changed");
    client.put("other", "x");
    let index = cluster[1].get("/v1/kv/key/007").index.unwrap();
    let path = format!("/v1/kv/key/007?index={index}&wait=10m");
    let answer = cluster[1].get_during(&path, || {
        let restored = scene.run(&["snapshot", "restore", &at(&client), &file]).ok();
        assert_eq!(restored, "Restored snapshot\n");
    });
    assert!(answer.index.unwrap() > index, "{answer:?}");
    assert_eq!(answer.json(), serde_json::json!([before[7]]));
    assert_eq!(values(&client), before);
    cluster.settle("");
    for server in &cluster.servers {
        assert_eq!(server.get("/v1/kv/other?stale").status, 404);
        let health = || {
            let nodes = server.try_call("GET", "/v1/health/state/passing", b"")?.json();
            holds(nodes.as_array().unwrap().len() == 4, format!("{nodes}"))
        };
        eventually("the health of all nodes is known again", health);
    }

    // It is all on their disks.
    client.put("since", "1");
    cluster.kill_all();
    cluster.start();
    cluster.settle("");
    assert_eq!(cluster[2].value("since", Modes::Consistent).as_deref(), Some("1"));
    assert_eq!(values(&cluster[0]).as_array().unwrap().len(), 201);

    // What is not whole, or not ours, changes nothing.
    let whole = fs::read(&file).unwrap();
    for (name, content) in [
        ("half", &whole[..whole.len() / 2]),
        ("text", b"no snapshot"),
        ("none", b""),
    ] {
        let refused = client.call("PUT", "/v1/snapshot", content);
        assert_eq!(refused.status, 500, "{name}: {refused:?}");
        assert!(refused.text().starts_with("failed to "), "{name}: {refused:?}");
    }
    assert_eq!(values(&cluster[0]).as_array().unwrap().len(), 201);
}

#[test]
fn a_snapshot_founds_a_new_cluster_in_another_data_center() {
    let scene = Scene::new();
    let cluster = Cluster::of_three(&scene, &[]);
    for key in 0..50 {
        cluster[0].put(&format!("key/{key}"), "value");
    }
    let mut far = Agent::new(
        &scene,
        21,
        &[
            "-server",
            "-bootstrap",
            "-datacenter=far",
            "-data-dir",
            "far",
            "-encrypt",
            Cluster::KEY,
            "-retry-join-wan",
            &cluster[0].ip.to_string(),
        ],
    );
    far.start_and_lead();
    let file = scene.path("backup.snap").display().to_string();
    for server in &cluster.servers {
        eventually("the new data center is known", || {
            let known = server.try_call("GET", "/v1/kv/?keys&dc=far", b"")?;
            holds(known.status == 200, format!("{known:?}"))
        });
    }
    scene.run(&["snapshot", "save", &at(&cluster[2]), &file]).ok();
    // Asked for here, restored there.
    let line = ["snapshot", "restore", &at(&cluster[1]), "-datacenter=far", &file];
    assert_eq!(scene.run(&line).ok(), "Restored snapshot\n");
    assert_eq!(values(&far), values(&cluster[0]));
    // And saved from there.
    let back = scene.path("back.snap").display().to_string();
    let line = ["snapshot", "save", &at(&cluster[0]), "-datacenter=far", &back];
    scene.run(&line).ok();
    far.put("key/1", "changed");
    far.stop(Signal::Kill);
    far.start_and_lead();
    assert_eq!(far.value("key/1", Modes::Consistent).as_deref(), Some("changed"));
    scene.run(&["snapshot", "restore", &at(&far), &back]).ok();
    assert_eq!(far.value("key/1", Modes::Consistent).as_deref(), Some("value"));
}

#[test]
fn without_a_leader_a_snapshot_may_still_be_saved() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    cluster[0].put("a", "1");
    cluster.settle("");
    let leader = cluster.leader();
    let left = (leader + 1) % 3;
    for server in (0..3).filter(|server| *server != left) {
        cluster[server].stop(Signal::Kill);
    }
    let file = scene.path("backup.snap").display().to_string();
    eventually("nobody leads", || {
        let answer = cluster[left].try_call("GET", "/v1/status/leader", b"")?;
        holds(answer.text() == "\"\"", answer.text())
    });
    let refused = scene.run(&["snapshot", "save", &at(&cluster[left]), &file]);
    assert!(refused.err.contains("No cluster leader"), "{refused:?}");
    assert!(!fs::exists(&file).unwrap());
    scene
        .run(&["snapshot", "save", "-stale", &at(&cluster[left]), &file])
        .ok();
    assert!(fs::exists(&file).unwrap());
}
