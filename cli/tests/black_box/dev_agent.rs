//! One agent: the first minutes of anybody's acquaintance, and its life and death.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::{Agent, Modes, STOPPED, Scene, Signal, eventually, holds};

/// The arguments of a server that founds a cluster alone and keeps its data in `data`.
fn alone(data: &str) -> [&str; 5] {
    ["-server", "-bootstrap-expect", "1", "-data-dir", data]
}

#[test]
fn what_was_put_is_read_back() {
    let scene = Scene::new();
    let agent = Agent::dev(&scene, 1, &[]);
    agent.put("greeting", "hello");
    let answer = agent.get("/v1/kv/greeting?raw");
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    let leader = agent.get("/v1/status/leader");
    assert_eq!(leader.json(), format!("{}:8300", agent.ip));
    let peers = agent.get("/v1/status/peers");
    assert_eq!(peers.json(), serde_json::json!([format!("{}:8300", agent.ip)]));
}

#[test]
fn the_kv_commands() {
    let scene = Scene::new();
    let agent = Agent::dev(&scene, 1, &[]);
    let url = format!("-http-addr=http://{}:8500", agent.ip);
    let kv = |command: &str, words: &[&str]| {
        let mut all = vec!["kv", command, &url];
        all.extend(words);
        scene.run(&all)
    };
    assert_eq!(
        kv("put", &["-flags=42", "app/a", "one"]).ok(),
        "Success! Data written to: app/a\n"
    );
    assert_eq!(
        kv("put", &["app/b/c", "two"]).ok(),
        "Success! Data written to: app/b/c\n"
    );
    let from_stdin = scene.run_with_input(&["kv", "put", &url, "app/d", "-"], "three");
    assert_eq!(from_stdin.ok(), "Success! Data written to: app/d\n");

    assert_eq!(kv("get", &["app/a"]).ok(), "one\n");
    assert_eq!(kv("get", &["-base64", "app/d"]).ok(), "dGhyZWU=\n");
    assert_eq!(
        kv("get", &["-recurse", "app/"]).ok(),
        "app/a:one\napp/b/c:two\napp/d:three\n"
    );
    assert_eq!(kv("get", &["-keys", "app/"]).ok(), "app/a\napp/b/\napp/d\n");
    let detailed = kv("get", &["-detailed", "app/a"]).ok();
    let index = agent.get("/v1/kv/app/a").json()[0]["ModifyIndex"]
        .as_u64()
        .unwrap();
    assert_eq!(
        detailed,
        format!(
            "CreateIndex      {index}\nFlags            42\nKey              app/a\nLockIndex        0\n\
             ModifyIndex      {index}\nSession          -\nValue            one\n"
        )
    );

    let stale = kv("put", &["-cas", "-modify-index=1", "app/a", "other"]);
    assert_eq!((stale.code, stale.out.as_str()), (Some(1), ""), "{stale:?}");
    assert_eq!(stale.err, "Error! Did not write to app/a: CAS failed\n");
    let fresh = format!("-modify-index={index}");
    assert_eq!(
        kv("put", &["-cas", &fresh, "app/a", "uno"]).ok(),
        "Success! Data written to: app/a\n"
    );

    let exported = kv("export", &["app/"]).ok();
    assert_eq!(kv("delete", &["app/d"]).ok(), "Success! Deleted key: app/d\n");
    assert_eq!(
        kv("delete", &["-recurse", "app"]).ok(),
        "Success! Deleted keys with prefix: app\n"
    );
    let gone = kv("get", &["app/a"]);
    assert_eq!(
        (gone.code, gone.err.as_str()),
        (Some(1), "Error! No key exists at: app/a\n")
    );
    let imported = scene.run_with_input(&["kv", "import", &url, "-"], &exported);
    assert_eq!(
        imported.ok(),
        "Imported: app/a\nImported: app/b/c\nImported: app/d\n"
    );
    assert_eq!(kv("export", &["app/"]).ok(), exported);
    assert_eq!(kv("get", &["app/a"]).ok(), "uno\n");
}

#[test]
fn nobody_at_the_address() {
    let scene = Scene::new();
    let ran = scene.run(&["kv", "get", &format!("-http-addr={}:8500", scene.ip(9)), "a"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("connection refused"), "{ran:?}");
    assert!(ran.err.contains(&scene.ip(9).to_string()), "{ran:?}");
}

#[test]
fn a_blocking_query_wakes_for_its_key_alone() {
    let scene = Scene::new();
    let agent = Agent::dev(&scene, 1, &[]);
    agent.put("watched", "old");
    let before = agent.get("/v1/kv/watched").index.unwrap();
    let answer = agent.get_during(&format!("/v1/kv/watched?index={before}&wait=10m"), || {
        // Either of these would answer the query too early, with the old value.
        agent.put("watche", "neighbour");
        agent.put("watched/below", "neighbour");
        agent.put("watched", "new");
    });
    let entry = &answer.json()[0];
    assert_eq!(entry["Value"], "bmV3");
    assert_eq!(entry["ModifyIndex"].as_u64(), answer.index);
}

#[test]
fn a_blocking_query_ends_by_itself() {
    let scene = Scene::new();
    let agent = Agent::dev(&scene, 1, &[]);
    agent.put("quiet", "same");
    let before = agent.get("/v1/kv/quiet").index;
    let started = Instant::now();
    let answer = agent.get(&format!("/v1/kv/quiet?index={}&wait=300ms", before.unwrap()));
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!((answer.status, answer.index), (200, before));
}

/// A query that waits for a key that is not there is told of its coming.
#[test]
fn a_missing_key_is_waited_for() {
    let scene = Scene::new();
    let agent = Agent::dev(&scene, 1, &[]);
    let missing = agent.get("/v1/kv/later");
    assert_eq!((missing.status, missing.text()), (404, ""));
    let index = missing.index.unwrap();
    assert!(index >= 1);
    let path = format!("/v1/kv/later?raw&index={index}&wait=10m");
    let answer = agent.get_during(&path, || agent.put("later", "now"));
    assert_eq!((answer.status, answer.text()), (200, "now"));
}

#[test]
fn signals_stop_it_in_good_order() {
    let scene = Scene::new();
    let pid_file = scene.path("pid").display().to_string();
    for signal in [Signal::Term, Signal::Int] {
        let mut agent = Agent::dev(&scene, 1, &["-pid-file", &pid_file]);
        agent.put("a", "1");
        let pid: u32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        assert!(pid > 1);
        let status = agent.stop(signal);
        assert_eq!(status.code(), STOPPED, "{signal:?}: {}", agent.log());
        assert!(!scene.path("pid").exists(), "{signal:?}");
        // Nothing is held any more.
        TcpListener::bind((agent.ip, 8500)).unwrap();
        UdpSocket::bind((agent.ip, 8300)).unwrap();
    }
}

#[test]
fn it_stops_though_queries_wait() {
    let scene = Scene::new();
    let mut agent = Agent::dev(&scene, 1, &[]);
    agent.put("a", "1");
    let index = agent.get("/v1/kv/a").index.unwrap();
    let (ip, path) = (agent.ip, format!("/v1/kv/a?index={index}&wait=10m"));
    // Two queries, over sockets that are known to be connected before the agent is told to stop.
    let sockets: Vec<_> = (0..2)
        .map(|_| {
            use std::io::Write as _;
            let mut socket = std::net::TcpStream::connect((ip, 8500)).unwrap();
            socket
                .write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
                .unwrap();
            socket
        })
        .collect();
    let started = Instant::now();
    assert_eq!(agent.stop(Signal::Term).code(), STOPPED);
    assert!(
        started.elapsed() < Duration::from_mins(1),
        "{:?}",
        started.elapsed()
    );
    drop(sockets);
}

#[test]
fn hup_is_no_reason_to_stop() {
    let scene = Scene::new();
    let mut agent = Agent::dev(&scene, 1, &[]);
    agent.signal(Signal::Hup);
    agent.wait_log(&["INFO", "the configuration was read again"]);
    agent.put("a", "1");
    assert_eq!(agent.stop(Signal::Term).code(), STOPPED);
}

fn data_outlives(runtime: &str) {
    let scene = Scene::new();
    let data = scene.path("data").display().to_string();
    let runtime = format!("-runtime={runtime}");
    let mut agent = Agent::new(&scene, 1, &[&alone(&data)[..], &[&runtime]].concat());
    agent.start_and_lead();
    let id = |agent: &Agent| {
        let log = agent.log();
        let ids: Vec<_> = log
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Node ID: '"))
            .map(str::to_owned)
            .collect();
        ids.last().unwrap().clone()
    };
    let first = id(&agent);
    let kept = std::fs::read_to_string(scene.path("data/node-id")).unwrap();
    assert_eq!(first, format!("{}'", kept.trim()));
    for (round, signal) in [Signal::Term, Signal::Kill, Signal::Int].into_iter().enumerate() {
        let key = format!("round/{round}");
        agent.put(&key, "kept");
        agent.put("overwritten", &round.to_string());
        agent.put("gone", "x");
        assert_eq!(agent.call("DELETE", "/v1/kv/gone", b"").status, 200);
        let entries = agent.get("/v1/kv/?recurse").json();
        let index = agent.get("/v1/kv/?recurse").index;
        let status = agent.stop(signal);
        let expected = if signal == Signal::Kill { None } else { STOPPED };
        assert_eq!(status.code(), expected, "{status}");
        agent.start_and_lead();
        let after = agent.get("/v1/kv/?recurse");
        assert_eq!(after.json(), entries, "after {signal:?}");
        assert_eq!(after.index, index, "after {signal:?}");
        assert_eq!(agent.value("gone", Modes::Consistent), None);
        assert_eq!(id(&agent), first);
    }
}

#[test]
fn data_outlives_the_process() {
    data_outlives("smol");
}

#[test]
fn data_outlives_the_process_on_async_std() {
    data_outlives("async-std");
}

#[test]
fn async_std_does_the_same() {
    let scene = Scene::new();
    let mut agent = Agent::dev(&scene, 1, &["-runtime", "async-std"]);
    agent.put("a", "1");
    let index = agent.get("/v1/kv/a").index.unwrap();
    let path = format!("/v1/kv/a?raw&index={index}&wait=10m");
    let answer = agent.get_during(&path, || agent.put("a", "2"));
    assert_eq!(answer.text(), "2");
    for mode in Modes::ALL {
        assert_eq!(agent.value("a", mode).as_deref(), Some("2"), "{mode:?}");
    }
    assert_eq!(agent.stop(Signal::Term).code(), STOPPED);
}

#[test]
fn a_data_directory_serves_one_process() {
    let scene = Scene::new();
    let data = scene.path("data").display().to_string();
    let mut first = Agent::new(&scene, 1, &alone(&data));
    first.start_and_lead();
    let refused = Agent::new(&scene, 2, &alone(&data)).run_to_end();
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let line = refused.err.lines().last().unwrap();
    assert!(line.starts_with("==> ") && line.contains(&data), "{line}");
    assert!(line.contains("in use by another process"), "{line}");
    first.put("still", "here");
}

#[test]
fn a_port_in_use_is_named() {
    let scene = Scene::new();
    let http = TcpListener::bind((scene.ip(1), 8500)).unwrap();
    let refused = Agent::new(&scene, 1, &["-dev"]).run_to_end();
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let line = refused.err.lines().last().unwrap();
    assert!(line.contains(&format!("{}:8500", scene.ip(1))), "{line}");
    assert!(
        line.contains("ddress already in use") && line.contains("HTTP"),
        "{line}"
    );
    drop(http);

    let udp = UdpSocket::bind((scene.ip(2), 8300)).unwrap();
    let refused = Agent::new(&scene, 2, &["-dev"]).run_to_end();
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let line = refused.err.lines().last().unwrap();
    assert!(
        line.contains(&format!("UDP address {}:8300", scene.ip(2))),
        "{line}"
    );
    assert!(line.contains("ddress already in use"), "{line}");
    drop(udp);
}

#[test]
fn ports_can_be_chosen() {
    let scene = Scene::new();
    let ip = scene.ip(1);
    let mut agent = Agent::new(
        &scene,
        1,
        &["-dev", "-http-port", "18500", "-server-port", "18300"],
    );
    agent.start();
    let url = format!("-http-addr={ip}:18500");
    eventually("the chosen port answers", || {
        let ran = scene.run(&["kv", "put", &url, "a", "1"]);
        holds(ran.code == Some(0), ran.err)
    });
    assert_eq!(scene.run(&["kv", "get", &url, "a"]).ok(), "1\n");
    assert!(
        UdpSocket::bind((ip, 18300)).is_err(),
        "the chosen server port is not used"
    );
}

#[test]
fn the_log_as_json() {
    let scene = Scene::new();
    let mut agent = Agent::dev(&scene, 1, &["-log-json"]);
    agent.wait_log(&["the cluster is founded"]);
    agent.stop(Signal::Term);
    let log = agent.log();
    let entries: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let founded = entries
        .iter()
        .find(|entry| entry["@message"] == "the cluster is founded")
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(founded["@level"], "info");
}
