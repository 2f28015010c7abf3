//! Three servers: one cluster, one history, whoever dies.

use std::collections::BTreeSet;

use crate::support::{Agent, Cluster, Modes, STOPPED, Scene, Signal, eventually, holds};

#[test]
fn three_servers_are_one_cluster() {
    let scene = Scene::new();
    let cluster = Cluster::of_three(&scene, &[]);
    let expected: BTreeSet<_> = (1..=3).map(|host| format!("{}:8300", scene.ip(host))).collect();
    for server in &cluster.servers {
        let peers: Vec<String> = serde_json::from_value(server.get("/v1/status/peers").json()).unwrap();
        assert_eq!(peers.len(), 3, "{peers:?}");
        assert_eq!(
            peers.into_iter().collect::<BTreeSet<_>>(),
            expected,
            "{}",
            server.name
        );
    }
    // Each says which cluster it is in, and it is the same.
    let ids: BTreeSet<_> = cluster
        .servers
        .iter()
        .map(|server| {
            let line = server.wait_log(&["the cluster is founded", "servers=3"]);
            line.split("cluster=")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[test]
fn every_server_serves_every_mode() {
    let scene = Scene::new();
    let cluster = Cluster::of_three(&scene, &[]);
    for server in &cluster.servers {
        let key = format!("through/{}", server.name);
        server.put(&key, "first");
        server.put(&key, "second");
        for reader in &cluster.servers {
            for mode in [Modes::Default, Modes::Consistent] {
                let value = reader.value(&key, mode);
                assert_eq!(
                    value.as_deref(),
                    Some("second"),
                    "{key}, {mode:?} at {}",
                    reader.name
                );
            }
            eventually("a stale read catches up", || {
                let value = reader.value(&key, Modes::Stale);
                holds(value.as_deref() == Some("second"), format!("{value:?}"))
            });
        }
    }
}

/// A blocking query at one server wakes for a write through another.
#[test]
fn a_watch_at_a_follower() {
    let scene = Scene::new();
    let cluster = Cluster::of_three(&scene, &[]);
    let leader = cluster.leader();
    let (watcher, writer) = (&cluster[(leader + 1) % 3], &cluster[(leader + 2) % 3]);
    writer.put("watched", "old");
    let index = watcher.get("/v1/kv/watched").index.unwrap();
    for stale in ["", "&stale"] {
        let path = format!("/v1/kv/watched?index={index}&wait=10m{stale}");
        let answer = watcher.get_during(&path, || {
            writer.put("elsewhere", "x");
            writer.put("watched", "new");
        });
        assert_eq!(answer.json()[0]["Value"], "bmV3");
        assert!(answer.index.unwrap() > index);
    }
}

#[test]
fn the_cluster_survives_its_leader() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    cluster[0].put("before", "1");
    let old = cluster.leader();
    cluster[old].stop(Signal::Kill);
    cluster[(old + 1) % 3].put_in_the_end("after", "2");
    let new = cluster.leader();
    assert_ne!(new, old);
    for server in cluster.running() {
        assert_eq!(server.value("before", Modes::Default).as_deref(), Some("1"));
        assert_eq!(server.value("after", Modes::Consistent).as_deref(), Some("2"));
    }
    cluster.start();
    assert_eq!(cluster[old].value("after", Modes::Default).as_deref(), Some("2"));
    cluster.settle("");
}

/// A leader that is told to stop hands over first.
#[test]
fn a_leader_that_leaves_hands_over() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    let old = cluster.leader();
    assert_eq!(cluster[old].stop(Signal::Term).code(), STOPPED);
    let survivor = &cluster[(old + 1) % 3];
    survivor.put("after", "1");
    assert_ne!(cluster.leader(), old);
    let log = cluster[old].log();
    assert!(log.contains("handing over"), "{log}");
}

#[test]
fn one_of_three_does_not_write() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    cluster[0].put("a", "1");
    let last = cluster.leader();
    cluster.settle("");
    for other in [(last + 1) % 3, (last + 2) % 3] {
        cluster[other].stop(Signal::Kill);
    }
    let alone = &cluster[last];
    let refused = alone.call("PUT", "/v1/kv/a", b"2");
    assert_eq!(refused.status, 500, "{refused:?}");
    let consistent = alone.get("/v1/kv/a?consistent");
    assert_eq!(
        (consistent.status, consistent.text()),
        (500, "No cluster leader"),
        "{consistent:?}"
    );
    assert_eq!(alone.value("a", Modes::Stale).as_deref(), Some("1"));
    cluster.start();
    // It may have become durable and been told as a failure, but it is one of the two, everywhere.
    let value = cluster[last].value("a", Modes::Consistent);
    assert!(matches!(value.as_deref(), Some("1" | "2")), "{value:?}");
    cluster.settle("");
}

#[test]
fn what_was_acknowledged_outlives_all_three() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    let mut before = None;
    for round in 0..3 {
        for key in 0..20 {
            cluster[key % 3].put(&format!("round{round}/{key}"), &format!("{round} {key}"));
        }
        cluster.kill_all();
        cluster.start();
        let entries = cluster.settle("");
        let entries = entries.as_array().unwrap();
        assert_eq!(entries.len(), 20 * (round + 1));
        // What an earlier round saw has not changed in anything.
        if let Some(earlier) = before.replace(entries.clone()) {
            let earlier: Vec<serde_json::Value> = earlier;
            assert_eq!(earlier[..], entries[..earlier.len()]);
        }
    }
}

/// Writes until a server that was killed before has missed much; starts it again; it has everything.
fn catches_up(config: &str, missed: usize) -> (Scene, Cluster, usize) {
    let scene = Scene::new();
    let file = scene.write("cluster.json", config);
    let mut cluster = Cluster::of_three(&scene, &["-config-file", &file]);
    let away = (cluster.leader() + 1) % 3;
    cluster[0].put("deleted/early", "x");
    cluster.settle("");
    cluster[away].stop(Signal::Kill);
    let writer = cluster.leader();
    for number in 0..missed {
        cluster[writer].put(&format!("missed/{number:04}"), &number.to_string());
    }
    assert_eq!(
        cluster[writer]
            .call("DELETE", "/v1/kv/deleted/?recurse", b"")
            .status,
        200
    );
    cluster.start();
    let entries = cluster.settle("");
    assert_eq!(entries.as_array().unwrap().len(), missed);
    assert_eq!(cluster[away].value("deleted/early", Modes::Stale), None);
    (scene, cluster, away)
}

#[test]
fn a_server_that_was_away_catches_up() {
    let (_scene, cluster, away) = catches_up("{}", 200);
    let log = cluster[away].log();
    assert!(!log.contains("installed a snapshot"), "the log had it all: {log}");
}

#[test]
fn a_server_that_was_away_for_long_gets_a_snapshot() {
    let (_scene, mut cluster, away) = catches_up(r#"{"raft_trailing_logs": 10}"#, 400);
    // The others forget the log now and then, behind rows that they have stored: sooner or later while it is away.
    let snapshot = (0..60).any(|round| {
        let came = cluster[away].log().contains("installed a snapshot");
        if !came {
            cluster[away].stop(Signal::Kill);
            let writer = cluster.leader();
            for number in 0..40 {
                cluster[writer].put(&format!("again/{round:02}/{number:02}"), "x");
            }
            cluster.start();
            cluster.settle("again/");
        }
        came
    });
    assert!(snapshot, "the log was never forgotten while it was away");
    // The snapshot is as durable as the log would have been, and what follows it too.
    let writer = (away + 1) % 3;
    cluster[writer].put("follows", "1");
    let before = cluster.settle("");
    cluster.kill_all();
    cluster.start();
    assert_eq!(cluster.settle(""), before);
    // It can be the leader of a majority, with what it got.
    let other = cluster
        .servers
        .iter()
        .position(|server| server.name == cluster[writer].name);
    cluster[other.unwrap()].stop(Signal::Kill);
    cluster[away].put_in_the_end("goes-on", "1");
    assert_eq!(
        cluster[away].value("missed/0399", Modes::Consistent).as_deref(),
        Some("399")
    );
}

/// Values as large as they may be, through the log and through a snapshot.
#[test]
fn large_values_reach_everybody() {
    let scene = Scene::new();
    let file = scene.write("cluster.json", r#"{"raft_trailing_logs": 4}"#);
    let mut cluster = Cluster::of_three(&scene, &["-config-file", &file]);
    let large = "0123456789abcdef".repeat(512 * 1024 / 16);
    let away = (cluster.leader() + 1) % 3;
    cluster[away].stop(Signal::Kill);
    let writer = &cluster[(away + 1) % 3];
    for number in 0..12 {
        writer.put(&format!("large/{number}"), &large);
    }
    let refused = writer.call("PUT", "/v1/kv/larger", format!("{large}!").as_bytes());
    assert_eq!(refused.status, 413, "{}", refused.text());
    cluster.start();
    let entries = cluster.settle("large/");
    assert_eq!(entries.as_array().unwrap().len(), 12);
    assert_eq!(cluster[away].value("large/11", Modes::Stale).unwrap(), large);
}

/// Readers and writers of both runtimes in one cluster.
#[test]
fn runtimes_mix() {
    let scene = Scene::new();
    let runtime = [["-runtime=smol"], ["-runtime=async-std"], ["-runtime=async-std"]];
    let mut cluster = Cluster::prepare(&scene, 3, |host| &runtime[usize::from(host) - 1]);
    cluster.start();
    for server in &cluster.servers {
        server.put(&server.name, "1");
    }
    let leader = cluster.leader();
    cluster[leader].stop(Signal::Kill);
    cluster[(leader + 1) % 3].put_in_the_end("after", "1");
    cluster.start();
    assert_eq!(cluster.settle("").as_array().unwrap().len(), 4);
}

/// A server keeps its place under another address, if the others can find it.
#[test]
fn a_server_that_moved() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    cluster[0].put("a", "1");
    cluster.settle("");
    let moved = (cluster.leader() + 1) % 3;
    cluster[moved].stop(Signal::Term);
    let data = scene.path(format!("data{}", moved + 1)).display().to_string();
    let old = cluster.running().next().unwrap();
    let contact = old.ip.to_string();
    let mut arguments = vec!["-server", "-data-dir", &data, "-encrypt", Cluster::KEY];
    arguments.extend(["-retry-join", &contact]);
    let mut elsewhere = Agent::new(&scene, 40, &arguments);
    elsewhere.start_and_lead();
    elsewhere.put("b", "2");
    for server in cluster.running() {
        assert_eq!(server.value("b", Modes::Consistent).as_deref(), Some("2"));
        eventually("the new address is known", || {
            let peers = server.get("/v1/status/peers");
            let wanted = format!("{}:8300", elsewhere.ip);
            holds(peers.text().contains(&wanted), peers.text())
        });
    }
    // With one of the others gone, the cluster needs it.
    let other = cluster.servers.iter().position(Agent::is_running).unwrap();
    cluster[other].stop(Signal::Kill);
    elsewhere.put_in_the_end("c", "3");
    assert_eq!(elsewhere.value("c", Modes::Consistent).as_deref(), Some("3"));
}
